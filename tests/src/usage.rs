//! What a running process has used, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks per second in `/proc/<pid>/stat`; 100 on every Linux that matters here.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time and memory of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// The most resident memory it ever had, in bytes.
    pub peak_rss_bytes: u64,
    /// Resident memory now, in bytes.
    pub rss_bytes: u64,
}

impl Usage {
    /// Reads the counters of a process that has not ended.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The program's name is in parentheses and may contain anything; fields count from behind it.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
                .with_context(|| format!("field {index} of stat"))
        };
        // utime and stime are fields 14 and 15 of the whole line. Source: proc_pid_stat(5).
        let cpu = Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / TICKS_PER_SECOND);
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            cpu,
            peak_rss_bytes: kibibytes(&status, "VmHWM:")? * 1024,
            rss_bytes: kibibytes(&status, "VmRSS:")? * 1024,
        })
    }
}

fn kibibytes(status: &str, name: &str) -> Result<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        // A process that is ending has no memory any more.
        .with_context(|| format!("{name} of status"))
}
