//! The state directory, and what the process may use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use regex_lite::Regex;
use rustix::process::{Resource, getrlimit};

use super::Findings;
use crate::commands::CommandError;
use crate::config::{ServerConfig, StorageConfig, StoreChoice};
use crate::process::DESCRIPTORS_OF_OUR_OWN;
use crate::state;

/// Less room than this is soon none.
const DISK_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// PM2's own `kill_timeout`.
const PM2_KILL_MS: u64 = 1600;
/// Where deployments keep the configuration of PM2.
const ECOSYSTEMS: [&str; 4] = [
    "ecosystem.config.cjs",
    "ecosystem.config.js",
    "config/ecosystem.config.cjs",
    "config/ecosystem.config.js",
];

pub(super) fn examine_state(storage: &StorageConfig, findings: &mut Findings) -> Result<(), CommandError> {
    let directory = &storage.state_dir;
    let used = match &storage.store {
        StoreChoice::Memory => false,
        StoreChoice::Sqlite(path) => path.starts_with(directory),
        StoreChoice::Postgres(_) => storage.spool_bytes_max.is_some(),
    };
    if !used {
        return Ok(());
    }
    let shown = directory.display();
    let metadata = match fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(_) => {
            return findings.fine(format!("WS_STATE_DIR {shown} is not there yet, the server makes it"));
        }
    };
    if !metadata.is_dir() {
        return findings.problem(format!("WS_STATE_DIR {shown} is not a directory"), "name another one");
    }
    if rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_err() {
        return findings.problem(
            format!("WS_STATE_DIR {shown} cannot be written to"),
            "chown it to the user of the server",
        );
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        findings.warning(
            format!("WS_STATE_DIR {shown} is open to other users of this machine"),
            &format!("chmod 700 {shown}"),
        )?;
    }
    match state::is_taken(directory) {
        true => findings.fine(format!("WS_STATE_DIR {shown} is in use by a running server"))?,
        false => findings.fine(format!("WS_STATE_DIR {shown} is free"))?,
    }
    examine_disk(directory, findings)
}

fn examine_disk(directory: &Path, findings: &mut Findings) -> Result<(), CommandError> {
    let Ok(disk) = rustix::fs::statvfs(directory) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match free < DISK_BYTES_MIN {
        true => findings.warning(
            format!("the disk of {} has {} MiB left", directory.display(), free / 1024 / 1024),
            "make room: updates cannot be stored on a full disk",
        ),
        false => findings.fine(format!("its disk has {} MiB left", free / 1024 / 1024)),
    }
}

pub(super) fn examine_process(config: &ServerConfig, findings: &mut Findings) -> Result<(), CommandError> {
    let wanted = config.http.connections_max as u64 + DESCRIPTORS_OF_OUR_OWN;
    match getrlimit(Resource::Nofile).maximum {
        Some(maximum) if maximum < wanted => findings.warning(
            format!(
                "the hard limit on open files is {maximum}, {wanted} are needed for WS_MAX_CONNECTIONS={}",
                config.http.connections_max
            ),
            "raise it (LimitNOFILE= in the systemd unit, nofile in /etc/security/limits.conf), or lower WS_MAX_CONNECTIONS",
        )?,
        _ => findings.fine("the limit on open files suffices")?,
    }
    if std::env::var("exec_mode").is_ok_and(|mode| mode.starts_with("cluster")) {
        findings.problem(
            "PM2 runs this in cluster mode, which is for Node programs",
            "exec_mode: \"fork\" and instances: 1, then: pm2 delete the app and start it anew",
        )?;
    }
    for path in ECOSYSTEMS.map(Path::new) {
        let Ok(text) = fs::read_to_string(path) else { continue };
        if text.contains("fidibus") {
            examine_ecosystem(path, &text, config, findings)?;
        }
    }
    Ok(())
}

fn examine_ecosystem(
    path: &Path,
    text: &str,
    config: &ServerConfig,
    findings: &mut Findings,
) -> Result<(), CommandError> {
    let shown = path.display();
    let capture = |pattern: &str| {
        let captures = Regex::new(pattern).ok()?.captures(text)?;
        Some(captures.get(1)?.as_str().to_owned())
    };
    let mut good = true;
    if let Some(mode) = capture(r#"exec_mode["']?\s*:\s*["'](cluster[a-z_]*)"#) {
        good = false;
        findings.problem(
            format!("{shown} says exec_mode \"{mode}\", with which PM2 runs Node programs only"),
            "exec_mode: \"fork\"",
        )?;
    }
    if let Some(instances) = capture(r#"instances["']?\s*:\s*["']?(max|-\d+|0|[2-9]|\d\d+)\b"#) {
        good = false;
        findings.problem(
            format!("{shown} says instances {instances}: users of one document would not meet"),
            "instances: 1; one process serves tens of thousands of sockets",
        )?;
    }
    let kill_ms = capture(r#"kill_timeout["']?\s*:\s*(\d+)"#).and_then(|text| text.parse().ok());
    let (kill_ms, deadline_ms) = (kill_ms.unwrap_or(PM2_KILL_MS), config.shutdown_deadline.as_millis());
    if u128::from(kill_ms) <= deadline_ms {
        good = false;
        findings.warning(
            format!("PM2 kills after {kill_ms} ms ({shown}), and a shutdown may take {deadline_ms} ms"),
            "kill_timeout: 10000, or a WS_SHUTDOWN_DEADLINE_MS below it",
        )?;
    }
    match good {
        true => findings.fine(format!("{shown} fits")),
        false => Ok(()),
    }
}
