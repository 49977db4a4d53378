//! A cursor over bytes in lib0's encoding (variable-length integers, strings, buffers).
//!
//! Every read is bounds-checked and nothing is reserved on a peer's word: a count is compared with
//! the bytes that are left before anybody loops over it.

use super::scan::Malformed;

/// Largest integer that JavaScript represents exactly; client ids and lengths end here.
pub(super) const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Bytes of the longest varint that is read: 8 × 7 bits hold any 53-bit integer.
const VARINT_BYTES_MAX: usize = 8;

/// A position in a byte slice.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts reading `bytes` at offset `at`.
    #[inline]
    pub(super) fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Offset of the next byte.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[inline]
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Reads one byte.
    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads `len` bytes.
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len).ok_or(Malformed::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// Reads an unsigned integer of at most 53 bits (lib0 `readVarUint`).
    #[inline]
    pub(super) fn varuint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.varuint_long(),
        }
    }

    fn varuint_long(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in 0..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                return if value <= SAFE_INTEGER_MAX { Ok(value) } else { Err(Malformed::Integer) };
            }
        }
        Err(Malformed::Integer)
    }

    /// Skips a signed integer of at most 53 bits (lib0 `readVarInt`: six bits and a sign first).
    pub(super) fn skip_varint(&mut self) -> Result<(), Malformed> {
        let first = self.byte()?;
        let mut magnitude = u64::from(first & 0x3f);
        let mut more = first >= 0x80;
        for shift in 0..VARINT_BYTES_MAX - 1 {
            if !more {
                break;
            }
            let byte = self.byte()?;
            magnitude |= u64::from(byte & 0x7f) << (6 + 7 * shift);
            more = byte >= 0x80;
        }
        if more || magnitude > SAFE_INTEGER_MAX { Err(Malformed::Integer) } else { Ok(()) }
    }

    /// Reads a clock or a length in clocks, which the log keeps in 32 bits.
    #[inline]
    pub(super) fn clock(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varuint()?).map_err(|_| Malformed::Clock)
    }

    /// Reads a count of things that take at least `bytes_min` bytes each.
    #[inline]
    pub(super) fn count(&mut self, bytes_min: usize) -> Result<u32, Malformed> {
        let count = self.varuint()?;
        if count > (self.remaining() / bytes_min) as u64 {
            return Err(Malformed::Count);
        }
        u32::try_from(count).map_err(|_| Malformed::Count)
    }

    /// Reads a length-prefixed buffer.
    #[inline]
    pub(super) fn buffer(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.varuint()?;
        if len > self.remaining() as u64 {
            return Err(Malformed::Truncated);
        }
        self.take(len as usize)
    }

    /// Reads a length-prefixed string as bytes; `TRUSTED` bytes were found to be UTF-8 before.
    #[inline]
    pub(super) fn string<const TRUSTED: bool>(&mut self) -> Result<&'a [u8], Malformed> {
        let bytes = self.buffer()?;
        if !TRUSTED && std::str::from_utf8(bytes).is_err() {
            return Err(Malformed::Utf8);
        }
        Ok(bytes)
    }
}

/// Appends `value` as lib0 `writeVarUint` does.
#[inline]
pub(super) fn write_varuint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes that `write_varuint` appends for `value`, and how many they are.
#[inline]
pub(super) fn encode_varuint(mut value: u64) -> ([u8; 10], usize) {
    let mut encoded = [0; 10];
    let mut len = 0;
    while value >= 0x80 {
        encoded[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    encoded[len] = value as u8;
    (encoded, len + 1)
}

/// How many bytes `write_varuint` takes for `value`.
#[inline]
pub(super) fn varuint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}
