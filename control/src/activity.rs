//! Has what happens written down. Whoever has something to tell hands it over and goes on: a line that cannot be written must
//! hold up nobody, a heartbeat least of all. Changes of the configuration and of switches are written with the change itself,
//! see [`crate::store`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use swift_s3_proto::v1::ActivityKind;
use tokio::sync::Notify;

use crate::control::Control;
use crate::feeds::Hold;
use crate::registry::{Arrival, NodeNews};
use crate::store::{Line, Repeat};
use crate::time;

/// Lines that wait to be written, while the disk is slow or full. The newest are dropped.
const MAX_WAITING: usize = 5_000;
/// Lines in one transaction.
const AT_ONCE: usize = 500;
/// Losses of nodes are looked for this often.
const LOOK: Duration = Duration::from_secs(1);
/// What comes together is written together.
const GATHER: Duration = Duration::from_millis(100);
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Workers tell takeovers of a day; a clock that is off further says nothing about when.
const DAY_MS: i64 = 24 * HOUR_MS;

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub struct Activities {
    waiting: Mutex<Vec<Line>>,
    news: Notify,
}

impl Activities {
    /// Hands over a line.
    pub fn tell(&self, line: Line) {
        self.put(vec![line]);
        self.news.notify_one();
    }

    fn put(&self, lines: Vec<Line>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_WAITING.saturating_sub(waiting.len());
        if lines.len() > room {
            tracing::warn!(
                lines = lines.len().saturating_sub(room),
                "too much happens at once; some of it is not written down"
            );
        }
        waiting.extend(lines.into_iter().take(room));
    }

    fn take(&self) -> Vec<Line> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(AT_ONCE);
        waiting.drain(..count).collect()
    }

    /// Keeps what could not be written, in front of what came meanwhile.
    fn put_back(&self, mut lines: Vec<Line>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        lines.append(&mut waiting);
        lines.truncate(MAX_WAITING);
        *waiting = lines;
    }
}

/// Writes lines until the process stops, and then what waits.
pub(crate) async fn run(control: Arc<Control>) {
    let mut is_failing = false;
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
        let mut lines: Vec<Line> =
            control.registry.take_news().into_iter().map(|news| of_node(news, now_ms)).collect();
        lines.extend(control.feeds().take_holds().into_iter().map(|hold| of_hold(hold, now_ms)));
        control.activities.put(lines);
        write(&control, &mut is_failing).await;
        if is_last {
            return;
        }
    }
}

async fn write(control: &Control, is_failing: &mut bool) {
    loop {
        let lines = control.activities.take();
        if lines.is_empty() {
            return;
        }
        match control.store.record(lines.clone()).await {
            Ok(()) => *is_failing = false,
            Err(error) => {
                if !std::mem::replace(is_failing, true) {
                    tracing::warn!(%error, "could not write down what happened; trying again");
                }
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
    let at_ms = since_ms.clamp(now_ms.saturating_sub(DAY_MS), now_ms);
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

/// Somebody had names repaired. A repair of a container comes in many calls, which are one line in each hour.
#[must_use]
pub fn repair(actor: &str, mapping_id: &str, place: &str, is_delete: bool, names: usize) -> Line {
    let now_ms = time::now_ms();
    let what =
        if is_delete { "to be removed at the remote if they are not here" } else { "to be handled again" };
    let hour = now_ms.div_euclid(HOUR_MS).to_string();
    let repeat = Repeat::Summed {
        key: format!("repair/{}", digest(&[actor, mapping_id, place, what, &hour])),
        count: u32::try_from(names).unwrap_or(u32::MAX),
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
