//! Names of documents as names of files, and back: any name fits, none leaves the directory, and no two
//! meet (on a file system that tells upper from lower case; elsewhere the second one is refused, not lost).

use std::path::{Component, Path, PathBuf};

/// The extension of exported documents.
pub(super) const EXTENSION: &str = "yjs";

/// File systems take 255 bytes; a longer name goes on in a directory.
const PART_BYTES_MAX: usize = 200;

/// Ends the name of a directory that holds the rest of a name; encoded names do not contain it.
const CONTINUES: char = '+';

/// The path of a document's file.
pub(super) fn path(name: &str) -> PathBuf {
    let encoded = encode(name);
    let mut rest = encoded.as_str();
    let mut path = PathBuf::new();
    while rest.len() > PART_BYTES_MAX {
        let (part, more) = rest.split_at(PART_BYTES_MAX);
        path.push(format!("{part}{CONTINUES}"));
        rest = more;
    }
    path.push(format!("{rest}.{EXTENSION}"));
    path
}

/// Percent-encodes all but letters, digits and a few others; ASCII, so it can be cut anywhere.
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && index > 0);
        match plain {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The name of the document in a file, by its path below the directory of the import. Files that people have
/// named are taken as well.
pub(super) fn name(path: &Path) -> Option<String> {
    let mut encoded = String::new();
    let parts: Vec<_> = path.components().collect();
    let (last, directories) = parts.split_last()?;
    for directory in directories {
        let Component::Normal(part) = directory else { return None };
        encoded.push_str(part.to_str()?.strip_suffix(CONTINUES)?);
    }
    let Component::Normal(file) = last else { return None };
    encoded.push_str(Path::new(file).file_stem()?.to_str()?);
    percent_encoding::percent_decode_str(&encoded).decode_utf8().ok().map(Into::into)
}

/// Whether a directory holds the rest of names.
pub(super) fn continues(directory: &Path) -> bool {
    directory.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(CONTINUES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let long = "ä/".repeat(340);
        for (given, expected) in [
            ("diagram-1", "diagram-1.yjs"),
            ("a/b", "a%2Fb.yjs"),
            ("..", "%2E..yjs"),
            (".hidden", "%2Ehidden.yjs"),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.yjs"),
            ("50% Ü+", "50%25%20%C3%9C%2B.yjs"),
            ("a.yjs", "a.yjs.yjs"),
            ("%41", "%2541.yjs"),
        ] {
            assert_eq!(path(given), Path::new(expected));
            assert_eq!(name(&path(given)).as_deref(), Some(given));
        }
        let path = path(&long);
        assert!(path.components().count() > 5);
        assert!(path.components().all(|part| part.as_os_str().len() <= PART_BYTES_MAX + 1));
        assert!(path.parent().unwrap().ancestors().filter(|p| *p != Path::new("")).all(continues));
        assert_eq!(name(&path).as_deref(), Some(&*long));
    }

    #[test]
    fn names_that_people_gave_are_read() {
        assert_eq!(name(Path::new("my plan.bin")).as_deref(), Some("my plan"));
        assert_eq!(name(Path::new("%FF.yjs")), None);
        assert_eq!(name(Path::new("sub/a.yjs")), None);
        assert_eq!(name(Path::new("../a.yjs")), None);
    }
}
