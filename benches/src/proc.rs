//! What the kernel says about processes and the machine: CPU time, memory, affinity, names.

use std::fs;
use std::time::Instant;

use anyhow::{Context, bail};

/// The kernel reports process times in this unit, whatever its own tick is (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

const NICE: i32 = -15;

/// CPU time and memory of one process at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    at: Instant,
    cpu_seconds: f64,
    user_ticks: u64,
    system_ticks: u64,
    machine_ticks: u64,
    own_seconds: f64,
    /// Resident memory.
    pub rss_kb: u64,
    /// The most that was ever resident.
    pub rss_peak_kb: u64,
}

/// What happened between two moments.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Seconds by the clock.
    pub seconds: f64,
    /// CPU seconds of the server.
    pub cpu_seconds: f64,
    /// Share of those that the kernel took, from ticks of 10 ms.
    pub kernel_share: f64,
    /// CPU seconds of this process.
    pub own_cpu_seconds: f64,
    /// CPU seconds of all other processes of the machine.
    pub other_cpu_seconds: f64,
}

impl Usage {
    /// Reads the usage of a process now.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let (user_ticks, system_ticks) = ticks(&format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
        let kilobytes = |field: &str| -> anyhow::Result<u64> {
            let line = status.lines().find(|line| line.starts_with(field)).context("no memory in /proc")?;
            Ok(line.split_whitespace().nth(1).context("no number in /proc")?.parse()?)
        };
        let (own_user, own_system) = ticks("/proc/self/stat")?;
        let from_ticks = (user_ticks + system_ticks) as f64 / TICKS_PER_SECOND;
        let exact = thread_seconds(pid).unwrap_or(from_ticks);
        Ok(Self {
            at: Instant::now(),
            // The sum over threads is exact to the nanosecond, but forgets threads that have ended.
            cpu_seconds: if (exact - from_ticks).abs() < 0.04 { exact } else { from_ticks },
            user_ticks,
            system_ticks,
            machine_ticks: machine_ticks()?,
            own_seconds: (own_user + own_system) as f64 / TICKS_PER_SECOND,
            rss_kb: kilobytes("VmRSS:")?,
            rss_peak_kb: kilobytes("VmHWM:")?,
        })
    }

    /// What was spent from `before` until this moment.
    pub fn since(&self, before: &Self) -> Spent {
        let cpu_seconds = (self.cpu_seconds - before.cpu_seconds).max(0.0);
        let system = self.system_ticks - before.system_ticks;
        let total = system + self.user_ticks - before.user_ticks;
        let own_cpu_seconds = self.own_seconds - before.own_seconds;
        let machine = (self.machine_ticks - before.machine_ticks) as f64 / TICKS_PER_SECOND;
        Spent {
            seconds: (self.at - before.at).as_secs_f64(),
            cpu_seconds,
            kernel_share: if total == 0 { 0.0 } else { system as f64 / total as f64 },
            own_cpu_seconds,
            other_cpu_seconds: (machine - own_cpu_seconds - cpu_seconds).max(0.0),
        }
    }
}

/// User and system time of a process, all its threads together.
fn ticks(path: &str) -> anyhow::Result<(u64, u64)> {
    let stat = fs::read_to_string(path).context("the server is gone")?;
    // The command name stands in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("an unreadable stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut field = || -> anyhow::Result<u64> { Ok(fields.next().context("a short stat")?.parse()?) };
    Ok((field()?, field()?))
}

fn thread_seconds(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let schedstat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += schedstat.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 / 1e9)
}

/// Busy time of all cores: everything but idle and waiting.
fn machine_ticks() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("an empty /proc/stat")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    if fields.len() < 8 {
        bail!("an unreadable /proc/stat");
    }
    Ok(fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7])
}

/// Puts this thread on one core.
pub fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

/// Puts this process, and the servers that it will start, before others: what else runs on the machine then takes
/// fewer turns from the figures.
pub fn take_precedence() -> anyhow::Result<()> {
    rustix::process::setpriority_process(None, NICE)?;
    // With automatic task groups the kernel weighs sessions first, and niceness only within one.
    match fs::write("/proc/self/autogroup", NICE.to_string()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context("cannot set the niceness of the session"),
    }
}

/// Allows as many open files as the system lets this process have.
pub fn raise_file_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// The machine in one line.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(':')))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let memory_kb: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{model}, {cores} cores, {} GiB, Linux {}, loopback only",
        (memory_kb + 524_288) / 1_048_576,
        kernel.trim()
    )
}
