//! What was asked of remotes for each mapping, told to the control plane so that each request counts once.
//!
//! What is counted goes out in packages with numbers. A package is sent under its number until it is acknowledged, however often
//! the connection breaks, and nothing is added to it meanwhile: the control plane leaves out numbers that it has.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use swift_s3_proto::v1;
use swift_s3_store::Usage;
use tokio::time::Instant;

use crate::board::Board;

/// Packages are made no more often, so that a thousand workers do not keep the control plane's disk busy with them.
const EVERY: Duration = Duration::from_secs(60);

/// What is counted, and how much of it is told.
#[derive(Debug)]
pub(super) struct Told {
    board: Arc<Board>,
    /// In packages, acknowledged or under way.
    packed: HashMap<String, Usage>,
    package: Option<Package>,
    last_number: u64,
    next_at: Instant,
}

#[derive(Debug)]
struct Package {
    number: u64,
    reports: Vec<v1::UsageReport>,
    /// The report that took it along on this connection.
    sent_as: Option<u64>,
    /// Not to be sent again before, because it was refused.
    not_before: Option<Instant>,
}

impl Told {
    pub(super) fn new(board: Arc<Board>, now: Instant) -> Self {
        let next_at = now + EVERY;
        Self { board, packed: HashMap::new(), package: None, last_number: 0, next_at }
    }

    /// On a new connection everything that is not acknowledged must be sent again.
    pub(super) fn connected(&mut self) {
        if let Some(package) = &mut self.package {
            package.sent_as = None;
        }
    }

    /// What is to be sent as report `sequence`, if it is time, or at the `end`.
    pub(super) fn next(&mut self, sequence: u64, now: Instant, is_end: bool) -> Option<v1::ProgressReport> {
        if self.package.is_none() && (is_end || now >= self.next_at) {
            self.next_at = now + EVERY;
            self.pack();
        }
        let is_due = |package: &Package| package.not_before.is_none_or(|at| now >= at);
        let package = self.package.as_mut().filter(|package| package.sent_as.is_none() && is_due(package))?;
        package.sent_as = Some(sequence);
        Some(v1::ProgressReport {
            sequence,
            feeds: Vec::new(),
            usage: package.reports.clone(),
            usage_number: package.number,
        })
    }

    fn pack(&mut self) {
        let mut reports = Vec::new();
        for (id, meter) in self.board.meters() {
            let total = meter.total();
            let before = self.packed.get(&id).copied().unwrap_or_default();
            if total != before {
                self.packed.insert(id.clone(), total);
                let usage = Some(in_contract(&total.since(&before)));
                reports.push(v1::UsageReport { mapping_id: id, usage });
            }
        }
        if !reports.is_empty() {
            self.last_number = self.last_number.saturating_add(1);
            self.package =
                Some(Package { number: self.last_number, reports, sent_as: None, not_before: None });
        }
    }

    /// Takes an acknowledgement: those of before it are acknowledged too, a refusal is of one report. What was refused is sent
    /// again later.
    pub(super) fn acknowledged(&mut self, ack: &v1::ProgressAck, now: Instant) {
        let Some(package) = &mut self.package else { return };
        let Some(sent_as) = package.sent_as else { return };
        match ack.failure.is_empty() {
            true if sent_as <= ack.sequence => self.package = None,
            false if sent_as == ack.sequence => {
                package.sent_as = None;
                package.not_before = Some(now + EVERY);
            }
            _ => {}
        }
    }

    /// True when nothing of what was sent waits for an answer.
    pub(super) fn is_answered(&self) -> bool {
        self.package.as_ref().is_none_or(|package| package.sent_as.is_none())
    }
}

fn in_contract(usage: &Usage) -> v1::RemoteUsage {
    let Usage { writes, lists, reads, deletes, bytes_sent, bytes_received } = *usage;
    v1::RemoteUsage { writes, lists, reads, deletes, bytes_sent, bytes_received }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn writes(report: &v1::ProgressReport) -> Vec<(&str, u64)> {
        let of = |usage: &Option<v1::RemoteUsage>| usage.as_ref().unwrap().bytes_sent;
        report.usage.iter().map(|report| (report.mapping_id.as_str(), of(&report.usage))).collect()
    }

    fn ack(sequence: u64, failure: &str) -> v1::ProgressAck {
        v1::ProgressAck { sequence, failure: failure.to_owned() }
    }

    #[test]
    fn a_package_goes_out_under_its_number_until_it_is_acknowledged() {
        let board = Arc::new(Board::default());
        let (a, b) = (board.meter("a"), board.meter("b"));
        let mut now = Instant::now();
        let mut told = Told::new(Arc::clone(&board), now);
        a.sent(5);
        assert_eq!(told.next(1, now, false), None, "no more often than each minute");
        now += EVERY;
        let first = told.next(1, now, false).unwrap();
        assert_eq!((first.usage_number, writes(&first)), (1, vec![("a", 5)]));
        // What comes meanwhile waits, whatever becomes of the connection.
        a.sent(1);
        b.sent(2);
        assert_eq!(told.next(2, now + EVERY, true), None);
        told.connected();
        let again = told.next(7, now, false).unwrap();
        assert_eq!((again.usage_number, writes(&again)), (1, vec![("a", 5)]));
        told.acknowledged(&ack(6, ""), now);
        assert!(!told.is_answered());
        told.acknowledged(&ack(7, "disk full"), now);
        assert_eq!(told.next(8, now, false), None, "not at once after a refusal");
        now += EVERY;
        assert_eq!(told.next(8, now, false).unwrap().usage_number, 1);
        told.acknowledged(&ack(9, ""), now);
        let second = told.next(10, now, true).unwrap();
        assert_eq!((second.usage_number, writes(&second)), (2, vec![("a", 1), ("b", 2)]));
        told.acknowledged(&ack(10, ""), now);
        assert_eq!(told.next(11, now, true), None, "nothing new");
        assert!(told.is_answered());
    }
}
