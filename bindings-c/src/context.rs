//! The host's own value at a session.

use std::ffi::c_void;

use crate::callback::Env;

/// A pointer of the host's; its finalizer runs when the last who refers to the session is gone.
pub(crate) struct CContext(pub(crate) Env);

impl CContext {
    pub(crate) fn pointer(&self) -> *mut c_void {
        self.0.pointer()
    }
}
