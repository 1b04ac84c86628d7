//! Why a row could not be finished, as a bounded set of words for logs, status files and operators.

use serde::{Deserialize, Serialize};
use swift_s3_store::{ErrorKind, StoreError};

/// The class of a failure. The wire form (snake case) is stored in status files: words may be added, not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No replica of the object was found although the row says that it exists.
    LocalMissing,
    /// Every replica that answered is older than the row.
    LocalStale,
    /// No object server could be asked.
    LocalUnavailable,
    /// Reading the local object failed halfway.
    LocalRead,
    /// The local bytes do not match the object's ETag.
    LocalCorrupt,
    /// Direct reading cannot serve (erasure coding, encryption) and no `internal_url` is configured.
    NeedsProxy,
    /// A static or dynamic large object that no remote can hold; its local copy is kept.
    LargeObject,
    /// A segment of a large object was not found in the local cluster.
    SegmentMissing,
    /// A symbolic link whose target cannot be had.
    Symlink,
    /// The remote key would exceed 1,024 bytes.
    KeyTooLong,
    /// The user metadata exceeds what S3 stores.
    MetadataTooLarge,
    /// The object exceeds the largest single PUT of S3 (5 GiB).
    ObjectTooLarge,
    /// The remote store is unreachable, overloaded or failing.
    RemoteUnavailable,
    /// The remote store refuses these credentials.
    RemoteDenied,
    /// The remote store refused this object.
    RemoteRefused,
    /// What the remote store says it holds is not what was sent.
    RemoteMismatch,
    /// Too few object servers confirmed the local delete of an archived object.
    LocalDelete,
    /// The row itself cannot be understood.
    BadRow,
    /// The row is dated in the future and waits for its time.
    FutureTimestamp,
    /// The object was restored from the remote and waits until it is old enough to be archived again.
    Restored,
    /// It was in somebody's hands when this worker lost its shares, and is looked at again.
    Unsettled,
    /// A reason written by a newer version of this program.
    #[serde(other)]
    Other,
}

impl Reason {
    /// The class of a failure that speaks of the remote as a whole.
    #[must_use]
    pub fn of_remote(error: &StoreError) -> Self {
        match error.kind() {
            ErrorKind::Denied | ErrorKind::BucketMissing => Self::RemoteDenied,
            _ => Self::RemoteUnavailable,
        }
    }

    /// The word for logs and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LocalMissing => "local_missing",
            Self::LocalStale => "local_stale",
            Self::LocalUnavailable => "local_unavailable",
            Self::LocalRead => "local_read",
            Self::LocalCorrupt => "local_corrupt",
            Self::NeedsProxy => "needs_proxy",
            Self::LargeObject => "large_object",
            Self::SegmentMissing => "segment_missing",
            Self::Symlink => "symlink",
            Self::KeyTooLong => "key_too_long",
            Self::MetadataTooLarge => "metadata_too_large",
            Self::ObjectTooLarge => "object_too_large",
            Self::RemoteUnavailable => "remote_unavailable",
            Self::RemoteDenied => "remote_denied",
            Self::RemoteRefused => "remote_refused",
            Self::RemoteMismatch => "remote_mismatch",
            Self::LocalDelete => "local_delete",
            Self::BadRow => "bad_row",
            Self::FutureTimestamp => "future_timestamp",
            Self::Restored => "restored",
            Self::Unsettled => "unsettled",
            Self::Other => "other",
        }
    }

    /// The reason of a word; unknown words are [`Reason::Other`].
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        use serde::de::IntoDeserializer;
        use serde::de::value::{Error, StrDeserializer};
        let word: StrDeserializer<'_, Error> = word.into_deserializer();
        Self::deserialize(word).unwrap_or(Self::Other)
    }

    /// True when the row only waits for its time: such rows are no failures and do not change the exit code.
    #[must_use]
    pub fn is_waiting(self) -> bool {
        matches!(self, Self::FutureTimestamp | Self::Restored | Self::Unsettled)
    }
}

/// A row that could not be finished: the class, and a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub reason: Reason,
    /// What happened, with the names and numbers an operator needs. Never holds a secret.
    pub message: String,
}

impl Failure {
    /// Joins a class and its explanation.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_log_word_is_the_stored_word() {
        for reason in
            [Reason::LocalMissing, Reason::RemoteMismatch, Reason::FutureTimestamp, Reason::Restored]
        {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.as_str()));
        }
    }

    #[test]
    fn a_word_of_a_newer_version_is_kept_readable() {
        assert_eq!(serde_json::from_str::<Reason>("\"solar_flare\"").unwrap(), Reason::Other);
    }
}
