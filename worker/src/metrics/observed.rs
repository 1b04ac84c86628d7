//! What is looked up when somebody asks: the state of the worker as it is then. Nothing here waits, reads a file or asks anybody.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use swift_s3_daemon::metrics::label;
use swift_s3_store::Usage;
use tokio::sync::watch;
use tokio::time::Instant;

use super::catalogue::{
    ACK_AGE, CONFIG_AGE, CONTROL_AGE, CONTROL_CONNECTED, DELETES_HELD, FEEDS, FEEDS_DUE, LAG_AGE, LAG_ROWS,
    LAG_SIZE, LAG_TIME, LAST_PASS, LAST_TURN, MAPPINGS, MODE, PLACES, REVISION, ROWS_PARKED, ROWS_WAITING,
    SHARES, TAKEOVERS, TRANSFER_IO, TRANSFERS, UNREAD, USAGE,
};
use super::labels::MappingLabels;
use super::told::Told;
use crate::board::Board;
use crate::control::reporter::{MappingLag, Statuses};
use crate::coordination::{Coordination, Log, Mode, TakeoverKind, View};

/// Where the worker's state is found.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What it does.
    pub board: Arc<Board>,
    /// How far it is behind.
    pub statuses: Arc<Statuses>,
    /// How the work is shared.
    pub sharing: (watch::Receiver<Arc<View>>, Arc<Log>),
}

impl Sources {
    /// What is looked at from now on.
    #[must_use]
    pub fn new(board: &Arc<Board>, statuses: &Arc<Statuses>, coordination: &Coordination) -> Self {
        Self { board: Arc::clone(board), statuses: Arc::clone(statuses), sharing: coordination.watch() }
    }
}

type LagOfMappings = Arc<BTreeMap<String, MappingLag>>;
type LagByLabel = Arc<Vec<(KeyValue, MappingLag)>>;

pub(super) fn observe(meter: &Meter, labels: &MappingLabels, told: &Arc<Told>, sources: &Sources) {
    lag(meter, labels, &sources.statuses);
    work(meter, labels, told, &sources.board);
    sharing(meter, &sources.sharing);
}

/// What is there without any source.
pub(super) fn observe_told(meter: &Meter, told: &Arc<Told>) {
    let seen = Arc::clone(told);
    REVISION.observe(meter, move |gauge| gauge.observe(seen.revision(), &[]));
    let seen = Arc::clone(told);
    CONFIG_AGE.observe_f64(meter, move |gauge| gauge.observe(seen.config_age().as_secs_f64(), &[]));
    let seen = Arc::clone(told);
    LAST_PASS.observe_f64(meter, move |gauge| gauge.observe(seen.last_pass(), &[]));
    let seen = Arc::clone(told);
    LAST_TURN.observe_f64(meter, move |gauge| {
        if let Some(turn) = seen.last_turn() {
            gauge.observe(turn, &[]);
        }
    });
    let seen = Arc::clone(told);
    FEEDS_DUE.observe(meter, move |gauge| gauge.observe(seen.due(), &[]));
    let seen = Arc::clone(told);
    CONTROL_CONNECTED.observe(meter, move |gauge| {
        if let Some(control) = seen.control() {
            gauge.observe(u64::from(control.is_connected), &[]);
        }
    });
    let seen = Arc::clone(told);
    CONTROL_AGE.observe_f64(meter, move |gauge| {
        if let Some(control) = seen.control() {
            gauge.observe(control.since.elapsed().as_secs_f64(), &[]);
        }
    });
    let seen = Arc::clone(told);
    ACK_AGE.observe_f64(meter, move |gauge| {
        if let Some(control) = seen.control() {
            gauge.observe(control.waits().as_secs_f64(), &[]);
        }
    });
}

fn lag(meter: &Meter, labels: &MappingLabels, statuses: &Arc<Statuses>) {
    let sums = {
        let (labels, statuses) = (labels.clone(), Arc::clone(statuses));
        // Six metrics look at the same sums.
        let last = Arc::<Mutex<Option<(LagOfMappings, LagByLabel)>>>::default();
        move || {
            let lag = statuses.lag();
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((of, sums)) = &*last
                && Arc::ptr_eq(of, &lag)
            {
                return Arc::clone(sums);
            }
            let sums = Arc::new(labels.sums(lag.iter(), |sum: &mut MappingLag, lag| sum.add(lag)));
            *last = Some((lag, Arc::clone(&sums)));
            sums
        }
    };
    type Value = fn(&MappingLag) -> u64;
    let whole: [(_, Value); 5] = [
        (&LAG_ROWS, |lag| lag.rows),
        (&LAG_SIZE, |lag| lag.bytes),
        (&ROWS_WAITING, |lag| lag.rows_waiting),
        (&DELETES_HELD, |lag| lag.deletes_held),
        (&UNREAD, |lag| lag.unread),
    ];
    for (metric, value) in whole {
        let sums = sums.clone();
        metric.observe(meter, move |gauge| {
            for (name, lag) in &*sums() {
                gauge.observe(value(lag), std::slice::from_ref(name));
            }
        });
    }
    let seen = Arc::clone(statuses);
    LAG_AGE.observe_f64(meter, move |gauge| {
        if let Some(at) = seen.looked_at_all() {
            gauge.observe(at.elapsed().as_secs_f64(), &[]);
        }
    });
    let seen = sums.clone();
    LAG_TIME.observe_f64(meter, move |gauge| {
        for (name, lag) in &*seen() {
            gauge.observe(lag.seconds, std::slice::from_ref(name));
        }
    });
    ROWS_PARKED.observe(meter, move |gauge| {
        for (name, lag) in &*sums() {
            for (reason, rows) in &lag.parked {
                gauge.observe(*rows, &[name.clone(), label("reason", *reason)]);
            }
        }
    });
}

fn work(meter: &Meter, labels: &MappingLabels, told: &Arc<Told>, board: &Arc<Board>) {
    let seen = Arc::clone(board);
    TRANSFERS.observe(meter, move |gauge| gauge.observe(number(seen.transfers().0), &[]));
    let seen = Arc::clone(board);
    PLACES.observe(meter, move |gauge| gauge.observe(number(seen.transfers().1), &[]));
    let seen = Arc::clone(board);
    FEEDS.observe(meter, move |gauge| gauge.observe(number(seen.count()), &[]));
    let (seen, refused) = (Arc::clone(board), Arc::clone(told));
    MAPPINGS.observe(meter, move |gauge| {
        for (state, mappings) in mapping_states(&seen, &refused.refused()) {
            gauge.observe(mappings, &[label("state", state)]);
        }
    });
    let usage = {
        let (labels, board) = (labels.clone(), Arc::clone(board));
        move || {
            let meters = board.meters().into_iter().map(|(id, meter)| (id, meter.total()));
            labels.sums(meters, |sum: &mut Usage, usage| {
                sum.writes += usage.writes;
                sum.lists += usage.lists;
                sum.reads += usage.reads;
                sum.deletes += usage.deletes;
                sum.bytes_sent += usage.bytes_sent;
                sum.bytes_received += usage.bytes_received;
            })
        }
    };
    let seen = usage.clone();
    TRANSFER_IO.observe(meter, move |counter| {
        for (name, usage) in seen() {
            for (direction, bytes) in [("sent", usage.bytes_sent), ("received", usage.bytes_received)] {
                counter.observe(bytes, &[name.clone(), label("direction", direction)]);
            }
        }
    });
    USAGE.observe(meter, move |counter| {
        for (name, usage) in usage() {
            let classes = [
                ("write", usage.writes),
                ("list", usage.lists),
                ("read", usage.reads),
                ("delete", usage.deletes),
            ];
            for (class, requests) in classes {
                counter.observe(requests, &[name.clone(), label("class", class)]);
            }
        }
    });
}

fn sharing(meter: &Meter, (view, log): &(watch::Receiver<Arc<View>>, Arc<Log>)) {
    let seen = view.clone();
    MODE.observe(meter, move |gauge| {
        let mode = seen.borrow().regime.as_ref().map(|regime| regime.mode);
        for one in [Mode::Implicit, Mode::Explicit, Mode::Fallback] {
            gauge.observe(u64::from(mode == Some(one)), &[label("mode", one.as_str())]);
        }
    });
    let seen = view.clone();
    SHARES.observe(meter, move |gauge| {
        let view = Arc::clone(&seen.borrow());
        let taken = view.taken.min(view.shares());
        for (origin, shares) in [("home", view.shares() - taken), ("taken", taken)] {
            gauge.observe(number(shares), &[label("origin", origin)]);
        }
    });
    let seen = Arc::clone(log);
    TAKEOVERS.observe(meter, move |counter| {
        for kind in [TakeoverKind::Taken, TakeoverKind::Returned] {
            counter.observe(seen.shares(kind), &[label("kind", kind.as_str())]);
        }
    });
}

/// How many mappings there are of each state. One that cannot be served is faulty whatever else it is.
fn mapping_states(board: &Board, refused: &BTreeSet<String>) -> [(&'static str, u64); 4] {
    let problems = board.problems();
    let (feeds, now) = (board.feeds(), Instant::now());
    let waiting = feeds.iter().filter(|feed| feed.remote.health.paused_until(now).is_some());
    let is_down: HashSet<&str> = waiting.map(|feed| feed.mapping.id.as_str()).collect();
    let mappings = board.mappings();
    let here: HashSet<&str> = mappings.iter().map(|mapping| mapping.id.as_str()).collect();
    let absent = refused.iter().filter(|id| !here.contains(id.as_str())).count();
    let (mut running, mut paused, mut down, mut faulty) = (0, 0, 0, number(absent));
    for mapping in &mappings {
        let count = if problems.contains_key(&mapping.id) || refused.contains(&mapping.id) {
            &mut faulty
        } else if mapping.is_paused() {
            &mut paused
        } else if is_down.contains(mapping.id.as_str()) {
            &mut down
        } else {
            &mut running
        };
        *count += 1;
    }
    [("running", running), ("paused", paused), ("remote_down", down), ("faulty", faulty)]
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_has_one_state() {
        let board = Board::default();
        for id in ["a", "b", "c", "d"] {
            board.mapping(id);
        }
        board.mapping("b").set_paused(true);
        board.mapping("c").set_paused(true);
        board.mapping("d").set_paused(true);
        board.set_problems(BTreeMap::from([("c".to_owned(), "no secret".to_owned())]));
        let states = mapping_states(&board, &BTreeSet::from(["b".to_owned(), "x".to_owned()]));
        assert_eq!(states, [("running", 1), ("paused", 1), ("remote_down", 0), ("faulty", 3)]);
    }
}
