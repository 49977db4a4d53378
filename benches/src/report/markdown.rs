//! The report as Markdown.

use std::fmt::Write;

use super::Results;
use super::table::Table;

/// Writes the report.
pub fn render(
    results: &Results,
    targets: &Table,
    tables: &[Table],
    appendix: &[(String, String)],
) -> anyhow::Result<String> {
    let mut out = String::from("# The load report\n\n");
    writeln!(
        out,
        "Medians over the runs, lowest and highest in parentheses; ratios are taken within a run, of the first column of\n\
         figures. One server at a time on core {}, the generator on core {}. The method is in [`benches/README.md`](../README.md);\n\
         the charts are in [`report.html`](report.html).\n",
        crate::peer::SERVER_CORE,
        crate::peer::GENERATOR_CORE
    )?;
    for note in &results.notes {
        writeln!(out, "- {}: `{}`", note.date(), note.command)?;
    }
    if let Some(note) = results.notes.last() {
        writeln!(out, "- machine: {}", note.machine)?;
        let versions: Vec<String> =
            note.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(out, "- versions: {}", versions.join(", "))?;
    }
    writeln!(out)?;
    check(&mut out, results)?;
    for table in std::iter::once(targets).chain(tables) {
        writeln!(out, "\n## {}\n\n{}\n", table.title, table.note)?;
        writeln!(out, "| {} |", table.headers.join(" | "))?;
        let rule: Vec<&str> =
            table.headers.iter().enumerate().map(|(at, _)| if at < 2 { "---" } else { "---:" }).collect();
        writeln!(out, "|{}|", rule.join("|"))?;
        for row in &table.rows {
            writeln!(out, "| {} |", row.join(" | "))?;
        }
    }
    if !appendix.is_empty() {
        writeln!(out, "\n## Appendix: profiles and micro benchmarks")?;
    }
    for (name, text) in appendix {
        writeln!(out, "\n<details><summary>{name}</summary>\n\n```text\n{text}\n```\n\n</details>")?;
    }
    Ok(out)
}

fn check(out: &mut String, results: &Results) -> std::fmt::Result {
    let faults = results.faults();
    if faults.is_empty() {
        return writeln!(
            out,
            "The check at the end of each of the {} measurements (every clock at every connection, every update acked, a fresh\n\
             client reads the merged text) found nothing lost and nothing different.",
            results.measured()
        );
    }
    writeln!(out, "The check at the end of the {} measurements found:\n", results.measured())?;
    for fault in faults {
        writeln!(out, "- {fault}")?;
    }
    Ok(())
}
