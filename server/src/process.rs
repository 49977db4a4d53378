//! What the operating system knows of this process: its memory, and how many descriptors it may have.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In RAM.
    pub resident_bytes: u64,
    /// Of it what is no file: heap and stacks.
    pub anonymous_bytes: u64,
}

/// Reads the memory; zeros where the system does not tell.
pub fn memory() -> Memory {
    parse_status(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn parse_status(status: &str) -> Memory {
    let bytes = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Memory {
        resident_bytes: bytes("VmRSS:").unwrap_or_default(),
        anonymous_bytes: bytes("RssAnon:").unwrap_or_default(),
    }
}

/// Descriptors that are not client sockets: listeners, the log, the store's files.
pub const DESCRIPTORS_OF_OUR_OWN: u64 = 64;

/// Raises the limit on open files to what `connections_max` sockets need, as far as it goes: shells and
/// PM2 start programs with 1,024. Says how many sockets there is room for where it is less.
pub fn reserve_descriptors(connections_max: usize) -> Option<usize> {
    let wanted = connections_max as u64 + DESCRIPTORS_OF_OUR_OWN;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return None;
    }
    let raised = limit.maximum.unwrap_or(u64::MAX).min(wanted);
    let result = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
    let reached = if result.is_ok() { raised } else { current };
    // Even with next to no room it serves somebody.
    (reached < wanted).then(|| reached.saturating_sub(DESCRIPTORS_OF_OUR_OWN).max(1) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t     234 kB\n";
        assert_eq!(parse_status(status), Memory { resident_bytes: 1_263_616, anonymous_bytes: 239_616 });
        assert_eq!(parse_status(""), Memory::default());
        let own = memory();
        assert!(own.resident_bytes > 100_000 && own.anonymous_bytes <= own.resident_bytes);
    }
}
