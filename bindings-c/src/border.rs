//! The border that no panic and no failure crosses unnoticed: every function that C calls runs in here.

use std::cell::RefCell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::handle::{self, box_handle};
use crate::status::{Failure, fidibus_status};

thread_local! {
    static LAST: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// What went wrong in one call. Free it with fidibus_error_free.
pub struct fidibus_error {
    _private: [u8; 0],
}

box_handle!(fidibus_error(Described));

/// A failure with its text as C reads it.
pub(crate) struct Described {
    status: fidibus_status,
    message: std::ffi::CString,
}

/// Runs a function that can fail. A failure is kept for `fidibus_error_take`.
pub(crate) fn run(work: impl FnOnce() -> Result<(), Failure>) -> fidibus_status {
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return fidibus_status::Ok,
        // Expected, and asked for all the time: not worth a message.
        Ok(Err(failure)) if failure.status == fidibus_status::Empty => return failure.status,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            Failure::new(fidibus_status::Panic, format!("the library panicked: {text}"))
        }
    };
    let status = failure.status;
    // A thread that is ending has no place for it; the status says enough then.
    let _ = LAST.try_with(|last| last.replace(Some(failure)));
    status
}

/// Runs a function that only frees or tells: whatever happens, C sees nothing of it.
pub(crate) fn quietly<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// Takes the error of this thread's last call that failed; NULL: there is none. Calls that work, and
/// FIDIBUS_STATUS_EMPTY, leave it as it is.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_error_take() -> *mut fidibus_error {
    quietly(std::ptr::null_mut(), || {
        let last = LAST.try_with(|last| last.take()).ok().flatten();
        last.map_or(std::ptr::null_mut(), |failure| {
            let message = failure.message.replace('\0', " ");
            let message = std::ffi::CString::new(message).unwrap_or_default();
            handle::give_box(Described { status: failure.status, message })
        })
    })
}

/// The status that the call returned; FIDIBUS_STATUS_NULL_POINTER for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_error_status(error: *const fidibus_error) -> fidibus_status {
    quietly(fidibus_status::Panic, || {
        handle::box_ref(error).map_or(fidibus_status::NullPointer, |error| error.status)
    })
}

/// What went wrong, with its causes, for people. Valid as long as the error; "" for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_error_message(error: *const fidibus_error) -> *const c_char {
    quietly(c"".as_ptr(), || handle::box_ref(error).map_or(c"".as_ptr(), |error| error.message.as_ptr()))
}

/// Frees an error.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_error_free(error: *mut fidibus_error) {
    quietly((), || drop(handle::take_box(error)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status_with_its_text() {
        assert_eq!(run(|| panic!("broken {}", 7)), fidibus_status::Panic);
        let error = fidibus_error_take();
        assert_eq!(fidibus_error_status(error), fidibus_status::Panic);
        let message = handle::box_ref(error).unwrap().message.to_str().unwrap();
        assert_eq!(message, "the library panicked: broken 7");
        fidibus_error_free(error);
        assert!(fidibus_error_take().is_null());
    }
}
