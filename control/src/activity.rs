//! Has what happens written down. Whoever has something to tell hands it over and goes on: a line that cannot be written must
//! hold up nobody, a heartbeat least of all. Changes of the configuration and of switches are written with the change itself,
//! see [`crate::store`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use swift_s3_proto::v1::ActivityKind;
use tokio::sync::Notify;

use crate::control::Control;
use crate::feeds::Hold;
use crate::registry::{Arrival, NodeNews};
use crate::store::{Line, Repeat, StoreError};
use crate::time;

/// Lines of people, and as many of nodes, that wait to be written while the disk is slow or full. The newest are dropped.
const MAX_WAITING: usize = 5_000;
/// Lines in one transaction.
const AT_ONCE: usize = 500;
/// Losses of nodes are looked for this often.
const LOOK: Duration = Duration::from_secs(1);
/// What comes together is written together.
const GATHER: Duration = Duration::from_millis(100);
/// After failures it is tried again after 1, 2, 4 … seconds, at most so many.
const LONGEST_PAUSE_SECONDS: u64 = 60;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Workers tell takeovers of a day; a clock that is off further says nothing about when.
const DAY_MS: i64 = 24 * HOUR_MS;

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub struct Activities {
    waiting: Mutex<Waiting>,
    news: Notify,
}

/// What people did has a place of its own: nodes that fail in numbers must not push it out.
#[derive(Debug, Default)]
struct Waiting {
    people: Vec<Line>,
    nodes: Vec<Line>,
}

impl Waiting {
    fn queue(&mut self, is_asked_for: bool) -> &mut Vec<Line> {
        if is_asked_for { &mut self.people } else { &mut self.nodes }
    }
}

impl Activities {
    /// Hands over a line.
    pub fn tell(&self, line: Line) {
        self.put(vec![line]);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, lines: Vec<Line>) {
        let mut waiting = self.lock();
        let mut dropped = 0_usize;
        for line in lines {
            let queue = waiting.queue(line.is_asked_for);
            if queue.len() < MAX_WAITING {
                queue.push(line.shortened());
            } else {
                dropped += 1;
            }
        }
        drop(waiting);
        if dropped > 0 {
            tracing::warn!(dropped, "too much happens at once; some of it is not written down");
        }
    }

    /// How many more lines of nodes may wait.
    fn room(&self) -> usize {
        MAX_WAITING.saturating_sub(self.lock().nodes.len())
    }

    /// Some lines that wait, those of people first; never of both.
    fn take(&self) -> Vec<Line> {
        let mut waiting = self.lock();
        let is_asked_for = !waiting.people.is_empty();
        let queue = waiting.queue(is_asked_for);
        let count = queue.len().min(AT_ONCE);
        queue.drain(..count).collect()
    }

    /// Keeps what could not be written, in front of what came meanwhile.
    fn put_back(&self, mut lines: Vec<Line>) {
        let Some(is_asked_for) = lines.first().map(|line| line.is_asked_for) else { return };
        let mut waiting = self.lock();
        let queue = waiting.queue(is_asked_for);
        lines.append(queue);
        lines.truncate(MAX_WAITING);
        *queue = lines;
    }
}

/// When writing is tried again.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
    not_before: Option<Instant>,
}

impl Pace {
    fn is_due(&self) -> bool {
        self.not_before.is_none_or(|at| at <= Instant::now())
    }

    fn failed(&mut self) {
        let seconds = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX).min(LONGEST_PAUSE_SECONDS);
        self.failures = self.failures.saturating_add(1).min(u64::BITS);
        self.not_before = Instant::now().checked_add(Duration::from_secs(seconds));
    }
}

/// Writes lines until the process stops, and then what waits.
pub(crate) async fn run(control: Arc<Control>) {
    let mut pace = Pace::default();
    loop {
        let is_last = tokio::select! {
            () = control.stopping.cancelled() => true,
            () = tokio::time::sleep(LOOK) => false,
            () = control.activities.news.notified() => {
                tokio::time::sleep(GATHER).await;
                false
            }
        };
        if !is_last {
            control.registry.look_for_losses(control.settings.worker_absence);
        }
        let now_ms = time::now_ms();
        // What there is no room for waits where it is.
        let room = control.activities.room();
        let news = control.registry.take_news(room);
        let mut lines: Vec<Line> = news.into_iter().map(|news| of_node(news, now_ms)).collect();
        let holds = control.feeds().take_holds(room.saturating_sub(lines.len()));
        lines.extend(holds.into_iter().map(|hold| of_hold(hold, now_ms)));
        control.activities.put(lines);
        if is_last || pace.is_due() {
            write(&control, &mut pace).await;
        }
        if is_last {
            return;
        }
    }
}

async fn write(control: &Control, pace: &mut Pace) {
    loop {
        let lines = control.activities.take();
        if lines.is_empty() {
            return;
        }
        match control.store.record(lines.clone()).await {
            Ok(()) => *pace = Pace::default(),
            Err(error @ StoreError::Refused(_)) => {
                tracing::warn!(%error, lines = lines.len(), "could not write down what happened; it is left out");
            }
            Err(error) => {
                if pace.failures == 0 {
                    tracing::warn!(%error, "could not write down what happened; trying again");
                }
                pace.failed();
                control.activities.put_back(lines);
                return;
            }
        }
    }
}

fn of_node(news: NodeNews, now_ms: i64) -> Line {
    let minute = now_ms.div_euclid(MINUTE_MS);
    match news {
        NodeNews::Connected { node_id, why, version, host } => {
            let how = match why {
                Arrival::New => "for the first time",
                Arrival::Back => "again, after it was silent",
                Arrival::Restarted => "again, after a start of its process",
            };
            let detail = format!("{how}, version {version}, on host {host:?}");
            let rest = "more nodes connected in this minute";
            let repeat = Repeat::Counted { group: format!("connected/{minute}"), rest };
            Line { node_id, repeat, ..Line::happened(ActivityKind::NodeConnected, now_ms, detail) }
        }
        NodeNews::Lost { node_id, last_seen_at_ms, host } => {
            let detail = format!("no sign of life since {}, on host {host:?}", time::shown(last_seen_at_ms));
            let rest = "more nodes fell silent in this minute";
            let repeat = Repeat::Counted { group: format!("lost/{minute}"), rest };
            Line { node_id, repeat, ..Line::happened(ActivityKind::NodeLost, now_ms, detail) }
        }
        NodeNews::ChangedHands { node_id, takeover } => {
            let told_ms = takeover.at.as_ref().map_or(now_ms, time::milliseconds);
            let at_ms = told_ms.clamp(now_ms.saturating_sub(DAY_MS), now_ms);
            let swift_s3_proto::v1::Takeover { is_returned, device, home_node_id, shares, seconds, .. } =
                takeover;
            let home = if home_node_id.is_empty() { "a node that is not known" } else { &home_node_id };
            let (kind, word, detail) = match is_returned {
                true => (
                    ActivityKind::SharesReturned,
                    "returned",
                    format!("{shares} shares of device {device} to node {home}"),
                ),
                false => (
                    ActivityKind::SharesTaken,
                    "taken",
                    format!("{shares} shares of device {device} of node {home}, within {seconds:.1} s"),
                ),
            };
            let repeat = Repeat::Once {
                key: format!("{word}/{}", digest(&[&node_id, &device, &told_ms.to_string()])),
                group: format!("{word}/{}", at_ms.div_euclid(MINUTE_MS)),
                rest: "more devices' shares changed hands in this minute",
            };
            Line { node_id, repeat, ..Line::happened(kind, at_ms, detail) }
        }
    }
}

fn of_hold(hold: Hold, now_ms: i64) -> Line {
    let Hold { mapping_id, since_ms, node_id, place, because } = hold;
    // Deletes may be held for weeks; nothing happens later than now.
    let at_ms = since_ms.clamp(0, now_ms.max(0));
    let minute = since_ms.div_euclid(MINUTE_MS);
    let repeat = Repeat::Once {
        key: format!("held/{}", digest(&[&mapping_id, &minute.to_string()])),
        group: format!("held/{}", at_ms.div_euclid(MINUTE_MS)),
        rest: "more mappings hold deletes since this minute",
    };
    let line = Line::happened(ActivityKind::DeletesHeld, at_ms, format!("of {place}: {because}"));
    Line { mapping_id, node_id, repeat, ..line }
}

/// A node refused (part of) a revision. It says so with each connection.
#[must_use]
pub fn rejected(node_id: &str, revision: i64, is_all: bool, first: &str) -> Line {
    let part = if is_all { "all of it" } else { "part of it" };
    let repeat = Repeat::Once {
        key: format!("rejected/{revision}/{}", digest(&[node_id])),
        group: format!("rejected/{revision}"),
        rest: "more nodes refused this revision",
    };
    let detail = format!("{part}: {first}");
    let line = Line::happened(ActivityKind::ConfigRejected, time::now_ms(), detail);
    Line { node_id: node_id.to_owned(), revision, repeat, ..line }
}

/// Somebody had rows tried again.
#[must_use]
pub fn retry(actor: &str, mapping_id: &str, detail: String) -> Line {
    let now_ms = time::now_ms();
    let repeat = Repeat::Counted {
        group: format!("retry/{}", digest(&[actor, &now_ms.div_euclid(MINUTE_MS).to_string()])),
        rest: "more retries in this minute",
    };
    let line = Line::asked(ActivityKind::RetryOrdered, now_ms, actor, detail);
    Line { mapping_id: mapping_id.to_owned(), repeat, ..line }
}

/// Somebody had names repaired. A repair of a container comes in many calls, which are one line in each hour; so are those of
/// many containers beyond the first.
#[must_use]
pub fn repair(actor: &str, mapping_id: &str, place: &str, is_delete: bool, names: usize) -> Line {
    let now_ms = time::now_ms();
    let what =
        if is_delete { "to be removed at the remote if they are not here" } else { "to be handled again" };
    let hour = now_ms.div_euclid(HOUR_MS).to_string();
    let repeat = Repeat::Summed {
        key: format!("repair/{}", digest(&[actor, mapping_id, place, what, &hour])),
        count: u32::try_from(names).unwrap_or(u32::MAX),
        group: format!("repair/{is_delete}/{}", digest(&[actor, &hour])),
        rest: match is_delete {
            true => "names of more containers to be removed at the remote if they are not here",
            false => "names of more containers to be handled again",
        },
    };
    let detail = format!("names of {place} {what}");
    let line = Line::asked(ActivityKind::RepairOrdered, now_ms, actor, detail);
    Line { mapping_id: mapping_id.to_owned(), repeat, ..line }
}

/// Names many parts, of whatever length, in few characters.
fn digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(format!("{}:{part};", part.len()));
    }
    hex::encode(digest.finalize().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(is_asked_for: bool, detail: &str) -> Line {
        let line = Line::happened(ActivityKind::NodeLost, 0, detail.to_owned());
        Line { is_asked_for, ..line }
    }

    #[test]
    fn what_people_did_is_kept_however_much_nodes_tell() {
        let activities = Activities::default();
        activities.put((0..2 * MAX_WAITING).map(|_| line(false, "node")).collect());
        activities.tell(line(true, "first"));
        activities.tell(line(true, "second"));
        assert_eq!(activities.room(), 0);
        let taken = activities.take();
        assert!(taken.iter().all(|line| line.is_asked_for) && taken.len() == 2, "{taken:?}");
        activities.put_back(taken);
        activities.tell(line(true, "third"));
        let details: Vec<String> = activities.take().into_iter().map(|line| line.detail).collect();
        assert_eq!(details, ["first", "second", "third"]);
        assert!(activities.take().iter().all(|line| !line.is_asked_for));
        assert_eq!(activities.room(), AT_ONCE);
    }

    #[test]
    fn a_line_that_waits_is_no_longer_than_it_will_be_written() {
        let activities = Activities::default();
        let long = "ä".repeat(1_000_000);
        activities.tell(Line { node_id: long.clone(), mapping_id: long.clone(), ..line(false, &long) });
        for line in activities.take() {
            for text in [line.node_id, line.mapping_id, line.detail] {
                assert!((999..=1_000).contains(&text.len()) && text.capacity() < 2_000, "{}", text.len());
            }
        }
    }

    #[test]
    fn pauses_after_failures_grow_to_a_minute() {
        let mut pace = Pace::default();
        assert!(pace.is_due());
        let mut before = Duration::ZERO;
        for _ in 0..100 {
            pace.failed();
            let pause = pace.not_before.map(|at| at.saturating_duration_since(Instant::now()));
            assert!(!pace.is_due() && pause >= Some(before.saturating_sub(Duration::from_secs(1))));
            before = pause.unwrap_or_default();
        }
        assert!(before > Duration::from_secs(50) && before <= Duration::from_secs(60));
    }
}
