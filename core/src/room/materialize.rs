//! The document as text and JSON, and edits by the host: the one place that makes a yrs document. It is fed
//! with what the log encodes, lives for one call, and its panics end that call and nothing else. Call it on
//! a thread with a large stack: yrs recurses as deep as the document is nested.

mod prosemirror;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use yrs::types::{AsPrelim, ToJson};
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Doc, GetString, In, Map, MapRef, OffsetKind, Options, Out, ReadTxn, Text, TextRef, Transact,
    Transaction, TransactionMut, Update,
};

use crate::log::{LogOptions, StructLog};
use crate::protocol::varint::write_var_uint;

/// Types that lie in each other, at the most. yrs recurses through them: 256 MB of stack are enough for 100,000 in a
/// debug build, and not for 300,000.
const NESTING_MAX: u32 = 10_000;
/// What a type costs of an update at the least: its flags, a parent or neighbour, and its kind.
const TYPE_BYTES_MIN: usize = 4;

/// What a root type is read as. The wire does not tell; the application knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootKind {
    /// By its content: text where it holds text, an array where it holds a list, else a map.
    #[default]
    Auto,
    /// `Y.Text`: a string, without its formatting.
    Text,
    /// `Y.Map`: an object.
    Map,
    /// `Y.Array`: an array.
    Array,
    /// `Y.XmlFragment`: a string of XML.
    Xml,
}

/// One edit by the host. Positions are in UTF-16 code units, as in Yjs.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Inserts into a root `Y.Text`.
    TextInsert {
        /// The root type's name.
        root: String,
        /// Where; `None`: at the end.
        index: Option<u32>,
        /// What.
        text: String,
    },
    /// Removes from a root `Y.Text`.
    TextRemove {
        /// The root type's name.
        root: String,
        /// From where.
        index: u32,
        /// How much.
        len: u32,
    },
    /// Sets a key of a root `Y.Map`.
    MapSet {
        /// The root type's name.
        root: String,
        /// The key.
        key: String,
        /// The value, as JSON text; stored as a plain value.
        json: String,
    },
    /// Removes a key of a root `Y.Map`; no matter if it is not there.
    MapRemove {
        /// The root type's name.
        root: String,
        /// The key.
        key: String,
    },
}

/// Why a document could not be read or edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MaterializeError {
    /// yrs refuses or breaks on what the log accepted; the document itself is as it was.
    #[error("the document cannot be materialised: {0}")]
    Document(String),
    /// An edit lies outside of the text; nothing was changed.
    #[error("edit {edit}: {index} lies beyond the end of the text, {len}")]
    OutOfRange {
        /// Which edit, from 0.
        edit: usize,
        /// The position asked for.
        index: u64,
        /// The text's length, in UTF-16 code units.
        len: u32,
    },
    /// A value is not JSON; nothing was changed.
    #[error("edit {edit}: not JSON: {reason}")]
    Json {
        /// Which edit, from 0.
        edit: usize,
        /// What the parser says.
        reason: String,
    },
}

/// One root `Y.Text` as a string; empty where there is none.
///
/// # Errors
/// [`MaterializeError::Document`].
pub fn text(update: &[u8], root: &str) -> Result<String, MaterializeError> {
    with_document(update, Reads::Text, |doc| {
        let txn = doc.transact();
        Ok(txn.get_text(root).map(|text| text.get_string(&txn)).unwrap_or_default())
    })
}

/// One root type as JSON text; `null` where there is none.
///
/// # Errors
/// [`MaterializeError::Document`].
pub fn json(update: &[u8], root: &str, kind: RootKind) -> Result<String, MaterializeError> {
    let reads = match kind {
        RootKind::Auto | RootKind::Map => Reads::Lists(None),
        RootKind::Array => Reads::Lists(Some(root)),
        RootKind::Text | RootKind::Xml => Reads::Text,
    };
    with_document(update, reads, |doc| {
        let txn = doc.transact();
        let found = txn.get(root);
        Ok(to_text(&found.map_or(Any::Null, |found| value(&txn, root, &found, kind))))
    })
}

/// All root types as one JSON object, each by its content.
///
/// # Errors
/// [`MaterializeError::Document`].
pub fn json_of_all(update: &[u8]) -> Result<String, MaterializeError> {
    object_of_all(update, |txn, name, found| value(txn, name, found, RootKind::Auto))
}

/// The same, but XML as ProseMirror's JSON, as the transformers of Hocuspocus give it.
///
/// # Errors
/// [`MaterializeError::Document`].
pub fn prosemirror_of_all(update: &[u8]) -> Result<String, MaterializeError> {
    object_of_all(update, |txn, name, found| match kind_of(txn, found) {
        RootKind::Xml => txn.get_xml_fragment(name).map_or(Any::Null, |xml| prosemirror::doc(txn, &xml)),
        kind => value(txn, name, found, kind),
    })
}

fn object_of_all(
    update: &[u8],
    read: impl Fn(&Transaction<'_>, &str, &Out) -> Any,
) -> Result<String, MaterializeError> {
    with_document(update, Reads::Lists(None), |doc| {
        let txn = doc.transact();
        let mut text = String::from("{");
        for (name, found) in txn.root_refs() {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&to_text(&Any::from(name)));
            text.push(':');
            text.push_str(&to_text(&read(&txn, name, &found)));
        }
        text.push('}');
        Ok(text)
    })
}

/// Carries out edits as one transaction; the update that they make, for [`super::Room::apply_update`].
///
/// # Errors
/// Any [`MaterializeError`]; then none of the edits was carried out.
pub fn edit(update: &[u8], edits: &[Edit]) -> Result<Bytes, MaterializeError> {
    with_document(update, Reads::Text, |doc| {
        for edit in edits {
            match edit {
                Edit::TextInsert { root, .. } | Edit::TextRemove { root, .. } => {
                    doc.get_or_insert_text(root.as_str());
                }
                Edit::MapSet { root, .. } | Edit::MapRemove { root, .. } => {
                    doc.get_or_insert_map(root.as_str());
                }
            }
        }
        transact(doc, |txn| {
            for (number, edit) in edits.iter().enumerate() {
                carry_out(txn, number, edit)?;
            }
            // Before the commit: what it merges and cleans up is no edit of ours.
            Ok(txn.encode_update_v1().into())
        })
    })
}

fn carry_out(txn: &mut TransactionMut<'_>, edit: usize, what: &Edit) -> Result<(), MaterializeError> {
    match what {
        Edit::TextInsert { root, index, text } => {
            let target: TextRef = root_text(txn, root);
            let len = target.len(txn);
            let index = index.unwrap_or(len);
            if index > len {
                return Err(MaterializeError::OutOfRange { edit, index: index.into(), len });
            }
            if !text.is_empty() {
                target.insert(txn, index, text);
            }
        }
        Edit::TextRemove { root, index, len: count } => {
            let target: TextRef = root_text(txn, root);
            let len = target.len(txn);
            let end = u64::from(*index) + u64::from(*count);
            if end > u64::from(len) {
                return Err(MaterializeError::OutOfRange { edit, index: end, len });
            }
            if *count > 0 {
                target.remove_range(txn, *index, *count);
            }
        }
        Edit::MapSet { root, key, json } => {
            let value = Any::from_json(json)
                .map_err(|error| MaterializeError::Json { edit, reason: error.to_string() })?;
            root_map(txn, root).insert(txn, key.as_str(), value);
        }
        Edit::MapRemove { root, key } => {
            root_map(txn, root).remove(txn, key);
        }
    }
    Ok(())
}

// Invariant: `edit` has made all roots before the transaction began.
fn root_text(txn: &TransactionMut<'_>, root: &str) -> TextRef {
    txn.get_text(root).expect("the root was made before")
}

fn root_map(txn: &TransactionMut<'_>, root: &str) -> MapRef {
    txn.get_map(root).expect("the root was made before")
}

/// Works on a document of its own, with a client id of its own: two edits that start from the same state must not
/// write under the same id.
fn with_document<T>(
    update: &[u8],
    reads: Reads<'_>,
    work: impl FnOnce(&Doc) -> Result<T, MaterializeError>,
) -> Result<T, MaterializeError> {
    refuse_harm(update, reads)?;
    let doc = Doc::with_options(Options { offset_kind: OffsetKind::Utf16, ..Options::default() });
    let done = apply(&doc, update).and_then(|()| contained(|| work(&doc)));
    if let Err(error) = release(&doc) {
        tracing::warn!(%error, "Memory of a document with subdocuments is lost");
    }
    done
}

/// What a call reads.
#[derive(Clone, Copy)]
enum Reads<'a> {
    Text,
    /// Lists too, among them a root type, where one is named, that only the caller knows to be one.
    Lists(Option<&'a str>),
}

/// Refuses what yrs would not survive. A stack that overflows ends the process, and every document with it; and at a
/// character of two UTF-16 units in a list yrs stands still for ever (`log/lists.rs`).
fn refuse_harm(update: &[u8], reads: Reads<'_>) -> Result<(), MaterializeError> {
    let may_be_deep = update.len() / TYPE_BYTES_MIN > NESTING_MAX as usize;
    let may_be_wide = matches!(reads, Reads::Lists(_)) && update.iter().any(|byte| *byte >= 0xf0);
    if !may_be_deep && !may_be_wide {
        return Ok(());
    }
    let options = LogOptions { gc: false, pending_bytes_max: usize::MAX };
    let log = StructLog::load(options, update).map_err(|error| refused(&error))?;
    let levels = if may_be_deep { log.nesting() } else { 0 };
    if levels > NESTING_MAX {
        let reason = format!("its types lie {levels} deep in each other, {NESTING_MAX} are allowed");
        return Err(MaterializeError::Document(reason));
    }
    let Reads::Lists(array) = reads else { return Ok(()) };
    let wide = log.wide_characters();
    if wide.in_lists || array.is_some_and(|array| wide.roots.iter().any(|root| root == array)) {
        return Err(MaterializeError::Document("a list holds characters, which yrs cannot read".to_owned()));
    }
    Ok(())
}

fn apply(doc: &Doc, update: &[u8]) -> Result<(), MaterializeError> {
    let update = contained(|| Update::decode_v1(update).map_err(|error| refused(&error)))?;
    transact(doc, |txn| txn.apply_update(update).map_err(|error| refused(&error)))
}

/// Works in a transaction, which commits when it is dropped. Never while a panic unwinds: the commit would meet
/// what that panic left, and a second one ends the process.
fn transact<T>(
    doc: &Doc,
    work: impl FnOnce(&mut TransactionMut<'_>) -> Result<T, MaterializeError>,
) -> Result<T, MaterializeError> {
    let mut txn = contained(|| doc.try_transact_mut().map_err(|error| refused(&error)))?;
    let done = contained(|| work(&mut txn));
    let committed = contained(|| {
        drop(txn);
        Ok(())
    });
    done.and_then(|done| committed.map(|()| done))
}

/// Frees a document with subdocuments. Each of them holds the one that it is in (yrs `block.rs`,
/// `integrate_content`), so that neither would ever go: all is deleted, and yrs collects it.
fn release(doc: &Doc) -> Result<(), MaterializeError> {
    transact(doc, |txn| {
        if txn.store().subdocs().next().is_none() {
            return Ok(());
        }
        let ends = txn.state_vector();
        let mut deletes = vec![0];
        write_var_uint(&mut deletes, ends.len() as u64);
        for (client, end) in ends.iter() {
            write_var_uint(&mut deletes, client.get());
            // One range, from the first clock to the last.
            deletes.extend([1, 0]);
            write_var_uint(&mut deletes, u64::from(*end));
        }
        let deletes = Update::decode_v1(&deletes).map_err(|error| refused(&error))?;
        txn.apply_update(deletes).map_err(|error| refused(&error))
    })
}

fn value<T: ReadTxn>(txn: &T, name: &str, found: &Out, kind: RootKind) -> Any {
    let kind = match kind {
        RootKind::Auto => kind_of(txn, found),
        kind => kind,
    };
    let read = match kind {
        RootKind::Text => txn.get_text(name).map(|text| Any::from(text.get_string(txn))),
        RootKind::Map | RootKind::Auto => txn.get_map(name).map(|map| map.to_json(txn)),
        RootKind::Array => txn.get_array(name).map(|array| array.to_json(txn)),
        RootKind::Xml => txn.get_xml_fragment(name).map(|xml| Any::from(xml.get_string(txn))),
    };
    read.unwrap_or(Any::Null)
}

fn kind_of<T: ReadTxn>(txn: &T, found: &Out) -> RootKind {
    match found.as_prelim(txn) {
        In::Text(_) | In::XmlText(_) => RootKind::Text,
        In::Array(array) if is_xml(&array[..]) => RootKind::Xml,
        In::Array(_) => RootKind::Array,
        In::XmlFragment(_) | In::XmlElement(_) => RootKind::Xml,
        _ => RootKind::Map,
    }
}

fn is_xml(array: &[In]) -> bool {
    !array.is_empty()
        && array.iter().all(|item| matches!(item, In::XmlElement(_) | In::XmlText(_) | In::XmlFragment(_)))
}

fn to_text(value: &Any) -> String {
    let mut text = String::new();
    value.to_json(&mut text);
    text
}

fn refused(error: &dyn std::error::Error) -> MaterializeError {
    MaterializeError::Document(error.to_string())
}

fn contained<T>(work: impl FnOnce() -> Result<T, MaterializeError>) -> Result<T, MaterializeError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(MaterializeError::Document("yrs panicked".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Bytes {
        let edits = [
            Edit::TextInsert { root: "t".into(), index: None, text: "a😀b".into() },
            Edit::TextInsert { root: "t".into(), index: Some(3), text: "-".into() },
            Edit::MapSet { root: "m".into(), key: "k".into(), json: r#"{"n":[1,null,"x"]}"#.into() },
            Edit::MapSet { root: "m".into(), key: "gone".into(), json: "1".into() },
            Edit::MapRemove { root: "m".into(), key: "gone".into() },
        ];
        edit(&[0, 0], &edits).unwrap()
    }

    #[test]
    fn edits_are_read_back() {
        let update = sample();
        assert_eq!(text(&update, "t").unwrap(), "a😀-b");
        assert_eq!(text(&update, "none").unwrap(), "");
        assert_eq!(json(&update, "m", RootKind::Auto).unwrap(), r#"{"k":{"n":[1,null,"x"]}}"#);
        assert_eq!(json(&update, "t", RootKind::Auto).unwrap(), r#""a😀-b""#);
        assert_eq!(json(&update, "none", RootKind::Map).unwrap(), "null");
        let all = json_of_all(&update).unwrap();
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        assert_eq!(all, serde_json::json!({ "t": "a😀-b", "m": { "k": { "n": [1, null, "x"] } } }));
    }

    #[test]
    fn an_edit_is_only_the_difference_and_removes_by_utf16() {
        let before = sample();
        let removal = [Edit::TextRemove { root: "t".into(), index: 1, len: 2 }];
        let update = edit(&before, &removal).unwrap();
        assert!(update.len() < 20, "{update:?}");
        let merged = yrs::merge_updates_v1([&before[..], &update[..]]).unwrap();
        assert_eq!(text(&merged, "t").unwrap(), "a-b");
    }

    #[test]
    fn bad_edits_change_nothing() {
        let update = sample();
        let beyond = Edit::TextInsert { root: "t".into(), index: Some(6), text: "x".into() };
        assert_eq!(edit(&update, &[beyond]), Err(MaterializeError::OutOfRange { edit: 0, index: 6, len: 5 }));
        let beyond = Edit::TextRemove { root: "t".into(), index: 2, len: u32::MAX };
        assert!(matches!(edit(&update, &[beyond]), Err(MaterializeError::OutOfRange { .. })));
        let broken = Edit::MapSet { root: "m".into(), key: "k".into(), json: "{".into() };
        assert!(matches!(edit(&update, &[broken]), Err(MaterializeError::Json { edit: 0, .. })));
        assert!(matches!(text(&[9, 9, 9], "t"), Err(MaterializeError::Document(_))));
    }

    #[test]
    fn characters_in_a_list_are_refused() {
        let update = sample();
        assert!(matches!(json(&update, "t", RootKind::Array), Err(MaterializeError::Document(_))));
        assert!(json(&update, "m", RootKind::Array).is_ok() && json(&update, "t", RootKind::Text).is_ok());
        // An array of client 7, and a smile in it.
        let array: &[u8] = &[1, 1, 7, 0, 8, 1, 1, b'r', 1, 0x7e, 0];
        let smile = [&[1, 1, 8, 0, 0x84, 7, 0], "\u{4}😀".as_bytes(), &[0]].concat();
        let mixed = yrs::merge_updates_v1([array, &smile]).unwrap();
        assert!(matches!(json_of_all(&mixed), Err(MaterializeError::Document(_))));
        assert!(matches!(json(&mixed, "r", RootKind::Auto), Err(MaterializeError::Document(_))));
    }

    /// Resident memory of this process.
    #[cfg(target_os = "linux")]
    fn resident_bytes() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// Goal: a document with a subdocument goes with the call. Method: many calls on a large one; memory stays.
    #[test]
    #[cfg(target_os = "linux")]
    fn documents_with_subdocuments_are_freed() {
        const BYTES: usize = 1 << 20;
        let doc = Doc::new();
        let (words, map) = (doc.get_or_insert_text("t"), doc.get_or_insert_map("m"));
        let mut txn = doc.transact_mut();
        words.push(&mut txn, &"x".repeat(BYTES));
        map.insert(&mut txn, "sub", Doc::new());
        let update = txn.encode_update_v1();
        drop(txn);
        let mut before = 0;
        for round in 0..30 {
            assert_eq!(text(&update, "t").unwrap().len(), BYTES);
            edit(&update, &[Edit::MapRemove { root: "m".into(), key: "sub".into() }]).unwrap();
            if round == 5 {
                before = resident_bytes();
            }
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 15 * BYTES, "{grown} bytes more after 24 rounds");
    }

    #[test]
    fn xml_and_arrays_are_told_apart() {
        use yrs::{Array, XmlElementPrelim, XmlFragment};
        let doc = Doc::new();
        let xml = doc.get_or_insert_xml_fragment("x");
        let array = doc.get_or_insert_array("a");
        let mut txn = doc.transact_mut();
        xml.push_back(&mut txn, XmlElementPrelim::empty("p"));
        array.push_back(&mut txn, 7);
        let update = txn.encode_update_v1();
        assert_eq!(json(&update, "x", RootKind::Auto).unwrap(), r#""<p></p>""#);
        assert_eq!(json(&update, "a", RootKind::Auto).unwrap(), "[7]");
    }
}
