//! Edits of a document by the host: gathered, then carried out as one.

use std::ffi::c_char;

use fidibus_core::room::Edit;

use crate::border::{quietly, run};
use crate::document::{fidibus_document, tell};
use crate::handle::{self, box_handle, output};
use crate::status::{Failure, fidibus_status};
use crate::text;

/// A list of edits, to be carried out together. It belongs to no document until it is committed.
pub struct fidibus_transaction {
    _private: [u8; 0],
}

box_handle!(fidibus_transaction(Vec<Edit>));

/// More edits make a transaction that nobody waits for.
const EDITS_MAX: usize = 100_000;

/// Begins a list of edits. Free it with fidibus_transaction_free.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_transaction_new(transaction: *mut *mut fidibus_transaction) -> fidibus_status {
    run(|| {
        *output(transaction)? = handle::give_box(Vec::new());
        Ok(())
    })
}

/// Frees it; what was committed stays.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_transaction_free(transaction: *mut fidibus_transaction) {
    quietly((), || drop(handle::take_box(transaction)));
}

fn add(
    transaction: *mut fidibus_transaction,
    edit: impl FnOnce() -> Result<Edit, Failure>,
) -> fidibus_status {
    run(|| {
        let edits = handle::box_mut(transaction)?;
        if edits.len() >= EDITS_MAX {
            return Err(Failure::new(fidibus_status::Limit, format!("more than {EDITS_MAX} edits")));
        }
        edits.push(edit()?);
        Ok(())
    })
}

/// Inserts UTF-8 into a root Y.Text at a position in UTF-16 code units; UINT32_MAX: at its end.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_transaction_text_insert(
    transaction: *mut fidibus_transaction,
    root: *const c_char,
    index: u32,
    text: *const c_char,
) -> fidibus_status {
    add(transaction, || {
        let index = (index != u32::MAX).then_some(index);
        Ok(Edit::TextInsert { root: text::read(root)?.into(), index, text: text::read(text)?.into() })
    })
}

/// Removes from a root Y.Text; position and length in UTF-16 code units.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_transaction_text_remove(
    transaction: *mut fidibus_transaction,
    root: *const c_char,
    index: u32,
    len: u32,
) -> fidibus_status {
    add(transaction, || Ok(Edit::TextRemove { root: text::read(root)?.into(), index, len }))
}

/// Sets a key of a root Y.Map to a JSON value.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_transaction_map_set(
    transaction: *mut fidibus_transaction,
    root: *const c_char,
    key: *const c_char,
    json: *const c_char,
) -> fidibus_status {
    add(transaction, || {
        let (root, key) = (text::read(root)?.into(), text::read(key)?.into());
        Ok(Edit::MapSet { root, key, json: text::read(json)?.into() })
    })
}

/// Removes a key of a root Y.Map, if it is there.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_transaction_map_remove(
    transaction: *mut fidibus_transaction,
    root: *const c_char,
    key: *const c_char,
) -> fidibus_status {
    add(transaction, || Ok(Edit::MapRemove { root: text::read(root)?.into(), key: text::read(key)?.into() }))
}

/// Carries out all edits, in order and as one update, or none of them; then the list is empty. `verdict`
/// (NULL: not wanted) gets a fidibus_verdict. Blocks.
///
/// FIDIBUS_STATUS_OUT_OF_RANGE: a position lies beyond the text; FIDIBUS_STATUS_INVALID_JSON: a value; the list stays
/// as it is then.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_transaction_commit(
    transaction: *mut fidibus_transaction,
    document: *const fidibus_document,
    verdict: *mut u32,
) -> fidibus_status {
    run(|| {
        let (edits, document) = (handle::box_mut(transaction)?, handle::share_arc(document)?);
        let asked = edits.clone();
        let done = document.call(async |direct| direct.transact(asked).await)?;
        edits.clear();
        tell(verdict, done)
    })
}
