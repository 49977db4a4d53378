//! What a host tells of the HTTP request that opened a socket.

use std::ffi::c_char;
use std::sync::Arc;

use fidibus_core::auth::{AuthRequest, Handshake};
use fidibus_core::id::DocumentName;
use http::{HeaderName, HeaderValue, Uri};

use crate::border::{quietly, run};
use crate::handle::{self, box_handle, output};
use crate::status::{Failure, fidibus_status};
use crate::text;

/// The HTTP request that opened a socket: what hooks and authenticators see of it, and which document a
/// y-websocket client means. One of them may open any number of connections.
pub struct fidibus_handshake {
    _private: [u8; 0],
}

box_handle!(fidibus_handshake(Handshake));

/// Makes an empty one. Free it with fidibus_handshake_free.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_handshake_new(handshake: *mut *mut fidibus_handshake) -> fidibus_status {
    run(|| {
        *output(handshake)? = handle::give_box(Handshake::default());
        Ok(())
    })
}

/// Frees it.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_handshake_free(handshake: *mut fidibus_handshake) {
    quietly((), || drop(handle::take_box(handshake)));
}

/// Sets path and query ("/notes?token=x"). The path, percent-decoded and without its first slash, becomes the
/// document of y-websocket clients, where it can be one.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_handshake_set_uri(
    handshake: *mut fidibus_handshake,
    uri: *const c_char,
) -> fidibus_status {
    run(|| {
        let handshake = handle::box_mut(handshake)?;
        let uri: Uri =
            text::read(uri)?.parse().map_err(|error| Failure::of(fidibus_status::InvalidUrl, &error))?;
        let path = uri.path().trim_start_matches('/');
        let name = percent_encoding::percent_decode_str(path).decode_utf8();
        handshake.path_document = name.ok().and_then(|name| DocumentName::parse(&name).ok());
        handshake.uri = uri;
        Ok(())
    })
}

/// Sets the document of y-websocket clients, whatever the path says; NULL: none.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_handshake_set_document(
    handshake: *mut fidibus_handshake,
    document: *const c_char,
) -> fidibus_status {
    run(|| {
        let handshake = handle::box_mut(handshake)?;
        let document = if document.is_null() { None } else { Some(text::read_name(document)?) };
        handshake.path_document = document;
        Ok(())
    })
}

/// Adds a header.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_handshake_add_header(
    handshake: *mut fidibus_handshake,
    name: *const c_char,
    value: *const c_char,
) -> fidibus_status {
    run(|| {
        let handshake = handle::box_mut(handshake)?;
        let invalid = |error: &dyn std::error::Error| Failure::of(fidibus_status::InvalidArgument, error);
        let name: HeaderName = text::read(name)?.parse().map_err(|error| invalid(&error))?;
        let value: HeaderValue = text::read(value)?.parse().map_err(|error| invalid(&error))?;
        handshake.headers.append(name, value);
        Ok(())
    })
}

/// Sets the client's IP address, as text.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_handshake_set_client_ip(
    handshake: *mut fidibus_handshake,
    address: *const c_char,
) -> fidibus_status {
    run(|| {
        let handshake = handle::box_mut(handshake)?;
        let address = text::read(address)?.parse();
        handshake.client_ip =
            Some(address.map_err(|error| Failure::of(fidibus_status::InvalidArgument, &error))?);
        Ok(())
    })
}

/// What a connection keeps of it.
pub(crate) fn share(handshake: *const fidibus_handshake) -> Result<Arc<Handshake>, Failure> {
    Ok(Arc::new(handle::box_ref(handshake)?.clone()))
}

/// A query parameter.
pub(crate) fn query(handshake: &Handshake, name: &str) -> Option<String> {
    // Only the handshake is asked; the document and the token are none of its business.
    let document = DocumentName::parse("-").ok()?;
    AuthRequest { document: &document, token: None, handshake }.query(name)
}
