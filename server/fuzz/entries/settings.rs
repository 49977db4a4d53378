//! Gives the configuration whatever the fuzzer invents as an `.env` file: it loads, or names what is wrong.

use std::collections::HashMap;

use fidibus_server::config::dotenv::{self, Dotenv};
use fidibus_server::config::{Layers, Loaded, ServerConfig};

/// One input.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let file = dotenv::parse(&text);
    let lines = text.lines().count().max(1);
    assert!(file.entries.len() <= lines && file.skipped_lines.iter().all(|line| (1..=lines).contains(line)));
    let by_environment: HashMap<_, _> = file.entries.iter().cloned().collect();
    let in_file = ServerConfig::load(Layers::new(HashMap::new(), HashMap::new(), file));
    let in_environment = ServerConfig::load(Layers::new(HashMap::new(), by_environment, Dotenv::default()));
    match (in_file, in_environment) {
        (Ok(one), Ok(other)) => {
            let shown = |loaded: Loaded| -> Vec<_> {
                loaded.effective.into_iter().map(|value| (value.variable, value.shown)).collect()
            };
            assert_eq!(shown(one), shown(other));
        }
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        (one, other) => panic!("in a file {one:?}, in the environment {other:?}"),
    }
}
