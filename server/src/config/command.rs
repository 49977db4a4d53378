//! The command line, made from the table of settings.

use std::collections::HashMap;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::setting::SETTINGS;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Print the effective configuration and end.
    pub check_config: bool,
    /// The flags given, by the variable that each stands for.
    pub flags: HashMap<&'static str, String>,
}

impl Invocation {
    /// Reads what clap has parsed. Flags may stand before and after `serve`.
    pub fn from_matches(matches: &ArgMatches) -> Self {
        let serve = matches.subcommand_matches("serve").unwrap_or(matches);
        let flags = SETTINGS
            .iter()
            .filter_map(|setting| {
                let value = serve.get_one::<String>(setting.flag?)?;
                Some((setting.variable, value.clone()))
            })
            .collect();
        Self { check_config: serve.get_flag("check-config"), flags }
    }
}

/// The command as clap needs it.
pub fn command() -> Command {
    let check = Arg::new("check-config")
        .long("check-config")
        .action(ArgAction::SetTrue)
        .global(true)
        .help("Check the configuration, print it without its secrets, and end");
    Command::new("fidibus")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A sync server for Yjs documents: speaks Hocuspocus and y-websocket on one port")
        .after_help(
            "A value comes from its flag, else from the environment, else from .env in the working directory, else \
             from the default. Numbers out of range are errors; only those that the Canvas app's own server has \
             as well (WS_HEALTH_PORT, WS_DEBOUNCE_MS, WS_MAX_DEBOUNCE_MS, WS_MAX_DOCUMENT_BYTES) fall back to \
             their default where the environment gives no number above 0.",
        )
        .max_term_width(110)
        .subcommand(Command::new("serve").about("Run the server; the default"))
        .args(SETTINGS.iter().filter_map(flag))
        .arg(check)
}

fn flag(setting: &'static super::Setting) -> Option<Arg> {
    let name = setting.flag?;
    let default =
        if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
    Some(
        Arg::new(name)
            .long(name)
            .value_name(setting.placeholder)
            .help_heading(setting.group)
            .global(true)
            .allow_hyphen_values(true)
            .help(format!("{} [{}]{default}", setting.help, setting.variable)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Invocation {
        let arguments = std::iter::once("fidibus").chain(arguments.iter().copied());
        Invocation::from_matches(&command().try_get_matches_from(arguments).unwrap())
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
            assert_eq!(parse(arguments), Invocation { check_config: false, flags: expected.clone() });
        }
        assert!(parse(&["serve", "--check-config"]).check_config && parse(&["--check-config"]).check_config);
    }
}
