//! `entries/settings.rs` for libFuzzer.
#![no_main]

#[path = "../entries/settings.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry::run(input));
