//! Where values come from: flag, then environment, then `.env`, then the default. Reads them as types,
//! and remembers what was read for `--check-config`. An empty value counts as none.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::dotenv::Dotenv;
use super::setting::{self, SETTINGS};

/// Who set a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The process's environment.
    Environment,
    /// The file `.env`.
    Dotenv,
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Dotenv => ".env",
            Self::Default => "default",
        })
    }
}

/// A value that the server cannot start with. One line, which names the variable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}{problem}")]
pub struct ConfigError {
    /// The variable, even where a flag set it.
    pub variable: &'static str,
    problem: String,
}

impl ConfigError {
    /// The value given is of no use.
    pub fn bad(variable: &'static str, value: &str, expected: impl fmt::Display) -> Self {
        let secret = setting::by_variable(variable).is_some_and(|setting| setting.secret);
        let problem = if secret {
            format!(" is set, but {expected}")
        } else {
            format!(" is \"{}\", but {expected}", value.escape_debug())
        };
        Self { variable, problem }
    }

    /// Something else is wrong; `problem` continues the sentence that starts with the name.
    pub fn new(variable: &'static str, problem: impl fmt::Display) -> Self {
        Self { variable, problem: format!(" {problem}") }
    }
}

/// One line of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The variable.
    pub variable: &'static str,
    /// Its value as it may be shown.
    pub shown: String,
    /// Who set it.
    pub source: Source,
}

/// The layers of values, and what was read from them.
#[derive(Debug, Default)]
pub struct Layers {
    flags: HashMap<&'static str, String>,
    environment: HashMap<String, String>,
    dotenv: HashMap<String, String>,
    effective: Vec<Effective>,
    warnings: Vec<String>,
}

impl Layers {
    /// Lays flags (by their setting's variable) over the environment over `.env`.
    pub fn new(
        flags: HashMap<&'static str, String>,
        environment: HashMap<String, String>,
        dotenv: Dotenv,
    ) -> Self {
        let mut layers = Self { flags, environment, ..Self::default() };
        for line in dotenv.skipped_lines {
            layers.warnings.push(format!(".env line {line} is not NAME=value and was skipped"));
        }
        layers.dotenv = dotenv.entries.into_iter().collect();
        layers.warn_of_unknown_names();
        layers
    }

    fn warn_of_unknown_names(&mut self) {
        let names = self.environment.keys().chain(self.dotenv.keys());
        let mut unknown: Vec<_> = names
            .filter(|name| name.starts_with("WS_") && SETTINGS.iter().all(|s| s.variable != **name))
            .cloned()
            .collect();
        unknown.sort();
        unknown.dedup();
        for name in unknown {
            self.warnings.push(match setting::nearest(&name) {
                Some(near) => format!("{name} is not a setting of this server; did you mean {near}?"),
                None => format!("{name} is not a setting of this server"),
            });
        }
    }

    /// The value of a variable and where it is from; `None` where nobody set it.
    pub fn find(&self, variable: &str) -> Option<(String, Source)> {
        let layers = [
            (self.flags.get(variable), Source::Flag),
            (self.environment.get(variable), Source::Environment),
            (self.dotenv.get(variable), Source::Dotenv),
        ];
        let (value, source) = layers.into_iter().find_map(|(value, source)| {
            Some((value?.trim(), source)).filter(|(value, _)| !value.is_empty())
        })?;
        Some((value.to_owned(), source))
    }

    /// Notes a value for `--check-config`.
    pub fn note(&mut self, variable: &'static str, shown: impl fmt::Display, source: Source) {
        let secret = setting::by_variable(variable).is_some_and(|setting| setting.secret);
        let shown = if secret { "(secret)".to_owned() } else { shown.to_string() };
        self.effective.push(Effective { variable, shown, source });
    }

    /// Adds a warning for the log.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// What was read, and the warnings that came up.
    pub fn finish(self) -> (Vec<Effective>, Vec<String>) {
        (self.effective, self.warnings)
    }

    /// Reads a text.
    pub fn text(&mut self, variable: &'static str) -> Option<String> {
        let (value, source) = self.find(variable)?;
        self.note(variable, &value, source);
        Some(value)
    }

    /// Reads a text that has a default.
    pub fn text_or(&mut self, variable: &'static str, default: &str) -> String {
        let (value, source) = self.find(variable).unwrap_or_else(|| (default.to_owned(), Source::Default));
        self.note(variable, &value, source);
        value
    }

    /// Reads one of our own numbers: anything out of range is an error.
    pub fn number(
        &mut self,
        variable: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let (value, source) = match self.find(variable) {
            None => (default, Source::Default),
            Some((text, source)) => {
                let number = text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
                    let expected =
                        format!("must be a whole number from {} to {}", range.start(), range.end());
                    ConfigError::bad(variable, &text, expected)
                })?;
                (number, source)
            }
        };
        self.note(variable, value, source);
        Ok(value)
    }

    /// Reads a number that the app's own server has as well (requirements.md, R7): in the environment,
    /// what is no number or not above 0 falls back to the default, with a warning; a flag is ours.
    pub fn lenient_number(
        &mut self,
        variable: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        if let Some((text, source)) = self.find(variable)
            && source != Source::Flag
            && !text.parse::<f64>().is_ok_and(|number| number > 0.0)
        {
            let text = text.escape_debug();
            self.warn(format!("{variable} is \"{text}\", which is no number above 0; using {default}"));
            self.note(variable, default, Source::Default);
            return Ok(default);
        }
        self.number(variable, default, range)
    }

    /// Reads one of several words.
    pub fn choice<T: Copy>(
        &mut self,
        variable: &'static str,
        default: &str,
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let (text, source) = self.find(variable).unwrap_or_else(|| (default.to_owned(), Source::Default));
        let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text));
        let (word, value) = chosen.ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            ConfigError::bad(variable, &text, format!("must be one of {}", words.join(", ")))
        })?;
        self.note(variable, word, source);
        Ok(*value)
    }

    /// Reads a switch: on or off in one of the usual spellings.
    pub fn switch(&mut self, variable: &'static str, default: bool) -> Result<bool, ConfigError> {
        let (value, source) = match self.find(variable) {
            None => (default, Source::Default),
            Some((text, source)) => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => (true, source),
                "0" | "false" | "no" | "off" => (false, source),
                _ => return Err(ConfigError::bad(variable, &text, "must be on or off")),
            },
        };
        self.note(variable, if value { "on" } else { "off" }, source);
        Ok(value)
    }

    /// Reads a comma-separated list.
    pub fn list(&mut self, variable: &'static str, default: &str) -> Vec<String> {
        let text = self.text_or(variable, default);
        text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn layers(environment: &[(&str, &str)]) -> Layers {
        Layers::new(HashMap::new(), map(environment), Dotenv::default())
    }

    #[test]
    fn flags_beat_environment_beats_dotenv() {
        let dotenv = super::super::dotenv::parse("WS_PORT=1\nWS_HOST=b\nWS_ACK=c");
        let environment = map(&[("WS_PORT", "2"), ("WS_HOST", "x"), ("WS_ACK", " ")]);
        let flags = HashMap::from([("WS_PORT", "3".to_owned())]);
        let layers = Layers::new(flags, environment, dotenv);
        assert_eq!(layers.find("WS_PORT"), Some(("3".to_owned(), Source::Flag)));
        assert_eq!(layers.find("WS_HOST"), Some(("x".to_owned(), Source::Environment)));
        assert_eq!(layers.find("WS_ACK"), Some(("c".to_owned(), Source::Dotenv)));
        assert_eq!(layers.find("LOG_LEVEL"), None);
    }

    #[test]
    fn numbers_of_the_app_fall_back_and_ours_do_not() {
        for bad in ["abc", "0", "-5", "NaN"] {
            let mut layers = layers(&[("WS_DEBOUNCE_MS", bad), ("WS_TIMEOUT_MS", bad)]);
            assert_eq!(layers.lenient_number("WS_DEBOUNCE_MS", 1000, 1..=60_000), Ok(1000));
            let error = layers.number("WS_TIMEOUT_MS", 60_000, 1..=600_000).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("WS_TIMEOUT_MS is \"{bad}\", but must be a whole number from 1 to 600000")
            );
            let (_, warnings) = layers.finish();
            assert_eq!(
                warnings,
                [format!("WS_DEBOUNCE_MS is \"{bad}\", which is no number above 0; using 1000")]
            );
        }
        let too_large =
            layers(&[("WS_DEBOUNCE_MS", "70000")]).lenient_number("WS_DEBOUNCE_MS", 1000, 1..=60_000);
        assert!(too_large.is_err());
    }

    #[test]
    fn secrets_are_never_shown() {
        let error = ConfigError::bad("WS_STATIC_TOKENS", "hunter2", "names no token");
        assert_eq!(error.to_string(), "WS_STATIC_TOKENS is set, but names no token");
        let mut layers = layers(&[("WS_STATIC_TOKENS", "hunter2")]);
        assert_eq!(layers.text("WS_STATIC_TOKENS").as_deref(), Some("hunter2"));
        assert_eq!(layers.finish().0[0].shown, "(secret)");
    }

    #[test]
    fn unknown_names_are_warned_of() {
        let (_, warnings) = layers(&[("WS_PROT", "1"), ("GOOGLE_CLIENT_ID", "x"), ("WS_PORT", "1")]).finish();
        assert_eq!(warnings, ["WS_PROT is not a setting of this server; did you mean WS_PORT?"]);
    }
}
