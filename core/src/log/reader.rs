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

    /// Reads up to eight bytes at once where there are as many: client ids take five, and every struct has some.
    #[inline]
    fn varuint_long(&mut self) -> Result<u64, Malformed> {
        let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<VARINT_BYTES_MAX>())
        else {
            return self.varuint_near_end();
        };
        let word = u64::from_le_bytes(*word);
        // The first byte without the continuation bit is the last one.
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return Err(Malformed::Integer);
        }
        let bits = ends.trailing_zeros() + 1;
        let groups = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
        // Close the gaps between the groups of seven bits: by pairs, fours and eights.
        let groups = groups & 0x007f_007f_007f_007f | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
        let groups = groups & 0x0000_3fff_0000_3fff | (groups & 0x3fff_0000_3fff_0000) >> 2;
        let value = groups & 0x0fff_ffff | (groups & 0x0fff_ffff_0000_0000) >> 4;
        self.at += bits as usize / 8;
        if value <= SAFE_INTEGER_MAX { Ok(value) } else { Err(Malformed::Integer) }
    }

    fn varuint_near_end(&mut self) -> Result<u64, Malformed> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_integers_near_the_end_and_far_from_it_alike() {
        let mut value: u64 = 1;
        for _ in 0..54 {
            for value in [value - 1, value, value + 1, value | 0x55] {
                let mut bytes = Vec::new();
                write_varuint(&mut bytes, value);
                assert_eq!(bytes.len(), varuint_bytes(value));
                let (encoded, len) = encode_varuint(value);
                assert_eq!(encoded[..len], bytes);
                let expected = if value <= SAFE_INTEGER_MAX { Ok(value) } else { Err(Malformed::Integer) };
                let mut near = Reader::at(&bytes, 0);
                assert_eq!(near.varuint(), expected);
                let padded = [&bytes[..], &[0xff; 16]].concat();
                let mut far = Reader::at(&padded, 0);
                assert_eq!(far.varuint(), expected);
                assert!(expected.is_err() || far.position() == bytes.len() && near.remaining() == 0);
            }
            value *= 2;
        }
        // Longer than necessary, and too long.
        assert_eq!(Reader::at(&[0x81, 0x80, 0], 0).varuint(), Ok(1));
        assert_eq!(Reader::at(&[0x81, 0x80, 0, 9, 9, 9, 9, 9, 9], 0).varuint(), Ok(1));
        assert_eq!(Reader::at(&[0x80; 7], 0).varuint(), Err(Malformed::Truncated));
        assert_eq!(Reader::at(&[0x80; 16], 0).varuint(), Err(Malformed::Integer));
    }
}
