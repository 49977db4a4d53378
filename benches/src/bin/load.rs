//! The load harness as a program: measures servers in turn, and writes the report.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use fidibus_bench::peer::{GENERATOR_CORE, Peer, Places, peers_folder};
use fidibus_bench::plan::Plan;
use fidibus_bench::postgres::Cluster;
use fidibus_bench::proc::{pin, raise_file_limit, take_precedence};
use fidibus_bench::report::{Note, Record, Results};
use fidibus_bench::scenario::{Bench, Form, Measurement, Scenario};

/// Measures sync servers on this machine, and checks on arrival that nothing was lost.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures.
    Run(RunArguments),
    /// Writes report.md and report.html from figures that were measured before.
    Report {
        /// The figures, as `run` wrote them.
        #[arg(long, default_value = "/tmp/fidibus-bench/results.jsonl")]
        results: PathBuf,
        /// Where the report goes.
        #[arg(long, default_value = "benches/report")]
        folder: PathBuf,
    },
}

#[derive(clap::Args)]
struct RunArguments {
    /// How long the scenarios last.
    #[arg(long, value_enum, default_value_t = Form::Short)]
    form: Form,
    /// What to measure; without it what the form has.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Which servers; without it those that the form measures and that are here.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// How often; the order of the servers changes each time.
    #[arg(long, default_value_t = 1)]
    repetitions: usize,
    /// How many times more those servers and scenarios are measured that the report's targets compare.
    #[arg(long, default_value_t = 0)]
    targets: usize,
    /// The folder that a report goes to, of all figures in the results file.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Where the figures go, one JSON object a line.
    #[arg(long, default_value = "/tmp/fidibus-bench/results.jsonl")]
    results: PathBuf,
    /// Keeps what the results file holds: the report is then over all runs in it.
    #[arg(long)]
    append: bool,
    /// Samples the servers of `fanout`, `rooms` and `saturate` with perf, one report each into this folder. The figures
    /// of such a run are not comparable.
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// The folder with the programs `fidibus` and `relay`; without it the one that this program is in.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// For stores and logs.
    #[arg(long, default_value = "/tmp/fidibus-bench")]
    scratch: PathBuf,
    /// A PostgreSQL database that may be emptied; without it a cluster is made for the time of the run.
    #[arg(long)]
    postgres_url: Option<String>,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Report { results, folder } => Results::read(&results)?.write(&folder),
    }
}

fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    let _alone = wait_for_turn()?;
    raise_file_limit().context("cannot raise the limit of open files")?;
    pin(GENERATOR_CORE).context("cannot pin the generator to its core")?;
    if let Err(error) = take_precedence() {
        eprintln!("measuring without precedence over other processes: {error:#}");
    }
    std::fs::create_dir_all(&arguments.scratch)?;
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().context("a program without a folder")?.to_owned(),
    };
    let cluster = cluster(arguments);
    let postgres_url =
        arguments.postgres_url.clone().or_else(|| cluster.as_ref().map(|cluster| cluster.url.clone()));
    let bench = Bench {
        places: Places { programs, peers: peers_folder(), scratch: arguments.scratch.clone(), postgres_url },
        form: arguments.form,
        profiles: arguments.profiles.clone(),
    };
    let plan = Plan::new(arguments.form, &arguments.scenarios, &arguments.peers, &bench.places);
    for (peer, why) in &plan.missing {
        if arguments.peers.is_empty() || arguments.peers.contains(peer) {
            eprintln!("{} is left out: {why}", peer.name());
        }
    }
    let mut options = OpenOptions::new();
    options.create(true).append(arguments.append).write(true).truncate(!arguments.append);
    let mut results = options
        .open(&arguments.results)
        .with_context(|| format!("cannot write {}", arguments.results.display()))?;
    writeln!(results, "{}", serde_json::to_string(&Record::Run(Note::new(&bench.places)))?)?;
    let (all, again) = (arguments.repetitions, plan.of_targets());
    let turns = plan.turns(1..=all).chain(again.turns(all + 1..=all + arguments.targets));
    for (repetition, scenario, peer) in turns {
        // What a build or the store of the server before left to be written would be written beside this one.
        rustix::fs::sync();
        match scenario.run(&bench, peer, repetition) {
            Ok(measurements) => {
                for measurement in measurements {
                    println!("{}", line(&measurement));
                    writeln!(results, "{}", serde_json::to_string(&Record::Measurement(measurement))?)?;
                }
            }
            Err(error) => eprintln!("{} {}: {error:#}", scenario.name(), peer.name()),
        }
    }
    match &arguments.report {
        Some(folder) => Results::read(&arguments.results)?.write(folder),
        None => Ok(()),
    }
}

/// Two runs at once would measure each other, so one waits.
fn wait_for_turn() -> anyhow::Result<File> {
    let path = std::env::temp_dir().join("fidibus-bench.lock");
    let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another run to end");
        lock.lock()?;
    }
    Ok(lock)
}

/// A PostgreSQL of our own, when somebody is to be measured on it and none was given.
fn cluster(arguments: &RunArguments) -> Option<Cluster> {
    let is_wanted = if arguments.peers.is_empty() {
        arguments.form == Form::Full
    } else {
        arguments.peers.contains(&Peer::FidibusPostgres)
    };
    if !is_wanted || arguments.postgres_url.is_some() {
        return None;
    }
    match Cluster::start(&arguments.scratch.join("postgres")) {
        Ok(cluster) => Some(cluster),
        Err(error) => {
            eprintln!("no PostgreSQL: {error:#}");
            None
        }
    }
}

fn line(measurement: &Measurement) -> String {
    let mut text = format!("{} {}", measurement.scenario, measurement.peer);
    if let Some(level) = measurement.level {
        text += &format!(" writers={level}");
    }
    for (name, value) in &measurement.values {
        let is_check =
            ["undelivered", "presence_undelivered", "unacked", "different_texts"].contains(&name.as_str());
        if !is_check || *value > 0.0 {
            text += &format!(" {name}={}", short(*value));
        }
    }
    for fault in &measurement.faults {
        text += &format!("\n    FAULT {fault}");
    }
    text
}

fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
