//! libfidibus: the engine for hosts in C and C++. One file for each C object, and four that fence what is
//! dangerous: `handle` (pointers), `text` (bytes and strings), `callback` (calls into C) and `border`
//! (panics and failures). README.md has the conventions; `include/fidibus.h` is made from the comments.

#![allow(non_camel_case_types, reason = "the types have the names that C sees")]
#![allow(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "all pointers come from C, whose promise README.md states once"
)]

mod authenticator;
mod awareness;
mod border;
mod callback;
mod config;
mod connection;
mod context;
mod document;
mod event;
mod extension;
mod handle;
mod handshake;
mod hub;
mod keys;
mod log;
mod metrics;
mod names;
mod reply;
mod server;
mod status;
mod store;
mod stored;
mod text;
mod transaction;

use std::ffi::c_char;

/// First part of the version that this header belongs to.
pub const FIDIBUS_VERSION_MAJOR: u32 = 0;
/// Second part.
pub const FIDIBUS_VERSION_MINOR: u32 = 1;
/// Third part.
pub const FIDIBUS_VERSION_PATCH: u32 = 0;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the library that runs, "0.1.0"; the header's is in FIDIBUS_VERSION_MAJOR and so on. Static.
#[unsafe(no_mangle)]
pub extern "C" fn fidibus_version() -> *const c_char {
    VERSION.as_ptr().cast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_cargos() {
        let version = format!("{FIDIBUS_VERSION_MAJOR}.{FIDIBUS_VERSION_MINOR}.{FIDIBUS_VERSION_PATCH}");
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
    }
}
