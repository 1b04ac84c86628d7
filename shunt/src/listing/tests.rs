//! The merged listing against Swift's own over all names.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use swift_s3_store::{Entry, ObjectEntry};

use super::merge::{Line, is_enough, merge};
use super::model::{self, ModelRow};
use super::params::Params;
use super::rows::{LocalRow, RemoteRow};

/// Names that meet each other often, of characters of one to four bytes.
pub(super) fn name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[ab]", 4 => Just("/".to_owned()), 2 => Just("--".to_owned()), 2 => "[0-9.]",
        1 => "[éط\u{7ff}\u{fffd}\u{ffff}😀]", 1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
}

pub(super) fn names(count: usize) -> impl Strategy<Value = BTreeSet<String>> {
    prop::collection::btree_set(name().prop_filter("reserved", |name| !name.contains('\0')), 0..count)
}

/// Parameters of all kinds, mostly about names that may be there.
pub(super) fn params() -> impl Strategy<Value = Params> {
    let bound = || prop_oneof![3 => Just(String::new()), 3 => name()];
    let prefix = prop_oneof![4 => Just(String::new()), 2 => "[ab]/?", 1 => name()];
    let delimiter = prop_oneof![
        3 => Just(String::new()), 4 => Just("/".to_owned()), 2 => Just("--".to_owned()), 1 => Just("a".to_owned()),
        1 => Just("é".to_owned()), 1 => name(),
    ];
    let path = prop_oneof![6 => Just(None), 1 => Just(Some(String::new())), 2 => "[ab/]{1,3}".prop_map(Some)];
    (bound(), bound(), prefix, delimiter, path, any::<bool>(), prop_oneof![0..6_usize, Just(10_000)])
        .prop_map(|(marker, end_marker, prefix, delimiter, path, reverse, limit)| {
            let base = Params::parse("").unwrap().with_default_limit(limit);
            Params { marker, end_marker, prefix, delimiter, path, reverse, ..base }
        })
}

pub(super) fn local_rows(rows: &[ModelRow]) -> Vec<LocalRow<'_>> {
    let row = |(text, is_folder): &'_ ModelRow| (text.clone(), *is_folder);
    rows.iter()
        .map(row)
        .map(|(text, is_folder)| LocalRow { text: text.into(), is_folder, raw: "{}" })
        .collect()
}

pub(super) fn remote_rows(rows: &[ModelRow]) -> Vec<RemoteRow> {
    let entry = |(text, is_folder): &ModelRow| {
        let key = format!("p/{text}");
        if *is_folder {
            Entry::Folder(key)
        } else {
            Entry::Object(ObjectEntry { key, ..ObjectEntry::default() })
        }
    };
    rows.iter().map(|row| RemoteRow::new(entry(row), "p/").unwrap()).collect()
}

fn shown(lines: &[Line<'_>]) -> Vec<ModelRow> {
    let row = |line: &Line<'_>| match line {
        Line::Local(row) | Line::Both(row) => (row.text.to_string(), row.is_folder),
        Line::Remote(row) => (row.text().to_owned(), matches!(row.entry(), Entry::Folder(_))),
    };
    lines.iter().map(row).collect()
}

/// One page as a client gets it.
fn page(here: &BTreeSet<String>, there: &BTreeSet<String>, params: &Params) -> Vec<ModelRow> {
    let (local, remote) = (model::list(here, params), model::list(there, params));
    let (local, remote) = (local_rows(&local), remote_rows(&remote));
    shown(&merge(&local, &remote, params.limit, params.reverse))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_merged_page_is_swifts_page_over_all_names(here in names(25), there in names(25), params in params()) {
        let union: BTreeSet<String> = here.union(&there).cloned().collect();
        prop_assert_eq!(page(&here, &there, &params), model::list(&union, &params));
    }

    #[test]
    fn walking_by_marker_visits_each_line_once(here in names(25), there in names(25), params in params(), limit in 1..4_usize) {
        let union: BTreeSet<String> = here.union(&there).cloned().collect();
        let whole = model::list(&union, &Params { limit: usize::MAX, ..params.clone() });
        let mut seen = Vec::new();
        let mut params = Params { limit, ..params };
        loop {
            let page = page(&here, &there, &params);
            let Some((last, _)) = page.last() else { break };
            params.marker = last.clone();
            seen.extend(page);
            prop_assert!(seen.len() <= whole.len(), "{:?} is more than {:?}", seen, whole);
        }
        prop_assert_eq!(seen, whole);
    }

    #[test]
    fn what_is_in_both_is_swifts_own(here in names(15), there in names(15)) {
        let params = Params::parse("").unwrap();
        let (local, remote) = (model::list(&here, &params), model::list(&there, &params));
        let (local, remote) = (local_rows(&local), remote_rows(&remote));
        for line in merge(&local, &remote, usize::MAX, false) {
            let text = line.text();
            let expected = (here.contains(text), there.contains(text));
            let found = match line {
                Line::Local(_) => (true, false),
                Line::Remote(_) => (false, true),
                Line::Both(_) => (true, true),
            };
            prop_assert_eq!(found, expected, "{}", text);
        }
    }

    #[test]
    fn enough_of_the_remote_is_enough(here in names(25), there in names(25), params in params(), known in 0..26_usize) {
        let (local, remote) = (model::list(&here, &params), model::list(&there, &params));
        let (local, remote) = (local_rows(&local), remote_rows(&remote));
        let known = &remote[..known.min(remote.len())];
        if is_enough(&local, known, params.limit, params.reverse) {
            prop_assert_eq!(
                merge(&local, known, params.limit, params.reverse),
                merge(&local, &remote, params.limit, params.reverse)
            );
        }
    }
}

#[test]
fn folders_and_names_come_in_their_order() {
    let remote: BTreeSet<String> = ["a/x", "unicodé", "z/x", "z/y", "zzzzz"].map(str::to_owned).into();
    let local: BTreeSet<String> = ["a", "unicodé"].map(str::to_owned).into();
    let params = Params::parse("delimiter=/&limit=4").unwrap();
    let texts: Vec<String> = page(&local, &remote, &params).into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, ["a", "a/", "unicodé", "z/"]);
}

#[test]
fn a_page_that_swift_fills_needs_no_more_of_the_remote_than_its_end() {
    let names = |range: std::ops::Range<u32>| -> Vec<ModelRow> {
        range.map(|number| (format!("{number:04}"), false)).collect()
    };
    let (local, remote) = (names(0..100), names(0..300));
    let (local, remote) = (local_rows(&local), remote_rows(&remote));
    assert!(!is_enough(&local, &[], 100, false));
    assert!(!is_enough(&local, &remote[..50], 100, false));
    assert!(is_enough(&local, &remote[..100], 100, false));
}

#[test]
fn the_clusters_own_limit_is_learnt_from_its_refusal() {
    let listings = super::Listings::new(std::time::Duration::from_secs(1));
    assert_eq!(listings.default_limit(), 10_000);
    for refusal in
        ["", "Maximum limit is ", "Maximum limit is 0", "Maximum limit is 10001", "Precondition Failed"]
    {
        assert_eq!(listings.learn_limit(refusal.as_bytes()), None, "{refusal}");
    }
    assert_eq!(listings.learn_limit(b"<html>Maximum limit is 500</html>"), Some(500));
    assert_eq!(listings.default_limit(), 500);
    let params = Params::parse("").unwrap().with_default_limit(listings.default_limit());
    assert_eq!((params.limit, params.local_query().as_str()), (500, "format=json&limit=500"));
    assert_eq!(Params::parse("limit=7").unwrap().with_default_limit(500).limit, 7);
}

#[test]
fn all_listings_together_are_bounded_and_the_largest_gets_its_turn() {
    assert_eq!(super::Listings::weight(0), 1);
    assert_eq!(super::Listings::weight(10_000), 10_000);
    let largest = usize::try_from(super::Listings::weight(usize::MAX)).unwrap();
    assert_eq!(largest, super::MAX_LINES_OF_REMOTE);
}

#[tokio::test(start_paused = true)]
async fn a_slow_remote_leaves_room_for_the_listings_of_others() {
    let listings = super::Listings::new(std::time::Duration::from_secs(50));
    let mut slow = Vec::new();
    while let Some(held) = listings.place("slow", 10_000).await {
        slow.push(held);
        assert!(slow.len() < 100, "no bound");
    }
    let other = listings.place("quick", 10_000).await;
    assert!(other.is_some(), "{} listings of a slow remote take all places", slow.len());
    // Its own share is free again with the end of one of its listings.
    slow.pop();
    assert!(listings.place("slow", 10_000).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_listing_without_a_place_is_given_up_and_pages_on_their_way_keep_what_they_take() {
    let listings = super::Listings::new(std::time::Duration::from_secs(50));
    let mut sent = Vec::new();
    while let Some(held) = listings.place("s3", 10_000).await {
        sent.push(held.written(8_000));
        assert!(sent.len() < 100, "no bound");
    }
    // 2,000 places each, and the last one found less than it needed.
    assert_eq!(sent.len(), 16);
    assert!(listings.place("s3", 8_000).await.is_some());
    sent.clear();
    assert!(listings.place("s3", 20_000).await.is_some());
}
