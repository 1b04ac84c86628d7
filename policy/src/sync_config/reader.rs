//! Reads typed values out of JSON objects and collects every problem on the way.
//!
//! A getter that reports a problem hands out the default or `None`, so that reading goes on; the result is
//! thrown away as soon as there is one problem.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::problem::{ConfigProblem, describe, path_part, quoted};
use super::similar::most_similar;

/// More problems than anybody reads. A file of a million bad mappings must not fill the memory twice.
const MAX_REPORTED: usize = 1000;

/// The longest time span, in seconds: 136 years, which keeps every sum within its type.
const MAX_SECONDS: f64 = 4_294_967_295.0;

/// Problems and warnings, in the order of discovery.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<ConfigProblem>,
    warnings: Vec<ConfigProblem>,
}

impl Report {
    pub(super) fn problem(&mut self, path: &str, found: &str, allowed: &str) {
        push(&mut self.problems, path, found, allowed);
    }

    pub(super) fn warning(&mut self, path: &str, found: &str, allowed: &str) {
        push(&mut self.warnings, path, found, allowed);
    }

    /// Takes over what another report has.
    pub(super) fn absorb(&mut self, other: Self) {
        for ConfigProblem { path, found, allowed } in other.problems {
            self.problem(&path, &found, &allowed);
        }
        for ConfigProblem { path, found, allowed } in other.warnings {
            self.warning(&path, &found, &allowed);
        }
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Takes the problems out of it.
    pub(super) fn take_problems(&mut self) -> Vec<ConfigProblem> {
        std::mem::take(&mut self.problems)
    }

    /// The warnings if there is no problem, else the problems.
    pub(super) fn into_result(self) -> Result<Vec<ConfigProblem>, Vec<ConfigProblem>> {
        if self.problems.is_empty() { Ok(self.warnings) } else { Err(self.problems) }
    }
}

fn push(list: &mut Vec<ConfigProblem>, path: &str, found: &str, allowed: &str) {
    let entry = |path: &str, found: &str, allowed: &str| ConfigProblem {
        path: path.to_owned(),
        found: found.to_owned(),
        allowed: allowed.to_owned(),
    };
    match list.len() {
        0..MAX_REPORTED => list.push(entry(path, found, allowed)),
        MAX_REPORTED => list.push(entry(path, "more than can be listed", "far fewer")),
        _ => {}
    }
}

/// Whether a key that has a value may be written as `null` to mean that it is absent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    IsAbsent,
    IsValue,
}

/// One JSON object, its path, and where its problems go.
pub(super) struct Section<'s> {
    path: String,
    members: &'s Map<String, Value>,
    report: &'s mut Report,
}

impl<'s> Section<'s> {
    pub(super) fn new(path: String, members: &'s Map<String, Value>, report: &'s mut Report) -> Self {
        Self { path, members, report }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn report(&mut self) -> &mut Report {
        self.report
    }

    pub(super) fn key_path(&self, key: &str) -> String {
        let key = path_part(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, unless it is absent or null.
    pub(super) fn value(&self, key: &str) -> Option<&'s Value> {
        self.lookup(key, Null::IsAbsent)
    }

    fn lookup(&self, key: &str, null: Null) -> Option<&'s Value> {
        let value = self.members.get(key)?;
        (null == Null::IsValue || !value.is_null()).then_some(value)
    }

    /// Reports a key with what is shown of its value.
    pub(super) fn reject(&mut self, key: &str, found: &str, allowed: &str) {
        let path = self.key_path(key);
        self.report.problem(&path, found, allowed);
    }

    pub(super) fn warn(&mut self, key: &str, found: &str, allowed: &str) {
        let path = self.key_path(key);
        self.report.warning(&path, found, allowed);
    }

    /// Reports a required key that is not there, with the unknown key that may have been meant for it.
    pub(super) fn missing(&mut self, key: &str, allowed: &str, known: &[&str]) {
        let unknown = self.members.keys().map(String::as_str);
        let unknown = unknown.filter(|present| !known.contains(present));
        let found = most_similar(key, unknown)
            .map(|meant| format!("nothing, but {} beside it", quoted(meant)))
            .unwrap_or_else(|| self.absence(key));
        self.reject(key, &found, allowed);
    }

    fn absence(&self, key: &str) -> String {
        let word = if self.members.contains_key(key) { "null" } else { "nothing" };
        word.to_owned()
    }

    /// A string for which `accept` holds.
    pub(super) fn text(
        &mut self,
        key: &str,
        allowed: &str,
        accept: impl Fn(&str) -> bool,
    ) -> Option<&'s str> {
        let value = self.value(key)?;
        match value.as_str().filter(|text| accept(text)) {
            Some(text) => Some(text),
            None => {
                self.reject(key, &describe(value), allowed);
                None
            }
        }
    }

    /// A path that is not empty.
    pub(super) fn file_path(&mut self, key: &str) -> Option<&'s str> {
        let accept = |text: &str| !text.is_empty() && !text.contains('\0');
        self.text(key, "a path", accept)
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.lookup(key, Null::IsValue) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.reject(key, &describe(other), "true or false");
                default
            }
        }
    }

    /// A whole number within a range; `None` if it is absent or wrong.
    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.lookup(key, Null::IsValue)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let allowed = format!("a whole number from {} to {}", range.start(), range.end());
            self.reject_number(key, value, &allowed);
        }
        number
    }

    /// A whole number within a range, `Some(None)` for `null`; `None` if it is absent or wrong.
    pub(super) fn whole_or_null(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Option<u64>> {
        let value = self.lookup(key, Null::IsValue)?;
        if value.is_null() {
            return Some(None);
        }
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let allowed = match *range.end() {
                u64::MAX => format!("a whole number of at least {}", range.start()),
                end => format!("a whole number from {} to {end}", range.start()),
            };
            self.reject_number(key, value, &allowed);
        }
        number.map(Some)
    }

    /// A port.
    pub(super) fn port(&mut self, key: &str, default: u16) -> u16 {
        let number = self.integer(key, 1..=u32::from(u16::MAX));
        number.and_then(|number| u16::try_from(number).ok()).unwrap_or(default)
    }

    /// A time span of at least 0, in units of `unit_seconds`; `None` if it is absent or wrong.
    pub(super) fn span(&mut self, key: &str, unit: Unit) -> Option<Duration> {
        let value = self.lookup(key, Null::IsValue)?;
        let span = value
            .as_f64()
            .map(|number| number * unit.seconds())
            .filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds))
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if span.is_none() {
            self.reject_number(key, value, unit.allowed());
        }
        span
    }

    /// A time span above 0.
    /// A part of a whole.
    pub(super) fn ratio(&mut self, key: &str) -> Option<f64> {
        let value = self.value(key)?;
        let ratio = value.as_f64().filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.reject(key, &describe(value), "a number from 0 to 1");
        }
        ratio
    }

    pub(super) fn positive_span(&mut self, key: &str) -> Option<Duration> {
        let span = self.span(key, Unit::Seconds)?;
        if span.is_zero() {
            self.reject(key, "0", "a number of seconds above 0");
            return None;
        }
        Some(span)
    }

    fn reject_number(&mut self, key: &str, value: &Value, allowed: &str) {
        let is_quoted_number = value.as_str().is_some_and(|text| text.trim().parse::<f64>().is_ok());
        if is_quoted_number {
            let found = format!("the string {}", describe(value));
            self.reject(key, &found, &format!("{allowed}, without quotes"));
        } else {
            self.reject(key, &describe(value), allowed);
        }
    }

    /// One of a few words, in any case.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, allowed: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let chosen = value.as_str().and_then(|text| {
            let mut words = words.iter();
            words.find(|(word, _)| word.eq_ignore_ascii_case(text))
        });
        if chosen.is_none() {
            self.reject(key, &describe(value), allowed);
        }
        chosen.map(|(_, meaning)| *meaning)
    }

    /// A list; an absent one is empty.
    pub(super) fn list(&mut self, key: &str, allowed: &str) -> &'s [Value] {
        match self.value(key) {
            None => &[],
            Some(Value::Array(elements)) => elements,
            Some(other) => {
                self.reject(key, &describe(other), allowed);
                &[]
            }
        }
    }

    /// An object within this one.
    pub(super) fn section(&mut self, key: &str, allowed: &str) -> Option<Section<'_>> {
        match self.value(key)? {
            Value::Object(members) => {
                let path = self.key_path(key);
                Some(Section::new(path, members, self.report))
            }
            other => {
                self.reject(key, &describe(other), allowed);
                None
            }
        }
    }

    /// Warns about every key that is not known. JSON has no comments, so a key that begins with `//` is one.
    pub(super) fn warn_of_unknown_keys(&mut self, known: &[&str]) {
        for key in self.members.keys() {
            if known.contains(&key.as_str()) || key.starts_with("//") {
                continue;
            }
            let allowed = match most_similar(key, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => "the documented keys".to_owned(),
            };
            self.warn(key, "an unknown key, which has no effect", &allowed);
        }
    }
}

/// The unit of a time span in the file.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Seconds,
    Minutes,
}

impl Unit {
    fn seconds(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Minutes => 60.0,
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Seconds => "a number of seconds from 0 to 4294967295",
            Self::Minutes => "a number of minutes from 0 to 71582788",
        }
    }
}
