//! A document of types in types, as a hostile peer may send it, ends no process, whatever it is asked for.

use fidibus_core::protocol::varint::write_var_uint;
use fidibus_core::room::{Edit, MaterializeError, edit, json_of_all, prosemirror_of_all, text};

/// What the calls allow.
const LEVELS_MAX: u64 = 10_000;
/// A fourth of what the hub gives such calls.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Client 7's maps, or XML elements, one in the other; `is_deleted`: the outermost is.
fn nested(levels: u64, is_xml: bool, is_deleted: bool) -> Vec<u8> {
    let mut update = vec![1];
    write_var_uint(&mut update, levels);
    update.extend([7, 0]);
    for level in 0..levels {
        update.push(if is_xml { 0x07 } else { 0x27 });
        match level {
            0 => update.extend([1, 1, b'r']),
            level => {
                update.extend([0, 7]);
                write_var_uint(&mut update, level - 1);
            }
        }
        update.extend_from_slice(if is_xml { &[3, 1, b'p'] } else { &[1, b'a', 1] });
    }
    update.extend_from_slice(if is_deleted { &[1, 7, 1, 0, 1] } else { &[0] });
    update
}

fn ask(update: Vec<u8>) -> [Result<(), MaterializeError>; 4] {
    let calls = move || {
        let insert = Edit::TextInsert { root: "t".to_owned(), index: None, text: "x".to_owned() };
        [
            json_of_all(&update).map(drop),
            prosemirror_of_all(&update).map(drop),
            text(&update, "t").map(drop),
            edit(&update, &[insert]).map(drop),
        ]
    };
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(calls)
        .expect("a thread")
        .join()
        .expect("an answer")
}

/// Method: as deep as is allowed, which every call reads, and deeper, which they refuse; 300,000 would end the test.
#[test]
fn types_that_lie_too_deep_in_each_other_are_refused() {
    for (is_xml, is_deleted) in [(false, false), (true, false), (false, true)] {
        assert_eq!(ask(nested(LEVELS_MAX, is_xml, is_deleted)), [Ok(()), Ok(()), Ok(()), Ok(())]);
        for refused in ask(nested(30_000, is_xml, is_deleted)) {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("30000 deep"), "{error}");
        }
    }
}
