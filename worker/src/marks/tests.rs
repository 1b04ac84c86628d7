#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod model;

use std::collections::BTreeMap;

use proptest::prelude::*;
use swift_s3_policy::{Timestamp, owner_index};

use super::record::entry_size;
use super::*;
use crate::lane::Share;
use crate::parked::{FailedRow, Parked};
use crate::reason::{Failure, Reason};
use crate::swift::container_db::SyncPoints;

const NOW: Timestamp = Timestamp::from_units(1_700_000_000 * 100_000);

fn points(entries: &[(&str, i64)]) -> BTreeMap<String, i64> {
    entries.iter().map(|(id, point)| ((*id).to_owned(), *point)).collect()
}

fn read(max_row: i64, entries: &[(&str, i64)]) -> SyncPoints {
    SyncPoints { database: "a".to_owned(), max_row, points: points(entries) }
}

fn failed(rowid: i64, deleted: bool) -> FailedRow {
    FailedRow { rowid, share: Share::Own, deleted, timestamp: NOW, policy_index: Some(1) }
}

fn set_aside(rows: &[(&str, i64, bool)]) -> Parked {
    let mut parked = Parked::default();
    for (name, rowid, deleted) in rows {
        let failure = Failure::new(Reason::RemoteRefused, "no");
        parked.fail(name, failed(*rowid, *deleted), &failure, NOW, 0.0);
    }
    parked
}

fn own<'a>(cursors: &'a [(Rows, i64)], pairs: &'a Pairs, parked: &'a Parked) -> OwnState<'a> {
    OwnState { node: "n1", database: "a", replicas: 1, index: 0, cursors, pairs, parked, now: 1_700_000_000 }
}

#[test]
fn a_mark_counts_once_the_cursor_has_reached_the_row_it_was_read_at() {
    let mut pairs = Pairs::default();
    pairs.note(read(10, &[("b", 4)]));
    pairs.note(read(20, &[("b", 9), ("c", 3)]));
    assert_eq!(pairs.marks_at(9), points(&[]));
    assert_eq!(pairs.marks_at(10), points(&[("b", 4)]));
    assert_eq!(pairs.marks_at(20), points(&[("b", 9), ("c", 3)]));
    // Nothing new: the earlier row stays, and is reached earlier.
    pairs.note(read(30, &[("b", 9)]));
    assert_eq!(pairs.len(), 2);
    // Rows at the end were removed: the same points at a lower row.
    pairs.note(read(15, &[("b", 9), ("c", 3)]));
    assert_eq!(pairs.marks_at(15), points(&[("b", 9), ("c", 3)]));
    // Split now: what was true stays true.
    pairs.note(read(40, &[]));
    assert_eq!(pairs.marks_at(40), points(&[("b", 9), ("c", 3)]));
    pairs.note(SyncPoints { database: "z".to_owned(), max_row: 1, points: points(&[("b", 1)]) });
    assert_eq!((pairs.len(), pairs.database(), pairs.marks_at(99)), (1, "z", points(&[("b", 1)])));
}

#[test]
fn a_record_is_read_as_it_was_written_and_nothing_else_is() {
    let mut pairs = Pairs::default();
    pairs.note(read(5, &[("b", 4)]));
    let parked = set_aside(&[("é\n\"", 3, true), ("plain", 4, false)]);
    let record = Record::next(None, &own(&[(Rows::Deletes, 7), (Rows::Live, 4)], &pairs, &parked));
    let json = record.to_json().unwrap();
    assert_eq!(Record::parse(&json), Some(record.clone()));
    assert_eq!(record.mark("a", Rows::Deletes), Some(7));
    assert_eq!(record.mark("b", Rows::Deletes), Some(4));
    assert_eq!((record.mark("b", Rows::Live), record.mark("a", Rows::All)), (None, Some(4)));
    assert_eq!(record.parked["plain"].policy, Some(1));
    let text = String::from_utf8(json).unwrap();
    for (good, bad) in [
        ("\"version\":1", "\"version\":2"),
        ("\"replicas\":1", "\"replicas\":0"),
        ("\"replicas\":1", "\"replicas\":4000000000"),
        ("\"index\":0", "\"index\":1"),
        ("\"cursor\":7", "\"cursor\":-7"),
        ("\"cursor\":7", "\"cursor\":99999999999999999999"),
        ("\"b\":4", "\"b\":-4"),
        ("\"b\":4", "\"\":4"),
        ("\"database\":\"a\"", "\"database\":\"\""),
        ("\"deletes\"", "\"some\""),
        ("\"plain\"", "\"\""),
        ("1700000000.00000", "soon"),
    ] {
        assert!(text.contains(good), "{good} in {text}");
        assert_eq!(Record::parse(text.replace(good, bad).as_bytes()), None, "{bad}");
    }
    for bytes in ["", "null", "[]", "{", "{\"version\":1}"] {
        assert_eq!(Record::parse(bytes.as_bytes()), None, "{bytes}");
    }
    assert_eq!(Record::parse(&vec![b' '; MAX_RECORD_BYTES + 1]), None);
    assert_eq!(Record::parse(text.replace("remote_refused", "solar_flare").as_bytes()).map(|_| ()), Some(()));
}

#[test]
fn a_row_that_fits_no_more_holds_its_class_and_the_marks_of_it() {
    let mut pairs = Pairs::default();
    pairs.note(read(10, &[("b", 10)]));
    pairs.note(read(30, &[("b", 30)]));
    let parked = set_aside(&[("one", 5, false), ("two", 20, false), ("three", 25, true)]);
    let own = own(&[(Rows::Deletes, 40), (Rows::Live, 40)], &pairs, &parked);
    let room = entry_size("one") + 1;
    let record = Record::next_within(None, &own, room);
    assert_eq!(record.parked.keys().collect::<Vec<_>>(), ["one"]);
    assert_eq!((record.mark("a", Rows::Live), record.mark("b", Rows::Live)), (Some(19), Some(10)));
    assert_eq!((record.mark("a", Rows::Deletes), record.mark("b", Rows::Deletes)), (Some(24), Some(10)));
    // What was told is not taken back, and what was listed stays, although another row is lower by now.
    let parked = set_aside(&[("one", 5, false), ("zero", 2, false)]);
    let cursors = [(Rows::Deletes, 40), (Rows::Live, 40)];
    let next = Record::next_within(
        Some(&record),
        &super::OwnState { parked: &parked, cursors: &cursors, ..own },
        room,
    );
    assert_eq!(next.parked.keys().collect::<Vec<_>>(), ["one"]);
    assert_eq!((next.mark("a", Rows::Live), next.mark("b", Rows::Live)), (Some(19), Some(10)));
    assert_eq!(next.mark("b", Rows::Deletes), Some(30));
}

#[test]
fn a_new_owner_goes_on_where_the_former_one_stood() {
    let mut pairs = Pairs::default();
    pairs.note(read(50_000, &[("b", 60_000), ("c", 7)]));
    let nothing = Parked::default();
    let record = Record::next(None, &own(&[(Rows::All, 50_000)], &pairs, &nothing));
    let begin = |reached, last_row| start(reached, Some(&record), "b", last_row, Rows::All);
    let fresh = Reached::default();
    assert_eq!(begin(fresh, 70_000), Start { cursor: 60_000, settled: None });
    // Above the last row of the database nothing can have been done.
    assert_eq!(begin(fresh, 59_999), Start::default());
    let restarted = Reached { begun_at: Some(100), cursor: 100 };
    let started = begin(restarted, 70_000);
    assert_eq!(started, Start { cursor: 100, settled: Some((20_100, 60_000)) });
    assert!(started.is_settled(100) && !started.is_settled(101) && !started.is_settled(20_100));
    assert!(started.is_settled(20_101) && started.is_settled(60_000) && !started.is_settled(60_001));
    // The window has been looked at in this life.
    assert_eq!(begin(Reached { begun_at: Some(100), cursor: 30_000 }, 70_000).cursor, 60_000);
    // It has come further itself, or nobody left anything.
    assert_eq!(begin(Reached { begun_at: Some(65_000), cursor: 65_010 }, 70_000).cursor, 65_010);
    assert_eq!(start(restarted, None, "b", 70_000, Rows::All), Start { cursor: 100, settled: None });
    assert_eq!(start(fresh, Some(&record), "unknown", 70_000, Rows::All), Start::default());
    // The marks go on with the next owner, and its own cursor joins them.
    let pairs = Pairs::default();
    let state = OwnState { database: "b", cursors: &[(Rows::All, 61_000)], ..own(&[], &pairs, &nothing) };
    let next = Record::next(Some(&record), &state);
    let marks = ["a", "b", "c"].map(|id| next.mark(id, Rows::All));
    assert_eq!(marks, [Some(50_000), Some(61_000), Some(7)]);
    // Shares are cut anew: the old record says nothing.
    let other = OwnState { replicas: 2, index: 1, ..state };
    assert_eq!(Record::next(Some(&record), &other).mark("a", Rows::All), None);
}

#[test]
fn rows_taken_over_stay_owed_until_something_as_new_is_done() {
    let parked = set_aside(&[("taken", 5, true), ("known", 6, false)]);
    let pairs = Pairs::default();
    let record = Record::next(None, &own(&[(Rows::All, 9)], &pairs, &parked));
    let mut here = Parked::default();
    let newer = FailedRow { timestamp: NOW.plus(std::time::Duration::from_secs(1)), ..failed(3, false) };
    here.fail("known", newer, &Failure::new(Reason::Other, "m"), NOW, 0.0);
    here.inherit(&record.parked);
    assert_eq!(here.get("known").unwrap().rowid, 3, "what is newer here stays");
    let taken = here.get("taken").unwrap();
    assert!(taken.is_inherited() && taken.deleted && taken.policy_index == Some(1));
    let before = Timestamp::from_units(NOW.units() - 1);
    assert!(!taken.is_settled_by(1_000, before) && taken.is_settled_by(1, NOW));
    // Another failure of an older row of this database does not take its place when accounts are joined.
    let mut other = Parked::default();
    other.fail(
        "taken",
        FailedRow { timestamp: before, ..failed(8, false) },
        &Failure::new(Reason::Other, "m"),
        NOW,
        0.0,
    );
    here.absorb(other);
    assert!(here.get("taken").unwrap().is_inherited());
}

proptest! {
    /// Whatever is set aside is listed, or lies above what the record says to be settled; and what it said once, it says again.
    #[test]
    fn nothing_is_told_to_be_settled_that_is_neither_done_nor_listed(
        rounds in proptest::collection::vec(
            (proptest::collection::btree_map("[a-f]{1,2}", (1..60_i64, any::<bool>()), 0..30), 0..60_i64, 0..60_i64),
            1..6,
        ),
        entries in 1..8_usize,
    ) {
        let room = entries * entry_size("aa");
        let mut record: Option<Record> = None;
        let mut owed: BTreeMap<String, (i64, bool)> = BTreeMap::new();
        let (mut deletes, mut live, mut pairs) = (0, 0, Pairs::default());
        for (fresh, more_deletes, more_live) in rounds {
            // Rows are set aside as the cursors pass them, and some of the old ones are done.
            let passed = |rowid: i64, deleted: bool| {
                if deleted { rowid > deletes && rowid <= deletes + more_deletes } else { rowid > live && rowid <= live + more_live }
            };
            owed.retain(|name, _| !fresh.contains_key(name) || name.len() > 1);
            for (name, (rowid, deleted)) in fresh {
                if passed(rowid, deleted) {
                    owed.entry(name).or_insert((rowid, deleted));
                }
            }
            (deletes, live) = (deletes + more_deletes, live + more_live);
            let row = deletes.max(live);
            pairs.note(read(row, &[("b", row * 2)]));
            let rows: Vec<_> = owed.iter().map(|(name, (rowid, deleted))| (name.as_str(), *rowid, *deleted)).collect();
            let (parked, cursors) = (set_aside(&rows), [(Rows::Deletes, deletes), (Rows::Live, live)]);
            let next = Record::next_within(record.as_ref(), &own(&cursors, &pairs, &parked), room);
            for (name, (rowid, deleted)) in &owed {
                let class = if *deleted { Rows::Deletes } else { Rows::Live };
                prop_assert!(next.parked.contains_key(name) || next.mark("a", class) < Some(*rowid), "{name} at {rowid}");
            }
            for (id, class) in [("a", Rows::Deletes), ("a", Rows::Live), ("b", Rows::Deletes), ("b", Rows::Live)] {
                let before = record.as_ref().and_then(|record| record.mark(id, class));
                prop_assert!(next.mark(id, class) >= before, "{id} went back");
                // Of b nothing is told that was not reached in a: pairs are at twice the row.
                prop_assert!(id == "a" || next.mark(id, class).unwrap_or(0) <= 2 * next.mark("a", class).unwrap_or(0));
            }
            let size: usize = next.parked.keys().map(|name| entry_size(name)).sum();
            prop_assert!(size <= room);
            record = Record::parse(&next.to_json().unwrap());
            prop_assert_eq!(record.as_ref(), Some(&next));
        }
    }

    #[test]
    fn pairs_are_few_and_never_say_more_than_was_read(
        reads in proptest::collection::vec((0..50_i64, 0..50_i64, 0..50_i64), 1..300),
        cursor in 0..10_000_i64,
    ) {
        let (mut pairs, mut row, mut b, mut c, mut cursors) = (Pairs::default(), 0, 0, 0, 0);
        let mut known: Vec<(i64, i64, i64)> = Vec::new();
        for (rows, more_b, more_c) in reads {
            (row, b, c) = (row + rows, b + more_b, c + more_c);
            pairs.note(read(row, &[("b", b), ("c", c)]));
            known.push((row, b, c));
            if rows % 7 == 0 {
                cursors = (cursors + row) / 2;
                pairs.forget_below(cursors);
            }
            prop_assert!(pairs.len() <= 64);
        }
        let best = known.iter().filter(|pair| pair.0 <= cursor).map(|pair| (pair.1, pair.2)).max();
        let marks = pairs.marks_at(cursor);
        for (id, best) in [("b", best.map(|best| best.0)), ("c", best.map(|best| best.1))] {
            prop_assert!(marks.get(id).copied() <= best, "{id}: {marks:?}, read were {best:?}");
        }
        prop_assert_eq!(pairs.marks_at(row), points(&[("b", b), ("c", c)]), "the last read is always kept");
    }
}

#[test]
fn a_full_record_keeps_within_its_size() {
    let mut parked = Parked::default();
    for number in 0..5_000_i64 {
        let name = format!("{number}-\u{1}\"{}", "é".repeat(500));
        parked.fail(
            &name,
            failed(i64::MAX - number, true),
            &Failure::new(Reason::RemoteUnavailable, "m"),
            NOW,
            0.0,
        );
    }
    let mut pairs = Pairs::default();
    let ids: Vec<String> = (0..100).map(|number| format!("{number:0>128}")).collect();
    let entries: Vec<_> = ids.iter().map(|id| (id.as_str(), i64::MAX)).collect();
    pairs.note(read(1, &entries));
    let cursors = [(Rows::All, i64::MAX), (Rows::Deletes, i64::MAX), (Rows::Live, i64::MAX)];
    let mut record = None;
    for _ in 0..3 {
        let next = Record::next(record.as_ref(), &own(&cursors, &pairs, &parked));
        let json = next.to_json().unwrap();
        assert!(json.len() <= MAX_RECORD_BYTES, "{}", json.len());
        record = Record::parse(&json);
        assert_eq!(record.as_ref(), Some(&next));
    }
    assert!(record.unwrap().parked.len() > 50);
    assert_eq!(owner_index("x", 1), 0);
}
