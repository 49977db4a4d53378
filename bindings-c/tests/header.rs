//! Goal: the committed header is the one that the code has. Method: make it anew and compare letter by
//! letter. `FIDIBUS_BLESS=1` writes it instead (`make -C bindings-c header`).

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_crate(root).with_config(config).generate().unwrap();
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let path = root.join("include/fidibus.h");
    if std::env::var_os("FIDIBUS_BLESS").is_some() {
        std::fs::write(path, generated).unwrap();
        return;
    }
    let committed = std::fs::read(path).unwrap_or_default();
    assert!(
        committed == generated,
        "include/fidibus.h is not what the code gives; run `make -C bindings-c header` and commit it"
    );
}
