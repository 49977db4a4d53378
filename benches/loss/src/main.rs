//! The loss test: kills servers and databases at random moments while clients type, and counts the edits
//! that a client was told are stored and that are gone. `benches/LOSS.md` has the method and figures.

mod cluster;
mod random;
mod scenario;
mod server;
mod stored;
mod writer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use scenario::{Options, Outcome, Scenario};

/// Kills servers and databases while clients type, and counts what was acknowledged and is gone.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What is killed; without it everything, stock Hocuspocus included.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Rounds of each scenario.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Clients that type.
    #[arg(long, default_value_t = 6)]
    writers: u64,
    /// Of the random moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server's binary.
    #[arg(long, env = "FIDIBUS_BIN", default_value = "target/debug/fidibus")]
    fidibus: PathBuf,
    /// The folder with stock Hocuspocus.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../peers"))]
    peers: PathBuf,
    /// For stores and logs.
    #[arg(long, default_value = "/tmp/fidibus-loss")]
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let options = Options {
        fidibus: std::path::absolute(&arguments.fidibus)?,
        peers: arguments.peers,
        folder: arguments.folder,
        rounds: arguments.rounds,
        writers: arguments.writers,
        seed: arguments.seed,
    };
    let scenarios = match arguments.scenarios.is_empty() {
        true => Scenario::value_variants().to_vec(),
        false => arguments.scenarios,
    };
    println!("| scenario | rounds | sent | acked | lost | recovery p50 ms | max ms |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let (mut failed, mut passed) = (0, 0);
    for scenario in scenarios {
        if skip(scenario, &options.peers) {
            continue;
        }
        match scenario::run(scenario, &options).await {
            Ok(outcome) => {
                println!("{}", row(scenario, &outcome));
                let bad = match scenario {
                    // The proof that this test would notice.
                    Scenario::MemoryAcks => outcome.lost == 0,
                    _ => outcome.lost > 0 && !scenario.may_lose(),
                };
                if bad { failed += 1 } else { passed += 1 }
            }
            Err(error) => {
                println!("| {scenario:?} | failed: {error:#} |");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn skip(scenario: Scenario, peers: &Path) -> bool {
    let stock = matches!(scenario, Scenario::HocuspocusKill | Scenario::HocuspocusTerm);
    let missing = stock && !peers.join("node_modules").exists();
    if missing {
        eprintln!("{scenario:?} is left out: npm ci in {} brings stock Hocuspocus", peers.display());
    }
    missing
}

fn row(scenario: Scenario, outcome: &Outcome) -> String {
    let mut recoveries = outcome.recoveries.clone();
    recoveries.sort_unstable();
    let ms = |duration: Option<&Duration>| duration.map_or(0, Duration::as_millis);
    let (p50, max) = (ms(recoveries.get(recoveries.len() / 2)), ms(recoveries.last()));
    let name = scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let Outcome { rounds, sent, acked, lost, .. } = outcome;
    format!("| {name} | {rounds} | {sent} | {acked} | {lost} | {p50} | {max} |")
}
