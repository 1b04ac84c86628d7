//! Shares that are owned through etcd: where their rows begin, what is told of them, and what others tell of theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::coordination::Mode;
use crate::coordination::plan::{HomeDevice, PlaceId, ShareId};
use crate::coordination::records::{Claim, RecordName};
use crate::lane::Share;
use crate::marks::{OwnState, Pairs, Reached, Record, Start, start};
use swift_s3_policy::owner_index;

/// A record is written this often at most, unless the share is about to change hands.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// What others tell is read again after this long.
const READ_INTERVAL: Duration = Duration::from_secs(10);

/// What is known of the shares of a container.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// The current record of each share, as it was last read or written.
    records: BTreeMap<u32, Record>,
    read_at: Option<Instant>,
    written_at: Option<Instant>,
    pairs: Pairs,
    /// Rows were taken over that are not saved yet.
    pub(super) has_handed_over: bool,
    /// When the feed began, the last to have owned some share of its own was another node.
    pub(super) is_taken_over: bool,
}

impl Shares {
    /// True when the owner of the row's share says that it is done with it. `own_rows` is the class of the lane that asks.
    pub(super) fn is_settled(&self, nodes: u32, database: &str, rows: Rows, row: &Row) -> bool {
        let record = self.records.get(&owner_index(&row.name, nodes));
        record.is_some_and(|record| record.settles(database, rows, row.rowid, &row.name))
    }

    /// True when it is time to read again what others tell.
    pub(super) fn is_stale(&self) -> bool {
        self.read_at.is_none_or(|at| at.elapsed() >= READ_INTERVAL)
    }
}

/// Where an own lane begins, by share.
pub(super) type Starts = BTreeMap<u32, Start>;

/// The name under which the cursor of one share is saved.
fn share_cursor(index: u32, rows: Rows) -> String {
    let rows = match rows {
        Rows::All => "all",
        Rows::Deletes => "deletes",
        Rows::Live => "live",
    };
    format!("share_{index}_{rows}")
}

/// How far a share is settled when its lane's cursor stands at `cursor`.
pub(super) fn reached(start: &Start, cursor: i64) -> i64 {
    let reached = cursor.max(start.cursor);
    match start.settled {
        Some((from, to)) if reached >= from => reached.max(to),
        _ => reached,
    }
}

impl State {
    /// The cursors as they are saved: those of the lanes, and of each share that has one of its own.
    pub(super) fn cursors(&self) -> BTreeMap<String, i64> {
        let mut cursors = BTreeMap::new();
        for lane in &self.lanes {
            let cursor = lane.progress.cursor();
            cursors.insert(lane.lane.name().to_owned(), cursor);
            for (index, start) in &lane.starts {
                cursors.insert(share_cursor(*index, lane.lane.rows), reached(start, cursor));
            }
        }
        cursors
    }
}

impl Feed {
    /// Reads what the owners of the shares left.
    ///
    /// # Errors
    /// When etcd does not answer; what was known stays.
    pub(super) async fn read_shares(&self, shares: &mut Shares) -> Result<(), EtcdError> {
        let Some(records) = &self.records else { return Ok(()) };
        shares.read_at = Some(Instant::now());
        let found = records.load(&self.record_name(), PlaceId::of(&self.source.place)).await?;
        let parse = |(index, bytes): (u32, Vec<u8>)| {
            let record = Record::parse(&bytes)?;
            let is_it = record.index == index && record.replicas == self.source.place.nodes;
            is_it.then_some((index, record))
        };
        shares.records = found.into_iter().filter_map(parse).collect();
        Ok(())
    }

    /// How its records are called.
    pub(crate) fn record_name(&self) -> RecordName {
        RecordName {
            identity: self.identity.clone(),
            account: self.source.account.clone(),
            container: self.source.container.clone(),
        }
    }

    /// Where the rows of a lane begin for each share of its own.
    pub(super) fn starts(
        &self,
        lane: Lane,
        info: &ContainerInfo,
        saved: Option<&SavedFeed>,
        shares: &Shares,
    ) -> Starts {
        if self.regime.mode != Mode::Explicit || lane.share != Share::Own {
            return Starts::new();
        }
        let nodes = self.source.place.nodes;
        let begin = |index: &u32| {
            let record = shares.records.get(index);
            let known = saved.filter(|saved| saved.nodes == nodes);
            let own = known.and_then(|saved| {
                let of_share = saved.cursors.get(&share_cursor(*index, lane.rows)).copied();
                of_share.or_else(|| saved.replicas.contains(index).then(|| saved.cursor(lane)))
            });
            // It was others' until now: what was checked of theirs is done.
            let checked = || match (known, saved) {
                (Some(saved), _) => saved.cursor(Lane { share: Share::Others, ..lane }),
                (None, Some(saved)) => saved.cursors.values().copied().min().unwrap_or(0),
                (None, None) => 0,
            };
            let reached = Reached { begun_at: own, cursor: own.unwrap_or_else(checked) };
            (*index, start(reached, record, &info.id, info.max_row, lane.rows))
        };
        self.source.own.iter().map(begin).collect()
    }

    /// Takes over what former owners of this feed's shares had set aside, or this node itself before a crash. What others take over stays set aside here, too: this
    /// node's own cursors lie behind it, and must be true without anybody's record.
    pub(super) fn hand_over(&self, state: &mut State) {
        let Some(records) = &self.records else { return };
        let is_anothers = |(index, record): (&u32, &Record)| {
            self.source.own.contains(index) && record.owner != records.node()
        };
        state.shares.is_taken_over = state.shares.records.iter().any(is_anothers);
        for (index, record) in &state.shares.records {
            if self.source.own.contains(index) {
                state.shares.has_handed_over |= state.parked.inherit(&record.parked);
            }
        }
    }

    /// Tells how far this feed's shares are, if there is something to tell. Answers when to come back for what could not be told yet.
    pub(super) async fn tell_shares(&self, state: &mut State, is_last: bool) -> Option<Timestamp> {
        let (Some(records), Some(lease)) = (&self.records, self.regime.lease) else { return None };
        if !self.regime.is_valid() || self.source.own.is_empty() {
            return None;
        }
        let again = state.shares.written_at.map(|at| WRITE_INTERVAL.saturating_sub(at.elapsed()));
        match self.read(ContainerDb::sync_points).await {
            Ok(read) => state.shares.pairs.note(read),
            Err(error) => {
                tracing::debug!(container = %self.source.container, %error, "could not read sync points")
            }
        }
        let new = self.new_records(state, records.node());
        if new.is_empty() {
            return None;
        }
        if let Some(again) = again.filter(|again| !again.is_zero() && !is_last) {
            return Some(now().plus(again));
        }
        let name = self.record_name();
        let mut is_told = true;
        for record in new {
            let Some(claim) = self.claim(record.index, lease) else { continue };
            let Ok(bytes) = record.to_json() else { continue };
            match records.save(&name, &claim, bytes).await {
                Ok(true) => {
                    state.shares.records.insert(record.index, record);
                }
                Ok(false) => tracing::debug!(container = %self.source.container, share = record.index,
                    "the share is not owned any more; its record stays as it is"),
                Err(error) => {
                    is_told = false;
                    tracing::debug!(container = %self.source.container, %error, "could not write a record");
                    break;
                }
            }
        }
        state.shares.written_at = Some(Instant::now());
        let lowest = state.lanes.iter().filter(|lane| lane.lane.share == Share::Own);
        if let Some(lowest) = lowest.map(|lane| lane.progress.cursor()).min() {
            state.shares.pairs.forget_below(lowest);
        }
        (!is_told).then(|| now().plus(WRITE_INTERVAL))
    }

    /// Records that say something else than the current ones.
    fn new_records(&self, state: &State, node: &str) -> Vec<Record> {
        let seconds = seconds(now());
        let next = |index: &u32| {
            let cursors: Vec<(Rows, i64)> = state
                .lanes
                .iter()
                .filter_map(|lane| {
                    Some((lane.lane.rows, reached(lane.starts.get(index)?, lane.progress.cursor())))
                })
                .collect();
            let known = state.shares.records.get(index);
            let own = OwnState {
                node,
                database: &state.database,
                replicas: state.nodes,
                index: *index,
                cursors: &cursors,
                pairs: &state.shares.pairs,
                parked: &state.parked,
                now: seconds,
            };
            let record = Record::next(known, &own);
            let is_same = known.is_some_and(|known| known.says_the_same_as(&record));
            (!is_same).then_some(record)
        };
        self.source.own.iter().filter_map(next).collect()
    }

    fn claim(&self, index: u32, lease: i64) -> Option<Claim> {
        let place = &self.source.place;
        let replica = place.replicas.iter().find(|replica| replica.index == index)?;
        Some(Claim {
            share: ShareId { place: PlaceId::of(place), index },
            home: HomeDevice::of(&replica.device),
            is_home: replica.is_local,
            lease,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_reached_with_what_its_start_passes_over() {
        let start = Start { cursor: 10, settled: Some((30, 90)) };
        for (cursor, expected) in [(0, 10), (10, 10), (20, 20), (30, 90), (50, 90), (95, 95)] {
            assert_eq!(reached(&start, cursor), expected, "{cursor}");
        }
        assert_eq!(reached(&Start { cursor: 5, settled: None }, 3), 5);
    }
}
