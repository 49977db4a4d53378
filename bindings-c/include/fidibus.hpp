// Fidibus for C++17: every handle as a movable object that frees itself, every failed call as an exception,
// every callback as a std::function. A thin layer over fidibus.h; what that says about threads, blocking and
// callbacks holds here as well.
#ifndef FIDIBUS_HPP
#define FIDIBUS_HPP

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fidibus.h"

namespace fidibus {

using Status = fidibus_status;

// Bytes that are lent.
class Bytes {
public:
    Bytes(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}
    const std::uint8_t *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    std::string_view chars() const noexcept { return {reinterpret_cast<const char *>(data_), size_}; }

private:
    const std::uint8_t *data_;
    std::size_t size_;
};

// A call that failed.
class Error : public std::runtime_error {
public:
    Error(Status status, const std::string &message) : std::runtime_error(message), status_(status) {}

    // Why; FIDIBUS_STATUS_*.
    Status status() const noexcept { return status_; }

private:
    Status status_;
};

namespace detail {

[[noreturn]] inline void fail(Status status) {
    struct Free {
        void operator()(fidibus_error *error) const noexcept { fidibus_error_free(error); }
    };
    std::unique_ptr<fidibus_error, Free> error(fidibus_error_take());
    throw Error(status, error ? fidibus_error_message(error.get()) : fidibus_status_text(status));
}

inline void check(Status status) {
    if (status != FIDIBUS_STATUS_OK) {
        fail(status);
    }
}

template <auto Free> struct Deleter {
    template <class T> void operator()(T *handle) const noexcept { Free(handle); }
};

template <class T, auto Free> using Handle = std::unique_ptr<T, Deleter<Free>>;

// Makes a handle with a function that writes it to its last argument.
template <class Owner, class Make> Owner make(Make &&make) {
    typename Owner::pointer handle = nullptr;
    check(make(&handle));
    return Owner(handle);
}

// A std::function on the heap, for the env of a callback.
template <class Function> void destroy(void *env) noexcept { delete static_cast<Function *>(env); }

inline std::string_view view(const fidibus_text &text) { return {text.text, text.len}; }

} // namespace detail

// Bytes that the library gave: a frame, an update, a text.
class Buffer {
public:
    Buffer() = default;
    Buffer(Buffer &&other) noexcept : buffer_(std::exchange(other.buffer_, fidibus_buffer{})) {}
    Buffer &operator=(Buffer &&other) noexcept {
        std::swap(buffer_, other.buffer_);
        return *this;
    }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { fidibus_buffer_free(&buffer_); }

    Bytes bytes() const noexcept { return {buffer_.bytes, buffer_.len}; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char *>(buffer_.bytes), buffer_.len}; }
    fidibus_buffer *out() noexcept { return &buffer_; }

private:
    fidibus_buffer buffer_{};
};

// What a callback is told; valid during the call. A value that this event lacks is std::nullopt; one that its kind
// does not have throws.
class Event {
public:
    explicit Event(const fidibus_event *event) : event_(event) {}

    std::uint32_t kind() const {
        std::uint32_t kind = 0;
        detail::check(fidibus_event_kind(event_, &kind));
        return kind;
    }
    std::string_view document() const { return text(fidibus_event_document).value(); }
    std::optional<std::string_view> token() const { return text(fidibus_event_token); }
    std::optional<std::string_view> user() const { return text(fidibus_event_user); }
    std::optional<std::string_view> header(const char *name) const {
        return text([name](const fidibus_event *event, fidibus_text *out) { return fidibus_event_header(event, name, out); });
    }
    Bytes payload() const {
        fidibus_bytes bytes{};
        detail::check(fidibus_event_payload(event_, &bytes));
        return {bytes.bytes, bytes.len};
    }
    std::uint32_t message() const {
        std::uint32_t message = 0;
        detail::check(fidibus_event_message(event_, &message));
        return message;
    }
    const fidibus_event *get() const noexcept { return event_; }

private:
    template <class Read> std::optional<std::string_view> text(Read &&read) const {
        fidibus_text text{};
        Status status = read(event_, &text);
        if (status == FIDIBUS_STATUS_EMPTY) {
            return std::nullopt;
        }
        detail::check(status);
        return detail::view(text);
    }

    const fidibus_event *event_;
};

// An answer to give: once, now or later, on any thread. One that is destroyed without is a no.
class Reply {
public:
    explicit Reply(fidibus_reply *reply) : reply_(reply) {}

    // Whether an answer is wanted at all.
    explicit operator bool() const noexcept { return reply_ != nullptr; }

    Reply &access(fidibus_access access) {
        detail::check(fidibus_reply_set_access(reply_.get(), access));
        return *this;
    }
    Reply &user(const std::string &user) {
        detail::check(fidibus_reply_set_user(reply_.get(), user.c_str()));
        return *this;
    }
    // These end it. An answer that nobody waits for any more is no error.
    void accept() { end(fidibus_reply_accept(reply_.get())); }
    void skip() { end(fidibus_reply_skip(reply_.get())); }
    void reject(std::uint16_t code, const std::string &reason) {
        end(fidibus_reply_reject(reply_.get(), code, reason.c_str()));
    }
    void fail(const std::string &message, bool retryable = true) {
        end(fidibus_reply_fail(reply_.get(), message.c_str(), retryable));
    }
    fidibus_reply *get() const noexcept { return reply_.get(); }

private:
    void end(Status status) {
        if (status == FIDIBUS_STATUS_OK || status == FIDIBUS_STATUS_NOT_WAITING) {
            // The call has freed it.
            static_cast<void>(reply_.release());
            return;
        }
        detail::check(status);
    }

    detail::Handle<fidibus_reply, fidibus_reply_free> reply_;
};

using Callback = std::function<void(Event, Reply)>;

namespace detail {

// Nothing may be thrown into the library: a callback that throws has its reply freed, which is a no.
inline void call(void *env, const fidibus_event *event, fidibus_reply *reply) noexcept {
    Reply answer(reply);
    try {
        (*static_cast<Callback *>(env))(Event(event), std::move(answer));
    } catch (...) {
    }
}

inline void wake(void *env) noexcept {
    try {
        (*static_cast<std::function<void()> *>(env))();
    } catch (...) {
    }
}

} // namespace detail

// Hooks of one kind each; see fidibus_hook.
class Extension {
public:
    explicit Extension(const char *name) : name_(name) {}

    // Sets the callback of a hook.
    Extension &on(fidibus_hook hook, Callback callback) {
        hooks_.emplace_back(hook, std::move(callback));
        return *this;
    }

private:
    friend class Config;

    std::string name_;
    std::vector<std::pair<fidibus_hook, Callback>> hooks_;
};

// The configuration of a hub.
class Config {
public:
    Config() : config_(detail::make<Owner>([](auto out) { return fidibus_config_new(out); })) {}

    Config &set(const char *key, std::uint64_t value) {
        detail::check(fidibus_config_set_integer(config_.get(), key, value));
        return *this;
    }
    Config &set(const char *key, const char *value) {
        detail::check(fidibus_config_set_text(config_.get(), key, value));
        return *this;
    }
    Config &json(const char *text) {
        detail::check(fidibus_config_set_json(config_.get(), text));
        return *this;
    }
    Config &authenticator(Callback callback) {
        auto env = std::make_unique<Callback>(std::move(callback));
        detail::check(fidibus_config_set_authenticator(config_.get(), detail::call, env.get(), detail::destroy<Callback>));
        static_cast<void>(env.release());
        return *this;
    }
    // Adds an extension: one of the library's for each hook, all under its name.
    Config &add(const Extension &extension) {
        for (const auto &[hook, callback] : extension.hooks_) {
            auto env = std::make_unique<Callback>(callback);
            using Made = detail::Handle<fidibus_extension, fidibus_extension_free>;
            auto made = detail::make<Made>([&](auto out) {
                return fidibus_extension_new(extension.name_.c_str(), env.get(), detail::destroy<Callback>, out);
            });
            static_cast<void>(env.release());
            detail::check(fidibus_extension_on(made.get(), hook, detail::call));
            detail::check(fidibus_config_add_extension(config_.get(), made.get()));
        }
        return *this;
    }
    const fidibus_config *get() const noexcept { return config_.get(); }

private:
    using Owner = detail::Handle<fidibus_config, fidibus_config_free>;
    Owner config_;
};

// The HTTP request that opened a socket.
class Handshake {
public:
    explicit Handshake(const std::string &uri)
        : handshake_(detail::make<Owner>([](auto out) { return fidibus_handshake_new(out); })) {
        detail::check(fidibus_handshake_set_uri(handshake_.get(), uri.c_str()));
    }
    Handshake &header(const std::string &name, const std::string &value) {
        detail::check(fidibus_handshake_add_header(handshake_.get(), name.c_str(), value.c_str()));
        return *this;
    }
    Handshake &client_ip(const std::string &address) {
        detail::check(fidibus_handshake_set_client_ip(handshake_.get(), address.c_str()));
        return *this;
    }
    const fidibus_handshake *get() const noexcept { return handshake_.get(); }

private:
    using Owner = detail::Handle<fidibus_handshake, fidibus_handshake_free>;
    Owner handshake_;
};

// Why a connection ended.
struct CloseReason {
    std::uint16_t code;
    std::string reason;
};

// One socket whose bytes the host moves.
class Connection {
public:
    // Hands in a binary message. False: too much waits; try again when woken. A closed one swallows it.
    bool receive(const void *frame, std::size_t len) {
        Status status = fidibus_connection_receive(connection_.get(), static_cast<const std::uint8_t *>(frame), len);
        if (status == FIDIBUS_STATUS_FULL) {
            return false;
        }
        if (status != FIDIBUS_STATUS_CLOSED && status != FIDIBUS_STATUS_TOO_LARGE) {
            detail::check(status);
        }
        return true;
    }
    void receive_text() { static_cast<void>(fidibus_connection_receive_text(connection_.get())); }
    // The next frame for the peer, if there is one.
    std::optional<Buffer> poll() {
        Buffer frame;
        Status status = fidibus_connection_poll_frame(connection_.get(), frame.out());
        if (status == FIDIBUS_STATUS_EMPTY || status == FIDIBUS_STATUS_CLOSED) {
            return std::nullopt;
        }
        detail::check(status);
        return frame;
    }
    // Who is woken: on any thread, and only to signal the host's own loop.
    void on_wake(std::function<void()> wake) {
        using Function = std::function<void()>;
        auto env = std::make_unique<Function>(std::move(wake));
        detail::check(fidibus_connection_set_wake(connection_.get(), detail::wake, env.get(), detail::destroy<Function>));
        static_cast<void>(env.release());
    }
    void close(std::uint16_t code, const std::string &reason) {
        detail::check(fidibus_connection_close(connection_.get(), code, reason.c_str()));
    }
    // Set once the connection has ended.
    std::optional<CloseReason> close_reason() const {
        std::uint16_t code = 0;
        Buffer reason;
        if (fidibus_connection_close_reason(connection_.get(), &code, reason.out()) != FIDIBUS_STATUS_OK) {
            return std::nullopt;
        }
        return CloseReason{code, std::string(reason.text())};
    }

private:
    friend class Hub;
    using Owner = detail::Handle<fidibus_connection, fidibus_connection_free>;
    explicit Connection(Owner connection) : connection_(std::move(connection)) {}
    Owner connection_;
};

// A document of the host's own.
class Document {
public:
    std::string text(const char *root) const {
        Buffer text;
        detail::check(fidibus_document_text(document_.get(), root, text.out()));
        return std::string(text.text());
    }
    std::string json(const char *root = nullptr, fidibus_root kind = FIDIBUS_ROOT_AUTO) const {
        Buffer json;
        detail::check(fidibus_document_json(document_.get(), root, kind, json.out()));
        return std::string(json.text());
    }
    Buffer update() const {
        Buffer update;
        detail::check(fidibus_document_update(document_.get(), update.out()));
        return update;
    }
    void apply(Bytes update) {
        detail::check(fidibus_document_apply_update(document_.get(), update.data(), update.size(), nullptr));
    }
    // Inserts into a root text, at its end by default.
    void insert(const char *root, const std::string &text, std::uint32_t index = UINT32_MAX) {
        using Owner = detail::Handle<fidibus_transaction, fidibus_transaction_free>;
        auto edits = detail::make<Owner>([](auto out) { return fidibus_transaction_new(out); });
        detail::check(fidibus_transaction_text_insert(edits.get(), root, index, text.c_str()));
        detail::check(fidibus_transaction_commit(edits.get(), document_.get(), nullptr));
    }
    const fidibus_document *get() const noexcept { return document_.get(); }

private:
    friend class Hub;
    using Owner = detail::Handle<fidibus_document, fidibus_document_free>;
    explicit Document(Owner document) : document_(std::move(document)) {}
    Owner document_;
};

// A sync server without a listener.
class Hub {
public:
    explicit Hub(const Config &config)
        : hub_(detail::make<Owner>([&](auto out) { return fidibus_hub_new(config.get(), out); })) {}

    Connection connect(const Handshake &handshake) {
        return Connection(detail::make<Connection::Owner>(
            [&](auto out) { return fidibus_hub_connect(hub_.get(), handshake.get(), out); }));
    }
    Document open(const char *name) {
        return Document(
            detail::make<Document::Owner>([&](auto out) { return fidibus_document_open(hub_.get(), name, out); }));
    }
    fidibus_metrics metrics() const {
        fidibus_metrics metrics{};
        detail::check(fidibus_hub_metrics(hub_.get(), &metrics, sizeof metrics));
        return metrics;
    }
    std::string health() const {
        Buffer json;
        detail::check(fidibus_hub_health_json(hub_.get(), json.out()));
        return std::string(json.text());
    }
    // Saves everything; the documents that could not be.
    std::vector<std::string> shutdown(std::uint64_t deadline_ms, std::uint64_t spread_ms = 0) {
        using Names = detail::Handle<fidibus_names, fidibus_names_free>;
        auto unsaved = detail::make<Names>(
            [&](auto out) { return fidibus_hub_shutdown(hub_.get(), deadline_ms, spread_ms, out); });
        std::vector<std::string> names;
        for (std::size_t index = 0; index < fidibus_names_count(unsaved.get()); index++) {
            fidibus_text name{};
            detail::check(fidibus_names_at(unsaved.get(), index, &name));
            names.emplace_back(detail::view(name));
        }
        return names;
    }
    const fidibus_hub *get() const noexcept { return hub_.get(); }

private:
    using Owner = detail::Handle<fidibus_hub, fidibus_hub_free>;
    Owner hub_;
};

} // namespace fidibus

#endif
