//! Descriptors of Node's sockets: the one place that takes a number for an open file.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Duplicates a descriptor that Node still holds, closed on exec.
pub fn duplicate(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: Node's socket object is alive during this call, which JavaScript makes with the number that it read
    // from it; the borrow ends here. A number that is not open makes the duplication fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned()
}
