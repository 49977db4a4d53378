//! lib0's numbers, strings and byte arrays, read from and written to slices.
//!
//! Unsigned numbers are LEB128; both kinds go up to 2^53 − 1 (JavaScript's safe integers), so they take
//! eight bytes at most. Forms with needless zero bytes are read, as lib0 does, within those eight.

use crate::error::ProtocolError;

/// The largest number on the wire: JavaScript's `Number.MAX_SAFE_INTEGER`.
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The longest form of a number, in bytes: 8 × 7 bits hold the 53 of a safe integer.
const NUMBER_BYTES_MAX: usize = 8;

/// Reads values one after the other. Nothing is allocated, and no length is believed beyond the bytes
/// that are there.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`ProtocolError::UnexpectedEnd`] when none is left.
    pub fn byte(&mut self) -> Result<u8, ProtocolError> {
        let byte = *self.bytes.get(self.position).ok_or(ProtocolError::UnexpectedEnd)?;
        self.position += 1;
        Ok(byte)
    }

    /// Reads an unsigned number (`readVarUint`).
    ///
    /// # Errors
    /// [`ProtocolError::UnexpectedEnd`]; [`ProtocolError::NumberOutOfRange`] above [`SAFE_INTEGER_MAX`] or
    /// beyond eight bytes.
    pub fn var_uint(&mut self) -> Result<u64, ProtocolError> {
        // Nearly every number of a frame is a type or a short length.
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.continued(u64::from(first & 0x7f), 7)
    }

    /// Reads a signed number (`readVarInt`): the first byte carries the sign and six bits. lib0 knows a
    /// negative zero; here it is zero.
    ///
    /// # Errors
    /// As [`Self::var_uint`].
    pub fn var_int(&mut self) -> Result<i64, ProtocolError> {
        let first = self.byte()?;
        let low = u64::from(first & 0x3f);
        let magnitude = if first & 0x80 == 0 { low } else { self.continued(low, 6)? };
        // Invariant: at most 2^53 − 1, so the conversion cannot wrap.
        let magnitude = magnitude as i64;
        Ok(if first & 0x40 == 0 { magnitude } else { -magnitude })
    }

    /// The bytes after the first of a number that goes on, of which `bits` bits are known.
    fn continued(&mut self, mut number: u64, mut bits: u32) -> Result<u64, ProtocolError> {
        for _ in 1..NUMBER_BYTES_MAX {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << bits;
            bits += 7;
            if byte < 0x80 {
                return if number <= SAFE_INTEGER_MAX {
                    Ok(number)
                } else {
                    Err(ProtocolError::NumberOutOfRange)
                };
            }
        }
        Err(ProtocolError::NumberOutOfRange)
    }

    /// Reads a byte array (`readVarUint8Array`).
    ///
    /// # Errors
    /// As [`Self::var_uint`], and [`ProtocolError::UnexpectedEnd`] when its length is more than is left.
    pub fn var_bytes(&mut self) -> Result<&'a [u8], ProtocolError> {
        let len = self.var_uint()?;
        if len > self.remaining() as u64 {
            return Err(ProtocolError::UnexpectedEnd);
        }
        // Invariant: len ≤ remaining, which is a usize.
        let end = self.position + len as usize;
        let bytes = &self.bytes[self.position..end];
        self.position = end;
        Ok(bytes)
    }

    /// Reads a string (`readVarString`, whose decoder is fatal on bad UTF-8 as well).
    ///
    /// # Errors
    /// As [`Self::var_bytes`], and [`ProtocolError::NotUtf8`].
    pub fn var_string(&mut self) -> Result<&'a str, ProtocolError> {
        std::str::from_utf8(self.var_bytes()?).map_err(|_| ProtocolError::NotUtf8)
    }
}

/// How many bytes [`write_var_uint`] takes for `number`.
pub const fn var_uint_len(number: u64) -> usize {
    // Seven bits a byte, and one byte for zero.
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// How many bytes [`write_var_bytes`] takes for an array of `len` bytes.
pub const fn var_bytes_len(len: usize) -> usize {
    var_uint_len(len as u64) + len
}

/// Appends an unsigned number (`writeVarUint`).
pub fn write_var_uint(out: &mut Vec<u8>, mut number: u64) {
    debug_assert!(number <= SAFE_INTEGER_MAX, "JavaScript cannot hold this number");
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number (`writeVarInt`).
pub fn write_var_int(out: &mut Vec<u8>, number: i64) {
    let sign = if number < 0 { 0x40 } else { 0 };
    let magnitude = number.unsigned_abs();
    debug_assert!(magnitude <= SAFE_INTEGER_MAX, "JavaScript cannot hold this number");
    let more = if magnitude > 0x3f { 0x80 } else { 0 };
    out.push(more | sign | (magnitude & 0x3f) as u8);
    if more != 0 {
        write_var_uint(out, magnitude >> 6);
    }
}

/// Appends a byte array (`writeVarUint8Array`), which is also the form of a string.
pub fn write_var_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_var_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_var_uint(&mut out, number);
        out
    }

    #[test]
    fn unsigned_numbers_round_trip_at_every_length() {
        for bits in 0..=53 {
            for number in [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                if number > SAFE_INTEGER_MAX {
                    continue;
                }
                let bytes = written(number);
                assert_eq!(bytes.len(), var_uint_len(number), "{number}");
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.var_uint(), Ok(number));
                assert!(reader.is_empty());
            }
        }
    }

    #[test]
    fn signed_numbers_round_trip() {
        for number in [0, 1, -1, 63, -63, 64, -64, 8191, 8192, -8192, (1 << 53) - 1, -(1 << 53) + 1] {
            let mut out = Vec::new();
            write_var_int(&mut out, number);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.var_int(), Ok(number));
            assert!(reader.is_empty());
        }
        assert_eq!(Reader::new(&[0x40]).var_int(), Ok(0), "lib0's negative zero");
    }

    #[test]
    fn numbers_past_javascript_are_refused() {
        let read = |bytes: &[u8]| Reader::new(bytes).var_uint();
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(SAFE_INTEGER_MAX));
        assert_eq!(
            read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]),
            Err(ProtocolError::NumberOutOfRange)
        );
        assert_eq!(
            read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            Err(ProtocolError::NumberOutOfRange)
        );
        assert_eq!(read(&[0x81, 0x00]), Ok(1), "lib0 reads needless zero bytes too");
        assert_eq!(read(&[0x80]), Err(ProtocolError::UnexpectedEnd));
        assert_eq!(read(&[]), Err(ProtocolError::UnexpectedEnd));
        assert_eq!(Reader::new(&[0xff; 9]).var_int(), Err(ProtocolError::NumberOutOfRange));
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(Reader::new(&[3, 1, 2]).var_bytes(), Err(ProtocolError::UnexpectedEnd));
        let huge = written(SAFE_INTEGER_MAX);
        assert_eq!(Reader::new(&huge).var_bytes(), Err(ProtocolError::UnexpectedEnd));
        assert_eq!(Reader::new(&[2, 0xc3, 0x28]).var_string(), Err(ProtocolError::NotUtf8));
        assert_eq!(Reader::new(&[2, 0xc3, 0xa9]).var_string(), Ok("é"));
    }
}
