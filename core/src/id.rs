//! Names and numbers that identify documents, sockets and sessions. Parsed once at the edge,
//! valid ever after.

use std::fmt;
use std::sync::Arc;

use crate::error::ProtocolError;

/// The separator between document name and session id in an address, as
/// `@hocuspocus/common` `routingKey.ts` has it.
pub const ADDRESS_SEPARATOR: char = '\0';

/// The name of a document: not blank, without a NUL, at most [`DocumentName::BYTES_MAX`] bytes long.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentName(Arc<str>);

impl DocumentName {
    /// The longest name accepted, in bytes.
    pub const BYTES_MAX: usize = 1024;

    /// Parses a document name.
    ///
    /// # Errors
    /// [`ProtocolError::BlankName`] for an empty or blank name (Hocuspocus refuses these since 4.0),
    /// [`ProtocolError::NameTooLong`] beyond [`Self::BYTES_MAX`], [`ProtocolError::NameWithNul`] when
    /// it holds the separator of addresses.
    pub fn parse(name: &str) -> Result<Self, ProtocolError> {
        if name.trim().is_empty() {
            return Err(ProtocolError::BlankName);
        }
        if name.len() > Self::BYTES_MAX {
            return Err(ProtocolError::NameTooLong);
        }
        if name.contains(ADDRESS_SEPARATOR) {
            return Err(ProtocolError::NameWithNul);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What a Hocuspocus frame is addressed to: `name`, or `name\0sessionId` for session-aware providers
/// (`ClientConnection.ts` 583–592). Replies carry the same bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    document: DocumentName,
    session_id: Option<Arc<str>>,
}

impl Address {
    /// The longest session id accepted, in bytes.
    pub const SESSION_ID_BYTES_MAX: usize = 256;

    /// Parses the var-string in front of a Hocuspocus frame.
    ///
    /// # Errors
    /// As [`DocumentName::parse`], and [`ProtocolError::NameTooLong`] for a session id of more than
    /// [`Self::SESSION_ID_BYTES_MAX`] bytes.
    pub fn parse(address: &str) -> Result<Self, ProtocolError> {
        match address.split_once(ADDRESS_SEPARATOR) {
            None => Ok(Self { document: DocumentName::parse(address)?, session_id: None }),
            Some((_, session_id)) if session_id.len() > Self::SESSION_ID_BYTES_MAX => {
                Err(ProtocolError::NameTooLong)
            }
            Some((name, session_id)) => Ok(Self {
                document: DocumentName::parse(name)?,
                // Hocuspocus treats an empty session id as none when it addresses replies.
                session_id: (!session_id.is_empty()).then(|| session_id.into()),
            }),
        }
    }

    /// The document that is addressed.
    pub fn document(&self) -> &DocumentName {
        &self.document
    }

    /// The session id of a session-aware provider.
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// The address as it stands on the wire.
    pub fn to_wire(&self) -> String {
        match &self.session_id {
            None => self.document.as_str().to_owned(),
            Some(session_id) => format!("{}{ADDRESS_SEPARATOR}{session_id}", self.document),
        }
    }
}

impl From<DocumentName> for Address {
    fn from(document: DocumentName) -> Self {
        Self { document, session_id: None }
    }
}

/// One socket, for as long as this process lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One document on one connection. Numbers count up per connection and are never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SessionKey {
    /// The socket.
    pub connection: ConnectionId,
    /// The how-manieth session of that socket it is.
    pub number: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_print() {
        let plain = Address::parse("notes").unwrap();
        assert_eq!((plain.document().as_str(), plain.session_id()), ("notes", None));
        assert_eq!(plain.to_wire(), "notes");
        let session = Address::parse("notes\0abc").unwrap();
        assert_eq!((session.document().as_str(), session.session_id()), ("notes", Some("abc")));
        assert_eq!(session.to_wire(), "notes\0abc");
        assert_eq!(Address::parse("notes\0").unwrap().to_wire(), "notes");
    }

    #[test]
    fn bad_names_are_refused() {
        assert_eq!(DocumentName::parse(" \t"), Err(ProtocolError::BlankName));
        assert_eq!(Address::parse("\0abc"), Err(ProtocolError::BlankName));
        assert_eq!(DocumentName::parse(&"a".repeat(1025)), Err(ProtocolError::NameTooLong));
        assert_eq!(DocumentName::parse("a\0b"), Err(ProtocolError::NameWithNul));
    }
}
