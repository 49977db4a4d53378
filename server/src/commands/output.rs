//! What commands print: lines that no document's name can break or colour, and progress for who watches.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::CommandError;

/// How often a moving bar is drawn.
const REDRAW: Duration = Duration::from_millis(120);

/// Writes a line to stdout.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), CommandError> {
    bytes(format!("{}\n", text.as_ref()).as_bytes())
}

/// Writes bytes to stdout as they are.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::Closed,
        _ => CommandError::Output(error),
    })
}

/// A name as it may be shown: names are anybody's text, and terminals obey some characters.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    match name.contains(char::is_control) {
        false => Cow::Borrowed(name),
        true => Cow::Owned(
            name.chars()
                .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
                .collect(),
        ),
    }
}

/// A bar on stderr, where that is a terminal; a counter where the total is not known.
pub(super) fn progress(total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    let template = match total {
        Some(_) => "{bar:40} {pos}/{len} documents, {per_sec}, {eta} left",
        None => "{spinner} {pos} documents, {per_sec}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAW);
    bar
}

/// Writes a line to stderr, above the bar.
pub(super) fn complain(bar: &ProgressBar, text: &str) {
    // A hidden bar swallows what it is told to print.
    bar.suspend(|| eprintln!("fidibus: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_command_no_terminal() {
        assert_eq!(shown("Über/Plan 1"), "Über/Plan 1");
        assert_eq!(shown("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }
}
