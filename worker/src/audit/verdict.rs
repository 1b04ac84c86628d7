//! What one name is: equal, an error, or something that may be. First by its two listing entries, then, if these differ, by a closer
//! look at the object itself. Pure.

use std::time::{Duration, SystemTime};

use swift_s3_policy::Timestamp;
use swift_s3_policy::swift_layout::has_derived_form;
use swift_s3_proto::v1::DifferenceKind;

use super::merge::Named;
use crate::swift::container_server::objects::ListedObject;

/// A key of the remote that belongs to the container.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteEntry {
    /// The object's name: the key without the container's prefix.
    pub name: String,
    /// Without quotes; some clones give none.
    pub etag: Option<String>,
    /// Bytes.
    pub bytes: u64,
}

impl Named for ListedObject {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for RemoteEntry {
    fn name(&self) -> &str {
        &self.name
    }
}

/// What the mapping says, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Rows younger than this wait.
    pub copy_after: Duration,
    /// False: the mapping archives.
    pub retain_local: bool,
    /// The mapping carries deletes.
    pub propagate_delete: bool,
    /// Other containers have keys below the same prefix.
    pub is_shared: bool,
    /// The remote is an account of another Swift cluster.
    pub is_swift: bool,
    /// The remote removes copies after this time.
    pub remote_delete_after: Option<Duration>,
    /// The clock.
    pub now: Timestamp,
}

/// How two entries of one name compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Content and size.
    Content,
    /// The sizes; the ETags cannot be compared.
    SizeOnly,
    /// They differ.
    None,
}

/// What the listings say of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// Equal.
    Equal(Match),
    /// No error, as far as listings tell.
    Harmless(DifferenceKind, &'static str),
    /// An error, unless a closer look says otherwise.
    Suspect(DifferenceKind),
}

/// Compares content by ETags where both are MD5s, else by sizes. The ETag of a multipart upload says of a plain local object only that
/// nobody here uploaded it like that, so they differ unless a closer look at the remote object says that its ETag means nothing.
#[must_use]
pub fn compare(local_etag: &str, local_bytes: u64, remote_etag: Option<&str>, remote_bytes: u64) -> Match {
    if local_bytes != remote_bytes {
        return Match::None;
    }
    match (md5(local_etag), remote_etag.and_then(md5)) {
        (Some(local), Some(remote)) if local.eq_ignore_ascii_case(remote) => Match::Content,
        (Some(_), Some(_)) => Match::None,
        (Some(_), None) if remote_etag.is_some_and(is_multipart) => Match::None,
        _ => Match::SizeOnly,
    }
}

/// The form of ETags of multipart uploads: a digest, a dash, and the number of parts.
fn is_multipart(etag: &str) -> bool {
    let parts = etag.trim_matches('"').split_once('-');
    parts.is_some_and(|(digest, parts)| {
        md5(digest).is_some() && !parts.is_empty() && parts.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// An ETag that is the MD5 of the content: large objects' and encrypted ones' are something else, and carry parameters or a dash.
fn md5(etag: &str) -> Option<&str> {
    let etag = etag.trim_matches('"');
    (etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(etag)
}

/// Judges by listings alone.
#[must_use]
pub fn first(local: Option<&ListedObject>, remote: Option<&RemoteEntry>, terms: &Terms) -> First {
    match (local, remote) {
        (None, None) => First::Equal(Match::Content),
        (None, Some(remote)) if terms.is_swift && has_derived_form(&remote.name) => {
            First::Harmless(DifferenceKind::Kept, "a segment of a large object, joined for the remote")
        }
        (None, Some(_)) if !terms.retain_local => First::Harmless(DifferenceKind::Archived, "archived"),
        (None, Some(_)) if !terms.propagate_delete => {
            First::Harmless(DifferenceKind::Kept, "the mapping does not carry deletes")
        }
        (None, Some(_)) if terms.is_shared => {
            First::Harmless(DifferenceKind::Kept, "other containers have keys below this prefix")
        }
        (None, Some(_)) => First::Suspect(DifferenceKind::Extra),
        (Some(local), remote) => {
            let matched =
                remote.map(|remote| compare(&local.etag, local.bytes, remote.etag.as_deref(), remote.bytes));
            if let Some(matched @ (Match::Content | Match::SizeOnly)) = matched {
                return First::Equal(matched);
            }
            if local.modified.plus(terms.copy_after) > terms.now {
                let why = if terms.copy_after.is_zero() {
                    "dated in the future"
                } else {
                    "younger than copy_after"
                };
                return First::Harmless(DifferenceKind::Pending, why);
            }
            let is_expired =
                terms.remote_delete_after.is_some_and(|after| local.modified.plus(after) < terms.now);
            match remote {
                // It may never have been there.
                None if is_expired => First::Suspect(DifferenceKind::Expired),
                None => First::Suspect(DifferenceKind::Missing),
                Some(_) => First::Suspect(DifferenceKind::Different),
            }
        }
    }
}

/// What the object servers say of a suspect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalLook {
    /// The newest write of it; none if no replica that answers has it.
    pub written: Option<Timestamp>,
    /// Its newest tombstone.
    pub deleted: Option<Timestamp>,
    /// A dynamic manifest or a link, whose entry in the listing says nothing of its content.
    pub is_opaque: bool,
    /// A static manifest: its size is that of the whole, its ETag is not an MD5 of the content.
    pub is_static: bool,
    /// Its row is done, as this node's cursors say.
    pub is_done: bool,
    /// The mapping's selection wants it.
    pub is_selected: bool,
    /// Too few replicas answered.
    pub is_unsure: bool,
    /// Its newest tombstone is not a user's: the local copy went after it was archived.
    pub was_archived: bool,
}

/// What the remote says of a suspect, asked for it alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemoteLook {
    /// Without quotes.
    pub etag: String,
    /// Bytes.
    pub bytes: u64,
    /// Its ETag is not an MD5.
    pub is_opaque: bool,
    /// When it was stored.
    pub modified: Option<SystemTime>,
}

/// The end of a closer look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Second {
    /// Equal after all.
    Equal(Match),
    /// What it is, and why.
    Is(DifferenceKind, String),
    /// Left out by the mapping.
    Unwanted,
}

/// A delete is carried within this time, when nothing is behind.
const CARRIED: Duration = Duration::from_secs(60);

/// Judges a suspect by what the object servers say; `None` when the remote is to be asked too.
#[must_use]
pub fn by_local(
    kind: DifferenceKind,
    row: Option<Timestamp>,
    look: &LocalLook,
    now: Timestamp,
) -> Option<Second> {
    let pending = |why: &str| Some(Second::Is(DifferenceKind::Pending, why.to_owned()));
    if look.is_unsure {
        return pending("too few object servers answer");
    }
    match (kind, look.written, row) {
        (DifferenceKind::Extra, Some(_), _) => pending("the object is here; the container's listing lags"),
        (DifferenceKind::Extra, None, _) if look.was_archived => {
            let why = "archived once: the remote may hold the only copy";
            Some(Second::Is(DifferenceKind::Kept, why.to_owned()))
        }
        (DifferenceKind::Extra, None, _) if look.deleted.is_some_and(|at| at.plus(CARRIED) > now) => {
            pending("deleted a moment ago")
        }
        (DifferenceKind::Extra, None, _) => None,
        (_, None, Some(row)) if look.deleted > Some(row) => {
            pending("deleted here; the container's listing lags")
        }
        (_, None, _) => pending("no object server has it"),
        (DifferenceKind::Expired, ..) if !look.is_done => {
            pending("nobody here knows whether its row is done")
        }
        (_, Some(written), Some(row)) if written > row => {
            pending("written again; the container's listing lags")
        }
        _ if !look.is_selected => Some(Second::Unwanted),
        _ => None,
    }
}

/// Judges a suspect by what the remote says of it now.
#[must_use]
pub fn by_remote(
    kind: DifferenceKind,
    local: Option<&ListedObject>,
    look: &LocalLook,
    remote: Option<&RemoteLook>,
) -> Second {
    match (local, remote) {
        (None, None) => Second::Equal(Match::Content),
        (None, Some(_)) => Second::Is(kind, "only in the remote".to_owned()),
        (Some(_), None) if kind == DifferenceKind::Expired => {
            Second::Is(kind, "removed there after remote_delete_after".to_owned())
        }
        (Some(_), None) => Second::Is(DifferenceKind::Missing, "not in the remote".to_owned()),
        (Some(_), Some(_)) if look.is_opaque => {
            let why = "a dynamic large object or a link: listings do not tell its content";
            Second::Is(DifferenceKind::NotCompared, why.to_owned())
        }
        (Some(local), Some(remote)) => {
            let etag = (!remote.is_opaque).then_some(remote.etag.as_str());
            let local_etag = if look.is_static { "" } else { local.etag.as_str() };
            match compare(local_etag, local.bytes, etag, remote.bytes) {
                Match::None if local.bytes != remote.bytes => {
                    Second::Is(DifferenceKind::Different, "the sizes differ".to_owned())
                }
                Match::None => Second::Is(DifferenceKind::Different, "the ETags differ".to_owned()),
                matched => Second::Equal(matched),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_units(1_700_000_000 * 100_000);
    const MD5: &str = "5d41402abc4b2a76b9719d911017c592";
    const OTHER: &str = "00000000000000000000000000000000";
    const MIRROR: Terms = Terms {
        copy_after: Duration::ZERO,
        retain_local: true,
        propagate_delete: true,
        is_shared: false,
        is_swift: false,
        remote_delete_after: None,
        now: NOW,
    };

    fn here(age: u64) -> ListedObject {
        ListedObject {
            name: "o".to_owned(),
            bytes: 5,
            etag: MD5.to_owned(),
            modified: Timestamp::from_units(NOW.units() - age * 100_000),
        }
    }

    fn there(etag: Option<&str>, bytes: u64) -> RemoteEntry {
        RemoteEntry { name: "o".to_owned(), etag: etag.map(str::to_owned), bytes }
    }

    #[test]
    fn content_is_compared_where_both_sides_tell_an_md5() {
        let multipart = format!("{OTHER}-3");
        let slo = format!("{MD5}; slo_etag={OTHER}");
        for (local, bytes, remote, expected) in [
            (MD5, 5, Some(MD5), Match::Content),
            (MD5, 5, Some("5D41402ABC4B2A76B9719D911017C592"), Match::Content),
            (MD5, 5, Some(OTHER), Match::None),
            (MD5, 6, Some(MD5), Match::None),
            (MD5, 5, Some(multipart.as_str()), Match::None),
            (slo.as_str(), 5, Some(multipart.as_str()), Match::SizeOnly),
            (MD5, 5, Some("CJjW-opaque"), Match::SizeOnly),
            (slo.as_str(), 5, Some(OTHER), Match::SizeOnly),
            (slo.as_str(), 6, Some(OTHER), Match::None),
            (MD5, 5, None, Match::SizeOnly),
            ("", 5, Some(MD5), Match::SizeOnly),
        ] {
            assert_eq!(compare(local, bytes, remote, 5), expected, "{local} {bytes} {remote:?}");
        }
    }

    #[test]
    fn listings_tell_errors_from_what_may_be() {
        use DifferenceKind::{Archived, Different, Expired, Extra, Kept, Missing, Pending};
        let suspect = |found: First, kind| assert_eq!(found, First::Suspect(kind));
        let harmless =
            |found: First, kind| assert!(matches!(found, First::Harmless(is, _) if is == kind), "{found:?}");
        let (row, key) = (here(100), there(Some(OTHER), 5));
        suspect(first(Some(&row), None, &MIRROR), Missing);
        suspect(first(Some(&row), Some(&key), &MIRROR), Different);
        suspect(first(None, Some(&key), &MIRROR), Extra);
        assert_eq!(first(Some(&row), Some(&there(Some(MD5), 5)), &MIRROR), First::Equal(Match::Content));
        let archive = Terms { retain_local: false, ..MIRROR };
        harmless(first(None, Some(&key), &archive), Archived);
        suspect(first(Some(&row), None, &archive), Missing);
        harmless(first(None, Some(&key), &Terms { propagate_delete: false, ..MIRROR }), Kept);
        harmless(first(None, Some(&key), &Terms { is_shared: true, ..MIRROR }), Kept);
        let joined = RemoteEntry { name: "dir/o/1400000000.12345/000003".to_owned(), ..key.clone() };
        suspect(first(None, Some(&joined), &MIRROR), Extra);
        let to_swift = Terms { is_swift: true, ..MIRROR };
        harmless(first(None, Some(&joined), &to_swift), Kept);
        suspect(first(None, Some(&key), &to_swift), Extra);
        let late = Terms { copy_after: Duration::from_secs(200), ..MIRROR };
        harmless(first(Some(&row), None, &late), Pending);
        harmless(first(Some(&row), Some(&key), &late), Pending);
        let short = Terms { remote_delete_after: Some(Duration::from_secs(50)), ..MIRROR };
        suspect(first(Some(&row), None, &short), Expired);
        suspect(first(Some(&row), Some(&key), &short), Different);
    }

    #[test]
    fn a_lagging_listing_accuses_nobody() {
        use DifferenceKind::{Different, Expired, Extra, Missing, Pending};
        let row = here(100).modified;
        let sure = LocalLook { written: Some(row), is_selected: true, is_done: true, ..LocalLook::default() };
        assert_eq!(by_local(Expired, Some(row), &sure, NOW), None);
        let newer = Some(row.plus(Duration::from_secs(1)));
        assert_eq!(by_local(Missing, Some(row), &sure, NOW), None);
        assert_eq!(by_local(Extra, None, &LocalLook { written: None, ..sure.clone() }, NOW), None);
        let archived = LocalLook { written: None, was_archived: true, ..sure.clone() };
        assert!(matches!(by_local(Extra, None, &archived, NOW), Some(Second::Is(DifferenceKind::Kept, _))));
        for (kind, row, look) in [
            (Missing, Some(row), LocalLook { is_unsure: true, ..sure.clone() }),
            (Extra, None, sure.clone()),
            (Extra, None, LocalLook { written: None, deleted: Some(NOW), ..sure.clone() }),
            (Different, Some(row), LocalLook { written: newer, ..sure.clone() }),
            (Missing, Some(row), LocalLook { written: None, deleted: newer, ..sure.clone() }),
            (Missing, Some(row), LocalLook { written: None, ..sure.clone() }),
            (Expired, Some(row), LocalLook { is_done: false, ..sure.clone() }),
        ] {
            let second = by_local(kind, row, &look, NOW);
            assert!(matches!(second, Some(Second::Is(Pending, _))), "{look:?}: {second:?}");
        }
        let unselected = LocalLook { is_selected: false, ..sure };
        assert_eq!(by_local(Missing, Some(row), &unselected, NOW), Some(Second::Unwanted));
    }

    #[test]
    fn the_remote_has_the_last_word() {
        use DifferenceKind::{Different, Expired, Extra, Missing, NotCompared};
        let row = here(100);
        let (plain, opaque) = (LocalLook::default(), LocalLook { is_opaque: true, ..LocalLook::default() });
        let there = |etag: &str, bytes| RemoteLook { etag: etag.to_owned(), bytes, ..RemoteLook::default() };
        let is =
            |second: Second, kind| assert!(matches!(second, Second::Is(is, _) if is == kind), "{second:?}");
        let judge =
            |kind, look, remote: Option<RemoteLook>| by_remote(kind, Some(&row), look, remote.as_ref());
        is(judge(Missing, &plain, None), Missing);
        is(judge(Expired, &plain, None), Expired);
        assert_eq!(judge(Expired, &plain, Some(there(MD5, 5))), Second::Equal(Match::Content));
        is(judge(Expired, &plain, Some(there(OTHER, 5))), Different);
        assert_eq!(judge(Missing, &plain, Some(there(MD5, 5))), Second::Equal(Match::Content));
        is(judge(Different, &plain, Some(there(OTHER, 5))), Different);
        is(judge(Different, &plain, Some(there(MD5, 6))), Different);
        let multipart = format!("{OTHER}-3");
        is(judge(Different, &plain, Some(there(&multipart, 5))), Different);
        for etag in [OTHER, &multipart] {
            let kms = RemoteLook { is_opaque: true, ..there(etag, 5) };
            assert_eq!(judge(Different, &plain, Some(kms)), Second::Equal(Match::SizeOnly));
        }
        is(judge(Different, &opaque, Some(there(OTHER, 99))), NotCompared);
        is(judge(Missing, &opaque, None), Missing);
        let slo = LocalLook { is_static: true, ..LocalLook::default() };
        assert_eq!(judge(Different, &slo, Some(there(&multipart, 5))), Second::Equal(Match::SizeOnly));
        is(judge(Different, &slo, Some(there(&multipart, 6))), Different);
        is(by_remote(Extra, None, &plain, Some(&there(OTHER, 5))), Extra);
        assert_eq!(by_remote(Extra, None, &plain, None), Second::Equal(Match::Content));
    }
}
