//! Why rows are set aside.

use swift_s3_worker::reason::Reason;

use super::Entry;

/// Lists every variant with its texts: the match makes sure that none is missing.
macro_rules! explain {
    ($type:ident: $($variant:ident => $means:expr, $remedy:expr;)*) => {{
        const ALL: &[$type] = &[$($type::$variant),*];
        let texts = |value: &$type| match value { $($type::$variant => ($means, $remedy)),* };
        ALL.iter().map(|value| {
            let (means, remedy) = texts(value);
            (value.as_str(), means, remedy)
        }).collect()
    }};
}
pub(super) use explain;

pub(super) fn entries() -> Vec<Entry> {
    explain! { Reason:
        LocalMissing =>
            "Every object server says that there is no such object, and none has a tombstone newer than the row, but the row says that \
             it is there. With such a tombstone the row is superseded, and done.",
            "Usually passes. If not: the object is on a handoff or lost; run Swift's replicator, or DELETE the ghost through Swift.";
        LocalStale =>
            "Every replica that answers is older than the row.",
            "A node is down or behind; passes with replication.";
        LocalUnavailable =>
            "No object server could be asked, or all failed; more than half could not be asked for newer writes before a delete or an \
             update was carried; or the object's headers are not valid HTTP.",
            "Look at the object servers named in the message.";
        LocalRead =>
            "The local object broke off halfway.",
            "Look at the object server and its disk.";
        LocalCorrupt =>
            "The bytes read do not match the object's ETag. Nothing was stored.",
            "Run Swift's object auditor; a good replica is used once the bad one is quarantined.";
        NeedsProxy =>
            "The object is erasure-coded or encrypted and `internal_url` is missing, asks for auth, or does not decrypt.",
            "Set `internal_url` to a proxy with the cluster's own pipeline, without auth.";
        SegmentMissing =>
            "A segment that the manifest names is not there, or is another object by now. Nothing was stored.",
            "Put the segment back, or write the object anew.";
        LargeObject =>
            "A large object that cannot be carried; the message says why ([limits](../large-objects.md#limits)). Its local copy is kept.",
            "What the message says; or leave the name out with `exclude_pattern`.";
        Symlink =>
            "A symbolic link whose target is not there, cannot be read, or is a link to a link to a link.",
            "Repair the target or delete the link; it is tried again.";
        KeyTooLong =>
            "The remote key would exceed 1,024 bytes.",
            "Rename the object, or give the mapping a short `custom_prefix`.";
        MetadataTooLarge =>
            "More than 2,048 bytes of user metadata after encoding.",
            "POST less metadata.";
        ObjectTooLarge =>
            "A plain object of more than 5 GiB, the most that one PUT carries.",
            "Upload it as segments.";
        RemoteUnavailable =>
            "The remote failed for this object, three times in one handling, while others went through.",
            "Passes; else look at the remote.";
        RemoteDenied =>
            "The remote refuses these credentials for this object.",
            "[Permissions](../operations.md#permissions-on-s3), then `swift-s3ctl failures retry --reason remote_denied`.";
        RemoteRefused =>
            "The remote says that it can never store this, or answers something unknown.",
            "The message has its code and request id.";
        RemoteMismatch =>
            "What the remote says it holds is not what was sent, or an archived object's copy is gone or different. The local copy is kept.",
            "Look at what else writes into the bucket.";
        LocalDelete =>
            "Archived object: too few object servers took the delete, or could be asked for newer writes. Its copy is remote.",
            "A node is down; passes.";
        BadRow =>
            "The row cannot be understood.",
            "Look at the database with Swift's tools.";
        FutureTimestamp =>
            "The row is dated more than a minute ahead. It waits for its time and is no failure.",
            "Check the clock of whoever wrote it.";
        Restored =>
            "The object was restored through the shunt less than `copy_after` ago. It is archived again then, and is no failure.",
            "Nothing.";
        Unsettled =>
            "It was in this worker's hands when it lost its shares (its lease in etcd ended). It is looked at again, after everybody else, \
             and is no failure.",
            "Nothing; if it comes often, look at [etcd](../coordination.md#when-something-is-wrong).";
        Other =>
            "A transfer broke off, or a reason of a newer version.",
            "The message says what.";
    }
}
