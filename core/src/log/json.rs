//! Checks that bytes are one JSON text, without building it.
//!
//! Embeds, formats and the legacy JSON content travel as JSON strings that every yjs peer gives to
//! `JSON.parse` while it applies the update: one bad text would make the document unreadable for all.

use super::content::NESTING_MAX;
use super::scan::Malformed;

/// Accepts exactly what `JSON.parse` accepts, up to `NESTING_MAX` levels. `text` must be UTF-8.
pub(super) fn check(text: &[u8]) -> Result<(), Malformed> {
    let mut json = Json { text, at: 0 };
    // One bit per open container: set for an object. The cap fits the width of the mask.
    let mut objects: u64 = 0;
    let mut depth: u32 = 0;
    loop {
        // A value is expected here.
        json.space();
        match json.next()? {
            open @ (b'{' | b'[') => {
                let object = open == b'{';
                json.space();
                if json.peek() == Some(if object { b'}' } else { b']' }) {
                    json.at += 1;
                } else {
                    if depth == NESTING_MAX {
                        return Err(Malformed::Nesting);
                    }
                    depth += 1;
                    objects = objects << 1 | u64::from(object);
                    if object {
                        json.key()?;
                    }
                    continue;
                }
            }
            b'"' => json.string()?,
            b't' => json.word(b"rue")?,
            b'f' => json.word(b"alse")?,
            b'n' => json.word(b"ull")?,
            first => json.number(first)?,
        }
        // A value has ended: close containers until one goes on.
        loop {
            json.space();
            if depth == 0 {
                return if json.at == text.len() { Ok(()) } else { Err(Malformed::Json) };
            }
            let object = objects & 1 == 1;
            match json.next()? {
                b',' => {
                    if object {
                        json.space();
                        json.key()?;
                    }
                    break;
                }
                b'}' if object => {}
                b']' if !object => {}
                _ => return Err(Malformed::Json),
            }
            depth -= 1;
            objects >>= 1;
        }
    }
}

struct Json<'a> {
    text: &'a [u8],
    at: usize,
}

impl Json<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed::Json)?;
        self.at += 1;
        Ok(byte)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), Malformed> {
        let found = self.text.get(self.at..self.at + rest.len()) == Some(rest);
        self.at += rest.len();
        if found { Ok(()) } else { Err(Malformed::Json) }
    }

    fn key(&mut self) -> Result<(), Malformed> {
        if self.next()? != b'"' {
            return Err(Malformed::Json);
        }
        self.string()?;
        self.space();
        if self.next()? == b':' { Ok(()) } else { Err(Malformed::Json) }
    }

    /// The rest of a string after its opening quote.
    fn string(&mut self) -> Result<(), Malformed> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            if !self.next()?.is_ascii_hexdigit() {
                                return Err(Malformed::Json);
                            }
                        }
                    }
                    _ => return Err(Malformed::Json),
                },
                0..=0x1f => return Err(Malformed::Json),
                _ => {}
            }
        }
    }

    /// The rest of a number whose first byte was `first`.
    fn number(&mut self, first: u8) -> Result<(), Malformed> {
        let lead = if first == b'-' { self.next()? } else { first };
        match lead {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return Err(Malformed::Json),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        if !self.next()?.is_ascii_digit() {
            return Err(Malformed::Json);
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_json_parse_accepts() {
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-0",
            "-12.5e+3",
            "1E9",
            "\"\"",
            "\"a\\u00e9\\n\\ud800\"",
            "[]",
            "{}",
            "[1, [2, {}], \"x\"]",
            "{\"a\":{\"b\":[1,2,null]},\"c\":\"\u{e9}\u{1f600}\"}",
            "\t[\n]\r",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_json_parse_refuses() {
        for text in [
            "",
            " ",
            "undefined",
            "NaN",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{a:1}",
            "[1 2]",
            "nul",
            "[1}",
            "{]",
            "1 2",
            "'a'",
            "tru\u{e9}",
        ] {
            assert_eq!(check(text.as_bytes()), Err(Malformed::Json), "{text}");
        }
    }

    #[test]
    fn caps_nesting() {
        let deep = |levels: usize| [vec![b'['; levels], b"1".to_vec(), vec![b']'; levels]].concat();
        assert_eq!(check(&deep(64)), Ok(()));
        assert_eq!(check(&deep(65)), Err(Malformed::Nesting));
        assert_eq!(check(&vec![b'['; 1_000_000]), Err(Malformed::Nesting));
    }
}
