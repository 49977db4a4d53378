//! Goal: the struct log and yjs agree on every document, whatever the network does to updates.
//!
//! Method: yjs documents in a Node process edit at random and talk to each other through a log only, in part offline,
//! shuffled, twice, cut off or never; followers apply what the log emits. In the end all documents, and fresh ones made
//! of what the log encodes, must look and be like one that got every update in order. A failing case is
//! shrunk and printed as a line for `yjs/cases.txt`, whose cases always run first.
//!
//! `FIDIBUS_LOG_CASES=100000 cargo test --release --test log_yjs` makes a long run, `FIDIBUS_LOG_SEED` starts elsewhere.

use fidibus_core::log;

#[path = "yjs/oracle.rs"]
mod oracle;
#[path = "yjs/random.rs"]
mod random;
#[path = "yjs/simulation.rs"]
mod simulation;

use oracle::Oracle;
use simulation::{Case, run};

const CASES: u64 = 2_000;

#[test]
fn agrees_with_yjs() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect(name));
    let (cases, first) =
        (number("FIDIBUS_LOG_CASES").unwrap_or(CASES), number("FIDIBUS_LOG_SEED").unwrap_or(1));
    let half = cases / 2;
    // Two processes, since the log hardly takes time beside yjs.
    let other = std::thread::spawn(move || run_all(first + half..first + cases));
    run_all(first..first + half);
    other.join().expect("the other half passes");
}

#[test]
fn agrees_in_cases_that_once_failed() {
    let mut oracle = Oracle::start();
    for line in include_str!("yjs/cases.txt").lines().filter(|line| !line.starts_with('#')) {
        let case: Case = line.parse().expect("a case");
        if let Err(found) = run(&mut oracle, &case) {
            panic!("case {case}: {found}");
        }
    }
}

/// Runs the cases with these seeds.
fn run_all(seeds: std::ops::Range<u64>) {
    let mut oracle = Oracle::start();
    for seed in seeds {
        let case = Case::random(seed);
        if let Err(found) = run(&mut oracle, &case) {
            let (case, found) = shrink(&mut oracle, case, found);
            panic!("add to yjs/cases.txt: {case}\n{found}");
        }
        if seed % 1_000 == 0 {
            println!("seed {seed} agrees");
        }
    }
}

/// Looks for the smallest case that still fails.
fn shrink(oracle: &mut Oracle, mut case: Case, mut found: String) -> (Case, String) {
    'smaller: loop {
        for smaller in case.smaller() {
            if let Err(error) = run(oracle, &smaller) {
                (case, found) = (smaller, error);
                continue 'smaller;
            }
        }
        return (case, found);
    }
}
