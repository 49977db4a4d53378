//! A list of names, given to C.

use fidibus_core::id::DocumentName;

use crate::border::{quietly, run};
use crate::handle::{self, box_handle, output};
use crate::status::fidibus_status;
use crate::text::fidibus_text;

/// A list of document names. Free it with fidibus_names_free.
pub struct fidibus_names {
    _private: [u8; 0],
}

box_handle!(fidibus_names(Vec<DocumentName>));

/// How many there are; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_names_count(names: *const fidibus_names) -> usize {
    quietly(0, || handle::box_ref(names).map_or(0, Vec::len))
}

/// One of them, from 0; valid as long as the list.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_names_at(
    names: *const fidibus_names,
    index: usize,
    name: *mut fidibus_text,
) -> fidibus_status {
    run(|| {
        let (names, out) = (handle::box_ref(names)?, output(name)?);
        *out = names.get(index).ok_or(fidibus_status::OutOfRange)?.as_str().into();
        Ok(())
    })
}

/// Frees the list.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_names_free(names: *mut fidibus_names) {
    quietly((), || drop(handle::take_box(names)));
}
