//! Text and bytes on their way across the border: borrowed from C for a call, lent to C for a callback,
//! or given to C as a buffer.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use bytes::Bytes;
use fidibus_core::id::DocumentName;

use crate::border::quietly;
use crate::handle;
use crate::status::{Failure, fidibus_status};

/// Text that is lent; not terminated by a NUL. Valid as long as what it was read from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fidibus_text {
    /// The first byte; never NULL where the call worked.
    pub text: *const c_char,
    /// Bytes.
    pub len: usize,
}

/// Bytes that are lent. Valid as long as what they were read from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fidibus_bytes {
    /// The first byte; never NULL where the call worked.
    pub bytes: *const u8,
    /// How many.
    pub len: usize,
}

/// Bytes that are yours: free them with fidibus_buffer_free. Where they are text, a NUL follows that `len`
/// does not count.
#[repr(C)]
pub struct fidibus_buffer {
    /// The first byte; NULL in a buffer that was freed.
    pub bytes: *const u8,
    /// How many.
    pub len: usize,
    /// The library's own; do not touch.
    pub owner: *mut c_void,
}

/// Frees what a buffer holds and makes it empty; a buffer that is all zero is left alone.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_buffer_free(buffer: *mut fidibus_buffer) {
    quietly((), || {
        let Ok(buffer) = handle::output(buffer) else { return };
        let owner = buffer.owner;
        *buffer = fidibus_buffer { bytes: ptr::null(), len: 0, owner: ptr::null_mut() };
        if owner.is_null() {
            return;
        }
        handle::untrack(owner, "fidibus_buffer");
        // SAFETY: an owner is only ever made by `From<Bytes>` below, and by C's promise freed once.
        drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
    });
}

impl From<Bytes> for fidibus_buffer {
    fn from(bytes: Bytes) -> Self {
        let (start, len) = (bytes.as_ptr(), bytes.len());
        // The bytes of a `Bytes` stay where they are when it moves.
        let owner = Box::into_raw(Box::new(bytes)).cast();
        handle::track(owner, "fidibus_buffer");
        Self { bytes: start, len, owner }
    }
}

impl From<String> for fidibus_buffer {
    fn from(text: String) -> Self {
        let len = text.len();
        let mut bytes = text.into_bytes();
        bytes.push(0);
        Self { len, ..Bytes::from(bytes).into() }
    }
}

impl From<&str> for fidibus_text {
    fn from(text: &str) -> Self {
        Self { text: text.as_ptr().cast(), len: text.len() }
    }
}

impl From<&[u8]> for fidibus_bytes {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.as_ptr(), len: bytes.len() }
    }
}

/// Borrows text from C.
pub(crate) fn read<'a>(text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::new(fidibus_status::NullPointer, "a text is NULL"));
    }
    // SAFETY: not NULL, so by C's promise it is terminated by a NUL and stays as it is during the call.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| Failure::of(fidibus_status::NotUtf8, &error))
}

/// Borrows text from C that may be NULL.
pub(crate) fn read_optional<'a>(text: *const c_char) -> Result<Option<&'a str>, Failure> {
    if text.is_null() { Ok(None) } else { read(text).map(Some) }
}

/// Borrows a document name from C.
pub(crate) fn read_name(text: *const c_char) -> Result<DocumentName, Failure> {
    Ok(DocumentName::parse(read(text)?)?)
}

/// Borrows bytes from C; NULL is fine where there are none.
pub(crate) fn read_bytes<'a>(bytes: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if bytes.is_null() {
        return Err(Failure::new(fidibus_status::NullPointer, "the bytes are NULL"));
    }
    if isize::try_from(len).is_err() {
        return Err(Failure::new(fidibus_status::OutOfRange, "more bytes than there can be"));
    }
    // SAFETY: not NULL, so by C's promise `len` bytes are readable there and stay as they are during the call.
    Ok(unsafe { std::slice::from_raw_parts(bytes, len) })
}

/// Borrows bytes from C that have to be UTF-8.
pub(crate) fn read_text<'a>(bytes: *const u8, len: usize) -> Result<&'a str, Failure> {
    std::str::from_utf8(read_bytes(bytes, len)?).map_err(|error| Failure::of(fidibus_status::NotUtf8, &error))
}

/// Writes the first `size` bytes of a struct that grows at its end with every version.
pub(crate) fn write_prefix<T: Copy>(out: *mut T, value: &T, size: usize) -> Result<(), Failure> {
    if out.is_null() {
        return Err(fidibus_status::NullPointer.into());
    }
    let size = size.min(size_of::<T>());
    // SAFETY: not NULL, so by C's promise `size` bytes are writable there; the value has at least as many.
    unsafe { ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), out.cast::<u8>(), size) };
    Ok(())
}
