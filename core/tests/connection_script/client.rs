//! The connection of the tests, and the frames of its clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fidibus_core::config::Limits;
use fidibus_core::connection::ConnectionOptions;
use fidibus_core::id::DocumentName;
use fidibus_core::protocol::varint::{write_var_bytes, write_var_uint};

/// Options of a connection in these tests: 60 s, small limits, the document `path` in the URL.
pub fn options() -> ConnectionOptions {
    let limits = Limits {
        unauthenticated_bytes_max: 100,
        unauthenticated_messages_max: 5,
        pending_documents_max: 3,
        sessions_per_connection_max: 6,
        session_queue_bytes_max: 400,
        message_bytes_max: 200,
        ..Limits::default()
    };
    ConnectionOptions {
        limits: Arc::new(limits),
        timeout: Duration::from_secs(60),
        admit: false,
        token_optional: false,
        dialect: None,
        path_document: Some(DocumentName::parse("path").unwrap()),
    }
}

/// A client's frame from its words.
pub fn frame(words: &[&str]) -> Bytes {
    let (kind, address, rest) = match *words {
        ["ping"] => return Bytes::from_static(&[9]),
        ["pong"] => return Bytes::from_static(&[10]),
        ["hex", hex] => return unhex(hex),
        [kind, address, ref rest @ ..] => (kind, address, rest),
        _ => panic!("what is {words:?}?"),
    };
    let mut out = Vec::new();
    if address != "~" {
        write_var_bytes(
            &mut out,
            if address == "-" { "".into() } else { address.replace('+', "\0") }.as_bytes(),
        );
    }
    let body = rest.join(" ");
    let numbers: HashMap<&str, &[u64]> = HashMap::from([
        ("step1", &[0, 0][..]),
        ("step2", &[0, 1]),
        ("update", &[0, 2]),
        ("awareness", &[1]),
        ("auth", &[2, 0]),
        ("query", &[3]),
        ("stateless", &[5]),
        ("broadcast", &[6]),
        ("close", &[7]),
        ("unknown", &[42]),
        // Announces 99 bytes that do not follow.
        ("truncated", &[0, 2, 99]),
        ("untyped", &[]),
    ]);
    numbers[kind].iter().for_each(|&number| write_var_uint(&mut out, number));
    match kind {
        "auth" => rest.iter().for_each(|text| write_var_bytes(&mut out, text.as_bytes())),
        "query" | "close" | "truncated" | "untyped" => {}
        _ => write_var_bytes(&mut out, body.as_bytes()),
    }
    out.into()
}

fn unhex(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
