//! Handles: pointers that C holds and cannot look into. All casts between them and Rust's objects are
//! here. A type is either boxed (one owner) or counted (threads and callbacks may still use it while C
//! frees it); the two cannot be mixed up, since each has its own functions.
//!
//! What C promises (README.md): a pointer is NULL or a live handle of its type, and a boxed handle is
//! not used by two threads at once. Debug builds keep a list of live handles and abort with a message
//! where that is not so.

use std::ffi::c_void;
use std::sync::Arc;

use crate::status::{Failure, fidibus_status};

/// A C type whose handles own a `Box`.
pub(crate) trait BoxHandle {
    type Inner;
    const NAME: &'static str;
}

/// A C type whose handles own a count of an `Arc`.
pub(crate) trait ArcHandle {
    type Inner: Send + Sync;
    const NAME: &'static str;
}

macro_rules! box_handle {
    ($name:ident($inner:ty)) => {
        impl $crate::handle::BoxHandle for $name {
            type Inner = $inner;
            const NAME: &'static str = stringify!($name);
        }
    };
}

macro_rules! arc_handle {
    ($name:ident($inner:ty)) => {
        impl $crate::handle::ArcHandle for $name {
            type Inner = $inner;
            const NAME: &'static str = stringify!($name);
        }
    };
}

pub(crate) use {arc_handle, box_handle};

/// Makes a handle.
pub(crate) fn give_box<H: BoxHandle>(inner: H::Inner) -> *mut H {
    let pointer = Box::into_raw(Box::new(inner)).cast();
    live::born::<H>(pointer, H::NAME);
    pointer
}

/// Borrows what a handle owns.
pub(crate) fn box_ref<'a, H: BoxHandle>(handle: *const H) -> Result<&'a H::Inner, Failure> {
    check(handle, H::NAME)?;
    // SAFETY: not NULL, so by C's promise it came from `give_box` and is not freed yet.
    Ok(unsafe { &*handle.cast::<H::Inner>() })
}

/// Borrows what a handle owns, to change it.
pub(crate) fn box_mut<'a, H: BoxHandle>(handle: *mut H) -> Result<&'a mut H::Inner, Failure> {
    check(handle, H::NAME)?;
    // SAFETY: as in `box_ref`, and by C's promise no other thread uses it now.
    Ok(unsafe { &mut *handle.cast::<H::Inner>() })
}

/// Takes a handle back; `None` for NULL.
pub(crate) fn take_box<H: BoxHandle>(handle: *mut H) -> Option<Box<H::Inner>> {
    if handle.is_null() {
        return None;
    }
    live::died(handle, H::NAME);
    // SAFETY: as in `box_ref`; it is freed only once by C's promise.
    Some(unsafe { Box::from_raw(handle.cast::<H::Inner>()) })
}

/// Makes a handle.
pub(crate) fn give_arc<H: ArcHandle>(inner: Arc<H::Inner>) -> *mut H {
    let pointer = Arc::into_raw(inner).cast_mut().cast();
    live::born::<H>(pointer, H::NAME);
    pointer
}

/// Shares what a handle owns: it lives on even if another thread frees the handle meanwhile.
pub(crate) fn share_arc<H: ArcHandle>(handle: *const H) -> Result<Arc<H::Inner>, Failure> {
    check(handle, H::NAME)?;
    let inner = handle.cast::<H::Inner>();
    // SAFETY: not NULL, so by C's promise it came from `give_arc`, whose count is not given back yet.
    unsafe {
        Arc::increment_strong_count(inner);
        Ok(Arc::from_raw(inner))
    }
}

/// Takes a handle back; `None` for NULL.
pub(crate) fn take_arc<H: ArcHandle>(handle: *mut H) -> Option<Arc<H::Inner>> {
    if handle.is_null() {
        return None;
    }
    live::died(handle, H::NAME);
    // SAFETY: as in `share_arc`; it is freed only once by C's promise.
    Some(unsafe { Arc::from_raw(handle.cast::<H::Inner>()) })
}

/// Where a new handle is written; fails before anything was done where it cannot be.
pub(crate) fn output<'a, T>(out: *mut T) -> Result<&'a mut T, Failure> {
    if out.is_null() {
        return Err(fidibus_status::NullPointer.into());
    }
    // SAFETY: not NULL, so by C's promise it points to a variable of this type that nobody else uses now.
    Ok(unsafe { &mut *out })
}

fn check<H>(handle: *const H, name: &str) -> Result<(), Failure> {
    if handle.is_null() {
        return Err(Failure::new(fidibus_status::NullPointer, format!("the {name} is NULL")));
    }
    live::used(handle, name);
    Ok(())
}

/// Keeps an address that is no handle of ours on the list of live ones: buffers.
pub(crate) fn track(pointer: *const c_void, name: &'static str) {
    live::born(pointer, name);
}

/// Takes it off the list.
pub(crate) fn untrack(pointer: *const c_void, name: &str) {
    live::died(pointer, name);
}

#[cfg(not(debug_assertions))]
mod live {
    pub(super) fn born<H>(_: *const H, _: &'static str) {}
    pub(super) fn used<H>(_: *const H, _: &str) {}
    pub(super) fn died<H>(_: *const H, _: &str) {}
}

#[cfg(debug_assertions)]
mod live {
    use std::collections::HashMap;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    static LIVE: Mutex<Option<HashMap<usize, &'static str>>> = Mutex::new(None);

    fn lock() -> MutexGuard<'static, Option<HashMap<usize, &'static str>>> {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn born<H>(handle: *const H, name: &'static str) {
        lock().get_or_insert_default().insert(handle.addr(), name);
    }

    pub(super) fn used<H>(handle: *const H, name: &str) {
        let known = lock().get_or_insert_default().get(&handle.addr()).copied();
        if known != Some(name) {
            abort(handle, name, known, "used");
        }
    }

    pub(super) fn died<H>(handle: *const H, name: &str) {
        let known = lock().get_or_insert_default().remove(&handle.addr());
        if known != Some(name) {
            abort(handle, name, known, "freed");
        }
    }

    fn abort<H>(handle: *const H, name: &str, known: Option<&str>, what: &str) {
        let is = match known {
            Some(other) => format!("is a live {other}"),
            None => "is no live handle: it was freed already, or never was one".to_owned(),
        };
        eprintln!("fidibus: {handle:p} is {what} as a {name}, but {is}");
        std::process::abort();
    }
}
