//! Numbers and times for people.

use jiff::Timestamp;
use swift_s3_proto::v1::Lag;

/// What stands for a thing that nobody can tell now. Never zero.
pub const UNKNOWN: &str = "unknown";

/// `1536` as `1.5 KiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn bytes(count: u64) -> String {
    scaled(count as f64)
}

/// A rate, as `1.5 KiB/s`.
#[must_use]
pub fn byte_rate(per_second: f64) -> String {
    format!("{}/s", scaled(per_second.max(0.0)))
}

fn scaled(count: f64) -> String {
    let mut rest = count;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] {
        // What rounds to 1024 belongs to the next unit.
        if rest < 1023.95 {
            return if unit == "B" { format!("{rest:.0} B") } else { format!("{rest:.1} {unit}") };
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} EiB")
}

/// A rate of rows, as `12.5/s`.
#[must_use]
pub fn row_rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{per_second:.0}/s") } else { format!("{per_second:.1}/s") }
}

/// Seconds as `1m 32s`: the two largest units, parts of a second only below ten.
#[must_use]
pub fn seconds(count: f64) -> String {
    if !count.is_finite() {
        return UNKNOWN.to_owned();
    }
    if count < 0.0 {
        return format!("-{}", seconds(-count));
    }
    if count < 9.95 && count.fract() != 0.0 {
        return if count < 0.05 { format!("{:.0}ms", count * 1000.0) } else { format!("{count:.1}s") };
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a cast saturates"
    )]
    let whole = count.round() as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes, whole % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, _, _) => format!("{days}d {hours}h"),
    }
}

/// Parts of a lag, as columns of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LagWords {
    /// How old the oldest row is that is due.
    pub seconds: String,
    /// Rows that are due.
    pub rows: String,
    /// Their bytes.
    pub bytes: String,
}

/// A lag in words: `unknown` when unset, `>=` when it is a lower bound, `~` when rows were too many to count.
#[must_use]
pub fn lag(lag: Option<&Lag>, is_complete: bool) -> LagWords {
    let Some(lag) = lag else {
        return LagWords { seconds: UNKNOWN.into(), rows: UNKNOWN.into(), bytes: UNKNOWN.into() };
    };
    let bound = if is_complete { "" } else { ">=" };
    let about = if lag.is_estimate { "~" } else { "" };
    LagWords {
        seconds: format!("{bound}{}", seconds(lag.seconds)),
        rows: format!("{bound}{about}{}", lag.rows),
        bytes: format!("{bound}{about}{}", bytes(lag.bytes)),
    }
}

/// A moment of the contract. `None` if it is out of any calendar's range.
#[must_use]
pub fn moment(timestamp: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(timestamp.seconds, timestamp.nanos).ok()
}

/// A moment as RFC 3339 in UTC, whole seconds; `-` if unset.
#[must_use]
pub fn date(timestamp: Option<&prost_types::Timestamp>) -> String {
    match timestamp {
        None => "-".to_owned(),
        Some(timestamp) => moment(timestamp)
            .and_then(|moment| moment.round(jiff::Unit::Second).ok())
            .map_or_else(|| UNKNOWN.to_owned(), |moment| moment.to_string()),
    }
}

/// How long ago it was, as `1m 32s`; `-` if unset.
#[must_use]
pub fn age(timestamp: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    match timestamp {
        None => "-".to_owned(),
        Some(timestamp) => moment(timestamp).map_or_else(
            || UNKNOWN.to_owned(),
            |then| seconds(now.duration_since(then).as_secs_f64().max(0.0).round()),
        ),
    }
}

/// How long until `epoch_seconds`: `now` when it has passed.
#[must_use]
pub fn until(epoch_seconds: u64, now: Timestamp) -> String {
    let wait = i64::try_from(epoch_seconds).unwrap_or(i64::MAX).saturating_sub(now.as_second());
    match u32::try_from(wait) {
        Ok(wait) if wait > 0 => format!("in {}", seconds(f64::from(wait))),
        Ok(_) => "now".to_owned(),
        Err(_) if wait < 0 => "now".to_owned(),
        Err(_) => UNKNOWN.to_owned(),
    }
}

/// `2 nodes`, `1 node`.
#[must_use]
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_have_binary_units() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
        assert_eq!(byte_rate(2048.0), "2.0 KiB/s");
        assert_eq!(row_rate(12.34), "12.3/s");
        assert_eq!(row_rate(1234.5), "1234/s");
    }

    #[test]
    fn seconds_show_two_units() {
        for (count, expected) in [
            (0.0, "0s"),
            (0.004, "4ms"),
            (0.25, "0.2s"),
            (3.0, "3s"),
            (59.6, "1m 0s"),
            (92.0, "1m 32s"),
            (3600.0, "1h 0m"),
            (7322.0, "2h 2m"),
            (90_061.0, "1d 1h"),
            (-92.0, "-1m 32s"),
            (f64::NAN, "unknown"),
        ] {
            assert_eq!(seconds(count), expected, "{count}");
        }
    }

    #[test]
    fn what_is_not_known_is_never_zero() {
        assert_eq!(lag(None, true).seconds, "unknown");
        assert_eq!(lag(None, false).rows, "unknown");
        let behind = Lag { rows: 12, bytes: 2048, seconds: 92.0, ..Lag::default() };
        assert_eq!(
            lag(Some(&behind), true),
            LagWords { seconds: "1m 32s".into(), rows: "12".into(), bytes: "2.0 KiB".into() }
        );
        assert_eq!(lag(Some(&behind), false).seconds, ">=1m 32s");
        assert_eq!(lag(Some(&Lag { is_estimate: true, ..behind }), false).rows, ">=~12");
    }

    #[test]
    fn moments_are_told_as_dates_ages_and_waits() {
        let now = Timestamp::from_second(1_700_000_100).unwrap();
        let then = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 400_000_000 };
        assert_eq!(date(Some(&then)), "2023-11-14T22:13:20Z");
        assert_eq!(date(None), "-");
        assert_eq!(date(Some(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 })), "unknown");
        assert_eq!(age(Some(&then), now), "1m 40s");
        assert_eq!(age(None, now), "-");
        assert_eq!(until(1_700_000_142, now), "in 42s");
        assert_eq!(until(5, now), "now");
        assert_eq!(until(u64::MAX, now), "unknown");
        assert_eq!((count(1, "node"), count(0, "node")), ("1 node".into(), "0 nodes".into()));
    }
}
