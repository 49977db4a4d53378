//! HTTP on the main port: every path can become a WebSocket; beside it health, the playground and a
//! greeting. Slow, oversized and surplus clients are turned away here, before the hub hears of them.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fidibus_core::auth::{Handshake, SECURITY};
use fidibus_core::error::CloseReason;
use fidibus_core::hub::{RequestKind, Transport};
use fidibus_core::id::DocumentName;
use futures_util::FutureExt;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tungstenite::handshake::server::create_response_with_body;

use crate::admission::Place;
use crate::front::Front;
use crate::listener::Listener;
use crate::peer::Peer;
use crate::stream::ServerStream;
use crate::websocket::{WebSocket, WebSocketLimits};
use crate::{gate, health, playground};

/// What every route answers with.
pub type Answer = Response<Full<Bytes>>;

/// How long a socket may speak plain HTTP, over all its requests.
const HTTP_LIFETIME_MAX: Duration = Duration::from_secs(300);
/// Time for the answers under way when the server stops.
const FINISH_MAX: Duration = Duration::from_secs(1);
/// Sockets beyond the limit that are told so; further ones are just closed.
const REFUSALS_MAX: usize = 64;

/// A place among the sockets served at once; given back when the last part of the socket ends.
enum Admission {
    Served(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
    Refused(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
}

/// Accepts and serves sockets until `stop` turns true. Sockets that became WebSockets go on: they are the
/// hub's.
pub async fn accept(listener: Listener, front: Arc<Front>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(front.config.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let admission = match Arc::clone(&places).try_acquire_owned() {
            Ok(permit) => Admission::Served(permit),
            Err(_) => {
                front.admission.note_full();
                match Arc::clone(&refusals).try_acquire_owned() {
                    Ok(permit) => Admission::Refused(permit),
                    Err(_) => continue,
                }
            }
        };
        let socket = Socket { front: Arc::clone(&front), peer, admission };
        tokio::spawn(serve(stream, Arc::new(socket), stop.clone()));
    }
}

/// What the requests of one socket share.
struct Socket {
    front: Arc<Front>,
    peer: Peer,
    admission: Admission,
}

async fn serve(stream: ServerStream, socket: Arc<Socket>, stop: watch::Receiver<bool>) {
    let config = &socket.front.config;
    let (header_bytes_max, header_timeout) = (config.header_bytes_max, config.header_timeout);
    let service = service_fn(move |request| {
        let answer = route(request, &socket);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    serve_http(stream, service, HttpLimits { header_bytes_max, header_timeout }, stop).await;
}

/// The bounds of one HTTP socket.
#[derive(Clone, Copy)]
pub struct HttpLimits {
    /// Size of a request's head.
    pub header_bytes_max: usize,
    /// Time for a request's head.
    pub header_timeout: Duration,
}

/// Serves HTTP/1.1 on one socket until it ends, becomes something else, or `stop` turns true.
pub async fn serve_http<S>(
    stream: ServerStream,
    service: S,
    limits: HttpLimits,
    mut stop: watch::Receiver<bool>,
) where
    S: hyper::service::Service<Request<Incoming>, Response = Answer, Error = Infallible>,
    S::Future: Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(limits.header_bytes_max.max(8192))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // How an HTTP socket ends is of no interest: clients hang up, time out and send nonsense all day.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(&mut stop) => {}
        () = tokio::time::sleep(HTTP_LIFETIME_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(FINISH_MAX, connection).await;
}

/// Waits until the server stops.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and the server with it.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn route(request: Request<Incoming>, socket: &Arc<Socket>) -> impl Future<Output = Answer> + Send + use<> {
    let front = Arc::clone(&socket.front);
    let path = strip_base(&front.config.base_path, request.uri().path()).to_owned();
    let socket = Arc::clone(socket);
    async move {
        if let Some(refusal) = refused_by_hook(&request, &path, &socket).await {
            return refusal;
        }
        if is_upgrade(request.headers()) {
            // Counted first: whoever comes too often must not have tokens looked up either.
            let place = match admit(&request, &socket) {
                Ok(place) => place,
                Err(refusal) => return refusal(),
            };
            return match refuse_early(&request, &path, &socket).await {
                Some(refusal) => refusal,
                None => upgrade(request, &path, &socket, place),
            };
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = json(StatusCode::METHOD_NOT_ALLOWED, "{\"error\":\"method_not_allowed\"}");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let refused = matches!(socket.admission, Admission::Refused(_));
        match path.as_str() {
            "/health" | "/healthz" | "/health/" | "/healthz/" => health::answer(&front).await,
            "/ready" | "/ready/" => health::ready(&front).await,
            _ if refused => unavailable("too many connections"),
            "/" if front.config.playground => playground::page(),
            "/figures" if front.config.playground => playground::figures(&front),
            "/" => text(StatusCode::OK, "Welcome to Fidibus\n"),
            _ => not_found(),
        }
    }
}

/// The no of a hook. Only a host that embeds the server has any.
async fn refused_by_hook(request: &Request<Incoming>, path: &str, socket: &Socket) -> Option<Answer> {
    let front = &socket.front;
    let kind = if is_upgrade(request.headers()) { RequestKind::Upgrade } else { RequestKind::Plain };
    // A socket too many takes up nobody's time.
    if !front.hub.asks_about(kind) || matches!(socket.admission, Admission::Refused(_)) {
        return None;
    }
    let client_ip = front.config.trusted_proxies.client_ip(socket.peer, request.headers());
    Box::pin(gate::ask_hooks(&front.hub, kind, &handshake(request, path, client_ip))).await
}

/// A place for one more WebSocket of the client's address, or what says that there is none.
fn admit(request: &Request<Incoming>, socket: &Socket) -> Result<Option<Place>, fn() -> Answer> {
    let front = &socket.front;
    if matches!(socket.admission, Admission::Refused(_)) {
        return Err(|| unavailable("too many connections"));
    }
    let client_ip = front.config.trusted_proxies.client_ip(socket.peer, request.headers());
    front.admission.admit(client_ip, Instant::now()).map_err(|_| too_many as fn() -> Answer)
}

/// The no of `WS_AUTH_REJECT=http`, given before the handshake is answered.
async fn refuse_early(request: &Request<Incoming>, path: &str, socket: &Socket) -> Option<Answer> {
    let front = &socket.front;
    if !front.config.rejects_by_http {
        return None;
    }
    let client_ip = front.config.trusted_proxies.client_ip(socket.peer, request.headers());
    gate::refuse(&front.hub, &handshake(request, path, client_ip)).await
}

/// Takes the base path off the front, where it stands there as whole segments.
fn strip_base<'a>(base: &str, path: &'a str) -> &'a str {
    match path.strip_prefix(base) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers a WebSocket handshake, and starts what serves the socket afterwards.
fn upgrade(mut request: Request<Incoming>, path: &str, socket: &Arc<Socket>, place: Option<Place>) -> Answer {
    let front = &socket.front;
    if front.is_draining() {
        return unavailable("the server is shutting down");
    }
    let Ok(answer) = create_response_with_body(&request, Full::default) else {
        let mut answer = text(StatusCode::BAD_REQUEST, "not a WebSocket handshake of version 13\n");
        answer.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return answer;
    };
    let client_ip = front.config.trusted_proxies.client_ip(socket.peer, request.headers());
    let allowed = front.config.allowed_origins.allow(request.headers());
    let upgrade = hyper::upgrade::on(&mut request);
    if allowed {
        let handshake = Arc::new(handshake(&request, path, client_ip));
        tokio::spawn(serve_websocket(upgrade, handshake, Arc::clone(socket), place));
    } else {
        tracing::warn!(target: SECURITY, clientIp = client_ip.map(tracing::field::display), "WebSocket refused: origin not allowed");
        tokio::spawn(refuse_origin(upgrade, Arc::clone(socket)));
    }
    answer
}

/// What is remembered of a handshake, in memory of its own: the request's parts all share the buffer
/// that they were read into, and would keep it for as long as the socket lives.
fn handshake(request: &Request<Incoming>, path: &str, client_ip: Option<IpAddr>) -> Handshake {
    /// Of no meaning once the handshake is done.
    const DROPPED: [HeaderName; 9] = [
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::SEC_WEBSOCKET_EXTENSIONS,
        header::ACCEPT_ENCODING,
        header::ACCEPT_LANGUAGE,
        header::CACHE_CONTROL,
        header::PRAGMA,
    ];
    let kept = || request.headers().iter().filter(|(name, _)| !DROPPED.contains(name));
    let mut values = BytesMut::with_capacity(kept().map(|(_, value)| value.len()).sum());
    let mut headers = HeaderMap::with_capacity(kept().count());
    for (name, value) in kept() {
        values.extend_from_slice(value.as_bytes());
        let copy = HeaderValue::from_maybe_shared(values.split().freeze());
        if let Ok(copy) = copy {
            headers.append(name, copy);
        }
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let uri = Uri::try_from(target).unwrap_or_default();
    Handshake { uri, headers, client_ip, path_document: path_document(path) }
}

/// The document that a path names, for y-websocket peers. They put the name into the URL as it is, and
/// browsers then escape what a URL cannot hold.
fn path_document(path: &str) -> Option<DocumentName> {
    let name = percent_encoding::percent_decode_str(path.strip_prefix('/')?).decode_utf8().ok()?;
    DocumentName::parse(&name).ok()
}

async fn websocket(upgrade: OnUpgrade, front: &Front) -> Option<(WebSocket, ServerStream)> {
    // Fails where the client is gone before it could read the answer.
    let upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<ServerStream>>().ok()?;
    let limits = WebSocketLimits {
        message_bytes_max: front.config.message_bytes_max,
        ping_interval: front.config.ping_interval,
    };
    Some((WebSocket::new(&parts.read_buf, limits), parts.io.into_inner()))
}

async fn serve_websocket(
    upgrade: OnUpgrade,
    handshake: Arc<Handshake>,
    socket: Arc<Socket>,
    place: Option<Place>,
) {
    let Some((websocket, stream)) = websocket(upgrade, &socket.front).await else { return };
    // In a task of its own: this one has space for the upgrade.
    let served = socket.front.hub.serve(websocket, stream, handshake);
    tokio::spawn(served.map(move |_| drop((place, socket))));
}

/// Browsers show a page nothing of a failed handshake, so the no comes as a close code.
async fn refuse_origin(upgrade: OnUpgrade, socket: Arc<Socket>) {
    if let Some((mut websocket, stream)) = websocket(upgrade, &socket.front).await {
        let reason = CloseReason::new(CloseReason::FORBIDDEN.code, "origin-not-allowed");
        websocket.close(&stream, &reason).await;
    }
}

/// A JSON answer that nobody stores.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "application/json", body.into())
}

/// A plain text answer that nobody stores.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body.into())
}

/// The answer to a path that there is not.
pub fn not_found() -> Answer {
    json(StatusCode::NOT_FOUND, "{\"error\":\"not_found\"}")
}

fn too_many() -> Answer {
    let mut answer = text(StatusCode::TOO_MANY_REQUESTS, "too many connections from this address\n");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn unavailable(why: &'static str) -> Answer {
    let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}, try again\n"));
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// An answer of any type.
pub fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_path_is_a_whole_segment() {
        for (path, stripped) in [
            ("/ws", "/"),
            ("/ws/", "/"),
            ("/ws/diagram-1", "/diagram-1"),
            ("/wsfoo", "/wsfoo"),
            ("/diagram-1", "/diagram-1"),
            ("/", "/"),
        ] {
            assert_eq!(strip_base("/ws", path), stripped, "{path}");
            assert_eq!(strip_base("", path), path);
        }
    }

    #[test]
    fn paths_name_documents() {
        let name = |path| path_document(path).map(|name| name.as_str().to_owned());
        assert_eq!(name("/diagram-1").as_deref(), Some("diagram-1"));
        assert_eq!(name("/a/b%20c%C3%A4").as_deref(), Some("a/b cä"));
        assert_eq!(name("/"), None);
        assert_eq!(name("/%ff"), None);
        assert_eq!(name("/a%00b"), None);
    }
}
