//! The keys outside `containers`, and those of the objects that may stand in several places.

use super::Change::{Live, Nothing, Restart};
use super::Fallback::{Required, Value, Words};
use super::{Key, key};

const WORDS_OF_LEVELS: &str = "`error`, `warning`, `info`, `debug`, `trace`";

/// The keys of the document itself.
pub const GLOBAL: [Key; 28] = [
    key("devices", "path", Required, r#""/srv/other""#, Restart,
        "Where Swift's devices are mounted. Databases are looked for in `<devices>/<device>/containers/…`. Must be a folder that can be \
         listed."),
    key("status_dir", "path", Required, r#""/var/lib/other""#, Restart,
        "Where cursors and rows set aside are kept. Must exist and be writable. The worker locks `.swift-s3-sync.lock` in it: one worker \
         per folder."),
    key("items_chunk", "whole number, 1 or more", Required, "500", Live,
        "Most rows read from a database at once. Above 8,000 it counts as 8,000 for new rows. Rows that must be compared with the remote \
         are read 8,000 at a time, whatever it says, so that listings pay. Keep it at 10,000 or less."),
    key("containers", "list of objects", Value("[]"),
        r#"[{"account": "AUTH_test", "container": "c", "aws_bucket": "b"}]"#, Live,
        "The [mappings](#mappings). Without any the program says so and exits with 0."),
    key("poll_interval", "seconds, above 0", Value("5"), "10", Live,
        "Time between two looks for new and gone containers, and for changes that no file watch told."),
    key("workers", "1 to 1024", Value("10"), "20", Live, "Rows carried at the same time, over all mappings."),
    key("enumerator_workers", "1 to 1024", Value("10"), "20", Live, "Containers walked at the same time."),
    key("verification_slack", "minutes, 0 or more", Value("60"), "120", Live,
        "Age from which this node checks rows of names that another node carries first; rows are gathered for up to a quarter of it \
         more. The same on every node. 0 makes every node check everything at once: only for tests."),
    key("coordination", "`auto`, `implicit`, `etcd`", Value(r#""auto""#), r#""implicit""#, Live,
        "How nodes share out the names of a container. `implicit`: by the ring alone. `etcd`: by shares that are owned through etcd, for \
         workers started with `--etcd`; others refuse the configuration. `auto`: `etcd` for workers with `--etcd`, `implicit` for \
         others. See [coordination](../coordination.md).")
        .since("0.1.0"),
    key("stale_upload_age", "seconds, 0 or more", Value("86400"), "3600", Live,
        "An upload in parts, begun under the key prefix of a mapped container, is aborted when it and its newest part are older than \
         this: a worker that was killed leaves such. 0: never. A transfer must add a part within this time, so keep it well above 5 GiB \
         divided by the least rate of `limits`. With `custom_prefix: \"\"` nothing is aborted, as all keys of the bucket would be meant: \
         give such a bucket a lifecycle rule for incomplete uploads.")
        .since("0.1.0"),
    key("limits", "object", Words("none"), r#"{"concurrency": 8}"#, Live,
        "How fast remotes may be used, over all mappings; [below](#limits).")
        .since("0.1.0"),
    key("swift_dir", "path", Value(r#""/etc/swift""#), r#""/etc/other""#, Restart,
        "Where `swift.conf`, `container.ring.gz`, `account.ring.gz` and `object*.ring.gz` are."),
    key("swift_bind_ip", "IP address, or a list of them", Words("every local address"), r#""192.0.2.1""#, Restart,
        "The addresses by which this node is known in the rings. `0.0.0.0` and `::` stand for all."),
    key("internal_url", "`http` URL", Words("none"), r#""http://127.0.0.1:8090/v1""#, Restart,
        "A Swift proxy without auth in its pipeline. Objects that object servers cannot give in the clear (erasure-coded policy, \
         encryption at rest) are read through it; the [shunt](../shunt.md#restore) writes restored objects through it. Without a path, \
         `/v1` is meant.")
        .since("0.1.0"),
    key("log_file", "path", Words("none"), r#""/var/log/swift-s3-sync/sync.log""#, Restart,
        "Log file, rotated at 100 MiB, five old ones kept. Required unless the program is started with `--console`."),
    key("log_level", WORDS_OF_LEVELS, Value(r#""info""#), r#""debug""#, Live,
        "Any case; Python's `critical`, `fatal`, `warn` and `notset` are understood. `--log-level` wins over it."),
    key("log_format", "`text`, `json`", Value(r#""text""#), r#""json""#, Restart, "What a line looks like.").since("0.1.0"),
    key("syslog", "object", Words("none"), r#"{"host": "log.example.org"}"#, Restart,
        "Log lines go to this server too; [below](#syslog)."),
    key("http_proxy", "URL", Words("environment"), r#""http://proxy.example.org:3128""#, Live,
        "Proxy for `http` remotes. Without `://`, `http://` is meant. May hold credentials; they are not shown. If absent, the \
         environment variables `HTTP_PROXY` and `ALL_PROXY` hold; `NO_PROXY` always does. An endpoint on this machine is never reached \
         by proxy. Swift's own servers never are."),
    key("https_proxy", "URL", Words("environment"), r#""http://proxy.example.org:3128""#, Live,
        "The same for `https` remotes; the variables are `HTTPS_PROXY` and `ALL_PROXY`."),
    key("statsd_host", "host", Words("none"), r#""127.0.0.1""#, Restart,
        "Where counters go, by UDP. Empty or absent: nowhere."),
    key("statsd_port", "port", Value("8125"), "8126", Restart, "Its port.").beside(r#""statsd_host": "127.0.0.1""#),
    key("statsd_prefix", "text without white space, `:` and `|`", Words("none"), r#""cluster1""#, Restart,
        "What every name of a counter starts with.")
        .beside(r#""statsd_host": "127.0.0.1""#),
    key("migrations", "list", Value("[]"), r#"[{"account": "AUTH_test"}]"#, Nothing,
        "Of the Python migrator, which goes on using it. A warning if it is not empty."),
    key("migrator_settings", "object", Words("none"), "{}", Nothing, "Of the Python migrator. Not looked at."),
    key("bulk_process", "boolean", Value("false"), "true", Nothing, "No effect; a warning if it is on."),
    key("internal_client_path", "path", Words("none"), r#""/etc/swift/internal-client.conf""#, Nothing,
        "No effect; a warning. `internal_url` is what comes closest."),
    key("internal_client_logname", "text", Words("none"), r#""sync""#, Nothing, "No effect; a warning."),
];

/// The keys of `limits`.
pub const LIMITS: [Key; 4] = [
    key("concurrency", "1 to 1024, or null", Words("no limit"), "8", Live, "Rows carried at the same time.").since("0.1.0"),
    key("bytes_per_second", "whole number, 1 or more, or null", Words("no limit"), "50000000", Live,
        "Content sent, not counting headers. An upload is slowed down while it runs.")
        .since("0.1.0"),
    key("requests_per_second", "whole number, 1 or more, or null", Words("no limit"), "200", Live,
        "Requests of every kind. What is sent again after a passing fault is not counted, nor are checks of the bucket.")
        .since("0.1.0"),
    key("timetable", "list of at most 168 objects", Value("[]"), r#"[{"from": "08:00", "to": "18:00", "bytes_per_second": 10000000}]"#,
        Live, "Other rates at other times; the first entry that covers a moment holds.")
        .since("0.1.0"),
];

/// The keys of an entry of `limits.timetable`.
pub const TIMETABLE: [Key; 6] = [
    key("days", "list of `mon` `tue` `wed` `thu` `fri` `sat` `sun`", Value(r#"["mon", "tue", "wed", "thu", "fri", "sat", "sun"]"#),
        r#"["sat"]"#, Live, "The days on which it starts.")
        .since("0.1.0"),
    key("from", "`HH:MM`, local time of the node", Required, r#""22:00""#, Live, "When it starts.").since("0.1.0"),
    key("to", "`HH:MM`, or `24:00`", Required, r#""06:00""#, Live,
        "When it is over. If it is not after `from`, on the next day: `sat` from `22:00` to `06:00` ends on Sunday morning.")
        .since("0.1.0"),
    key("concurrency", "1 to 1024, or null", Words("what holds outside"), "4", Live, "The rate within it; `null` lifts the limit.")
        .since("0.1.0"),
    key("bytes_per_second", "whole number, 1 or more, or null", Words("what holds outside"), "10000000", Live, "The same.")
        .since("0.1.0"),
    key("requests_per_second", "whole number, 1 or more, or null", Words("what holds outside"), "null", Live, "The same.")
        .since("0.1.0"),
];

/// The keys of `delete_limit`.
pub const DELETE_LIMIT: [Key; 3] = [
    key("count", "whole number, 0 or more", Value("1000"), "100", Live, "Deletes that always pass.")
        .since("0.1.0"),
    key(
        "ratio",
        "0 to 1",
        Value("0.5"),
        "0.1",
        Live,
        "The part of the container that may go; with 1 nothing is ever held.",
    )
    .since("0.1.0"),
    key(
        "per",
        "seconds, 1 to 2,592,000 (30 days)",
        Value("3600"),
        "60",
        Live,
        "The time over which deletes are counted.",
    )
    .since("0.1.0"),
];

/// The keys of `syslog`.
pub const SYSLOG: [Key; 3] = [
    key(
        "host",
        "host",
        Value(r#""localhost""#),
        r#""log.example.org""#,
        Restart,
        "Name or address of the server.",
    ),
    key("port", "port", Value("514"), "1514", Restart, "Its port."),
    key("proto", "`udp`, `tcp`", Value(r#""udp""#), r#""tcp""#, Restart, "How lines go there."),
];
