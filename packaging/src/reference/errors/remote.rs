//! Words of failed requests, of failed calls, and of alerts.

use swift_s3_store::ErrorKind;

use super::Entry;
use super::rows::explain;

pub(super) fn of_requests() -> Vec<Entry> {
    explain! { ErrorKind:
        NotFound =>
            "The key is not there, where it had to be.",
            "Usually a newer change explains it; else look at what else deletes in the bucket.";
        BucketMissing =>
            "The bucket, or the remote container, is not there.",
            "Create it, or correct `aws_bucket`. The mapping waits until it is there, and nothing is lost.";
        Denied =>
            "Credentials are unknown, expired or not allowed to do this.",
            "[Credentials](../runbooks.md#credentials-expired-or-refused).";
        Throttled =>
            "The remote asks for fewer requests.",
            "The mapping waits as long as it is told to. If it goes on: lower `limits`, or have the remote's limit raised.";
        Unavailable =>
            "The remote could not be reached, gave up, or took too long.",
            "[The remote is down](../runbooks.md#the-remote-is-down).";
        BadDigest =>
            "The content that arrived is not the content that was announced. Nothing was stored.",
            "Tried again; if it comes often, something on the way changes bytes: network cards, proxies, memory.";
        Precondition =>
            "The object is no longer what the request was conditional on: somebody wrote it meanwhile.",
            "Looked at again. If it comes often, something else writes into the bucket.";
        Invalid =>
            "The remote will never take this object under this key.",
            "The message has its code; rename the object, or leave it out with `exclude_pattern`.";
        TooLarge =>
            "The object is larger than one request may carry.",
            "Upload it as segments.";
        Body =>
            "The local content broke off, or had another length than announced.",
            "Look at the object server and its disk; it is read from another replica.";
        Unsupported =>
            "The remote does not know the operation.",
            "An S3 clone that lacks something: `swift-s3ctl verify` shows what it can.";
        Withdrawn =>
            "Nothing was sent, or not to its end, because this worker lost its share of the work meanwhile.",
            "Nothing: whoever has the share now carries it.";
        Other =>
            "Anything else.",
            "The message has the remote's words, its code and its request id.";
    }
}

/// gRPC's own names; `swift-s3ctl` prints the same advice.
pub(super) fn of_calls() -> Vec<Entry> {
    vec![
        (
            "UNAVAILABLE",
            "Control cannot be reached, is stopping, or (of several processes) none leads at the moment.",
            "Check that `swift-s3-control` runs there and whether it wants `https://`; name another one with `--control`. \
             [Control is lost](../runbooks.md#control-is-lost).",
        ),
        (
            "UNAUTHENTICATED",
            "There was no token or certificate, or control does not know it.",
            "Name one with `--token-file`, in `SWIFT_S3_TOKEN`, or with `--client-cert` and `--client-key`.",
        ),
        (
            "PERMISSION_DENIED",
            "The caller is known, and may not do this.",
            "Changes need the role `operator`, reading needs `viewer`: [the access file](../control.md#who-may-do-what).",
        ),
        (
            "INVALID_ARGUMENT",
            "Something in the request is wrong; of a document each problem is told with its path.",
            "Correct it: [problems of the configuration](#problems-of-the-configuration).",
        ),
        (
            "NOT_FOUND",
            "There is no such mapping, node or revision.",
            "`swift-s3ctl mappings`, `nodes` and `config history` list what there is.",
        ),
        (
            "ABORTED",
            "Somebody else changed the configuration meanwhile.",
            "See what with `swift-s3ctl config history` and `config diff`, then apply again.",
        ),
        (
            "ALREADY_EXISTS",
            "A second node shows the name of one that is connected.",
            "Give each worker its own `--node-id`.",
        ),
        (
            "FAILED_PRECONDITION",
            "It cannot be done as things are, such as releasing deletes where none are held. The message says why.",
            "Look at `swift-s3ctl status`.",
        ),
        (
            "RESOURCE_EXHAUSTED",
            "A message or a list is larger than allowed, or too many ask at once.",
            "Ask for less, or later; the log of `swift-s3-control` has more.",
        ),
        (
            "DEADLINE_EXCEEDED",
            "No answer in time. A change may have happened all the same.",
            "Look before trying again; wait longer with `--timeout`.",
        ),
        (
            "UNIMPLEMENTED",
            "Control is older than the caller.",
            "Upgrade `swift-s3-control` first, then the others.",
        ),
        (
            "INTERNAL",
            "Control could not do it: most often its disk or its database.",
            "The log of `swift-s3-control`; [full disk](../runbooks.md#a-disk-is-full).",
        ),
    ]
}

pub(super) fn of_alerts() -> Vec<Entry> {
    vec![
        (
            "control_store",
            "*control cannot store progress: …* The database, or etcd, takes no writes. Workers keep their progress in their own files meanwhile.",
            "[A disk is full](../runbooks.md#a-disk-is-full); the log of control.",
        ),
        (
            "no_configuration",
            "*no configuration was applied yet* There is no revision; workers keep what they have.",
            "`swift-s3ctl config apply sync.json`. If there was one before, the data directory is a new one: restore the backup.",
        ),
        (
            "held_deletes",
            "*mapping … holds … or more deletes since …* More deletes came at once than `delete_limit` lets pass.",
            "[A wrong delete](../runbooks.md#deletes-are-held-or-somebody-deleted-by-mistake).",
        ),
        (
            "refused_configuration",
            "*node … refused some or all of revision …* Something in the configuration cannot be served on that node. Its old form stays in force there.",
            "[The configuration is refused](../runbooks.md#a-node-refuses-the-configuration).",
        ),
        (
            "silent_node",
            "*node … on host … is silent for … s* No heartbeat: the node, its worker, or the network is down.",
            "[A node is lost](../runbooks.md#a-node-is-lost).",
        ),
        (
            "refused_report",
            "*progress of node … is not stored: its report was refused: …* Control does not understand what the node reports.",
            "Versions that do not go together: upgrade control first.",
        ),
        (
            "refused_mapping",
            "*mapping … is not in force on node …* The node refused this mapping; the reason is with it.",
            "[The configuration is refused](../runbooks.md#a-node-refuses-the-configuration).",
        ),
        (
            "remote",
            "*mapping … leaves its remote alone on node …* The remote fails as a whole; it is asked again within a minute.",
            "[The remote is down](../runbooks.md#the-remote-is-down).",
        ),
        (
            "failures",
            "*mapping …: … rows set aside after failures* Single objects fail.",
            "[Rows are set aside](../runbooks.md#rows-are-set-aside).",
        ),
        (
            "clock",
            "*the clock of node … is … s ahead of (or behind) the clock here* Ages and `copy_after` are counted by each node's clock.",
            "Repair the node's time synchronisation.",
        ),
        (
            "coordination_fallback",
            "*worker … cannot use etcd and works by the implicit rules: …* Coordination through etcd does not work there; changes arrive some 20 seconds later.",
            "[etcd](../coordination.md#when-etcd-is-lost).",
        ),
    ]
}
