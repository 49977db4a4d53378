//! The report as one HTML page, with its charts inside.

use std::fmt::Write;

use super::table::Table;
use super::{Results, charts};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#1c2330;margin:2rem auto;max-width:80rem;padding:0 1rem}\
h1{font-size:1.7rem}h2{font-size:1.2rem;margin-top:2.2rem}\
table{border-collapse:collapse;font-size:13px;width:100%}\
th,td{padding:.25rem .5rem;border-bottom:1px solid #e3e6ec;text-align:right;white-space:nowrap}td:first-child{white-space:normal;min-width:9rem}\
th:nth-child(-n+2),td:nth-child(-n+2){text-align:left}\
th{background:#f4f6f9;position:sticky;top:0}\
tr.ours td{background:#fdf3e7}\
td.met{color:#1b7f3b;font-weight:600}td.missed{color:#b3261e;font-weight:600}\
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(34rem,1fr));gap:1rem}\
.charts svg{width:100%;height:auto;border:1px solid #e3e6ec;border-radius:6px}\
pre{font-size:12px;overflow-x:auto;background:#f4f6f9;padding:.6rem}.scroll{overflow-x:auto}code{background:#f4f6f9;padding:.1rem .3rem;border-radius:3px}small{color:#667085}";

/// Writes the page.
pub fn render(
    results: &Results,
    targets: &Table,
    tables: &[Table],
    appendix: &[(String, String)],
) -> anyhow::Result<String> {
    let mut out = String::new();
    write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Fidibus: the load report</title><style>{STYLE}</style><h1>The load report</h1>"
    )?;
    if let Some(note) = results.notes.last() {
        let versions: Vec<String> =
            note.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        write!(out, "<p>{}<br><small>{}</small></p>", escape(&note.machine), escape(&versions.join(" · ")))?;
    }
    out.push_str("<ul>");
    for note in &results.notes {
        write!(out, "<li>{} <code>{}</code></li>", note.date(), escape(&note.command))?;
    }
    out.push_str("</ul>");
    let faults = results.faults();
    write!(
        out,
        "<p>{} measurements; each ended with the check that every connection got every clock, every update was acked, and \
         a fresh client reads the merged text. Findings: {}.</p>",
        results.measured(),
        if faults.is_empty() { "none".to_owned() } else { escape(&faults.join("; ")) }
    )?;
    section(&mut out, targets)?;
    out.push_str("<h2>Charts</h2><p>Bars are medians, whiskers reach from the lowest to the highest run.</p><div class=\"charts\">");
    for chart in charts::all(results)? {
        out.push_str(&chart);
    }
    out.push_str("</div>");
    for table in tables {
        section(&mut out, table)?;
    }
    if !appendix.is_empty() {
        out.push_str("<h2>Appendix: profiles and micro benchmarks</h2>");
    }
    for (name, text) in appendix {
        write!(out, "<details><summary>{}</summary><pre>{}</pre></details>", escape(name), escape(text))?;
    }
    out.push_str("</html>\n");
    Ok(out)
}

fn section(out: &mut String, table: &Table) -> std::fmt::Result {
    write!(
        out,
        "<h2>{}</h2><p>{}</p><div class=\"scroll\"><table><tr>",
        escape(&table.title),
        escape(&table.note)
    )?;
    for header in &table.headers {
        write!(out, "<th>{}</th>", escape(header))?;
    }
    out.push_str("</tr>");
    for row in &table.rows {
        let is_ours = row.get(1).is_some_and(|server| server.starts_with("fidibus"));
        out.push_str(if is_ours && table.title != "Targets" { "<tr class=\"ours\">" } else { "<tr>" });
        for cell in row {
            let class = match cell.as_str() {
                "met" => " class=\"met\"",
                "not met" => " class=\"missed\"",
                _ => "",
            };
            write!(out, "<td{class}>{}</td>", escape(cell))?;
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
