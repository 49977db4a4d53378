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
use simulation::{Case, Outcome, run};

const CASES: u64 = 2_000;

#[test]
fn agrees_with_yjs() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect(name));
    let (cases, first) =
        (number("FIDIBUS_LOG_CASES").unwrap_or(CASES), number("FIDIBUS_LOG_SEED").unwrap_or(1));
    let half = cases / 2;
    // Two processes, since the log hardly takes time beside yjs.
    let other = std::thread::spawn(move || run_all(first + half..first + cases));
    let disagreeing = run_all(first..first + half) + other.join().expect("the other half passes");
    println!("{cases} cases, {disagreeing} of them unclear since yjs disagrees with itself");
    assert!(disagreeing * 20 <= cases, "{disagreeing} of {cases} cases say nothing");
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

/// Runs the cases with these seeds; returns how many yjs was at odds with itself about.
fn run_all(seeds: std::ops::Range<u64>) -> u64 {
    let mut oracle = Oracle::start();
    let mut disagreeing = 0;
    for seed in seeds {
        let case = Case::random(seed);
        match run(&mut oracle, &case) {
            Ok(Outcome::Agrees) => {}
            Ok(Outcome::YjsDisagrees) => disagreeing += 1,
            Err(found) => {
                let (case, found) = shrink(&mut oracle, case, found);
                panic!("add to yjs/cases.txt: {case}\n{found}");
            }
        }
    }
    disagreeing
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
