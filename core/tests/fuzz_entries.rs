//! Goal: what the fuzz targets of `core/fuzz` hold still holds, without a nightly toolchain. Method: their entry
//! functions get all seeds, and mutations of them that are the same in every run.
//!
//! `FIDIBUS_FUZZ_MUTANTS=1000000 cargo test --release --test fuzz_entries` makes a long run.

#[path = "../fuzz/entries/connection.rs"]
mod connection;
#[path = "../fuzz/entries/documents.rs"]
mod documents;
#[path = "../fuzz/entries/log.rs"]
mod log;
#[path = "fuzz_entries/mutants.rs"]
mod mutants;
#[path = "../fuzz/entries/scan.rs"]
mod scan;
#[path = "../fuzz/entries/wire.rs"]
mod wire;

use mutants::{Target, run};

fn target(name: &'static str, entry: fn(&[u8]), mutants: usize) -> Target {
    Target { folder: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds"), name, entry, mutants }
}

#[test]
fn scan_holds() {
    run(&target("scan", scan::run, 20_000));
}

#[test]
fn log_holds() {
    run(&target("log", log::run, 3_000));
}

#[test]
fn wire_holds() {
    run(&target("wire", wire::run, 40_000));
}

#[test]
fn connection_holds() {
    run(&target("connection", connection::run, 10_000));
}

#[test]
fn documents_hold() {
    run(&target("documents", documents::run, 2_000));
}
