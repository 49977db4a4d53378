//! Where a server spends its time: `perf` beside the measured window.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Samples a second; not a divisor of any timer's rate.
const SAMPLES_PER_SECOND: u32 = 1999;
/// Symbols below this share of all samples are not listed.
const SHARE_PERCENT_MIN: f64 = 0.5;

/// A profiler at work; what it sampled is lost unless it is finished.
pub struct Profiler {
    child: Child,
    samples: PathBuf,
    report: PathBuf,
}

impl Profiler {
    /// Samples a process from now on; the report will be `<folder>/<name>.txt`.
    pub fn start(pid: u32, folder: &Path, name: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let samples = folder.join(format!("{name}.perf"));
        let child = Command::new("perf")
            .args(["record", "--quiet", "-F", &SAMPLES_PER_SECOND.to_string(), "-p", &pid.to_string(), "-o"])
            .arg(&samples)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start perf")?;
        Ok(Self { child, samples, report: folder.join(format!("{name}.txt")) })
    }

    /// Ends the sampling and writes the report: shares by program and library, then by symbol.
    pub fn finish(mut self) -> anyhow::Result<PathBuf> {
        // perf writes out what it has when it is interrupted.
        kill_process(
            Pid::from_raw(self.child.id() as i32).context("a process without a number")?,
            Signal::INT,
        )?;
        self.child.wait()?;
        let mut text = String::new();
        for sort in ["dso", "symbol,dso"] {
            let output = Command::new("perf")
                .args(["report", "--stdio", "--no-children", "--sort", sort, "--percent-limit"])
                .arg(SHARE_PERCENT_MIN.to_string())
                .arg("-i")
                .arg(&self.samples)
                .output()
                .context("cannot run perf report")?;
            ensure!(output.status.success(), "perf report: {}", String::from_utf8_lossy(&output.stderr));
            let lines = String::from_utf8_lossy(&output.stdout).into_owned();
            for line in lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                text.push_str(line.trim_end());
                text.push('\n');
            }
            text.push('\n');
        }
        std::fs::write(&self.report, text)?;
        std::fs::remove_file(&self.samples)?;
        Ok(self.report)
    }
}
