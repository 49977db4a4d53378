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
        "Who decides on access; this version has none and static"]),
    secret(setting(["WS_STATIC_TOKENS", "static-tokens"], ACCESS, ["LIST", "",
        "For WS_AUTH=static: token=user:rw,token=user:ro,…"])),
    secret(setting(["BETTER_AUTH_SECRET", ""], ACCESS, ["SECRET", "",
        "Its presence selects WS_AUTH=better-auth"])),
    setting(["WS_ALLOWED_ORIGINS", "allowed-origins"], ACCESS, ["LIST", "all",
        "Origins whose pages may connect; a request without Origin is not from a page and passes"]),
    setting(["WS_PROTOCOL", "protocol"], ACCESS, ["auto|hocuspocus|y-websocket", "auto",
        "The dialect spoken; auto finds out by the first frame"]),

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
