//! What stands beside the figures as text: profiles of servers, and the output of the micro benchmarks.

use std::fs;
use std::path::Path;

/// Lines of a text that are shown; profiles are sorted, so the rest is small.
const LINES_MAX: usize = 80;
const LINE_CHARS_MAX: usize = 120;

/// The texts of `<report>/appendix/*.txt` by name, each cut to what can be read.
pub fn read(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let folder = folder.join("appendix");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let text = fs::read_to_string(&path)?;
            let lines: Vec<String> = text
                .lines()
                .take(LINES_MAX)
                .map(|line| line.chars().take(LINE_CHARS_MAX).collect())
                .collect();
            texts.push((name, lines.join("\n")));
        }
    }
    texts.sort();
    Ok(texts)
}
