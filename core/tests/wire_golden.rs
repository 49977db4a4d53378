//! Goal: every byte that the packages of the field write is read as they mean it, and every frame that a
//! server writes is byte for byte theirs.
//! Method: `golden/generate.mjs` runs the real packages (lib0, y-protocols, four providers, y-websocket, the
//! stock server's encoder) and records frames with their meaning in `golden/frames.json`; `npm run check` there
//! proves that the file is what they write today.
#![allow(clippy::unwrap_used, reason = "a test's helper may panic")]

use bytes::Bytes;
use fidibus_core::auth::Access;
use fidibus_core::error::ProtocolError;
use fidibus_core::id::Address;
use fidibus_core::protocol::frame::{self, Prefix};
use fidibus_core::protocol::message::{Inbound, Message, detect, parse_hocuspocus, parse_y_websocket};
use fidibus_core::protocol::varint::{self, Reader};
use fidibus_core::protocol::{Dialect, awareness};
use serde_json::{Value, json};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/frames.json")).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    let list = value[key].as_array().unwrap();
    assert!(!list.is_empty(), "{key} is empty");
    list
}

fn unhex(hex: &Value) -> Bytes {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The message as `generate.mjs` describes it.
fn meaning(message: &Message) -> Value {
    match message {
        Message::Room(Inbound::SyncStep1(body)) => json!({"kind": "SyncStep1", "body": hex(body)}),
        Message::Room(Inbound::SyncStep2(body)) => json!({"kind": "SyncStep2", "body": hex(body)}),
        Message::Room(Inbound::Update(body)) => json!({"kind": "Update", "body": hex(body)}),
        Message::Room(Inbound::Awareness(body)) => json!({"kind": "Awareness", "body": hex(body)}),
        Message::Room(Inbound::QueryAwareness) => json!({"kind": "QueryAwareness"}),
        Message::Room(Inbound::Stateless(text)) => json!({"kind": "Stateless", "text": text.as_str()}),
        Message::Auth { token, provider_version } => {
            let version = provider_version.as_ref().map(|version| version.as_str());
            json!({"kind": "Auth", "token": token.as_str(), "version": version})
        }
        Message::Close => json!({"kind": "Close"}),
        Message::Ping => json!({"kind": "Ping"}),
        Message::Pong => json!({"kind": "Pong"}),
    }
}

fn read(frame: &Bytes, dialect: Dialect) -> Result<Value, ProtocolError> {
    match dialect {
        Dialect::YWebsocket => Ok(meaning(&parse_y_websocket(frame)?)),
        Dialect::Hocuspocus => {
            let (address, message) = parse_hocuspocus(frame)?;
            let mut meaning = meaning(&message);
            if !address.is_empty() {
                meaning["address"] = json!(address.as_str());
            }
            Ok(meaning)
        }
    }
}

#[test]
fn client_frames_are_read_as_they_are_meant() {
    let golden = golden();
    for client in list(&golden, "clients") {
        let dialect = match client["dialect"].as_str().unwrap() {
            "hocuspocus" => Dialect::Hocuspocus,
            _ => Dialect::YWebsocket,
        };
        let frames = list(client, "frames");
        assert_eq!(detect(&unhex(&frames[0]["bytes"])), dialect, "{}", client["client"]);
        for frame in frames {
            let bytes = unhex(&frame["bytes"]);
            assert_eq!(read(&bytes, dialect), Ok(frame["means"].clone()), "{} {frame}", client["client"]);
            let means_awareness = frame["means"]["kind"] == "Awareness";
            assert!(!means_awareness || awareness::scan(&unhex(&frame["means"]["body"])).is_ok());
        }
    }
}

#[test]
fn no_prefix_of_a_client_frame_is_taken_for_another_message() {
    let golden = golden();
    for frame in list(&golden, "clients").iter().flat_map(|client| list(client, "frames")) {
        let whole = unhex(&frame["bytes"]);
        let dialect =
            if frame["means"].get("address").is_some() { Dialect::Hocuspocus } else { Dialect::YWebsocket };
        for end in 0..whole.len() {
            let read = read(&whole.slice(..end), dialect);
            // One cut is a message of its own: an Auth message without the version of newer providers.
            let is_older_auth =
                read.as_ref().is_ok_and(|read| read["kind"] == "Auth" && read["version"].is_null());
            assert!(
                is_older_auth || read == Err(ProtocolError::UnexpectedEnd),
                "{end} bytes of {frame}: {read:?}"
            );
        }
    }
}

#[test]
fn server_frames_are_written_as_stock_writes_them() {
    let golden = golden();
    for expected in list(&golden, "server") {
        let (dialect, prefix) = match expected["address"].as_str() {
            Some(address) => {
                let address = Address::parse(address).unwrap();
                (Dialect::Hocuspocus, Prefix::new(&address, Dialect::Hocuspocus))
            }
            None => (Dialect::YWebsocket, Prefix::none()),
        };
        let argument = &expected["argument"];
        let text = || argument.as_str().unwrap();
        let frame = match expected["write"].as_str().unwrap() {
            "sync_step1" => frame::sync_step1(&prefix, &unhex(argument)),
            "sync_step2" => frame::sync_step2(&prefix, &unhex(argument)),
            "update" => frame::update(&prefix, &unhex(argument)),
            "awareness" => frame::awareness(&prefix, &unhex(argument)),
            "query_awareness" => frame::query_awareness(&prefix),
            "sync_status" => frame::sync_status(&prefix, argument.as_bool().unwrap()),
            "stateless" => frame::stateless(&prefix, text()),
            "broadcast_stateless" => frame::broadcast_stateless(&prefix, text()),
            "close" => frame::close(&prefix, text()),
            "permission_denied" => frame::permission_denied(&prefix, text(), dialect),
            "authenticated" if argument == true => frame::authenticated(&prefix, Access::ReadOnly),
            "authenticated" => frame::authenticated(&prefix, Access::ReadWrite),
            "token_request" => frame::token_request(&prefix),
            other => panic!("{other}"),
        };
        assert_eq!(json!(hex(&frame)), expected["bytes"], "{expected}");
    }
}

#[test]
fn awareness_updates_are_read_and_written() {
    let golden = golden();
    for expected in list(&golden, "awareness") {
        let bytes = unhex(&expected["bytes"]);
        let entries = awareness::scan(&bytes).unwrap();
        let read: Vec<_> =
            entries.clone().map(|entry| json!([entry.client, entry.clock, entry.state])).collect();
        assert_eq!(json!(read), expected["entries"]);
        assert_eq!(awareness::encode(entries), bytes);
    }
}

#[test]
fn numbers_and_strings_are_lib0s() {
    let golden = golden();
    for expected in list(&golden["numbers"], "unsigned") {
        let number = expected[0].as_u64().unwrap();
        let mut out = Vec::new();
        varint::write_var_uint(&mut out, number);
        assert_eq!(out, unhex(&expected[1]), "{number}");
        assert_eq!(Reader::new(&out).var_uint(), Ok(number));
    }
    for expected in list(&golden["numbers"], "signed") {
        let number = expected[0].as_i64().unwrap();
        let mut out = Vec::new();
        varint::write_var_int(&mut out, number);
        assert_eq!(out, unhex(&expected[1]), "{number}");
        assert_eq!(Reader::new(&out).var_int(), Ok(number));
    }
    for expected in list(&golden["numbers"], "strings") {
        let text = expected[0].as_str().unwrap();
        let mut out = Vec::new();
        varint::write_var_bytes(&mut out, text.as_bytes());
        assert_eq!(out, unhex(&expected[1]), "{text}");
        assert_eq!(Reader::new(&out).var_string(), Ok(text));
    }
}

/// The table of requirements.md §5.4.
#[test]
fn the_first_frame_tells_the_dialect() {
    let check = |bytes: &[u8], expected| assert_eq!(detect(bytes), expected, "{bytes:02x?}");
    check(&[0, 0, 1, 0], Dialect::YWebsocket);
    check(&[0, 0, 3, 1, 7, 2], Dialect::YWebsocket);
    check(b"\x01n\x02\x00\x05token", Dialect::Hocuspocus);
    check(b"\x01n\x02\x00\x05token\x054.8.0", Dialect::Hocuspocus);
    check(b"\x01n\x00\x00\x01\x00", Dialect::Hocuspocus);
    // An empty name.
    check(&[0, 2, 0, 0], Dialect::Hocuspocus);
    check(&[0, 0, 0, 1, 0], Dialect::Hocuspocus);
    // Not exactly consumed, or nothing at all.
    check(&[0, 0, 1, 0, 0], Dialect::Hocuspocus);
    check(&[0, 0, 2, 0], Dialect::Hocuspocus);
    check(&[0, 0], Dialect::Hocuspocus);
    check(&[], Dialect::Hocuspocus);
}

#[test]
fn what_only_servers_send_is_refused() {
    let check = |bytes: &'static [u8], expected| {
        assert_eq!(parse_hocuspocus(&Bytes::from_static(bytes)).unwrap_err(), expected, "{bytes:02x?}");
    };
    check(b"\x01n\x06\x01x", ProtocolError::ServerOnly(6));
    check(b"\x01n\x08\x01", ProtocolError::UnknownMessage(8));
    check(b"\x01n\x09", ProtocolError::UnknownMessage(9));
    check(b"\x01n\x0b", ProtocolError::UnknownMessage(11));
    check(b"\x01n\x02\x01\x01x", ProtocolError::UnknownMessage(2));
    check(b"\x01n\x00\x03\x00", ProtocolError::UnknownSyncMessage(3));
    check(b"\x01\xff\x03", ProtocolError::NotUtf8);
    check(b"\x01n\x05\x01\xff", ProtocolError::NotUtf8);
    assert_eq!(
        parse_y_websocket(&Bytes::from_static(&[2, 0, 0])).unwrap_err(),
        ProtocolError::UnknownMessage(2)
    );
    assert_eq!(
        parse_y_websocket(&Bytes::from_static(&[7, 0])).unwrap_err(),
        ProtocolError::UnknownMessage(7)
    );
    // SyncReply means what Sync means; bytes behind a message are a later version's.
    let reply = parse_hocuspocus(&Bytes::from_static(b"\x01n\x04\x00\x01\x00later")).unwrap().1;
    assert_eq!(reply, Message::Room(Inbound::SyncStep1(Bytes::from_static(&[0]))));
}

#[test]
fn parsing_copies_nothing() {
    let bytes = Bytes::from(b"\x01n\x00\x02\x05hello".to_vec());
    let (address, message) = parse_hocuspocus(&bytes).unwrap();
    let Message::Room(Inbound::Update(body)) = message else { panic!("{message:?}") };
    let within = |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr());
    assert!(within(&body) && within(address.as_str().as_bytes()));
}
