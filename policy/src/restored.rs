//! Objects that were written back to Swift from a remote: how they are dated and marked.
//!
//! The shunt restores archived objects, the worker archives them again: both must mean the same.
//!
//! | write | timestamp |
//! |---|---|
//! | a user's PUT | `t` |
//! | the archiver's tombstone | `t` with offset 1 |
//! | the restored object | `t` with offset 2 |
//! | the archiver's next tombstone | `t` with offset 3 |
//!
//! So whatever a user writes or deletes after `t`, even if it arrives later, wins over what this program does.

use std::time::Duration;

use crate::timestamp::Timestamp;

/// The header that makes a shunt pass a request on untouched, whatever its value, if it has one. In lower case.
pub const SHUNT_BYPASS_HEADER: &str = "x-cloud-sync-shunt-bypass";

/// The system metadata of a restored object, see [`restored_mark`]. In lower case.
pub const RESTORED_HEADER: &str = "x-object-sysmeta-s3-sync-restored";

/// Without a tombstone, what is restored is dated this long ago at least. A remote whose clock is ahead must not win over what users write
/// now, and a tombstone that no replica at hand knows of must not make us win over an upload that began before it and is still going on.
const LONGEST_UPLOAD: Duration = Duration::from_secs(86_400);

const RESTORED_OFFSET: u64 = 2;

/// The timestamp with which an archived object is written back, or `None` when it must not be.
///
/// `tombstone` is the newest one that Swift knows of: the archiver's has an offset, and what is restored sorts right behind it. One without is a
/// user's, who wants the object gone. Swift forgets tombstones after a while; then the time at which the remote stored the object counts.
#[must_use]
pub fn restore_timestamp(
    tombstone: Option<Timestamp>,
    remote_modified: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    match tombstone {
        Some(tombstone) if tombstone.offset() == 0 => None,
        Some(tombstone) => Some(tombstone.with_offset(tombstone.offset().checked_add(1)?)),
        None => {
            let latest = now.units().saturating_sub(Timestamp::default().plus(LONGEST_UPLOAD).units());
            let units = remote_modified?.units().min(latest);
            Some(Timestamp::new(units, RESTORED_OFFSET))
        }
    }
}

/// The value of [`RESTORED_HEADER`]: when the object was restored, in whole seconds since the epoch, and after a blank the ETag of the remote
/// copy that it was made from, if that is one word and not empty.
#[must_use]
pub fn restored_mark(seconds: u64, remote_etag: &str) -> String {
    if remote_etag.is_empty() || !remote_etag.bytes().all(|byte| byte.is_ascii_graphic()) {
        return seconds.to_string();
    }
    format!("{seconds} {remote_etag}")
}

/// The ETag of the remote copy that an object was made from, by the value of its [`RESTORED_HEADER`], if that tells.
#[must_use]
pub fn restored_from(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()?.split_ascii_whitespace().nth(1)
}

/// When an object was restored, by the value of its [`RESTORED_HEADER`]; `None` when that is not a time. A time in the future counts
/// as `now`, so that nobody waits longer than from now on.
#[must_use]
pub fn restored_at(value: &[u8], now: Timestamp) -> Option<Timestamp> {
    let seconds: u64 = std::str::from_utf8(value).ok()?.split_ascii_whitespace().next()?.parse().ok()?;
    let restored = Timestamp::default().plus(Duration::from_secs(seconds));
    Some(restored.min(now.with_offset(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_units(1_700_000_000 * 100_000);

    fn at(seconds: u64, offset: u64) -> Timestamp {
        Timestamp::new(seconds * 100_000, offset)
    }

    #[test]
    fn the_table() {
        for (name, tombstone, modified, expected) in [
            ("archived", Some(at(1_000, 1)), Some(at(2_000, 0)), Some(at(1_000, 2))),
            ("archived again", Some(at(1_000, 3)), None, Some(at(1_000, 4))),
            ("deleted by a user", Some(at(1_000, 0)), Some(at(2_000, 0)), None),
            ("forgotten", None, Some(at(2_000, 0)), Some(at(2_000, 2))),
            ("forgotten, and nobody knows when it was stored", None, None, None),
            ("a remote whose clock is ahead", None, Some(at(9_000_000_000, 0)), Some(at(1_699_913_600, 2))),
            ("no offset left", Some(at(1_000, u64::MAX)), None, None),
        ] {
            assert_eq!(restore_timestamp(tombstone, modified, NOW), expected, "{name}");
        }
    }

    #[test]
    fn marks_are_read_with_care() {
        assert_eq!(restored_at(b"1000", NOW), Some(at(1_000, 0)));
        assert_eq!(restored_at(b" 1000 ", NOW), Some(at(1_000, 0)));
        assert_eq!(restored_at(b"99999999999999", NOW), Some(NOW), "nobody waits for the end of time");
        assert_eq!(restored_at(restored_mark(1_000, "e-2").as_bytes(), NOW), Some(at(1_000, 0)));
        assert_eq!(restored_from(restored_mark(1_000, "e-2").as_bytes()), Some("e-2"));
        for etag in ["", "two words", "\u{e9}", "line\n"] {
            assert_eq!(restored_mark(1_000, etag), "1000");
        }
        assert_eq!(restored_from(b"1000"), None);
        for nonsense in [&b""[..], b"soon", b"-1", b"1.5", b"\xff"] {
            assert_eq!(restored_at(nonsense, NOW), None);
        }
    }

    proptest! {
        #[test]
        fn every_later_write_of_a_user_wins(written in 1..1_700_000_000_u64, offset in 1..9_u64, later in 1..100_000_u64) {
            let restored = restore_timestamp(Some(at(written, offset)), None, NOW);
            prop_assert!(restored > Some(at(written, offset)), "it is there at all");
            prop_assert!(restored < Some(Timestamp::from_units(at(written, 0).units() + later)));
        }

        #[test]
        fn nothing_is_restored_into_the_future(modified in 0..u64::MAX / 2) {
            let restored = restore_timestamp(None, Some(Timestamp::from_units(modified)), NOW);
            prop_assert!(restored < Some(NOW));
        }
    }
}
