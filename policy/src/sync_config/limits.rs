//! Reads `limits` and `delete_limit`.

use std::time::Duration;

use serde_json::Value;

use super::keys;
use super::problem::describe;
use super::reader::Section;
use crate::delete_limit::DeleteLimit;
use crate::limits::{Change, Limits, Rates, Window};

const KEYS: [&str; keys::LIMITS.len()] = keys::names(&keys::LIMITS);
const ENTRY_KEYS: [&str; keys::TIMETABLE.len()] = keys::names(&keys::TIMETABLE);
const DELETE_LIMIT_KEYS: [&str; keys::DELETE_LIMIT.len()] = keys::names(&keys::DELETE_LIMIT);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAYS_RULE: &str =
    "a list of one or more of \"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\" and \"sun\"";

/// Nobody's week has more hours.
const MAX_ENTRIES: usize = 168;
const MAX_CONCURRENCY: u64 = 1024;
const MIDNIGHT: u16 = 24 * 60;
const LONGEST_PERIOD: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads `limits`, of a mapping or of all.
pub(super) fn read(section: &mut Section<'_>) -> Limits {
    let allowed = "an object with concurrency, bytes_per_second, requests_per_second and timetable";
    let Some(mut limits) = section.section("limits", allowed) else {
        return Limits::default();
    };
    limits.warn_of_unknown_keys(&KEYS);
    let base = read_change(&mut limits);
    let base = Rates {
        concurrency: base.concurrency.flatten(),
        bytes_per_second: base.bytes_per_second.flatten(),
        requests_per_second: base.requests_per_second.flatten(),
    };
    Limits::new(base, read_timetable(&mut limits))
}

fn read_change(section: &mut Section<'_>) -> Change {
    let narrow = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
    let concurrency = section.whole_or_null("concurrency", 1..=MAX_CONCURRENCY);
    let bytes_per_second = section.whole_or_null("bytes_per_second", 1..=u64::MAX);
    let requests_per_second = section.whole_or_null("requests_per_second", 1..=u64::from(u32::MAX));
    Change {
        concurrency: concurrency.map(narrow),
        bytes_per_second,
        requests_per_second: requests_per_second.map(narrow),
    }
}

fn read_timetable(limits: &mut Section<'_>) -> Vec<Window> {
    let allowed = format!("a list of at most {MAX_ENTRIES} objects with days, from, to and rates");
    let entries = limits.list("timetable", &allowed);
    let base = limits.key_path("timetable");
    if entries.len() > MAX_ENTRIES {
        limits.reject("timetable", &format!("a list of {} elements", entries.len()), &allowed);
        return Vec::new();
    }
    let mut windows = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{base}[{index}]");
        match entry {
            Value::Object(members) => {
                windows.extend(read_window(&mut Section::new(path, members, limits.report())));
            }
            other => {
                let allowed = "an object with days, from, to and rates";
                limits.report().problem(&path, &describe(other), allowed);
            }
        }
    }
    windows
}

fn read_window(entry: &mut Section<'_>) -> Option<Window> {
    entry.warn_of_unknown_keys(&ENTRY_KEYS);
    let days = read_days(entry);
    let from = read_time(entry, "from", "a local time from \"00:00\" to \"23:59\"", MIDNIGHT - 1);
    let to = read_time(entry, "to", "a local time from \"00:00\" to \"24:00\"", MIDNIGHT);
    let change = read_change(entry);
    Some(Window { days: days?, from: from?, to: to?, change })
}

fn read_days(entry: &mut Section<'_>) -> Option<[bool; 7]> {
    let Some(value) = entry.value("days") else {
        return Some([true; 7]);
    };
    let named = |name: &Value| {
        let name = name.as_str()?;
        DAYS.iter().position(|day| day.eq_ignore_ascii_case(name))
    };
    let days: Option<Vec<usize>> = value.as_array().and_then(|names| names.iter().map(named).collect());
    let Some(days) = days.filter(|days| !days.is_empty()) else {
        entry.reject("days", &describe(value), DAYS_RULE);
        return None;
    };
    Some(std::array::from_fn(|day| days.contains(&day)))
}

fn read_time(entry: &mut Section<'_>, key: &str, allowed: &str, latest: u16) -> Option<u16> {
    if entry.value(key).is_none() {
        entry.missing(key, allowed, &ENTRY_KEYS);
    }
    let text = entry.text(key, allowed, |text| minute_of_day(text).is_some_and(|minute| minute <= latest))?;
    minute_of_day(text)
}

/// The minute of `HH:MM`; `24:00` is the last.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= MIDNIGHT).then_some(total)
}

/// Reads `delete_limit`; `None` when it is switched off.
pub(super) fn read_delete_limit(section: &mut Section<'_>) -> Option<DeleteLimit> {
    let default = DeleteLimit::default();
    let allowed = "false, or an object with count, ratio and per";
    match section.value("delete_limit") {
        None => return Some(default),
        Some(Value::Bool(false)) => return None,
        Some(_) => {}
    }
    let Some(mut limit) = section.section("delete_limit", allowed) else {
        return Some(default);
    };
    limit.warn_of_unknown_keys(&DELETE_LIMIT_KEYS);
    let count = limit.whole_or_null("count", 0..=u64::MAX).flatten();
    let range = Duration::from_secs(1)..=LONGEST_PERIOD;
    let per = limit.positive_span("per");
    let per = per.filter(|per| {
        let fits = range.contains(per);
        if !fits {
            let found = format!("{} seconds", per.as_secs_f64());
            limit.reject("per", &found, "a number of seconds from 1 to 2592000, which is 30 days");
        }
        fits
    });
    let ratio = limit.ratio("ratio");
    Some(DeleteLimit {
        count: count.unwrap_or(default.count),
        ratio: ratio.unwrap_or(default.ratio),
        per: per.unwrap_or(default.per),
    })
}
