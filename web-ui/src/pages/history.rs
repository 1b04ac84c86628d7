//! How it was: charts over a day, a week, sixty days.

use axum::extract::Query;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{GetHistoryRequest, GetHistoryResponse, Sample};

use crate::api::{Api, call};
use crate::failure::Failure;
use crate::page;
use crate::units;
use crate::visit::Visit;

/// A day.
pub const DAY: u32 = 86_400;
/// How far back a page may look, in seconds, and its name.
pub const SPANS: [(u32, &str); 4] =
    [(3_600, "an hour"), (DAY, "a day"), (7 * DAY, "a week"), (60 * DAY, "60 days")];
/// A line drawn by the server has at most so many points; what lies between two shows as the worst of them.
const POINTS: usize = 240;
/// The drawing's own units.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 100.0;

/// Of what, and how far back.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    mapping: String,
    #[serde(default)]
    seconds: String,
}

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct History {
    /// Of this mapping; empty: of all together.
    pub mapping: String,
    /// How far back, in seconds.
    pub seconds: u32,
    /// Between two samples, in seconds.
    pub step_seconds: u32,
    /// When, in seconds since the epoch; the lists below have one value for each. Gaps are not filled.
    pub at: Vec<i64>,
    /// Seconds behind; null: nothing was known.
    pub lag: Vec<Option<f64>>,
    /// Rows that were due and not done; null: nothing was known.
    pub rows: Vec<Option<u64>>,
    /// Objects carried per second.
    pub rows_per_second: Vec<f64>,
    /// Bytes sent per second.
    pub bytes_per_second: Vec<f64>,
    /// Rows set aside after failures.
    pub failures: Vec<u64>,
    #[serde(skip)]
    charts: Vec<Chart>,
}

/// A drawing, and what to draw it anew from.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Which list of [`History`].
    pub series: &'static str,
    /// Of the drawing.
    pub title: &'static str,
    /// Where the numbers are.
    pub source: String,
    /// Of an SVG with a view box of 600 by 100.
    pub path: String,
    /// Now and at most, in words.
    pub summary: String,
}

/// `GET /history`
pub async fn show(visit: Visit, Query(asked): Query<Asked>) -> Response {
    page::show(visit, "", Box::new(move |api| Box::pin(load(api, asked.clone())))).await
}

async fn load(api: Api, asked: Asked) -> Result<History, Failure> {
    let seconds = asked.seconds.parse().unwrap_or(DAY).clamp(60, 60 * DAY);
    let told = past(&api, &asked.mapping, seconds).await?;
    let samples = &told.samples;
    Ok(History {
        charts: charts(
            &asked.mapping,
            seconds,
            Some(&told),
            &["lag", "rows", "rows_per_second", "bytes_per_second", "failures"],
        ),
        mapping: asked.mapping.clone(),
        seconds,
        step_seconds: told.step_seconds,
        at: samples.iter().map(second).collect(),
        lag: samples.iter().map(|sample| sample.lag_seconds).collect(),
        rows: samples.iter().map(|sample| sample.lag_seconds.map(|_| sample.rows)).collect(),
        rows_per_second: samples.iter().map(|sample| sample.rows_per_second).collect(),
        bytes_per_second: samples.iter().map(|sample| sample.bytes_per_second).collect(),
        failures: samples.iter().map(|sample| sample.failures).collect(),
    })
}

/// Samples of a mapping, or of all together.
///
/// # Errors
/// What the control plane answered.
pub async fn past(api: &Api, mapping_id: &str, seconds: u32) -> Result<GetHistoryResponse, Failure> {
    call(api.status().get_history(GetHistoryRequest { mapping_id: mapping_id.to_owned(), seconds })).await
}

/// Samples of the last day, if they are wanted and can be told.
pub async fn past_if(is_wanted: bool, api: &Api, mapping_id: &str) -> Option<GetHistoryResponse> {
    if is_wanted { past(api, mapping_id, DAY).await.ok() } else { None }
}

/// Drawings of these series.
#[must_use]
pub fn charts(
    mapping_id: &str,
    seconds: u32,
    told: Option<&GetHistoryResponse>,
    series: &[&'static str],
) -> Vec<Chart> {
    let source = format!("/history.json?mapping={}&seconds={seconds}", super::encoded(mapping_id));
    series.iter().map(|name| chart(name, source.clone(), told, seconds)).collect()
}

fn second(sample: &Sample) -> i64 {
    sample.at.as_ref().map_or(0, |at| at.seconds)
}

#[expect(clippy::cast_precision_loss, reason = "drawn with a few hundred points")]
fn value(sample: &Sample, series: &str) -> Option<f64> {
    match series {
        "lag" => sample.lag_seconds,
        // Nothing being known is not nothing to do.
        "rows" => sample.lag_seconds.map(|_| sample.rows as f64),
        "rows_per_second" => Some(sample.rows_per_second),
        "bytes_per_second" => Some(sample.bytes_per_second),
        _ => Some(sample.failures as f64),
    }
}

fn words(series: &str, value: f64) -> String {
    match series {
        "lag" => units::seconds(value.round()),
        "rows_per_second" => units::row_rate(value),
        "bytes_per_second" => units::byte_rate(value),
        _ => format!("{value:.0}"),
    }
}

fn chart(series: &'static str, source: String, told: Option<&GetHistoryResponse>, seconds: u32) -> Chart {
    let title = match series {
        "lag" => "Behind",
        "rows" => "Objects to go",
        "rows_per_second" => "Objects carried",
        "bytes_per_second" => "Bytes sent",
        _ => "Failures",
    };
    let samples = told.map_or(&[][..], |told| &told.samples);
    let points: Vec<(i64, Option<f64>)> =
        samples.iter().map(|sample| (second(sample), value(sample, series))).collect();
    let known = points.iter().filter_map(|(_, value)| *value);
    let most = known.fold(0.0, f64::max);
    let summary = match points.last() {
        None if told.is_none() => "cannot be told now".to_owned(),
        None => "no samples (the first comes within a minute; they are kept of the first 1,000 mappings)"
            .to_owned(),
        Some((_, now)) => format!(
            "now {}, at most {}",
            now.map_or_else(|| units::UNKNOWN.to_owned(), |now| words(series, now)),
            words(series, most)
        ),
    };
    let path = draw(&points, told.map_or(60, |told| i64::from(told.step_seconds)), i64::from(seconds), most);
    Chart { series, title, source, path, summary }
}

/// A line from left to right. It is broken where nobody looked, and where nothing was known.
#[expect(clippy::cast_precision_loss, reason = "drawn with a few hundred points")]
fn draw(points: &[(i64, Option<f64>)], step: i64, span: i64, most: f64) -> String {
    use std::fmt::Write;
    let Some((end, _)) = points.last() else { return String::new() };
    let start = end.saturating_sub(span);
    let scale = if most > 0.0 { HEIGHT / most } else { 0.0 };
    // As many samples as there are between two points of the drawing.
    let bunch = points.len().div_ceil(POINTS).max(1);
    let mut path = String::new();
    let mut before: Option<i64> = None;
    for chunk in points.chunks(bunch) {
        let worst = chunk.iter().filter_map(|(_, value)| *value).reduce(f64::max);
        let Some((at, worst)) = chunk.last().map(|(at, _)| *at).zip(worst) else {
            before = None;
            continue;
        };
        let gap = step.saturating_mul(i64::try_from(bunch).unwrap_or(1)).saturating_mul(2);
        let goes_on = before.is_some_and(|before| at.saturating_sub(before) <= gap);
        let x = at.saturating_sub(start).max(0) as f64 / span.max(1) as f64 * WIDTH;
        let y = HEIGHT - worst * scale;
        // A single point shows as a short line.
        let _ = if goes_on { write!(path, "L{x:.1} {y:.1}") } else { write!(path, "M{x:.1} {y:.1}h1") };
        before = Some(at);
    }
    path
}

/// How much of what had piled up is done: since the last time that nothing was to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CatchUp {
    /// The most that was to do, in rows.
    pub peak: u64,
    /// Of these, done.
    pub done: u64,
    /// In hundredths.
    pub percent: u64,
}

/// `None`: nothing is to do, or it is the most that there was.
#[must_use]
pub fn catch_up(samples: &[Sample], rows: u64) -> Option<CatchUp> {
    let known = samples.iter().rev().filter(|sample| sample.lag_seconds.is_some());
    let since = known.take_while(|sample| sample.rows > 0);
    let peak = since.map(|sample| sample.rows).max().unwrap_or(0);
    let done = peak.checked_sub(rows).filter(|done| *done > 0 && rows > 0)?;
    Some(CatchUp { peak, done, percent: done.saturating_mul(100).checked_div(peak).unwrap_or(0) })
}

crate::templates!(History, "history.html", false, |view| match view.mapping.as_str() {
    "" => "History".to_owned(),
    mapping => format!("History of mapping {mapping}"),
});

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rows: &[u64]) -> Vec<Sample> {
        rows.iter().map(|rows| Sample { rows: *rows, lag_seconds: Some(1.0), ..Sample::default() }).collect()
    }

    #[test]
    fn catching_up_counts_from_the_last_time_that_nothing_was_to_do() {
        for (past, rows, expected) in [
            (&[][..], 5, None),
            (&[0, 0], 5, None),
            (&[900, 0, 50, 100, 80], 60, Some((100, 40, 40))),
            (&[100, 80], 0, None),
            (&[10, 80], 80, None),
            (&[10, 80], 90, None),
        ] {
            let found = catch_up(&samples(past), rows).map(|told| (told.peak, told.done, told.percent));
            assert_eq!(found, expected, "{past:?} {rows}");
        }
    }

    #[test]
    fn lines_are_broken_where_nobody_looked() {
        let at = |minute: i64, value: f64| (minute * 60, Some(value));
        assert_eq!(draw(&[], 60, 3_600, 0.0), "");
        assert_eq!(
            draw(&[at(0, 0.0), at(30, 5.0), at(31, 10.0), (32 * 60, None), at(60, 10.0)], 60, 3_600, 10.0),
            "M0.0 100.0h1M300.0 50.0h1L310.0 0.0M600.0 0.0h1"
        );
        let many: Vec<_> = (0..1_440).map(|minute| at(minute, 1.0)).collect();
        let path = draw(&many, 60, 86_400, 1.0);
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (1, 239));
    }
}
