//! Runs an entry function of a fuzz target over its seeds and mutations of them. Shared with the server's tests.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[path = "../yjs/random.rs"]
mod random;
use random::Random;

/// The longest input that a mutation makes.
const INPUT_BYTES_MAX: usize = 8192;

/// What is run.
pub struct Target {
    /// Where the folders with seeds are.
    pub folder: &'static str,
    /// The target, which is also the name of its folder.
    pub name: &'static str,
    /// What takes an input.
    pub entry: fn(&[u8]),
    /// Mutations, where the environment does not say.
    pub mutants: usize,
}

/// Runs a target; where it fails, its input is printed as hexadecimal digits.
pub fn run(target: &Target) {
    let seeds = seeds(target);
    let wanted =
        std::env::var("FIDIBUS_FUZZ_MUTANTS").map_or(target.mutants, |n| n.parse().expect("a number"));
    seeds.iter().for_each(|seed| one(target, seed));
    let mut random = Random::new(4711);
    for _ in 0..wanted {
        let mut input = seeds[below(&mut random, seeds.len())].clone();
        for _ in 0..=random.below(4) {
            let other = &seeds[below(&mut random, seeds.len())];
            mutate(&mut random, &mut input, other);
        }
        input.truncate(INPUT_BYTES_MAX);
        one(target, &input);
    }
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = format!("{}/{}", target.folder, target.name);
    let listed = std::fs::read_dir(&folder).expect("a folder of seeds");
    let mut files: Vec<_> = listed.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() > 3, "{folder} holds too little");
    files.iter().map(|file| std::fs::read(file).expect("a seed")).collect()
}

fn one(target: &Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.entry)(input))) {
        let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{} fails on {digits}", target.name);
        resume_unwind(panic);
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    if input.is_empty() {
        input.push(random.next() as u8);
    }
    let at = below(random, input.len());
    let len = below(random, 16).min(input.len() - at);
    match random.below(9) {
        0 => input[at] = random.next() as u8,
        1 => input[at] ^= 1 << random.below(8),
        2 => input.insert(at, random.next() as u8),
        3 => drop(input.drain(at..at + len)),
        4 => {
            let repeated = input[at..at + len].to_vec();
            input.splice(at..at, repeated);
        }
        5 => input.truncate(at),
        6 => input[at] = [0, 1, 0x7f, 0x80, 0xff][below(random, 5)],
        7 => {
            let huge: [&[u8]; 3] =
                [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 8], &[0x80, 0x80, 0x80, 0x80, 0x10]];
            input.splice(at..=at, huge[below(random, 3)].iter().copied());
        }
        _ => {
            let from = below(random, other.len() + 1);
            input.splice(at.., other[from..].iter().copied());
        }
    }
}
