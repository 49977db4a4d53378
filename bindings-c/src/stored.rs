//! What is stored, whether it is loaded or not: listing, deleting, and pruning of the log.

use std::ffi::c_char;
use std::time::Duration;

use crate::border::run;
use crate::handle::{self, output};
use crate::hub::fidibus_hub;
use crate::names::fidibus_names;
use crate::status::fidibus_status;
use crate::text;

/// Names in one answer.
const LIMIT_MAX: usize = 10_000;
/// A century: databases reckon with no longer times.
const AGE_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// The names of stored documents in the store's order: those after `after` (NULL: from the first), at most `limit`
/// (1 to 10,000). To go on, hand in the last one. Blocks until the store answers.
///
/// FIDIBUS_STATUS_STORE: the store fails.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_stored_documents(
    hub: *const fidibus_hub,
    after: *const c_char,
    limit: usize,
    names: *mut *mut fidibus_names,
) -> fidibus_status {
    run(|| {
        let (engine, out) = (handle::share_arc(hub)?, output(names)?);
        let after = if after.is_null() { None } else { Some(text::read_name(after)?) };
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(fidibus_status::OutOfRange.into());
        }
        let store = engine.hub()?.store();
        *out = handle::give_box(engine.block_on(store.list(after.as_ref(), limit))??);
        Ok(())
    })
}

/// Removes a stored document with its log. One that is loaded stays so, and is stored again with its next change:
/// end its sessions (fidibus_hub_close_connections) and close it before. Blocks until the store answers.
///
/// FIDIBUS_STATUS_EMPTY: it was not stored. FIDIBUS_STATUS_STORE: the store fails, or cannot remove.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_delete_stored(
    hub: *const fidibus_hub,
    document: *const c_char,
) -> fidibus_status {
    run(|| {
        let engine = handle::share_arc(hub)?;
        let document = text::read_name(document)?;
        let store = engine.hub()?.store();
        if engine.block_on(store.delete(&document))?? { Ok(()) } else { Err(fidibus_status::Empty.into()) }
    })
}

/// Deletes rows of the log that a snapshot holds already and that are older than `age_ms`, a century at most: a
/// bounded number, which `count` (NULL: not wanted) gets; 0: there are no more, or the store keeps none. Blocks
/// until the store answers.
///
/// FIDIBUS_STATUS_OUT_OF_RANGE: the age. FIDIBUS_STATUS_STORE: the store fails.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_hub_prune_log(
    hub: *const fidibus_hub,
    age_ms: u64,
    count: *mut u64,
) -> fidibus_status {
    run(|| {
        let engine = handle::share_arc(hub)?;
        if age_ms > AGE_MS_MAX {
            return Err(fidibus_status::OutOfRange.into());
        }
        let pruned = match engine.hub()?.store().update_log() {
            Some(log) => engine.block_on(log.prune(Duration::from_millis(age_ms)))??,
            None => 0,
        };
        if !count.is_null() {
            *output(count)? = pruned;
        }
        Ok(())
    })
}
