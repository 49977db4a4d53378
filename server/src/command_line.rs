//! The command line: the server's flags from the table of settings, and the operator's commands.

use std::collections::HashMap;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Subcommand};

use crate::commands::Operation;
use crate::config::{SETTINGS, Setting};

/// What the command line asks for.
#[derive(Debug)]
pub struct Invocation {
    /// The flags given, by the variable that each stands for.
    pub flags: HashMap<&'static str, String>,
    /// What is to be done.
    pub wish: Wish,
}

/// What a start of the program is for.
#[derive(Debug)]
pub enum Wish {
    /// Run the server.
    Serve,
    /// Print the effective configuration and end.
    CheckConfig,
    /// One of the operator's commands.
    Operate(Operation),
}

impl Invocation {
    /// Reads what clap has parsed. Flags may stand before and after the command.
    ///
    /// # Errors
    /// What clap says, where a command's own arguments do not fit.
    pub fn from_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (name, inner) = matches.subcommand().unwrap_or(("serve", matches));
        let flags = SETTINGS
            .iter()
            .filter_map(|setting| {
                let value = given(inner, setting.flag?).or_else(|| given(matches, setting.flag?))?;
                Some((setting.variable, value.clone()))
            })
            .collect();
        let checks = |matches: &ArgMatches| matches.get_flag("check-config");
        let wish = match name {
            "serve" if checks(inner) || checks(matches) => Wish::CheckConfig,
            "serve" => Wish::Serve,
            _ => Wish::Operate(Operation::from_arg_matches(matches)?),
        };
        Ok(Self { flags, wish })
    }
}

fn given<'a>(matches: &'a ArgMatches, flag: &str) -> Option<&'a String> {
    // An error means that this command does not have the flag.
    matches.try_get_one::<String>(flag).ok().flatten()
}

/// The command as clap needs it.
pub fn command() -> Command {
    let serve = Command::new("serve").about("Run the server; the default");
    let root = Command::new("fidibus")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A sync server for Yjs documents: speaks Hocuspocus and y-websocket on one port")
        .after_help(
            "A value comes from its flag, else from the environment, else from .env in the working directory, else \
             from the default. Numbers out of range are errors; only those that the Canvas app's own server has \
             as well (WS_HEALTH_PORT, WS_DEBOUNCE_MS, WS_MAX_DEBOUNCE_MS, WS_MAX_DOCUMENT_BYTES) fall back to \
             their default where the environment gives no number above 0.",
        )
        .max_term_width(110);
    Operation::augment_subcommands(server_flags(root))
        .subcommand(server_flags(serve))
        .mut_subcommands(|command| if command.get_name() == "serve" { command } else { store_flags(command) })
}

fn server_flags(command: Command) -> Command {
    let check = Arg::new("check-config")
        .long("check-config")
        .action(ArgAction::SetTrue)
        .help("Check the configuration, print it without its secrets, and end");
    command.args(SETTINGS.iter().filter_map(flag)).arg(check)
}

/// Operators name the store; `doctor` looks at the rest as well, which its help does not repeat.
fn store_flags(command: Command) -> Command {
    const NAMED: [&str; 2] = ["DATABASE_URL", "WS_STATE_DIR"];
    let all = command.get_name() == "doctor";
    let settings = SETTINGS.iter().filter(|setting| all || NAMED.contains(&setting.variable));
    let flags: Vec<_> = settings
        .filter_map(|setting| Some(flag(setting)?.global(true).hide(!NAMED.contains(&setting.variable))))
        .collect();
    command.args(flags)
}

fn flag(setting: &'static Setting) -> Option<Arg> {
    let name = setting.flag?;
    let default =
        if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
    Some(
        Arg::new(name)
            .long(name)
            .value_name(setting.placeholder)
            .help_heading(setting.group)
            .allow_hyphen_values(true)
            .help(format!("{} [{}]{default}", setting.help, setting.variable)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Invocation {
        let arguments = std::iter::once("fidibus").chain(arguments.iter().copied());
        Invocation::from_matches(&command().try_get_matches_from(arguments).unwrap()).unwrap()
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_stand_before_and_after_the_command() {
        let expected = HashMap::from([("WS_PORT", "1".to_owned()), ("WS_HOST", "::".to_owned())]);
        for arguments in [
            &["--port", "1", "--host", "::"][..],
            &["serve", "--port=1", "--host=::"],
            &["--port", "1", "serve", "--host", "::"],
        ] {
            let Invocation { flags, wish } = parse(arguments);
            assert!(flags == expected && matches!(wish, Wish::Serve), "{flags:?} {wish:?}");
        }
        for arguments in [&["serve", "--check-config"][..], &["--check-config"], &["--check-config", "serve"]]
        {
            assert!(matches!(parse(arguments).wish, Wish::CheckConfig));
        }
    }

    #[test]
    fn operators_name_the_store() {
        for arguments in [
            &["documents", "list", "--database-url", "memory:"][..],
            &["documents", "--database-url", "memory:", "list"],
            &["--database-url", "memory:", "documents", "list"],
        ] {
            let Invocation { flags, wish } = parse(arguments);
            assert_eq!(flags, HashMap::from([("DATABASE_URL", "memory:".to_owned())]));
            assert!(matches!(wish, Wish::Operate(Operation::Documents(_))), "{wish:?}");
        }
        assert!(command().try_get_matches_from(["fidibus", "export", "--port", "1"]).is_err());
        assert_eq!(parse(&["doctor", "--port", "1"]).flags.len(), 1);
    }
}
