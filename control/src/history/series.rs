//! The past as numbers: which minute, what is kept, how 15 minutes become one. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use swift_s3_proto::v1::{ClusterStatus, Lag, MappingStatus, Sample};

use crate::time;

/// The mappings that a history is kept of: the first so many of the configuration.
pub(super) const MAX_MAPPINGS: usize = 1_000;
/// What stands in place of a mapping's id for all together.
pub(super) const ALL: &str = "";
const MINUTE_MS: i64 = 60_000;
const MINUTES_PER_DAY: i64 = 24 * 60;
const SECONDS_PER_DAY: u32 = 24 * 60 * 60;
/// Minutes that become one coarse sample.
const COARSE_MINUTES: i64 = 15;
/// How long coarse samples are kept.
const COARSE_DAYS: i64 = 60;

/// How it was in one minute, or 15.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// `None`: nothing was known.
    pub(super) lag_seconds: Option<f64>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) failures: u64,
    pub(super) rows_per_second: f64,
    pub(super) bytes_per_second: f64,
    /// False: some of it was unknown.
    pub(super) is_complete: bool,
}

/// How far apart samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One for each minute, for a day.
    Minute,
    /// One for each 15 minutes, for 60 days.
    Coarse,
}

impl Step {
    pub(super) const BOTH: [Self; 2] = [Self::Minute, Self::Coarse];

    fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Coarse => COARSE_MINUTES,
        }
    }

    fn kept_minutes(self) -> i64 {
        match self {
            Self::Minute => MINUTES_PER_DAY,
            Self::Coarse => COARSE_DAYS * MINUTES_PER_DAY,
        }
    }

    pub(super) fn seconds(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Coarse => 900,
        }
    }

    /// The number of the step that a time is in.
    pub(super) fn number(self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.minutes().saturating_mul(MINUTE_MS))
    }

    /// When a step begins.
    pub(super) fn begins_ms(self, number: i64) -> i64 {
        number.saturating_mul(self.minutes()).saturating_mul(MINUTE_MS)
    }

    /// How many are kept.
    pub(super) fn steps(self) -> i64 {
        self.kept_minutes() / self.minutes()
    }

    /// The steps that may be asked for, on both sides of now.
    pub(super) fn kept(self, now_ms: i64) -> RangeInclusive<i64> {
        let (now, steps) = (self.number(now_ms), self.steps());
        now.saturating_sub(steps) + 1..=now.saturating_add(steps)
    }

    /// The steps that an answer is made of, for so many seconds back from now; 0: a day.
    pub(super) fn asked(seconds: u32, now_ms: i64) -> (Self, RangeInclusive<i64>) {
        let seconds = if seconds == 0 { SECONDS_PER_DAY } else { seconds };
        let step = if seconds <= SECONDS_PER_DAY { Self::Minute } else { Self::Coarse };
        let steps = i64::from(seconds.div_ceil(step.seconds()));
        let now = step.number(now_ms);
        let first = now.saturating_sub(steps).saturating_add(1);
        (step, first.max(*step.kept(now_ms).start())..=now)
    }
}

/// The minutes that the coarse step of a time is made of.
pub(super) fn minutes_of_coarse(at_ms: i64) -> RangeInclusive<i64> {
    let first = Step::Coarse.number(at_ms).saturating_mul(COARSE_MINUTES);
    first..=first.saturating_add(COARSE_MINUTES - 1)
}

/// Makes one of several: the worst of lag and failures, the mean of rates. `None`: there are none.
#[allow(clippy::cast_precision_loss, reason = "at most 15")]
pub(super) fn fold(points: &[Point]) -> Option<Point> {
    let (first, rest) = points.split_first()?;
    let mut folded = *first;
    for point in rest {
        folded.lag_seconds = match (folded.lag_seconds, point.lag_seconds) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        folded.rows = folded.rows.max(point.rows);
        folded.bytes = folded.bytes.max(point.bytes);
        folded.failures = folded.failures.max(point.failures);
        folded.rows_per_second += point.rows_per_second;
        folded.bytes_per_second += point.bytes_per_second;
        folded.is_complete &= point.is_complete;
    }
    let count = points.len() as f64;
    folded.rows_per_second /= count;
    folded.bytes_per_second /= count;
    Some(folded)
}

/// How it is now: all together under [`ALL`], and each of the first mappings under its id.
pub(super) fn points(status: &ClusterStatus, mappings: &[MappingStatus]) -> BTreeMap<String, Point> {
    let point = |lag: Option<&Lag>, failures, rates: (f64, f64), is_complete| Point {
        // A lag that is no number is not known.
        lag_seconds: lag.map(|lag| lag.seconds).filter(|seconds| seconds.is_finite()),
        rows: lag.map_or(0, |lag| lag.rows),
        bytes: lag.map_or(0, |lag| lag.bytes),
        failures,
        rows_per_second: rates.0,
        bytes_per_second: rates.1,
        is_complete,
    };
    let rates = mappings
        .iter()
        .fold((0.0, 0.0), |sum, one| (sum.0 + one.rows_per_second, sum.1 + one.bytes_per_second));
    let all = point(status.lag.as_ref(), status.failures, rates, status.is_complete);
    let each = mappings.iter().take(MAX_MAPPINGS).map(|mapping| {
        let rates = (mapping.rows_per_second, mapping.bytes_per_second);
        let point = point(mapping.lag.as_ref(), mapping.failures, rates, mapping.is_complete);
        (mapping.mapping_id.clone(), point)
    });
    each.chain([(ALL.to_owned(), all)]).collect()
}

/// A point as the contract has it.
pub(super) fn sample(step: Step, number: i64, point: &Point) -> Sample {
    Sample {
        at: Some(time::timestamp(step.begins_ms(number))),
        lag_seconds: point.lag_seconds,
        rows: point.rows,
        bytes: point.bytes,
        failures: point.failures,
        rows_per_second: point.rows_per_second,
        bytes_per_second: point.bytes_per_second,
        is_complete: point.is_complete,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn times_fall_into_minutes_and_quarters_of_hours() {
        for (at_ms, minute, coarse) in [
            (0, 0, 0),
            (59_999, 0, 0),
            (60_000, 1, 0),
            (899_999, 14, 0),
            (900_000, 15, 1),
            (-1, -1, -1),
            (1_700_000_000_123, 28_333_333, 1_888_888),
        ] {
            assert_eq!((Step::Minute.number(at_ms), Step::Coarse.number(at_ms)), (minute, coarse), "{at_ms}");
            assert!(minutes_of_coarse(at_ms).contains(&minute));
            assert!(Step::Coarse.begins_ms(coarse) <= at_ms);
        }
        assert_eq!(minutes_of_coarse(900_000), 15..=29);
    }

    #[test]
    fn an_answer_reaches_as_far_back_as_asked_and_kept() {
        let now = 100 * 24 * HOUR_MS + 30_000;
        for (seconds, step, steps) in [
            (0, Step::Minute, 1_440),
            (1, Step::Minute, 1),
            (3_600, Step::Minute, 60),
            (86_400, Step::Minute, 1_440),
            (86_401, Step::Coarse, 97),
            (60 * 86_400, Step::Coarse, 5_760),
            (u32::MAX, Step::Coarse, 5_760),
        ] {
            let (of, range) = Step::asked(seconds, now);
            assert_eq!(
                (of, range.end() - range.start() + 1, *range.end()),
                (step, steps, step.number(now)),
                "{seconds}"
            );
        }
    }

    #[test]
    fn what_is_kept_is_bounded_on_both_sides_of_now() {
        for (step, steps) in [(Step::Minute, 1_440), (Step::Coarse, 5_760)] {
            let kept = step.kept(0);
            assert_eq!((*kept.start(), *kept.end()), (1 - steps, steps));
        }
        for now in [i64::MIN, i64::MAX] {
            assert!(Step::Minute.kept(now).contains(&Step::Minute.number(now)));
            assert!(Step::asked(0, now).1.contains(&Step::Minute.number(now)));
        }
    }

    #[test]
    fn all_together_and_each_mapping_make_points() {
        let lag = |seconds| Some(Lag { seconds, rows: 3, bytes: 30, ..Lag::default() });
        let mapping = |id: &str, seconds: Option<f64>| MappingStatus {
            mapping_id: id.to_owned(),
            lag: seconds.and_then(lag),
            failures: 2,
            rows_per_second: 1.5,
            is_complete: true,
            ..MappingStatus::default()
        };
        let mappings = [mapping("a", Some(7.0)), mapping("b", None), mapping("c", Some(f64::NAN))];
        let status = ClusterStatus { lag: lag(9.0), failures: 4, ..ClusterStatus::default() };
        let points = points(&status, &mappings);
        let all = points[ALL];
        assert_eq!(
            (all.lag_seconds, all.failures, all.rows_per_second, all.is_complete),
            (Some(9.0), 4, 4.5, false)
        );
        assert_eq!((points["a"].lag_seconds, points["a"].rows, points["a"].failures), (Some(7.0), 3, 2));
        assert_eq!((points["b"].lag_seconds, points["c"].lag_seconds), (None, None));
        let many: Vec<MappingStatus> = (0..1_500).map(|index| mapping(&format!("m{index}"), None)).collect();
        assert_eq!(super::points(&status, &many).len(), MAX_MAPPINGS + 1);
    }

    fn any_point() -> impl Strategy<Value = Point> {
        let lag = prop::option::of(0.0..1e9_f64);
        (lag, any::<u32>(), any::<u32>(), any::<u32>(), 0.0..1e6_f64, 0.0..1e9_f64, any::<bool>()).prop_map(
            |(lag_seconds, rows, bytes, failures, rows_per_second, bytes_per_second, is_complete)| Point {
                lag_seconds,
                rows: rows.into(),
                bytes: bytes.into(),
                failures: failures.into(),
                rows_per_second,
                bytes_per_second,
                is_complete,
            },
        )
    }

    proptest! {
        #[test]
        fn folding_keeps_the_worst_and_the_mean(points in prop::collection::vec(any_point(), 1..=15)) {
            let folded = fold(&points).unwrap();
            let worst = points.iter().filter_map(|point| point.lag_seconds).max_by(f64::total_cmp);
            prop_assert_eq!(folded.lag_seconds, worst);
            prop_assert_eq!(folded.failures, points.iter().map(|point| point.failures).max().unwrap());
            prop_assert_eq!(folded.is_complete, points.iter().all(|point| point.is_complete));
            let least = points.iter().map(|point| point.rows_per_second).min_by(f64::total_cmp).unwrap();
            let most = points.iter().map(|point| point.rows_per_second).max_by(f64::total_cmp).unwrap();
            prop_assert!(folded.rows_per_second >= least * 0.999_999 && folded.rows_per_second <= most * 1.000_001);
            let mut reversed = points.clone();
            reversed.reverse();
            let other = fold(&reversed).unwrap();
            prop_assert!((other.bytes_per_second - folded.bytes_per_second).abs() <= folded.bytes_per_second * 1e-9);
            prop_assert_eq!(fold(&points[..1]).unwrap(), points[0]);
        }
    }

    #[test]
    fn nothing_folds_to_nothing() {
        assert_eq!(fold(&[]), None);
    }
}
