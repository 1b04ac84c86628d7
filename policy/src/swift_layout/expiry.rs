//! When copies in another Swift cluster expire.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::mapping::Mapping;
use crate::remote::SwiftRemote;

/// Two clocks, and the time a request takes, stand between the copy's date and its expiry.
const TOLERANCE_SECONDS: u64 = 120;
/// Swift refuses expiry dates that have passed when the request arrives. A copy that should be gone already gets this much.
const SHORTEST_LIFE_SECONDS: u64 = 60;
/// The last second that Swift can tell. Source: `normalize_delete_at_timestamp` in `swift/common/utils.py` of Swift 2.30.1.
const LAST_SECOND: u64 = 9_999_999_999;

const DELETE_AT: &str = "x-delete-at";
const DELETE_AFTER: &str = "x-delete-after";

/// When a copy is to expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// At this second since the epoch.
    At(u64),
    /// This many seconds after it is written; at least 1.
    After(u64),
}

/// What an object is to its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectRole {
    /// Its bytes are its content.
    Plain,
    /// It names segments, which live no longer than promised to them: it must not outlive them.
    Manifest,
    /// A manifest needs it.
    Segment,
}

/// When the copy of an object expires that itself expires at the second `local`, if it does.
///
/// | `propagate_expiration` | `remote_delete_after` | offset | local expiry | copy |
/// |---|---|---|---|---|
/// | no | 0 | any | any | never |
/// | no | R | any | any | after R |
/// | yes | 0 | O | D | at D + O |
/// | yes | R | 0 | any | after R |
/// | yes | R | not 0 | D | at D + O; a manifest after R |
/// | yes | R | any | none | after R |
/// | yes | 0 | any | none | never |
///
/// Segments live longer by `remote_delete_after_addition` where R counts.
pub fn expiry_of(
    delete_after: Option<Duration>,
    remote: &SwiftRemote,
    role: ObjectRole,
    local: Option<u64>,
) -> Expiry {
    let after = delete_after.map(whole_seconds).filter(|seconds| *seconds > 0);
    let moved = remote.expiration_offset.zip(local).map(|(offset, local)| {
        let at = local.saturating_add_signed(offset);
        (offset, Expiry::At(at.min(LAST_SECOND)))
    });
    let after_writing = |after: u64| match role {
        ObjectRole::Segment => {
            Expiry::After(after.saturating_add(whole_seconds(remote.segments_live_longer)))
        }
        ObjectRole::Plain | ObjectRole::Manifest => Expiry::After(after),
    };
    match (after, moved) {
        (None, None) => Expiry::Never,
        (None, Some((_, at))) => at,
        (Some(_), Some((offset, at))) if offset != 0 && role != ObjectRole::Manifest => at,
        (Some(after), _) => after_writing(after),
    }
}

impl Mapping {
    /// [`expiry_of`] under this mapping; never, when the remote is no Swift cluster.
    pub fn expiry_on_swift(&self, role: ObjectRole, local: Option<u64>) -> Expiry {
        match self.remote.swift() {
            Some(remote) => expiry_of(self.remote_delete_after, remote, role, local),
            None => Expiry::Never,
        }
    }
}

impl Expiry {
    /// The header that asks for it, in a request sent at the second `now`. A length of time is told as one, so that clocks need not agree.
    pub fn header(self, now: u64) -> Option<(String, String)> {
        match self {
            Self::Never => None,
            Self::At(at) => {
                let at = at.max(now.saturating_add(SHORTEST_LIFE_SECONDS)).min(LAST_SECOND);
                Some((DELETE_AT.to_owned(), at.to_string()))
            }
            Self::After(after) => {
                let after = after.min(LAST_SECOND.saturating_sub(now));
                Some((DELETE_AFTER.to_owned(), after.to_string()))
            }
        }
    }

    /// Whether the copy was to be gone by now.
    pub fn has_passed(self, now: u64) -> bool {
        matches!(self, Self::At(at) if at <= now.saturating_add(SHORTEST_LIFE_SECONDS))
    }
}

/// Whether a copy expires as it should. `headers` are the remote's, in lower case, `modified` is the second at which the remote
/// wrote it last.
///
/// A copy that was promised a length of time is measured from its own date, so that looking at it does not move its end.
pub fn same_expiry(
    wanted: Expiry,
    headers: &BTreeMap<String, String>,
    modified: Option<u64>,
    now: u64,
) -> bool {
    let told = headers.get(DELETE_AT).map(|at| at.trim().parse::<u64>());
    match (wanted, told) {
        (Expiry::Never, told) => told.is_none(),
        (Expiry::At(at), Some(Ok(told))) => {
            told == at || (wanted.has_passed(now) && told <= now.saturating_add(TOLERANCE_SECONDS))
        }
        (Expiry::After(after), Some(Ok(told))) => modified.is_some_and(|modified| {
            told.abs_diff(modified.saturating_add(after).min(LAST_SECOND)) <= TOLERANCE_SECONDS
        }),
        (Expiry::At(_) | Expiry::After(_), _) => false,
    }
}

/// Whether something that is on the remote already, with these headers, lives as long as a manifest that is written at the second `now`
/// and lives for `manifest`. What ends at a time of its user's choice is not ours to prolong.
pub fn outlives(headers: &BTreeMap<String, String>, manifest: Expiry, now: u64) -> bool {
    let Expiry::After(after) = manifest else { return true };
    match headers.get(DELETE_AT) {
        None => true,
        Some(told) => {
            told.trim().parse::<u64>().is_ok_and(|told| told >= now.saturating_add(after).min(LAST_SECOND))
        }
    }
}

/// Rounded up, so that a part of a second is not "off".
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::remote::SwiftAuth;
    use crate::secret::CredentialSource;

    fn remote(offset: Option<i64>) -> SwiftRemote {
        SwiftRemote {
            auth_url: String::new(),
            auth: SwiftAuth::V1,
            credentials: CredentialSource::DefaultChain,
            container: String::new(),
            remote_account: None,
            storage_policy: None,
            convert_dlo: false,
            min_segment_size: 0,
            container_metadata: false,
            container_acl: false,
            expiration_offset: offset,
            segments_live_longer: Duration::from_secs(1000),
        }
    }

    #[test]
    fn the_table() {
        let r = Some(Duration::from_secs(100));
        let (plain, manifest, segment) = (ObjectRole::Plain, ObjectRole::Manifest, ObjectRole::Segment);
        for (offset, after, role, local, expected) in [
            (None, None, plain, Some(50), Expiry::Never),
            (None, r, plain, Some(50), Expiry::After(100)),
            (None, r, segment, None, Expiry::After(1100)),
            (None, r, manifest, None, Expiry::After(100)),
            (Some(7), None, plain, Some(50), Expiry::At(57)),
            (Some(-60), None, plain, Some(50), Expiry::At(0)),
            (Some(0), r, plain, Some(50), Expiry::After(100)),
            (Some(7), r, plain, Some(50), Expiry::At(57)),
            (Some(7), r, segment, Some(50), Expiry::At(57)),
            (Some(7), r, manifest, Some(50), Expiry::After(100)),
            (Some(7), r, plain, None, Expiry::After(100)),
            (Some(7), None, plain, None, Expiry::Never),
            (Some(i64::MAX), None, plain, Some(50), Expiry::At(LAST_SECOND)),
            (None, Some(Duration::from_millis(1)), plain, None, Expiry::After(1)),
        ] {
            assert_eq!(
                expiry_of(after, &remote(offset), role, local),
                expected,
                "{offset:?} {after:?} {role:?}"
            );
        }
    }

    #[test]
    fn nothing_is_asked_for_that_swift_refuses() {
        let header = |expiry: Expiry| expiry.header(1_000).map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(header(Expiry::Never), None);
        assert_eq!(header(Expiry::At(5_000)).as_deref(), Some("x-delete-at: 5000"));
        assert_eq!(header(Expiry::At(900)).as_deref(), Some("x-delete-at: 1060"));
        assert_eq!(header(Expiry::After(5)).as_deref(), Some("x-delete-after: 5"));
        assert_eq!(header(Expiry::After(u64::MAX)).as_deref(), Some("x-delete-after: 9999998999"));
    }

    #[test]
    fn looking_at_a_copy_does_not_move_its_end() {
        let told = |at: &str| BTreeMap::from([("x-delete-at".to_owned(), at.to_owned())]);
        let now = 100_000;
        for (name, wanted, headers, same) in [
            ("none wanted, none told", Expiry::Never, BTreeMap::new(), true),
            ("one told", Expiry::Never, told("200000"), false),
            ("none told", Expiry::After(100), BTreeMap::new(), false),
            ("written an hour ago", Expiry::After(7_200), told("103600"), true),
            ("another length of time", Expiry::After(7_500), told("103600"), false),
            ("the very second", Expiry::At(103_600), told("103600"), true),
            ("a second later", Expiry::At(103_601), told("103600"), false),
            ("should be gone, goes soon", Expiry::At(5), told("100060"), true),
            ("should be gone, stays", Expiry::At(5), told("100600"), false),
            ("nonsense", Expiry::At(5), told("soon"), false),
        ] {
            assert_eq!(same_expiry(wanted, &headers, Some(96_400), now), same, "{name}");
        }
        assert!(!same_expiry(Expiry::After(1), &told("5"), None, now), "a copy without a date");
    }

    #[test]
    fn segments_must_not_go_before_their_manifest() {
        let told = |at: &str| BTreeMap::from([("x-delete-at".to_owned(), at.to_owned())]);
        assert!(outlives(&told("1100"), Expiry::After(100), 1_000));
        assert!(!outlives(&told("1099"), Expiry::After(100), 1_000));
        assert!(!outlives(&told("soon"), Expiry::After(100), 1_000));
        assert!(outlives(&BTreeMap::new(), Expiry::After(100), 1_000));
        assert!(outlives(&told("5"), Expiry::At(100), 1_000));
    }

    proptest! {
        #[test]
        fn what_was_asked_for_is_found_in_sync(
            after in 1..10_000_000_u64, now in 1..5_000_000_000_u64, later in 0..100_000_u64, delay in 0..30_u64,
        ) {
            // The remote writes the object `delay` seconds after our clock says `now`.
            let written = now + delay;
            let headers = BTreeMap::from([("x-delete-at".to_owned(), (written + after).to_string())]);
            prop_assert!(same_expiry(Expiry::After(after), &headers, Some(written), written + later));
        }
    }
}
