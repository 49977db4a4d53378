//! `fidibus doctor`: looks at everything that a server depends on, and says of each finding what to do.

mod database;
mod machine;
mod network;
mod nginx;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{CommandError, output};
use crate::config::{Layers, ServerConfig, StorageConfig};

/// The arguments of `doctor`.
#[derive(Args, Debug)]
#[command(
    after_help = "Takes the settings as the server would: from flags, the environment and .env, so start it where \
    the server is started, as the same user. Changes nothing. Ends with 1 where something is wrong, \
    2 where the configuration is of no use."
)]
pub struct DoctorArgs {
    /// Do not read every document; that is what takes long
    #[arg(long)]
    skip_documents: bool,
    /// Where nginx keeps its configuration
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/nginx")]
    nginx: PathBuf,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Fine,
    Warning,
    Problem,
}

/// What was found, printed as it comes.
#[derive(Debug, Default)]
struct Findings {
    warnings: u32,
    problems: u32,
}

impl Findings {
    fn fine(&mut self, what: impl AsRef<str>) -> Result<(), CommandError> {
        self.add(Level::Fine, what.as_ref(), "")
    }

    fn warning(&mut self, what: impl AsRef<str>, remedy: &str) -> Result<(), CommandError> {
        self.add(Level::Warning, what.as_ref(), remedy)
    }

    fn problem(&mut self, what: impl AsRef<str>, remedy: &str) -> Result<(), CommandError> {
        self.add(Level::Problem, what.as_ref(), remedy)
    }

    fn add(&mut self, level: Level, what: &str, remedy: &str) -> Result<(), CommandError> {
        let mark = match level {
            Level::Fine => "ok      ",
            Level::Warning => {
                self.warnings += 1;
                "warning "
            }
            Level::Problem => {
                self.problems += 1;
                "PROBLEM "
            }
        };
        output::line(format!("{mark} {what}"))?;
        match remedy {
            "" => Ok(()),
            remedy => output::line(format!("         → {remedy}")),
        }
    }
}

pub(super) async fn run(args: DoctorArgs, mut layers: Layers) -> Result<ExitCode, CommandError> {
    let storage = StorageConfig::read(&mut layers)?;
    let mut findings = Findings::default();
    let loaded = match ServerConfig::load(layers) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            findings.problem(error.to_string(), "correct this setting; the server does not start with it")?;
            None
        }
    };
    for warning in loaded.iter().flat_map(|loaded| &loaded.warnings) {
        findings.warning(warning, "correct or remove it")?;
    }
    database::examine(&storage, &args, &mut findings).await?;
    machine::examine_state(&storage, &mut findings)?;
    database::examine_spool(&storage, &mut findings).await?;
    if let Some(loaded) = &loaded {
        machine::examine_process(&loaded.config, &mut findings)?;
        network::examine(&loaded.config, &mut findings)?;
        nginx::examine(&args.nginx, &loaded.config, &mut findings)?;
    }
    let Findings { warnings, problems } = findings;
    output::line(format!("{problems} problems, {warnings} warnings"))?;
    Ok(match (&loaded, problems) {
        (None, _) => ExitCode::from(2),
        (Some(_), 0) => ExitCode::SUCCESS,
        (Some(_), _) => ExitCode::FAILURE,
    })
}
