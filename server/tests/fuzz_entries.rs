//! Goal: what the fuzz targets of `server/fuzz` hold still holds, without a nightly toolchain. Method: as in
//! `core/tests/fuzz_entries.rs`.

#[path = "../fuzz/entries/frames.rs"]
mod frames;
#[path = "../fuzz/entries/handshake.rs"]
mod handshake;
#[path = "../fuzz/entries/http.rs"]
mod http_entry;
#[path = "../../core/tests/fuzz_entries/mutants.rs"]
mod mutants;
#[path = "../fuzz/entries/settings.rs"]
mod settings;

use mutants::{Target, run};

fn target(name: &'static str, entry: fn(&[u8]), mutants: usize) -> Target {
    Target { folder: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds"), name, entry, mutants }
}

#[test]
fn handshake_holds() {
    run(&target("handshake", handshake::run, 3_000));
}

#[test]
fn frames_hold() {
    run(&target("frames", frames::run, 20_000));
}

#[test]
fn settings_hold() {
    run(&target("settings", settings::run, 1_000));
}

#[test]
fn http_holds() {
    run(&target("http", http_entry::run, 2_000));
}
