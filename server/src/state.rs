//! The state directory: private, and one server's alone. Two servers with one spool would hand out each
//! other's updates; the lock ends with the process, however that ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "fidibus.lock";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made, or not be written to.
    #[error("WS_STATE_DIR: cannot use the directory {path}")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// Another server has it.
    #[error("WS_STATE_DIR: {path} is used by another server{owner}; give each server a directory of its own")]
    Taken {
        /// The directory.
        path: PathBuf,
        /// " (process 123)", where it is known.
        owner: String,
    },
}

/// A state directory that is this process's for as long as the value lives.
#[derive(Debug)]
pub struct StateDirectory {
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory where there is none, and takes it.
    ///
    /// # Errors
    /// One that names the setting.
    pub fn take(path: &Path) -> Result<Self, StateError> {
        let unusable = |source| StateError::Unusable { path: path.to_owned(), source };
        make_private(path).map_err(unusable)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::Taken { path: path.to_owned(), owner: owner(&mut lock) });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // Only for people, and for the message of whoever comes second.
        let note = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        note.map_err(unusable)?;
        Ok(Self { _lock: lock })
    }
}

/// Whether a server has this directory at the moment.
pub fn is_taken(path: &Path) -> bool {
    let lock = OpenOptions::new().read(true).open(path.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn owner(lock: &mut File) -> String {
    let mut text = String::new();
    let number = lock.take(20).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    number.map(|number| format!(" (process {number})")).unwrap_or_default()
}

/// Documents are nobody else's business, whatever the umask says.
fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_taken_once() {
        let path = std::env::temp_dir().join(format!("fidibus-state-{}", std::process::id()));
        let first = StateDirectory::take(&path).unwrap();
        let error = StateDirectory::take(&path).unwrap_err().to_string();
        let expected = format!("is used by another server (process {})", std::process::id());
        assert!(error.contains(&expected), "{error}");
        drop(first);
        StateDirectory::take(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let path = std::env::temp_dir().join(format!("fidibus-no-directory-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let error = StateDirectory::take(&path).unwrap_err().to_string();
        assert!(error.starts_with("WS_STATE_DIR: cannot use the directory /"), "{error}");
        fs::remove_file(&path).unwrap();
    }
}
