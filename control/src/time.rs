//! Wall-clock times: milliseconds since the epoch inside, protobuf timestamps outside.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// Now, in milliseconds since the epoch.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since the epoch as the contract has it.
#[must_use]
pub fn timestamp(milliseconds: i64) -> Timestamp {
    let nanos = i32::try_from(milliseconds.rem_euclid(1_000)).unwrap_or(0) * 1_000_000;
    Timestamp { seconds: milliseconds.div_euclid(1_000), nanos }
}

/// The contract's time in milliseconds since the epoch; a time out of range is cut to it.
#[must_use]
pub fn milliseconds(timestamp: &Timestamp) -> i64 {
    timestamp.seconds.saturating_mul(1_000).saturating_add(i64::from(timestamp.nanos) / 1_000_000)
}

/// For people: UTC to the second.
#[must_use]
pub fn shown(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| "an unknown time".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// The month in UTC, such as `2026-11`.
#[must_use]
pub fn month(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| "1970-01".to_owned(), |time| time.strftime("%Y-%m").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        for milliseconds_ in [0, 1, 999, 1_700_000_000_123, -1, -1_001] {
            assert_eq!(milliseconds(&timestamp(milliseconds_)), milliseconds_);
        }
        assert_eq!(milliseconds(&Timestamp { seconds: i64::MAX, nanos: 5 }), i64::MAX);
        assert_eq!(shown(1_700_000_000_123), "2023-11-14 22:13:20Z");
        assert_eq!(month(1_700_000_000_123), "2023-11");
        assert_eq!(month(i64::MAX), "1970-01");
    }
}
