//! Gives the parsers of frames and addresses whatever the fuzzer invents. An input is one frame of a client.

use bytes::Bytes;
use fidibus_core::id::Address;
use fidibus_core::protocol::Dialect;
use fidibus_core::protocol::frame::{self, Prefix};
use fidibus_core::protocol::message::{self, Inbound, Message};

/// One input.
pub fn run(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if message::detect(&bytes) == Dialect::YWebsocket {
        assert!(matches!(message::parse_y_websocket(&bytes), Ok(Message::Room(Inbound::SyncStep1(_)))));
    }
    if let Ok(Message::Room(inbound)) = message::parse_y_websocket(&bytes) {
        again(&bare_prefix(), inbound, |frame| message::parse_y_websocket(frame).ok());
    }
    let split = message::split_hocuspocus(&bytes).map(|(address, message)| (address.to_owned(), message));
    let parsed = message::parse_hocuspocus(&bytes);
    match (split, parsed) {
        (Ok((address, Ok(message))), Ok((text, parsed))) => {
            assert!(address == text.as_str() && message == parsed);
            addressed(&address, message);
        }
        (Ok((_, Err(split))), Err(parsed)) => assert_eq!(split, parsed),
        (Err(split), Err(parsed)) => assert_eq!(split, parsed),
        (split, parsed) => panic!("{split:?}, but {parsed:?}"),
    }
}

/// What stands in front of a frame on a socket for one document.
fn bare_prefix() -> Prefix {
    Prefix::new(&Address::parse("d").expect("a name"), Dialect::YWebsocket)
}

/// A frame's message and address survive being written as the server writes them.
fn addressed(address: &str, message: Message) {
    let Ok(parsed) = Address::parse(address) else { return };
    assert_eq!(Address::parse(&parsed.to_wire()).as_ref(), Ok(&parsed));
    assert!(parsed.document().as_str().len() <= address.len());
    let Message::Room(inbound) = message else { return };
    again(&Prefix::of_wire_address(address), inbound, |frame| {
        let (found, message) = message::parse_hocuspocus(frame).ok()?;
        (found.as_str() == address).then_some(message)
    });
}

fn again(prefix: &Prefix, inbound: Inbound, parse: impl Fn(&Bytes) -> Option<Message>) {
    let written = match &inbound {
        Inbound::SyncStep1(vector) => frame::sync_step1(prefix, vector),
        Inbound::SyncStep2(update) => frame::sync_step2(prefix, update),
        Inbound::Update(update) => frame::update(prefix, update),
        Inbound::Awareness(states) => frame::awareness(prefix, states),
        Inbound::QueryAwareness => frame::query_awareness(prefix),
        Inbound::Stateless(text) => frame::stateless(prefix, text.as_str()),
    };
    assert_eq!(parse(&written), Some(Message::Room(inbound)));
}
