//! What a login costs, and what becomes of many at once: `cargo build --release --bin fidibus --bin logins`, then
//! `target/release/logins`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use fidibus_bench::latency::Waits;
use fidibus_bench::logins::{self, Server};
use fidibus_bench::postgres::Cluster;

/// Measures Better Auth logins on a PostgreSQL of its own.
#[derive(Parser)]
struct Arguments {
    /// The folder with `fidibus`; that of this program where it is not given.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Logins one after the other.
    #[arg(long, default_value_t = 500)]
    rounds: usize,
    /// Logins of the crowd, each of another user.
    #[arg(long, default_value_t = 1000)]
    crowd: usize,
    /// Time in which the crowd comes.
    #[arg(long, default_value_t = 1000)]
    crowd_ms: u64,
    /// How often the crowd comes, each time to a fresh server.
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let beside = std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default();
    let program = arguments.programs.unwrap_or(beside).join("fidibus");
    let scratch = logins::scratch()?;
    logins::stand_aside()?;
    let cluster = Cluster::start(&scratch.join("postgres"))?;
    let sessions = arguments.crowd.max(1);
    logins::fill(&cluster.url, sessions)?;
    {
        let open = Server::start(&program, &scratch, None)?;
        let guarded = Server::start(&program, &scratch, Some(&cluster.url))?;
        let [without, with] = logins::one_by_one(&open, &guarded, sessions, arguments.rounds)?;
        say("first answer without authentication", &without);
        say("first answer with a login", &with);
        println!("a login adds {:.2} ms at the median", with.quantile_ms(0.5) - without.quantile_ms(0.5));
    }
    let interval = Duration::from_millis(arguments.crowd_ms) / u32::try_from(sessions)?;
    for _ in 0..arguments.repetitions {
        for auth_url in [None, Some(&*cluster.url)] {
            let server = Server::start(&program, &scratch, auth_url)?;
            let start = Instant::now();
            let waits = logins::crowd(&server, sessions, arguments.crowd, interval)?;
            let kind = if auth_url.is_some() { "logins" } else { "connects" };
            say(&format!("{} {kind} in {:.2} s", arguments.crowd, start.elapsed().as_secs_f64()), &waits);
            if auth_url.is_some() {
                println!("over {} connections to the database", logins::pool_connections(&cluster.url)?);
            }
        }
    }
    Ok(())
}

fn say(what: &str, waits: &Waits) {
    let [median, most] = [0.5, 0.99].map(|share| waits.quantile_ms(share));
    println!("{what}: median {median:.2} ms, 99 % {most:.2} ms, longest {:.2} ms", waits.longest_ms());
}
