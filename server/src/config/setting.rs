//! The table of all settings: the one place that names a variable, its flag, its default and its help.
//! The command line, the layers, the list of `--check-config` and the hint for a misspelt name come
//! from it.

/// One setting of the server.
#[derive(Debug)]
pub struct Setting {
    /// Its environment variable, also its name in `.env`.
    pub variable: &'static str,
    /// Its flag, without the dashes; `None` for what only the environment gives.
    pub flag: Option<&'static str>,
    /// The heading under which `--help` shows it.
    pub group: &'static str,
    /// What stands for the value in `--help`.
    pub placeholder: &'static str,
    /// The default as `--help` words it; empty where there is none.
    pub default: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whether its value is kept out of every output.
    pub secret: bool,
}

const fn setting(
    [variable, flag]: [&'static str; 2],
    group: &'static str,
    [placeholder, default, help]: [&'static str; 3],
) -> Setting {
    let flag = if flag.is_empty() { None } else { Some(flag) };
    Setting { variable, flag, group, placeholder, default, help, secret: false }
}

const fn secret(setting: Setting) -> Setting {
    Setting { secret: true, ..setting }
}

const LISTENING: &str = "Listening";
const HEALTH: &str = "Health and metrics";
const ACCESS: &str = "Access";
const LIMITS: &str = "Limits";
const WEBHOOKS: &str = "Webhooks";
const STORAGE: &str = "Storage";
const SYNC: &str = "Sync";
const PROCESS: &str = "Process and logs";

/// Every setting, in the order of `--help`.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    setting(["WS_PORT", "port"], LISTENING, ["PORT", "3001",
        "Port of the WebSocket server; 0 takes any free one"]),
    setting(["PORT", ""], LISTENING, ["PORT", "",
        "Used where WS_PORT is not set, as hosting platforms have it"]),
    setting(["WS_HOST", "host"], LISTENING, ["ADDRESS", "0.0.0.0; 127.0.0.1 without authentication",
        "IP address to listen on, or unix:/path.sock"]),
    setting(["WS_SOCKET_MODE", "socket-mode"], LISTENING, ["OCTAL", "660",
        "Permissions of the Unix socket"]),
    setting(["WS_BASE_PATH", "base-path"], LISTENING, ["PATH", "/ws",
        "Taken off the front of the URL path where it stands there as a whole segment; / for none"]),
    setting(["WS_MAX_CONNECTIONS", "max-connections"], LISTENING, ["COUNT", "20000",
        "Sockets served at once; more are answered with 503"]),
    setting(["WS_MAX_HEADER_BYTES", "max-header-bytes"], LISTENING, ["BYTES", "16384",
        "Size of an HTTP request's head; more is answered with 431"]),
    setting(["WS_HEADER_TIMEOUT_MS", "header-timeout-ms"], LISTENING, ["MS", "10000",
        "Time that a client has for the head of an HTTP request"]),
    setting(["WS_PING_INTERVAL_MS", "ping-interval-ms"], LISTENING, ["MS", "25000",
        "A silent socket gets a WebSocket ping after this long, and is dropped when it stays silent for another such time"]),
    setting(["WS_TRUSTED_PROXIES", "trusted-proxies"], LISTENING, ["LIST", "127.0.0.0/8,::1,unix",
        "Whose X-Forwarded-For and X-Real-IP to believe: addresses, networks, unix"]),
    setting(["WS_PLAYGROUND", "playground"], LISTENING, ["on|off", "on, off with NODE_ENV=production",
        "The demonstration page at / and its figures"]),

    setting(["WS_HEALTH_PORT", "health-port"], HEALTH, ["PORT|off", "one above WS_PORT: 3002",
        "Port of /health, /ready and /metrics; off for none"]),
    setting(["WS_HEALTH_HOST", "health-host"], HEALTH, ["ADDRESS", "WS_HOST; 127.0.0.1 with a Unix socket",
        "IP address of the health port"]),
    setting(["WS_HEALTH_FORMAT", "health-format"], HEALTH, ["full|seed", "full",
        "seed leaves out what the deployment guide does not name"]),

    setting(["WS_AUTH", "auth"], ACCESS, ["none|static|better-auth|jwt|webhook", "better-auth with BETTER_AUTH_SECRET, else none",
        "Who decides on access"]),
    secret(setting(["WS_STATIC_TOKENS", "static-tokens"], ACCESS, ["LIST", "",
        "For WS_AUTH=static: token=user:rw,token=user:ro,…"])),
    secret(setting(["BETTER_AUTH_SECRET", ""], ACCESS, ["SECRET", "",
        "The secret that Better Auth signs cookies with; its presence selects WS_AUTH=better-auth"])),
    secret(setting(["BETTER_AUTH_SECRETS", ""], ACCESS, ["LIST", "",
        "Its secrets while they are rotated: 2:newest,1:older"])),
    secret(setting(["AUTH_SECRET", ""], ACCESS, ["SECRET", "",
        "Used where BETTER_AUTH_SECRET is not set"])),
    setting(["BETTER_AUTH_URL", ""], ACCESS, ["URL", "",
        "Where Better Auth is; cookies count from its pages"]),
    setting(["NEXT_PUBLIC_BETTER_AUTH_URL", ""], ACCESS, ["URL", "",
        "The same as its pages know it"]),
    setting(["BETTER_AUTH_TRUSTED_ORIGINS", ""], ACCESS, ["LIST", "",
        "Further origins that cookies count from, with * and ? as Better Auth has them"]),
    secret(setting(["WS_AUTH_DATABASE_URL", ""], ACCESS, ["URL", "DATABASE_URL",
        "The database of Better Auth"])),
    secret(setting(["WS_AUTH_REDIS_URL", ""], ACCESS, ["URL", "",
        "The secondaryStorage of Better Auth, where its sessions are not in the database: redis://user:password@host:6379/0, or rediss:// for TLS"])),
    setting(["WS_AUTH_REDIS_PREFIX", "auth-redis-prefix"], ACCESS, ["PREFIX|none", "better-auth:",
        "What its keys begin with"]),
    setting(["WS_AUTH_MAX_CONNECTIONS", "auth-max-connections"], ACCESS, ["COUNT", "4",
        "Connections to it"]),
    setting(["WS_AUTH_SESSION_TABLE", "auth-session-table"], ACCESS, ["TABLE", "session",
        "Its table of sessions, as table or schema.table"]),
    setting(["WS_AUTH_USER_TABLE", "auth-user-table"], ACCESS, ["TABLE", "user",
        "Its table of users"]),
    setting(["WS_AUTH_JWKS_TABLE", "auth-jwks-table"], ACCESS, ["TABLE", "jwks",
        "The table of its JWT plugin's keys; not read with WS_JWKS_URL"]),
    setting(["WS_AUTH_COOKIE_PREFIX", "auth-cookie-prefix"], ACCESS, ["PREFIX", "better-auth",
        "advanced.cookiePrefix of Better Auth"]),
    setting(["WS_AUTH_COOKIE", "auth-cookie"], ACCESS, ["NAME", "",
        "The whole name of the session cookie, where Better Auth was given one"]),
    setting(["WS_REQUIRE_SIGNED_TOKEN", "require-signed-token"], ACCESS, ["on|off", "off",
        "Refuse session tokens without their signature"]),
    setting(["WS_AUTH_REJECT", "auth-reject"], ACCESS, ["close|http", "close",
        "Whoever is not let in gets a close code after the handshake, which pages can read, or HTTP 401 or 403 instead of it"]),
    setting(["WS_AUTH_RECHECK_MS", "auth-recheck-ms"], ACCESS, ["MS", "60000",
        "Open sessions are judged again this often"]),
    setting(["WS_AUTH_LISTEN", "auth-listen"], ACCESS, ["off|on|install", "off",
        "Hear of logouts, bans and roles at once, by triggers in PostgreSQL; install makes them"]),
    setting(["WS_ROLES", "roles"], ACCESS, ["MAP", "owner, admin, editor, viewer as in the app",
        "Permissions of roles: owner=*;editor=diagram:view,diagram:edit;viewer=diagram:view"]),
    setting(["WS_DEFAULT_ROLE", "default-role"], ACCESS, ["ROLE", "",
        "What an unknown role counts as; without it such users are refused"]),
    setting(["WS_PERMISSION_VIEW", "permission-view"], ACCESS, ["PERMISSION", "diagram:view",
        "The permission to open a document"]),
    setting(["WS_PERMISSION_EDIT", "permission-edit"], ACCESS, ["PERMISSION", "diagram:edit",
        "The permission to change it; without it a session is read-only"]),
    setting(["WS_DOCUMENT_PATTERN", "document-pattern"], ACCESS, ["REGEX|*", "^[a-zA-Z0-9._-]{1,128}$",
        "Names that may be opened, with WS_AUTH=better-auth or jwt; * for all"]),
    setting(["WS_ACCESS_QUERY", ""], ACCESS, ["SQL", "",
        "Decides per document in the database of Better Auth: $user and $document stand for the ids, the first column says rw, ro, none or a role"]),
    setting(["WS_ACCESS_URL", ""], ACCESS, ["URL", "",
        "Asked per document: POST with user and document, answered with {\"access\": \"rw|ro|none\"} or 403"]),
    secret(setting(["WS_ACCESS_SECRET", ""], ACCESS, ["SECRET", "",
        "Signs the calls to WS_ACCESS_URL"])),
    setting(["WS_ACCESS_CACHE_MS", "access-cache-ms"], ACCESS, ["MS", "10000",
        "Answers of WS_ACCESS_QUERY and WS_ACCESS_URL are remembered for this long"]),
    secret(setting(["WS_JWT_SECRET", ""], ACCESS, ["SECRET", "",
        "Accept JWTs signed with HS256 and this secret"])),
    setting(["WS_JWKS_URL", "jwks-url"], ACCESS, ["URL", "",
        "Accept JWTs signed with a key that is published here, as in https://app.example/api/auth/jwks"]),
    setting(["WS_JWT_ISSUER", "jwt-issuer"], ACCESS, ["ISSUER", "any",
        "The iss that JWTs must have"]),
    setting(["WS_JWT_AUDIENCE", "jwt-audience"], ACCESS, ["LIST", "any",
        "The aud that JWTs must have"]),
    secret(setting(["WS_ADMIN_TOKEN", ""], ACCESS, ["TOKEN", "",
        "Opens /admin/ on the health port to whoever sends it as Bearer; without it there is no /admin/"])),
    setting(["WS_ALLOWED_ORIGINS", "allowed-origins"], ACCESS, ["LIST", "all",
        "Origins whose pages may connect; a request without Origin is not from a page and passes"]),
    setting(["WS_PROTOCOL", "protocol"], ACCESS, ["auto|hocuspocus|y-websocket", "auto",
        "The dialect spoken; auto finds out by the first frame"]),

    setting(["WS_MAX_CONNECTIONS_PER_USER", "max-connections-per-user"], LIMITS, ["COUNT", "100",
        "Sockets of one user"]),
    setting(["WS_MAX_CONNECTIONS_PER_IP", "max-connections-per-ip"], LIMITS, ["COUNT", "WS_MAX_CONNECTIONS",
        "WebSockets of one address; more are answered with 429"]),
    setting(["WS_MAX_CONNECTS_PER_MINUTE", "max-connects-per-minute"], LIMITS, ["COUNT|off", "off",
        "New WebSockets of one address in a minute; more ban it. Hocuspocus' throttle has 15"]),
    setting(["WS_CONNECT_BAN_MS", "connect-ban-ms"], LIMITS, ["MS", "300000",
        "How long such a ban lasts"]),
    setting(["WS_MAX_UPDATES_PER_SECOND", "max-updates-per-second"], LIMITS, ["COUNT|off", "off, 100 with NODE_ENV=production",
        "Updates of one socket, on average; who is faster is read from more slowly"]),
    setting(["WS_MAX_BYTES_PER_SECOND", "max-bytes-per-second"], LIMITS, ["BYTES|off", "off, 8388608 with NODE_ENV=production",
        "Bytes of one socket, on average"]),
    setting(["WS_MAX_PUSH_MS", "max-push-ms"], LIMITS, ["MS", "30000",
        "Who stays above these rates for so long is closed, and may come back"]),
    setting(["WS_MAX_DOCUMENTS_PER_CONNECTION", "max-documents-per-connection"], LIMITS, ["COUNT", "1000",
        "Documents open on one socket"]),
    setting(["WS_MAX_AWARENESS_BYTES", "max-awareness-bytes"], LIMITS, ["BYTES", "1048576",
        "Awareness state of one client"]),
    setting(["WS_AUTH_TIMEOUT_MS", "auth-timeout-ms"], LIMITS, ["MS", "10000; WS_TIMEOUT_MS with WS_AUTH=none",
        "Time for a client to be let in"]),

    setting(["WS_WEBHOOK_URL", "webhook-url"], WEBHOOKS, ["URL", "",
        "Where the application is told, and with WS_AUTH=webhook asked for every session"]),
    secret(setting(["WS_WEBHOOK_SECRET", ""], WEBHOOKS, ["SECRET", "",
        "Signs the calls, in X-Hocuspocus-Signature-256"])),
    setting(["WS_WEBHOOK_EVENTS", "webhook-events"], WEBHOOKS, ["LIST", "change",
        "Some of connect, load, change, store, disconnect"]),
    setting(["WS_WEBHOOK_DOCUMENT", "webhook-document"], WEBHOOKS, ["off|json|prosemirror", "off",
        "Changes are told with the document, as an update and as JSON: by the content of its types, or with XML as ProseMirror's and Tiptap's JSON, as Hocuspocus' webhooks have it"]),
    setting(["WS_WEBHOOK_DEADLINE_MS", "webhook-deadline-ms"], WEBHOOKS, ["MS", "5000",
        "Time for the application to answer a question; later is no"]),
    setting(["WS_WEBHOOK_DEBOUNCE_MS", "webhook-debounce-ms"], WEBHOOKS, ["MS", "2000",
        "Changes are told after this much quiet"]),
    setting(["WS_WEBHOOK_MAX_DEBOUNCE_MS", "webhook-max-debounce-ms"], WEBHOOKS, ["MS", "10000",
        "… but at the latest this long after the first"]),

    setting(["DATABASE_URL", "database-url"], STORAGE, ["URL", "an SQLite file in WS_STATE_DIR; none with NODE_ENV=production",
        "postgres://user:password@host/database, sqlite:path.db or memory:"]),
    setting(["WS_STATE_DIR", "state-dir"], STORAGE, ["DIRECTORY", "./fidibus-data",
        "Where the server keeps files of its own; each server needs one for itself"]),
    setting(["WS_DATABASE_MAX_CONNECTIONS", "database-max-connections"], STORAGE, ["COUNT", "10",
        "Connections to PostgreSQL at most"]),
    setting(["WS_DATABASE_CONNECT_MS", "database-connect-ms"], STORAGE, ["MS", "5000",
        "How long a call waits for a connection to PostgreSQL"]),
    setting(["WS_DATABASE_IDLE_MS", "database-idle-ms"], STORAGE, ["MS", "30000",
        "How long an unused connection to PostgreSQL is kept"]),
    setting(["WS_MIGRATE", "migrate"], STORAGE, ["on|off", "on",
        "Make missing tables at the start; off: fidibus migrate does it"]),
    setting(["WS_SPOOL", "spool"], STORAGE, ["on|off", "on",
        "Keep updates in a file of WS_STATE_DIR while PostgreSQL is away, and acknowledge them from there"]),
    setting(["WS_SPOOL_MAX_BYTES", "spool-max-bytes"], STORAGE, ["BYTES", "4294967296",
        "Updates in that file at most; beyond, nothing is acknowledged until PostgreSQL is back"]),
    setting(["WS_SPOOL_ADOPT", "spool-adopt"], STORAGE, ["on|off", "off",
        "Take over updates that wait there for another PostgreSQL: for one start after it has moved to another address"]),
    setting(["WS_DEBOUNCE_MS", "debounce-ms"], STORAGE, ["MS", "1000",
        "A snapshot is written after this much quiet"]),
    setting(["WS_MAX_DEBOUNCE_MS", "max-debounce-ms"], STORAGE, ["MS", "5000",
        "… but at the latest this long after the first change"]),
    setting(["WS_ACK", "ack"], STORAGE, ["commit|memory|auto", "auto: commit where the store has a log",
        "When a provider is told that its update is safe"]),
    setting(["WS_ENABLE_UPDATE_LOG", "enable-update-log"], STORAGE, ["on|off", "off",
        "Keep the rows of the update log as history, with their users and times"]),
    setting(["WS_UPDATE_LOG_RETENTION_DAYS", "update-log-retention-days"], STORAGE, ["DAYS", "90",
        "How long that history is kept"]),

    setting(["WS_MAX_DOCUMENT_BYTES", "max-document-bytes"], SYNC, ["BYTES", "10485760",
        "Size of one document; an update that crosses it is refused"]),
    setting(["WS_MAX_MESSAGE_BYTES", "max-message-bytes"], SYNC, ["BYTES", "52428800",
        "Size of one WebSocket message"]),
    setting(["WS_MAX_OUTBOX_BYTES", "max-outbox-bytes"], SYNC, ["BYTES", "1048576",
        "Queued for one socket before it gets differences instead of frames"]),
    setting(["WS_STALL_MS", "stall-ms"], SYNC, ["MS", "30000",
        "A socket that takes nothing of what is queued for this long is closed"]),
    setting(["WS_TIMEOUT_MS", "timeout-ms"], SYNC, ["MS", "60000",
        "Idle time of a connection, and the deadline for its authentication"]),
    setting(["WS_FLUSH_DELAY_MS", "flush-delay-ms"], SYNC, ["MS|off", "0",
        "Updates that arrive within this time go out as one frame; 0: what arrived together; off: each by itself"]),
    setting(["WS_AWARENESS_DELAY_MS", "awareness-delay-ms"], SYNC, ["MS", "16",
        "Cursors wait at most this long for others and for updates, and go out together; 0, or with WS_FLUSH_DELAY_MS: as long as updates"]),

    setting(["NODE_APP_INSTANCE", ""], PROCESS, ["NUMBER", "",
        "Set by PM2: the number of this instance; beyond 0 the server does not start, since users of one document would not meet"]),
    setting(["NODE_ENV", ""], PROCESS, ["ENVIRONMENT", "",
        "production asks for a DATABASE_URL and turns the playground off"]),
    setting(["LOG_LEVEL", "log-level"], PROCESS, ["error|warn|info|debug|trace", "info, debug with NODE_ENV=development",
        "How much is logged"]),
    setting(["LOG_FORMAT", "log-format"], PROCESS, ["text|json", "text",
        "Lines for people, or one JSON object a line"]),
    setting(["LOG_TIMESTAMPS", "log-timestamps"], PROCESS, ["on|off", "off for text, on for json",
        "Whether lines carry their time; PM2 and journald add their own"]),
    setting(["WS_SHUTDOWN_DEADLINE_MS", "shutdown-deadline-ms"], PROCESS, ["MS", "8000",
        "Time to close and save everything at SIGINT or SIGTERM"]),
];

/// The setting of a variable.
pub fn by_variable(variable: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.variable == variable)
}

/// The known variable that is most like a misspelt one, if any is near.
pub fn nearest(variable: &str) -> Option<&'static str> {
    /// Beyond this many edits a suggestion confuses more than it helps.
    const EDITS_MAX: usize = 4;
    SETTINGS
        .iter()
        .map(|setting| (strsim::damerau_levenshtein(setting.variable, variable), setting.variable))
        .min()
        .filter(|(edits, _)| *edits <= EDITS_MAX)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_used_once() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            let later = &SETTINGS[index + 1..];
            assert!(later.iter().all(|other| other.variable != setting.variable), "{}", setting.variable);
            assert!(later.iter().all(|o| o.flag.is_none() || o.flag != setting.flag), "{:?}", setting.flag);
        }
    }

    #[test]
    fn the_example_file_names_every_setting() {
        let example = include_str!("../../../.env.example");
        for setting in SETTINGS {
            let line = format!("{}=", setting.variable);
            assert!(
                example.lines().any(|l| l.trim_start_matches(['#', ' ']).starts_with(&line)),
                ".env.example lacks {}",
                setting.variable
            );
        }
    }

    #[test]
    fn near_misses_are_named() {
        assert_eq!(nearest("WS_PROT"), Some("WS_PORT"));
        assert_eq!(nearest("WS_DEBOUNCE"), Some("WS_DEBOUNCE_MS"));
        assert_eq!(nearest("WS_SOMETHING_ELSE_ENTIRELY"), None);
    }
}
