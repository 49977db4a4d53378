//! XML as ProseMirror's JSON, as the transformers of Hocuspocus give it (`TiptapTransformer.fromYdoc`): elements are
//! nodes, formatted runs of text are text nodes with marks. Recurses as deep as the document is nested.

use std::collections::HashMap;
use std::sync::Arc;

use yrs::types::ToJson;
use yrs::types::text::YChange;
use yrs::{Any, Out, ReadTxn, Text, Xml, XmlFragment, XmlOut};

/// A fragment as a node of the type `doc`.
pub(super) fn doc<T: ReadTxn>(txn: &T, fragment: &impl XmlFragment) -> Any {
    let content = content(txn, fragment);
    node("doc", [("content", Any::from(content))])
}

fn content<T: ReadTxn>(txn: &T, parent: &impl XmlFragment) -> Vec<Any> {
    parent.children(txn).flat_map(|child| nodes(txn, &child)).collect()
}

fn nodes<T: ReadTxn>(txn: &T, item: &XmlOut) -> Vec<Any> {
    match item {
        XmlOut::Text(text) => {
            let runs = text.diff(txn, YChange::identity);
            runs.iter().filter_map(|run| text_node(txn, &run.insert, run.attributes.as_deref())).collect()
        }
        XmlOut::Fragment(fragment) => content(txn, fragment),
        XmlOut::Element(element) => {
            let attrs: HashMap<String, Any> =
                element.attributes(txn).map(|(name, value)| (name.to_owned(), value.to_json(txn))).collect();
            let content = content(txn, element);
            let parts = [
                ("attrs", (!attrs.is_empty()).then(|| Any::Map(Arc::new(attrs)))),
                ("content", (!content.is_empty()).then(|| Any::from(content))),
            ];
            let parts = parts.into_iter().filter_map(|(name, part)| Some((name, part?)));
            // Without a name it is a root that is read as what it is not.
            element.try_tag().map(|tag| node(tag, parts)).into_iter().collect()
        }
    }
}

fn text_node<T: ReadTxn>(txn: &T, insert: &Out, attributes: Option<&HashMap<Arc<str>, Any>>) -> Option<Any> {
    let text = match insert.to_json(txn) {
        Any::String(text) => text,
        // An embedded object is no node.
        _ => return None,
    };
    let marks = attributes.filter(|attributes| !attributes.is_empty()).map(|attributes| {
        let mark = |(name, attrs): (&Arc<str>, &Any)| node(mark_name(name), [("attrs", attrs.clone())]);
        ("marks", Any::from(attributes.iter().map(mark).collect::<Vec<_>>()))
    });
    Some(node("text", [("text", Any::String(text))].into_iter().chain(marks)))
}

/// Marks that may stand beside others of their type have a hash behind their name (y-prosemirror,
/// `yattr2markname`).
fn mark_name(name: &str) -> &str {
    const HASH_CHARS: usize = 8;
    let is_hash = |hash: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        hash.len() == HASH_CHARS && hash.bytes().all(legal)
    };
    name.rsplit_once("--").filter(|(_, hash)| is_hash(hash)).map_or(name, |(name, _)| name)
}

fn node<'a>(kind: &str, parts: impl IntoIterator<Item = (&'a str, Any)>) -> Any {
    let parts = parts.into_iter().map(|(name, part)| (name.to_owned(), part));
    Any::Map(Arc::new(parts.chain([("type".to_owned(), Any::from(kind))]).collect()))
}

#[cfg(test)]
mod tests {
    use yrs::{Doc, Map, Transact, WriteTxn, XmlElementPrelim, XmlTextPrelim};

    use super::super::prosemirror_of_all;
    use super::*;

    #[test]
    fn a_document_of_tiptap_is_read_as_its_transformer_does() {
        let doc = Doc::new();
        let mut txn = doc.transact_mut();
        let fragment = txn.get_or_insert_xml_fragment("default");
        let heading = fragment.push_back(&mut txn, XmlElementPrelim::empty("heading"));
        heading.insert_attribute(&mut txn, "level", Any::from(2));
        let text = heading.push_back(&mut txn, XmlTextPrelim::new("plain "));
        let bold = Any::Map(Arc::new(HashMap::new()));
        text.insert_with_attributes(&mut txn, 6, "bold", [("bold".into(), bold)].into());
        fragment.push_back(&mut txn, XmlElementPrelim::empty("paragraph"));
        txn.get_or_insert_map("meta").insert(&mut txn, "title", "T");
        let read: serde_json::Value =
            serde_json::from_str(&prosemirror_of_all(&txn.encode_update_v1()).unwrap()).unwrap();
        let expected = serde_json::json!({
            "default": { "type": "doc", "content": [
                { "type": "heading", "attrs": { "level": 2 }, "content": [
                    { "type": "text", "text": "plain " },
                    { "type": "text", "text": "bold", "marks": [{ "type": "bold", "attrs": {} }] },
                ] },
                { "type": "paragraph" },
            ] },
            "meta": { "title": "T" },
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn marks_lose_their_hashes() {
        for (name, mark) in [
            ("link--Ab3+/x1=", "link"),
            ("bold", "bold"),
            ("a--short", "a--short"),
            ("x--Ab3+/x1?", "x--Ab3+/x1?"),
        ] {
            assert_eq!(mark_name(name), mark);
        }
    }
}
