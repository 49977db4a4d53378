//! Names the shared library: its soname carries the number that changes when the ABI breaks.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libfidibus.so.0");
}
