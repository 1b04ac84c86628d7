//! What this process takes of its machine, as the kernel tells in `/proc`. What cannot be read, or has a shape that is not known, is
//! left out: numbers for people, nothing depends on them.

use std::time::{Duration, Instant};

/// A clock tick as `/proc` counts. Source: proc(5) and include/asm-generic/param.h, `USER_HZ`: 100 in a second wherever Swift runs.
const TICK_MILLISECONDS: u64 = 10;
/// No file that is read here is longer.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Looks at this process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessLoad {
    began: Instant,
}

/// What a process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// Processor time since it started.
    pub cpu: Duration,
    /// Memory in use (resident set), in bytes.
    pub memory_bytes: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// How many it may open; `u64::MAX`: any number.
    pub max_open_files: u64,
    /// Since [`ProcessLoad::begin`].
    pub uptime: Duration,
}

impl ProcessLoad {
    /// To be called when the process starts.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// Looks now. Blocks for as long as it takes to count the open files.
    #[must_use]
    pub fn read(&self) -> Option<Taken> {
        let max_open_files = max_open_files(&text("/proc/self/limits")?)?;
        // The folder that is read is open itself.
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        Some(Taken {
            cpu: cpu(&text("/proc/self/stat")?)?,
            memory_bytes: memory_bytes(&text("/proc/self/status")?)?,
            open_files: u64::try_from(open_files).unwrap_or(u64::MAX),
            max_open_files,
            uptime: self.began.elapsed(),
        })
    }
}

fn text(path: &str) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    // The program's name is in it, which need not be UTF-8.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Time in user and kernel mode, fields 14 and 15 of `stat`. The second field, the name in parentheses, may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, kernel) = (ticks()?, ticks()?);
    Some(Duration::from_millis(user.checked_add(kernel)?.checked_mul(TICK_MILLISECONDS)?))
}

/// `VmRSS` of `status`.
fn memory_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// The soft limit of `Max open files` of `limits`.
fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_process_with_any_name_is_understood() {
        let behind = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 8 0 100 200 300";
        for name in ["worker", "a b", ") S 1 2 3", "x)(y"] {
            assert_eq!(cpu(&format!("77 ({name}) {behind}")), Some(Duration::from_secs(3)), "{name}");
        }
    }

    #[test]
    fn years_of_many_cores_are_counted() {
        let stat = "1 (x) S 1 2 3 4 5 6 7 8 9 10 5000000000 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(50_000_000)));
    }

    #[test]
    fn another_shape_says_nothing() {
        for stat in [
            "",
            "1",
            "1 (x)",
            "1 (x) S 1 2",
            "1 (x) S 1 2 3 4 5 6 7 8 9 10 a b",
            "1 (x) S 1 2 3 4 5 6 7 8 9 10 -5 5",
            "1 (x) S 1 2 3 4 5 6 7 8 9 10 18446744073709551615 5",
        ] {
            assert_eq!(cpu(stat), None, "{stat}");
        }
        for status in ["", "VmRSS:", "VmRSS: many kB", "VmRSS: 12", "VmRSS: 18446744073709551615 kB"] {
            assert_eq!(memory_bytes(status), None, "{status}");
        }
        for limits in ["", "Max open files", "Max open files  few  many  files"] {
            assert_eq!(max_open_files(limits), None, "{limits}");
        }
        assert_eq!(memory_bytes("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1_048_576));
        assert_eq!(max_open_files("Max open files   unlimited  unlimited  files"), Some(u64::MAX));
        assert_eq!(max_open_files("Max open files   1024   4096  files"), Some(1_024));
    }

    #[test]
    fn this_process_is_told_about() {
        let load = ProcessLoad::begin();
        let before = load.read().unwrap();
        let files: Vec<_> = (0..5).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = load.read().unwrap();
        assert!(after.open_files >= 5 && after.open_files <= after.max_open_files, "{after:?}");
        assert!(before.memory_bytes > 100_000, "{before:?}");
        assert!(after.uptime >= before.uptime && after.cpu >= before.cpu);
        drop(files);
    }
}
