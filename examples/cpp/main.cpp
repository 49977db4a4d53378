// A sync server in C++ with libwebsockets.
//
//   host [--port N] [--token T] [--forbid WORD] [--store URL]
//
// --token: only clients with this token get in; each is answered 50 ms later, by another thread.
// --forbid: an update that holds this word is rejected, and its client closed with 4010.
// Ends on SIGTERM and SIGINT, after everything is saved.
#include <atomic>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <libwebsockets.h>

#include "fidibus.hpp"

namespace {

struct Options {
    int port = 0;
    std::string token;
    std::string forbid;
    std::string store = "memory:";
};

// Lets the hub's threads wake the service loop, for as long as there is one.
class Waker {
public:
    void attach(lws_context *context) { set(context); }
    void detach() { set(nullptr); }
    void wake() {
        std::lock_guard lock(mutex_);
        if (context_ != nullptr) {
            lws_cancel_service(context_);
        }
    }

private:
    void set(lws_context *context) {
        std::lock_guard lock(mutex_);
        context_ = context;
    }
    std::mutex mutex_;
    lws_context *context_ = nullptr;
};

// One client.
struct Session {
    Session(lws *socket, fidibus::Connection connection) : socket(socket), connection(std::move(connection)) {}

    lws *socket;
    fidibus::Connection connection;
    // Shared with the hub's threads, which may hold it a little longer than we do.
    std::shared_ptr<std::atomic<bool>> woken = std::make_shared<std::atomic<bool>>(false);
    // The message that is arriving in pieces.
    std::string arriving;
    // Messages that the hub had no space for; the socket is not read meanwhile.
    std::deque<std::string> waiting;
};

class Host {
public:
    explicit Host(const Options &options) : hub_(configure(options)) {}

    int run(const Options &options);
    int on_event(lws *socket, lws_callback_reasons reason, void *user, void *in, std::size_t len);
    void stop() {
        stopping_ = true;
        waker_->wake();
    }

private:
    static fidibus::Config configure(const Options &options);
    void open(lws *socket, Session **session);
    void receive(Session &session, const char *bytes, std::size_t len);
    void hand_in_waiting(Session &session);
    void serve_woken();
    int write(Session &session);

    fidibus::Hub hub_;
    std::shared_ptr<Waker> waker_ = std::make_shared<Waker>();
    std::list<std::unique_ptr<Session>> sessions_;
    std::atomic<bool> stopping_{false};
};

std::atomic<Host *> running{nullptr};

bool holds(fidibus::Bytes bytes, const std::string &word) {
    return bytes.chars().find(word) != std::string_view::npos;
}

// The token of the provider, or of the URL: providers of y-websocket have no other place for it.
std::string token_of(const fidibus::Event &event) {
    if (auto token = event.token(); token && !token->empty()) {
        return std::string(*token);
    }
    fidibus::Buffer query;
    if (fidibus_event_query(event.get(), "token", query.out()) == FIDIBUS_STATUS_OK) {
        return std::string(query.text());
    }
    return "";
}

fidibus::Config Host::configure(const Options &options) {
    fidibus::Config config;
    config.set("store", options.store.c_str());
    fidibus::Extension extension("host");
    if (!options.token.empty()) {
        extension.on(FIDIBUS_HOOK_ON_AUTHENTICATE, [wanted = options.token](fidibus::Event event, fidibus::Reply reply) {
            bool welcome = token_of(event) == wanted;
            std::thread([welcome, reply = std::move(reply)]() mutable {
                std::this_thread::sleep_for(std::chrono::milliseconds(50));
                if (welcome) {
                    reply.user("somebody").accept();
                } else {
                    reply.reject(4401, "wrong token");
                }
            }).detach();
        });
    }
    if (!options.forbid.empty()) {
        extension.on(FIDIBUS_HOOK_BEFORE_SYNC, [word = options.forbid](fidibus::Event event, fidibus::Reply reply) {
            if (holds(event.payload(), word)) {
                reply.reject(4010, "that word is forbidden");
            } else {
                reply.accept();
            }
        });
    }
    config.add(extension);
    return config;
}

// One header of the request, as libwebsockets keeps it.
std::string header(lws *socket, lws_token_indexes token) {
    int len = lws_hdr_total_length(socket, token);
    std::string value(static_cast<std::size_t>(len > 0 ? len + 1 : 1), '\0');
    int copied = lws_hdr_copy(socket, value.data(), static_cast<int>(value.size()), token);
    value.resize(static_cast<std::size_t>(copied > 0 ? copied : 0));
    return value;
}

// Escapes what a URL cannot hold.
std::string encoded(const std::string &text) {
    std::string out;
    for (unsigned char byte : text) {
        if (std::isalnum(byte) || std::strchr("-._~/!$'()*+,;=:@", byte) != nullptr) {
            out.push_back(static_cast<char>(byte));
        } else {
            char escape[4];
            std::snprintf(escape, sizeof escape, "%%%02X", byte);
            out += escape;
        }
    }
    return out;
}

// libwebsockets decodes paths and queries, and cuts them at each '&'; the hub wants them as they were sent.
std::string joined(lws *socket, lws_token_indexes token) {
    std::string out;
    char part[4096];
    for (int index = 0; lws_hdr_copy_fragment(socket, part, sizeof part, token, index) >= 0; index++) {
        out += (index > 0 ? "&" : "") + encoded(part);
    }
    return out;
}

void Host::open(lws *socket, Session **session) {
    std::string uri = joined(socket, WSI_TOKEN_GET_URI);
    std::string query = joined(socket, WSI_TOKEN_HTTP_URI_ARGS);
    if (!query.empty()) {
        uri += "?" + query;
    }
    char ip[64] = "";
    lws_get_peer_simple(socket, ip, sizeof ip);
    fidibus::Handshake handshake(uri);
    handshake.header("host", header(socket, WSI_TOKEN_HOST));
    std::string address = ip;
    // A dual-stack socket names IPv4 clients this way.
    handshake.client_ip(address.rfind("::ffff:", 0) == 0 ? address.substr(7) : address);
    sessions_.push_back(std::make_unique<Session>(socket, hub_.connect(handshake)));
    *session = sessions_.back().get();
    (*session)->connection.on_wake([waker = waker_, woken = (*session)->woken] {
        if (!woken->exchange(true)) {
            waker->wake();
        }
    });
}

void Host::receive(Session &session, const char *bytes, std::size_t len) {
    session.arriving.append(bytes, len);
    if (!lws_is_final_fragment(session.socket) || lws_remaining_packet_payload(session.socket) > 0) {
        return;
    }
    std::string message = std::move(session.arriving);
    session.arriving.clear();
    if (!lws_frame_is_binary(session.socket)) {
        session.connection.receive_text();
        return;
    }
    session.waiting.push_back(std::move(message));
    hand_in_waiting(session);
}

void Host::hand_in_waiting(Session &session) {
    while (!session.waiting.empty()) {
        const std::string &message = session.waiting.front();
        if (!session.connection.receive(message.data(), message.size())) {
            // The hub wakes us when it has space.
            lws_rx_flow_control(session.socket, 0);
            return;
        }
        session.waiting.pop_front();
    }
    lws_rx_flow_control(session.socket, 1);
}

void Host::serve_woken() {
    for (auto &session : sessions_) {
        if (session->woken->exchange(false)) {
            hand_in_waiting(*session);
            lws_callback_on_writable(session->socket);
        }
    }
}

// Sends one frame, as libwebsockets wants it, and asks to be called again.
int Host::write(Session &session) {
    std::optional<fidibus::Buffer> frame = session.connection.poll();
    if (!frame) {
        std::optional<fidibus::CloseReason> reason = session.connection.close_reason();
        if (!reason) {
            return 0;
        }
        // A frame may have come in between.
        frame = session.connection.poll();
        if (!frame) {
            auto *text = reinterpret_cast<unsigned char *>(reason->reason.data());
            lws_close_reason(session.socket, static_cast<lws_close_status>(reason->code), text, reason->reason.size());
            return -1;
        }
    }
    std::size_t len = frame->bytes().size();
    std::string message(LWS_PRE + len, '\0');
    std::memcpy(message.data() + LWS_PRE, frame->bytes().data(), len);
    auto *start = reinterpret_cast<unsigned char *>(message.data()) + LWS_PRE;
    if (lws_write(session.socket, start, len, LWS_WRITE_BINARY) < 0) {
        return -1;
    }
    lws_callback_on_writable(session.socket);
    return 0;
}

int Host::on_event(lws *socket, lws_callback_reasons reason, void *user, void *in, std::size_t len) {
    auto **session = static_cast<Session **>(user);
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        open(socket, session);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        receive(**session, static_cast<const char *>(in), len);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return write(**session);
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        serve_woken();
        return 0;
    case LWS_CALLBACK_CLOSED:
        sessions_.remove_if([session](const auto &known) { return known.get() == *session; });
        return 0;
    default:
        return 0;
    }
}

int callback(lws *socket, lws_callback_reasons reason, void *user, void *in, std::size_t len) {
    Host *host = running.load();
    if (host == nullptr) {
        return 0;
    }
    try {
        return host->on_event(socket, reason, user, in, len);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "host: %s\n", error.what());
        return -1;
    }
}

int Host::run(const Options &options) {
    const lws_protocols protocols[] = {
        {"fidibus", callback, sizeof(Session *), 65536, 0, nullptr, 0},
        {nullptr, nullptr, 0, 0, 0, nullptr, 0},
    };
    lws_context_creation_info info{};
    info.port = options.port;
    info.iface = "127.0.0.1";
    info.protocols = protocols;
    info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DISABLE_IPV6;
    lws_set_log_level(LLL_ERR, nullptr);
    running = this;
    lws_context *context = lws_create_context(&info);
    lws_vhost *vhost = context != nullptr ? lws_create_vhost(context, &info) : nullptr;
    if (vhost == nullptr) {
        std::fprintf(stderr, "host: cannot listen on port %d\n", options.port);
        return 1;
    }
    std::printf("listening on 127.0.0.1:%d\n", lws_get_vhost_listen_port(vhost));
    std::fflush(stdout);
    waker_->attach(context);
    while (!stopping_ && lws_service(context, 0) >= 0) {
    }
    waker_->detach();
    std::vector<std::string> unsaved = hub_.shutdown(8000);
    // Calls back with LWS_CALLBACK_CLOSED for all that are open.
    lws_context_destroy(context);
    running = nullptr;
    return unsaved.empty() ? 0 : 1;
}

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i + 1 < argc; i += 2) {
        std::string name = argv[i];
        if (name == "--port") {
            options.port = std::atoi(argv[i + 1]);
        } else if (name == "--token") {
            options.token = argv[i + 1];
        } else if (name == "--forbid") {
            options.forbid = argv[i + 1];
        } else if (name == "--store") {
            options.store = argv[i + 1];
        }
    }
    return options;
}

} // namespace

int main(int argc, char **argv) {
    // Signals go to one thread that may call anything, unlike a signal handler; the hub's threads inherit the mask.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    try {
        Options options = parse(argc, argv);
        Host host(options);
        std::thread([&host, signals] {
            int signal = 0;
            sigwait(&signals, &signal);
            host.stop();
        }).detach();
        return host.run(options);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "host: %s\n", error.what());
        return 1;
    }
}
