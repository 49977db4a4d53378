//! Checks JSON syntax without allocating or building values: RFC 8259 as `JSON.parse` has it.
//!
//! Awareness states are relayed as the text they came in; a state that a browser cannot parse would
//! break every client of its document, so it must not get past the server.

/// How deep objects and arrays may nest. One bit each of a `u64` tells which of the two is open.
pub(super) const DEPTH_MAX: u32 = u64::BITS;

/// Whether `text` is one JSON value that nests at most [`DEPTH_MAX`] deep.
pub(super) fn is_valid(text: &str) -> bool {
    let mut scanner = Scanner { bytes: text.as_bytes(), position: 0, objects: 0, depth: 0 };
    scanner.document().is_some()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
    /// The kinds of what is open, innermost in the lowest bit: 1 an object, 0 an array.
    objects: u64,
    depth: u32,
}

/// What may come next.
enum Expect {
    Value,
    /// A value, or the end of an array that was just opened.
    ValueOrEnd,
    /// A key, or the end of an object that was just opened.
    KeyOrEnd,
    /// A comma or an end, or the end of the text.
    Continuation,
}

impl Scanner<'_> {
    /// `None` at the first fault. A loop instead of recursion: hostile nesting must not cost stack.
    fn document(&mut self) -> Option<()> {
        let mut expect = Expect::Value;
        loop {
            self.whitespace();
            expect = match expect {
                Expect::Value => self.value()?,
                Expect::ValueOrEnd if self.peek() == Some(b']') => self.end()?,
                Expect::ValueOrEnd => self.value()?,
                Expect::KeyOrEnd if self.peek() == Some(b'}') => self.end()?,
                Expect::KeyOrEnd => self.key()?,
                Expect::Continuation if self.depth == 0 => {
                    return (self.position == self.bytes.len()).then_some(());
                }
                Expect::Continuation if self.peek()? == b',' => {
                    self.position += 1;
                    match self.in_object() {
                        true => {
                            self.whitespace();
                            self.key()?
                        }
                        false => Expect::Value,
                    }
                }
                Expect::Continuation => self.end()?,
            };
        }
    }

    fn value(&mut self) -> Option<Expect> {
        match self.peek()? {
            b'{' => return self.begin(true),
            b'[' => return self.begin(false),
            b'"' => self.string()?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => self.number()?,
        }
        Some(Expect::Continuation)
    }

    fn begin(&mut self, object: bool) -> Option<Expect> {
        if self.depth == DEPTH_MAX {
            return None;
        }
        self.position += 1;
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        Some(if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd })
    }

    fn end(&mut self) -> Option<Expect> {
        let close = if self.in_object() { b'}' } else { b']' };
        self.literal(&[close])?;
        self.depth -= 1;
        self.objects >>= 1;
        Some(Expect::Continuation)
    }

    fn key(&mut self) -> Option<Expect> {
        self.string()?;
        self.whitespace();
        self.literal(b":")?;
        Some(Expect::Value)
    }

    fn string(&mut self) -> Option<()> {
        self.literal(b"\"")?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            self.next()?.is_ascii_hexdigit().then_some(())?;
                        }
                    }
                    _ => return None,
                },
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.position += 1;
        }
        if self.peek()? == b'0' {
            self.position += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.position += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.position += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        self.peek()?.is_ascii_digit().then_some(())?;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.position += 1;
        }
        Some(())
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.bytes[self.position..].starts_with(literal).then_some(())?;
        self.position += literal.len();
        Some(())
    }

    fn whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.position += 1;
        }
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.position += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_pass() {
        let simple =
            r#"null| true |0|-0|10.25e-3|1E+9|""|"a\"\\\/\b\f\n\r\t\u00e9ü"|[]|{}|[ ]|{ }|[1,[2,[]],{}]"#;
        let nested =
            r#"{"user":{"name":"Ada","color":"red"},"cursor":null}| { "a" : [ 1 , 2 ] , "b" : { } } "#;
        for text in simple.split('|').chain(nested.split('|')).chain(["\t\r\n1\n"]) {
            assert!(is_valid(text), "{text}");
        }
    }

    #[test]
    fn faults_are_found() {
        let values =
            r#"| |nul|nulll|truefalse|01|-|1.|.5|1e|+1|NaN|undefined|'a'|"|"\x"|"\u12g4"|"\u12"|1 2|"a"b"#;
        let nested =
            r#"[|]|[1|[1,]|[,1]|[1 2]|[1}|{|{]|{"a"}|{"a":}|{"a":1,}|{a:1}|{1:1}|{"a":1 "b":2}|{,}|{}{}"#;
        for text in values.split('|').chain(nested.split('|')).chain(["\"\n\"", "\u{a0}1"]) {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn nesting_is_capped() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_valid(&nested(64)));
        assert!(!is_valid(&nested(65)));
        assert!(!is_valid(&"[".repeat(1_000_000)));
        let mixed = format!("{}1{}", r#"[{"a":"#.repeat(32), "}]".repeat(32));
        assert!(is_valid(&mixed));
    }
}
