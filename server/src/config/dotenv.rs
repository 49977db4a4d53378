//! Reads `.env` files as the npm package `dotenv` does, because the deployments that this server is for
//! share one file between it and a Node program.

use std::io::{self, Read};
use std::path::Path;

/// The largest `.env` that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dotenv {
    /// Names and values; of a name that comes twice, the last counts.
    pub entries: Vec<(String, String)>,
    /// The numbers, from 1, of lines that are no assignment. `dotenv` skips them too.
    pub skipped_lines: Vec<usize>,
}

/// Reads the file; a missing one is an empty one.
///
/// # Errors
/// Everything but "not found": a file that is there but cannot be read was meant to be read.
pub fn read(path: &Path) -> io::Result<Dotenv> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Dotenv::default()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(parse(&text))
}

/// Parses `NAME=value` lines: comments, `export`, the three kinds of quotes, values of several lines.
pub fn parse(text: &str) -> Dotenv {
    let mut dotenv = Dotenv::default();
    let mut rest = text.trim_start_matches('\u{feff}');
    let mut line_number = 0;
    while !rest.is_empty() {
        line_number += 1;
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        let statement = line.trim();
        if statement.is_empty() || statement.starts_with('#') {
            continue;
        }
        let Some((name, value)) = assignment(statement) else {
            dotenv.skipped_lines.push(line_number);
            continue;
        };
        let value = match quoted(value, after) {
            Some((value, remaining)) => {
                line_number += after[..after.len() - remaining.len()].matches('\n').count();
                rest = remaining;
                value
            }
            // `#` starts a comment wherever it stands in a value without quotes, as in `dotenv`.
            None => value.split('#').next().unwrap_or_default().trim().to_owned(),
        };
        dotenv.entries.push((name.to_owned(), value));
    }
    dotenv
}

fn assignment(statement: &str) -> Option<(&str, &str)> {
    let (name, value) = statement.split_once('=')?;
    let name = name.trim();
    let name = name.strip_prefix("export ").map_or(name, str::trim);
    let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    legal.then(|| (name, value.trim_start()))
}

/// A value in quotes that may go on over the lines `after`; answers with what is left of them.
fn quoted<'a>(value: &str, after: &'a str) -> Option<(String, &'a str)> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let inner = &value[1..];
    let (content, rest) = match closing(inner, quote) {
        Some(end) => (inner[..end].to_owned(), after),
        None => {
            let end = closing(after, quote)?;
            let rest = &after[end + 1..];
            let rest = rest.split_once('\n').map_or("", |(_, next)| next);
            (format!("{inner}\n{}", &after[..end]), rest)
        }
    };
    // Only double quotes know escapes, and of these only two.
    let content = if quote == '"' { content.replace("\\n", "\n").replace("\\r", "\r") } else { content };
    Some((content, rest))
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(index, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(String, String)> {
        parse(text).entries
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_guides_file_is_read() {
        let text = "# Database\nDATABASE_URL=\"postgresql://postgres:pa$$w#rd@localhost:5432/canvas\"\n\n\
                    WS_PORT=3001\r\nexport NODE_ENV = production # comment\nEMPTY=\nA='x\\n'\nB=`it's`";
        assert_eq!(
            entries(text),
            [
                pair("DATABASE_URL", "postgresql://postgres:pa$$w#rd@localhost:5432/canvas"),
                pair("WS_PORT", "3001"),
                pair("NODE_ENV", "production"),
                pair("EMPTY", ""),
                pair("A", "x\\n"),
                pair("B", "it's"),
            ]
        );
    }

    #[test]
    fn quoted_values_span_lines() {
        let parsed = parse("KEY=\"-----BEGIN\nabc\n-----END\"\nnonsense\nNEXT=1\n");
        assert_eq!(parsed.entries, [pair("KEY", "-----BEGIN\nabc\n-----END"), pair("NEXT", "1")]);
        assert_eq!(parsed.skipped_lines, [4]);
        assert_eq!(entries("A=\"a\\nb\""), [pair("A", "a\nb")]);
    }

    #[test]
    fn an_open_quote_is_a_plain_value() {
        assert_eq!(entries("A=\"half\nB=2"), [pair("A", "\"half"), pair("B", "2")]);
    }

    #[test]
    fn a_missing_file_is_empty_and_an_unreadable_one_is_not() {
        let directory = std::env::temp_dir().join(format!("fidibus-dotenv-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert_eq!(read(&directory.join("none")).unwrap(), Dotenv::default());
        assert!(read(&directory).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
