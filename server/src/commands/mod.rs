//! The operator's commands: they work on the store itself, beside a running server or without one. What
//! they find goes to stdout, what goes wrong to stderr; they end with 0 when all is well, 1 when something
//! is not, 2 when they cannot know what to do.

mod archive;
mod doctor;
mod documents;
mod export;
mod file_name;
mod import;
mod large_stack;
mod migrate;
mod output;
mod source;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use fidibus_core::error::StoreError;

use crate::config::{ConfigError, Layers};

/// One of the commands, with its arguments.
#[derive(Debug, Subcommand)]
pub enum Operation {
    /// Make the tables that are missing; tables that exist are used as they are
    Migrate(migrate::MigrateArgs),
    /// Write documents to files, one Yjs update v1 each
    Export(export::ExportArgs),
    /// Read documents from files or from another database; what is stored already stays, both are merged
    Import(import::ImportArgs),
    /// Derive every document from the rows of its log and compare
    Verify(verify::VerifyArgs),
    /// Look at configuration, database and machine; each finding comes with its remedy
    Doctor(doctor::DoctorArgs),
    /// List, show and delete stored documents
    Documents(documents::DocumentsArgs),
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A setting is of no use.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The arguments are of no use together, or name what there is not.
    #[error("{0}")]
    Usage(String),
    /// What a document holds cannot be read.
    #[error("{0}")]
    Content(String),
    /// The store failed.
    #[error("DATABASE_URL: {0}")]
    Store(#[from] StoreError),
    /// Another database, from which documents are read.
    #[error("{place}")]
    Source {
        /// Which, without its password.
        place: String,
        /// What went wrong.
        #[source]
        source: sqlx::Error,
    },
    /// A file or directory.
    #[error("{path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// Nobody reads what the command prints any more.
    #[error("the output was closed")]
    Closed,
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

impl CommandError {
    fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { path: path.into(), source }
    }

    /// How the program ends because of it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Usage(_) => ExitCode::from(2),
            // `fidibus documents list | head` is no failure.
            Self::Closed => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

/// Carries out a command.
///
/// # Errors
/// It could not be carried out; what it finds wrong is no error but its result.
pub async fn run(operation: Operation, layers: Layers) -> Result<ExitCode, CommandError> {
    match operation {
        Operation::Migrate(args) => migrate::run(args, layers).await,
        Operation::Export(args) => export::run(args, layers).await,
        Operation::Import(args) => import::run(args, layers).await,
        Operation::Verify(args) => verify::run(args, layers).await,
        Operation::Doctor(args) => doctor::run(args, layers).await,
        Operation::Documents(args) => documents::run(args, layers).await,
    }
}
