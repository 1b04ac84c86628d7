//! One row, one decision: what a row asks of the remote, from what is known of both sides.
//!
//! Pure and total. The caller gathers the facts in the order that costs least (see [`crate::transfer`]) and carries the answer out.

use swift_s3_policy::{
    ArchivedMetadata, MAX_KEY_BYTES, MAX_USER_METADATA_BYTES, RemoteMetadata, Timestamp, same_meaning,
    user_metadata_bytes,
};

use crate::reason::{Failure, Reason};

/// The largest object that one PUT may carry. Source: Amazon S3 user guide, "Uploading objects".
pub const MAX_PUT_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// What the local side holds.
#[derive(Clone, Debug)]
pub struct Local<'a> {
    /// MD5 of the content, in hex.
    pub etag: &'a str,
    /// Bytes.
    pub length: u64,
    /// Its metadata in the remote's form.
    pub metadata: &'a RemoteMetadata,
    /// What kind of object it is.
    pub kind: LocalShape,
}

/// Which kind of Swift object a row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalShape {
    /// Its bytes are its content.
    Plain,
    /// A manifest of segments, static or dynamic.
    LargeObject,
    /// A pointer to another object.
    Symlink,
}

/// What is known of the remote side.
#[derive(Clone, Debug)]
pub enum Remote<'a> {
    /// Nobody can have written this yet, or the remote must not be asked: write without asking.
    NotAsked,
    /// There is nothing under the key.
    Absent,
    /// There is an object.
    Present {
        /// Its ETag without quotes.
        etag: &'a str,
        /// Bytes.
        length: u64,
        /// Its metadata as on the wire.
        metadata: &'a RemoteMetadata,
        /// Set when it lies in an archive, where it cannot be copied in place: what is to be done then.
        archived: Option<ArchivedMetadata>,
        /// Set when its ETag is not the MD5 of its content (encryption with a managed key).
        opaque: Option<OpaqueContent>,
    },
}

/// What stands in for an ETag that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpaqueContent {
    /// The remote stored it after the local write.
    pub stored_after_write: bool,
    /// The local copy is going to be removed, so a likely match is not enough.
    pub must_be_proven: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the object.
    Put,
    /// Give the remote object the local metadata, in place; its content is right already.
    UpdateMetadata,
    /// Both sides agree.
    Nothing,
    /// The content agrees and the metadata do not, and that is how the mapping wants it. The local copy must stay.
    Keep,
    /// It cannot be carried.
    Refuse(Failure),
}

/// Decides what a live row asks for. `key` is the remote key.
#[must_use]
pub fn decide(key: &str, local: &Local<'_>, remote: &Remote<'_>) -> Action {
    if let Some(failure) = unfit(key, local) {
        return Action::Refuse(failure);
    }
    match remote {
        Remote::NotAsked | Remote::Absent => Action::Put,
        Remote::Present { etag, length, metadata, archived, opaque } => {
            let same_content = match opaque {
                None => etag.eq_ignore_ascii_case(local.etag),
                Some(opaque) => opaque.stored_after_write && !opaque.must_be_proven,
            };
            if !same_content || *length != local.length {
                Action::Put
            } else if same_meaning(local.metadata, metadata) {
                Action::Nothing
            } else {
                match archived {
                    None => Action::UpdateMetadata,
                    Some(ArchivedMetadata::Upload) => Action::Put,
                    Some(ArchivedMetadata::Keep) => Action::Keep,
                }
            }
        }
    }
}

fn unfit(key: &str, local: &Local<'_>) -> Option<Failure> {
    match local.kind {
        LocalShape::Plain => {}
        LocalShape::LargeObject => {
            return Some(Failure::new(
                Reason::LargeObject,
                "static and dynamic large objects are not carried by this version; the local copy is kept",
            ));
        }
        LocalShape::Symlink => {
            return Some(Failure::new(Reason::Symlink, "the symbolic link was not followed"));
        }
    }
    if let Some(failure) = unfit_key(key) {
        return Some(failure);
    }
    if local.length > MAX_PUT_BYTES {
        let message =
            format!("the object has {} bytes, one PUT carries at most {MAX_PUT_BYTES}", local.length);
        return Some(Failure::new(Reason::ObjectTooLarge, message));
    }
    let bytes = user_metadata_bytes(local.metadata);
    if bytes > MAX_USER_METADATA_BYTES {
        let message =
            format!("the user metadata takes {bytes} bytes, S3 stores at most {MAX_USER_METADATA_BYTES}");
        return Some(Failure::new(Reason::MetadataTooLarge, message));
    }
    None
}

/// Tells why nothing can ever lie under this key, if so.
#[must_use]
pub fn unfit_key(key: &str) -> Option<Failure> {
    (key.len() > MAX_KEY_BYTES).then(|| {
        let message = format!("the remote key would have {} bytes, S3 allows {MAX_KEY_BYTES}", key.len());
        Failure::new(Reason::KeyTooLong, message)
    })
}

/// What a tombstone asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteAction {
    /// Remove the remote object.
    Delete,
    /// The mapping keeps remote objects.
    NotPropagated,
    /// Swift itself wrote the tombstone (this program archiving, or the reconciler moving an object to another policy),
    /// not a user.
    NotAUsersDelete,
}

/// Decides what a tombstone at `timestamp` asks for.
///
/// Clients' writes never carry an offset. The archiver's do: its tombstone is the archived write's timestamp with the offset
/// one higher, so it is never mistaken for a user's delete, whatever the mapping says today.
#[must_use]
pub fn decide_delete(propagate_delete: bool, timestamp: Timestamp) -> DeleteAction {
    if timestamp.offset() != 0 {
        DeleteAction::NotAUsersDelete
    } else if propagate_delete {
        DeleteAction::Delete
    } else {
        DeleteAction::NotPropagated
    }
}

/// The timestamp with which the archiver deletes the write at `timestamp`: right behind it, and before anything that a client can write
/// later.
#[must_use]
pub fn archive_timestamp(timestamp: Timestamp) -> Timestamp {
    timestamp.with_offset(timestamp.offset().saturating_add(1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

    fn metadata(color: &str) -> RemoteMetadata {
        RemoteMetadata {
            content_type: "text/plain".into(),
            user: BTreeMap::from([("color".to_owned(), color.to_owned())]),
            ..RemoteMetadata::default()
        }
    }

    fn local(metadata: &RemoteMetadata) -> Local<'_> {
        Local { etag: MD5, length: 5, metadata, kind: LocalShape::Plain }
    }

    #[test]
    fn table_of_plain_objects() {
        let (red, blue) = (metadata("red"), metadata("blue"));
        let present = |etag, length, metadata, is_archived: bool| Remote::Present {
            etag,
            length,
            metadata,
            archived: is_archived.then_some(ArchivedMetadata::Upload),
            opaque: None,
        };
        let opaque = |stored_after_write, must_be_proven| Remote::Present {
            etag: "opaque",
            length: 5,
            metadata: &red,
            archived: None,
            opaque: Some(OpaqueContent { stored_after_write, must_be_proven }),
        };
        let upper = MD5.to_uppercase();
        let kept = |metadata| Remote::Present {
            etag: MD5,
            length: 5,
            metadata,
            archived: Some(ArchivedMetadata::Keep),
            opaque: None,
        };
        let table = [
            ("fresh row", Remote::NotAsked, Action::Put),
            ("absent", Remote::Absent, Action::Put),
            ("equal", present(MD5, 5, &red, false), Action::Nothing),
            ("equal, spelled in upper case", present(&upper, 5, &red, false), Action::Nothing),
            ("equal in an archive that is kept", kept(&red), Action::Nothing),
            ("other metadata in an archive that is kept", kept(&blue), Action::Keep),
            ("equal in an archive class", present(MD5, 5, &red, true), Action::Nothing),
            ("other content", present("0123", 5, &red, false), Action::Put),
            ("same digest, other length", present(MD5, 6, &red, false), Action::Put),
            ("other metadata", present(MD5, 5, &blue, false), Action::UpdateMetadata),
            ("opaque ETag, stored after the write", opaque(true, false), Action::Nothing),
            ("opaque ETag, stored before the write", opaque(false, false), Action::Put),
            ("opaque ETag, to be archived", opaque(true, true), Action::Put),
            ("other metadata in an archive class", present(MD5, 5, &blue, true), Action::Put),
        ];
        for (name, remote, expected) in table {
            assert_eq!(decide("p/key", &local(&red), &remote), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_carried_is_refused_with_its_reason() {
        let red = metadata("red");
        let long_value = metadata(&"x".repeat(3_000));
        let long_key = "k".repeat(1_025);
        let table = [
            ("k", Local { kind: LocalShape::LargeObject, ..local(&red) }, Reason::LargeObject),
            ("k", Local { kind: LocalShape::Symlink, ..local(&red) }, Reason::Symlink),
            ("k", Local { length: MAX_PUT_BYTES + 1, ..local(&red) }, Reason::ObjectTooLarge),
            ("k", local(&long_value), Reason::MetadataTooLarge),
            (long_key.as_str(), local(&red), Reason::KeyTooLong),
        ];
        for (key, local, reason) in table {
            match decide(key, &local, &Remote::Absent) {
                Action::Refuse(failure) => assert_eq!(failure.reason, reason),
                other => panic!("{reason:?}: {other:?}"),
            }
        }
        assert_eq!(decide(&"k".repeat(1_024), &local(&red), &Remote::Absent), Action::Put);
        let largest = Local { length: MAX_PUT_BYTES, ..local(&red) };
        assert_eq!(decide("k", &largest, &Remote::Absent), Action::Put);
    }

    #[test]
    fn only_users_deletes_are_propagated() {
        let users: Timestamp = "1400000000.00000".parse().unwrap();
        let archivers = archive_timestamp(users);
        assert_eq!(archivers.to_string(), "1400000000.00000_0000000000000001");
        assert_eq!(decide_delete(true, users), DeleteAction::Delete);
        assert_eq!(decide_delete(false, users), DeleteAction::NotPropagated);
        assert_eq!(decide_delete(true, archivers), DeleteAction::NotAUsersDelete);
        assert!(archivers > users);
    }
}
