#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::sync_config::{ConfigProblem, parse_sync_config};

/// The limits of a configuration, or its problems, one line each.
fn parse(limits: Value) -> Result<Limits, Vec<String>> {
    let document = json!({"devices": "/d", "status_dir": "/s", "items_chunk": 1, "limits": limits});
    let parsed = parse_sync_config(&document.to_string());
    let lines = |problems: Vec<ConfigProblem>| problems.iter().map(ToString::to_string).collect();
    parsed.map(|parsed| parsed.config.limits).map_err(lines)
}

fn bytes(limit: impl Into<Option<u64>>) -> Rates {
    Rates { bytes_per_second: limit.into(), ..Rates::default() }
}

/// `mon 08:00` and the like.
fn at(text: &str) -> WeekMinute {
    let (day, time) = text.split_once(' ').unwrap();
    let day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().position(|name| *name == day).unwrap();
    let (hour, minute) = time.split_once(':').unwrap();
    WeekMinute::new(day.try_into().unwrap(), hour.parse().unwrap(), minute.parse().unwrap())
}

#[test]
fn nothing_is_limited_unless_it_is_configured() {
    for none in [json!(null), json!({}), json!({"concurrency": null, "timetable": []})] {
        let limits = parse(none).unwrap();
        assert!(limits.is_unlimited());
        assert_eq!(limits, Limits::default());
        assert_eq!(limits.at(at("mon 00:00")), Rates::default());
    }
    for some in [
        json!({"concurrency": 1}),
        json!({"bytes_per_second": 1}),
        json!({"requests_per_second": 1}),
        json!({"timetable": [{"from": "00:00", "to": "24:00", "concurrency": 1}]}),
    ] {
        assert!(!parse(some.clone()).unwrap().is_unlimited(), "{some}");
    }
    let idle = json!({"timetable": [{"from": "00:00", "to": "24:00"}]});
    assert!(parse(idle).unwrap().is_unlimited());
}

#[test]
fn the_timetable_holds_within_its_hours_and_the_base_outside() {
    let limits =
        parse(json!({"concurrency": 8, "bytes_per_second": 50, "requests_per_second": 200, "timetable": [
            {"days": ["mon", "TUE"], "from": "08:00", "to": "18:00", "bytes_per_second": 10},
            {"days": ["fri"], "from": "22:00", "to": "06:00", "bytes_per_second": null, "concurrency": 64},
            {"days": ["sun"], "from": "20:00", "to": "04:00", "bytes_per_second": 7},
            {"days": ["sat"], "from": "12:00", "to": "12:00", "bytes_per_second": 5},
            {"from": "03:00", "to": "05:00", "bytes_per_second": 1},
        ]}))
        .unwrap();
    for (moment, bytes_per_second, concurrency) in [
        ("mon 07:59", Some(50), 8),
        ("mon 08:00", Some(10), 8),
        ("tue 17:59", Some(10), 8),
        ("tue 18:00", Some(50), 8),
        ("wed 12:00", Some(50), 8),
        ("wed 03:00", Some(1), 8),
        ("wed 05:00", Some(50), 8),
        ("fri 05:59", Some(50), 8),
        ("fri 22:00", None, 64),
        ("sat 00:00", None, 64),
        ("sat 04:00", None, 64),
        ("sat 05:59", None, 64),
        ("sat 06:00", Some(50), 8),
        ("sat 12:00", Some(5), 8),
        ("sun 11:59", Some(5), 8),
        ("sun 12:00", Some(50), 8),
        // Over the end of the week.
        ("sun 23:59", Some(7), 8),
        ("mon 00:00", Some(7), 8),
        ("mon 03:59", Some(7), 8),
        ("mon 04:00", Some(1), 8),
    ] {
        let rates = limits.at(at(moment));
        assert_eq!(rates.bytes_per_second, bytes_per_second, "{moment}");
        assert_eq!(rates.concurrency, Some(concurrency), "{moment}");
        assert_eq!(rates.requests_per_second, Some(200), "{moment}");
    }
}

#[test]
fn the_first_entry_that_covers_a_moment_wins() {
    let limits = parse(json!({"timetable": [
        {"from": "10:00", "to": "11:00", "bytes_per_second": 1},
        {"from": "10:30", "to": "24:00", "bytes_per_second": 2},
        {"from": "00:00", "to": "00:00", "bytes_per_second": 3},
    ]}))
    .unwrap();
    for (moment, expected) in
        [("wed 10:45", 1), ("wed 11:00", 2), ("wed 23:59", 2), ("thu 00:00", 3), ("thu 09:59", 3)]
    {
        assert_eq!(limits.at(at(moment)), bytes(expected), "{moment}");
    }
}

#[test]
fn a_share_is_an_equal_part_and_never_nothing() {
    let rates = Rates { concurrency: Some(8), bytes_per_second: Some(10), requests_per_second: Some(2) };
    let of = |concurrency, bytes, requests| Rates {
        concurrency: Some(concurrency),
        bytes_per_second: Some(bytes),
        requests_per_second: Some(requests),
    };
    for (workers, expected) in
        [(0, of(8, 10, 2)), (1, of(8, 10, 2)), (3, of(2, 3, 1)), (100, of(1, 1, 1)), (u32::MAX, of(1, 1, 1))]
    {
        assert_eq!(rates.share(workers), expected, "{workers}");
        assert_eq!(Rates::default().share(workers), Rates::default());
    }
}

#[test]
fn what_is_wrong_is_told_by_its_path() {
    let entry = |entry: Value| json!({"timetable": [entry]});
    for (limits, expected) in [
        (json!(5), "limits: found 5; allowed: an object"),
        (json!({"concurrency": 0}), "limits.concurrency: found 0; allowed: a whole number from 1 to 1024"),
        (json!({"concurrency": 1025}), "limits.concurrency: found 1025;"),
        (
            json!({"bytes_per_second": 0}),
            "limits.bytes_per_second: found 0; allowed: a whole number of at least 1",
        ),
        (json!({"bytes_per_second": -1}), "limits.bytes_per_second: found -1;"),
        (json!({"bytes_per_second": 1.5}), "limits.bytes_per_second: found 1.5;"),
        (json!({"requests_per_second": "5"}), "limits.requests_per_second: found the string \"5\";"),
        (json!({"requests_per_second": 4_294_967_296_u64}), "limits.requests_per_second: found 4294967296;"),
        (json!({"timetable": {}}), "limits.timetable: found an empty object; allowed: a list"),
        (entry(json!([])), "limits.timetable[0]: found an empty list; allowed: an object"),
        (entry(json!({"to": "01:00"})), "limits.timetable[0].from: found nothing;"),
        (entry(json!({"from": "24:00", "to": "01:00"})), "limits.timetable[0].from: found \"24:00\";"),
        (entry(json!({"from": "08:00", "to": "24:01"})), "limits.timetable[0].to: found \"24:01\";"),
        (entry(json!({"from": "8:00", "to": "09:00"})), "limits.timetable[0].from: found \"8:00\";"),
        (entry(json!({"from": "08:60", "to": "09:00"})), "limits.timetable[0].from: found \"08:60\";"),
        (entry(json!({"from": "08:00", "to": "+9:00"})), "limits.timetable[0].to: found \"+9:00\";"),
        (entry(json!({"from": 8, "to": "09:00"})), "limits.timetable[0].from: found 8;"),
        (
            entry(json!({"from": "08:00", "to": "09:00", "days": []})),
            "limits.timetable[0].days: found an empty list;",
        ),
        (entry(json!({"from": "08:00", "to": "09:00", "days": ["mo"]})), "limits.timetable[0].days:"),
        (
            entry(json!({"from": "08:00", "to": "09:00", "days": "mon"})),
            "limits.timetable[0].days: found \"mon\";",
        ),
        (
            entry(json!({"from": "08:00", "to": "09:00", "concurrency": 0})),
            "limits.timetable[0].concurrency: found 0;",
        ),
        (
            json!({"timetable": vec![json!({}); 169]}),
            "limits.timetable: found a list of 169 elements; allowed: a list of at most 168",
        ),
    ] {
        let problems = parse(limits.clone()).unwrap_err();
        assert_eq!(problems.len(), 1, "{limits}: {problems:?}");
        assert!(problems[0].starts_with(expected), "{}", problems[0]);
    }
}

proptest! {
    /// An entry covers exactly its length of the week for each of its days, and what is beyond the week is taken round.
    #[test]
    fn an_entry_covers_as_much_of_the_week_as_it_says(
        days in proptest::array::uniform7(any::<bool>()),
        from in 0u16..1440,
        to in 0u16..=1440,
    ) {
        let window = Window { days, from, to, change: Change::default() };
        let covered = (0..MINUTES_PER_WEEK).filter(|minute| window.covers(WeekMinute(*minute))).count();
        let length = if to > from { to - from } else { to + 1440 - from };
        let starts = days.iter().filter(|starts| **starts).count();
        prop_assert_eq!(covered, starts * usize::from(length));
    }

    #[test]
    fn every_moment_is_within_the_week(weekday in any::<u8>(), hour in any::<u8>(), minute in any::<u8>()) {
        prop_assert!(WeekMinute::new(weekday, hour, minute).0 < MINUTES_PER_WEEK);
    }
}
