//! Over how many workers limits are divided. A number that is too low lets all workers together exceed a limit, so that it
//! rises soon and falls late. Pure.

use std::time::{Duration, Instant};

use swift_s3_proto::v1::Role;

use crate::store::NodeRecord;

/// Nodes' last signs of life are written once a minute; workers seen so long before the last of all were there still.
const SEEN_TOGETHER_MS: i64 = 5 * 60 * 1_000;

/// The workers that were there when control stopped: how many to begin with, before they connect again.
#[must_use]
pub fn remembered(nodes: &[NodeRecord]) -> u32 {
    let last = nodes.iter().map(|node| node.last_seen_at_ms).max().unwrap_or(0);
    let was_there = |node: &&NodeRecord| {
        node.role == i32::from(Role::Worker) && node.last_seen_at_ms >= last.saturating_sub(SEEN_TOGETHER_MS)
    };
    u32::try_from(nodes.iter().filter(was_there).count()).unwrap_or(u32::MAX)
}

/// The number that workers were told, and how it changes.
#[derive(Debug)]
pub struct WorkerCount {
    told: u32,
    absence: Duration,
    /// Since when there were fewer than told, and the most there were since then.
    fewer: Option<(Instant, u32)>,
}

impl WorkerCount {
    /// Workers were told `told`; fewer are told only after `absence`.
    #[must_use]
    pub fn new(told: u32, absence: Duration) -> Self {
        Self { told, absence, fewer: None }
    }

    /// When to look again even if nothing changes.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.fewer.map(|(since, _)| since + self.absence)
    }

    /// So many are connected now. Returns the number to tell, if it changes.
    pub fn see(&mut self, connected: u32, now: Instant) -> Option<u32> {
        let connected = connected.max(1);
        if connected >= self.told {
            self.fewer = None;
            return (std::mem::replace(&mut self.told, connected) != connected).then_some(connected);
        }
        let (since, most) = self.fewer.map_or((now, connected), |(since, most)| (since, most.max(connected)));
        self.fewer = Some((since, most));
        if now.saturating_duration_since(since) < self.absence {
            return None;
        }
        self.told = most;
        self.fewer = (connected < most).then_some((now, connected));
        Some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_rises_at_once_and_falls_late() {
        let start = Instant::now();
        let mut count = WorkerCount::new(3, Duration::from_secs(60));
        for (seconds, connected, expected) in [
            (0, 0, None),
            (10, 2, None),
            (20, 4, Some(4)),
            (30, 4, None),
            (40, 3, None),
            (90, 4, None),
            (100, 1, None),
            (120, 3, None),
            (130, 2, None),
            // The most there were in the meantime.
            (160, 2, Some(3)),
            (219, 2, None),
            (220, 2, Some(2)),
            (300, 0, None),
            (360, 0, Some(1)),
        ] {
            let seen = count.see(connected, start + Duration::from_secs(seconds));
            assert_eq!(seen, expected, "{connected} after {seconds} s");
        }
        assert_eq!(count.due(), None);
    }

    #[test]
    fn workers_that_were_there_at_the_stop_are_expected_back() {
        let node = |role: Role, seen_seconds: i64| NodeRecord {
            node_id: String::new(),
            role: role.into(),
            version: String::new(),
            host: String::new(),
            addresses: Vec::new(),
            capabilities: Vec::new(),
            revision: 0,
            last_seen_at_ms: seen_seconds * 1_000,
            is_lost: false,
        };
        let nodes = [
            node(Role::Worker, 1_000),
            node(Role::Worker, 940),
            node(Role::Worker, 600),
            node(Role::Shunt, 1_000),
        ];
        assert_eq!(remembered(&nodes), 2);
        assert_eq!(remembered(&[]), 0);
    }
}
