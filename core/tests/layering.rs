//! Goal: the parts of the workspace depend on each other in one direction only (design.md, Dependency
//! direction). Method: read the `crate::` and crate names in every source file, tests left out, and hold
//! them against a table; the table itself is checked to name every module that there is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module of core, and the modules and crates that it must not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("id", &["crate::protocol", "crate::connection", "crate::room", "crate::hub", "tokio", "yrs"]),
    ("error", &["crate::protocol", "crate::connection", "crate::room", "crate::hub", "tokio", "yrs"]),
    ("config", &["crate::connection", "crate::room", "crate::hub", "tokio", "yrs", "serde"]),
    ("metrics", &["crate::protocol", "crate::connection", "crate::room", "crate::hub", "tokio", "yrs"]),
    (
        "protocol",
        &["crate::connection", "crate::room", "crate::log", "crate::store", "crate::hub", "tokio", "yrs"],
    ),
    (
        "log",
        &[
            "crate::protocol",
            "crate::connection",
            "crate::room",
            "crate::store",
            "crate::hub",
            "tokio",
            "yrs",
        ],
    ),
    (
        "connection",
        &["crate::room", "crate::log", "crate::store", "crate::hub", "crate::hooks", "tokio", "yrs"],
    ),
    ("room", &["crate::connection", "crate::hub", "crate::hooks", "tokio", "yrs", ".await", "async "]),
    ("hooks", &["crate::connection", "crate::hub", "crate::store", "tokio", "yrs"]),
    ("auth", &["crate::connection", "crate::room", "crate::hub", "crate::store", "crate::hooks", "yrs"]),
    ("store", &["crate::connection", "crate::room", "crate::hub", "crate::hooks", "yrs"]),
    (
        "clock",
        &[
            "crate::protocol",
            "crate::connection",
            "crate::room",
            "crate::hub",
            "crate::hooks",
            "crate::store",
            "crate::log",
            "crate::auth",
            "crate::cluster",
            "yrs",
        ],
    ),
    ("cluster", &["crate::connection", "crate::room", "crate::hub", "crate::store", "tokio", "yrs"]),
    ("hub", &[]),
];

/// Files that may break a rule of their module, each for the reason given.
const EXCEPTIONS: &[(&str, &str)] = &[
    // design.md: yrs makes a document on demand, and only there.
    ("room/materialize.rs", "yrs"),
    // The suite for stores writes documents as clients do.
    ("store/conformance/edits.rs", "yrs"),
    ("room/materialize/", "yrs"),
    // Implementations behind cargo features.
    ("auth/better_auth", "tokio"),
];

/// Names that read the clock: time is given to everything but the hub, and stores that stamp rows.
const CLOCKS: &[&str] = &["Instant::now(", "SystemTime::now("];
const CLOCK_FREE: &[&str] =
    &["id", "error", "config", "metrics", "protocol", "log", "connection", "room", "hooks"];

#[test]
fn modules_of_core_depend_downwards_only() {
    let mut broken = Vec::new();
    for (module, forbidden) in FORBIDDEN {
        for (path, code) in sources_of(module) {
            for name in forbidden.iter().filter(|name| names(&code, name)) {
                let excepted = EXCEPTIONS.iter().any(|(file, what)| path.contains(file) && what == name);
                if !excepted {
                    broken.push(format!("{path} names {name}"));
                }
            }
            for clock in CLOCKS.iter().filter(|clock| CLOCK_FREE.contains(module) && code.contains(**clock)) {
                broken.push(format!("{path} reads the clock: {clock})"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_table_names_every_module() {
    let listed: BTreeSet<_> = FORBIDDEN.iter().map(|(module, _)| (*module).to_owned()).collect();
    let there: BTreeSet<_> = fs::read_dir(root().join("core/src"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "lib")
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn fronts_know_neither_the_wire_nor_each_other() {
    let fronts = [("server", "fidibus_c::"), ("bindings-c", "napi::"), ("bindings-node", "fidibus_server::")];
    for (front, other) in fronts {
        for (path, code) in sources_below(&root().join(front).join("src")) {
            let wire = code.contains("fidibus_core::protocol::varint")
                || code.contains("fidibus_core::protocol::frame");
            assert!(!wire, "{path} knows the wire format");
            assert!(!code.contains(other), "{path} names {other}");
        }
    }
}

fn names(code: &str, name: &str) -> bool {
    if name == ".await" {
        // The keyword, not a name that begins with it.
        return code
            .split(name)
            .skip(1)
            .any(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'));
    }
    if name.starts_with("crate::") || !name.chars().all(char::is_alphanumeric) {
        return code.contains(name);
    }
    code.contains(&format!("{name}::"))
}

/// The files of a module, without their tests and comments.
fn sources_of(module: &str) -> Vec<(String, String)> {
    let folder = root().join("core/src");
    let mut sources = sources_below(&folder.join(module));
    let file = folder.join(module).with_extension("rs");
    if file.exists() {
        sources.push(source(&file));
    }
    assert!(!sources.is_empty(), "no sources of {module}");
    sources
}

fn sources_below(folder: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => vec![source(&path)],
                _ if path.is_dir() => sources_below(&path),
                _ => Vec::new(),
            }
        })
        .collect()
}

fn source(path: &Path) -> (String, String) {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    (path.display().to_string(), code.join("\n"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
