//! The rules of swift-s3-sync, without any clock, socket or disk.
//!
//! | module | decides |
//! |---|---|
//! | [`timestamp`] | what a Swift timestamp is and how a container row encodes three of them |
//! | [`share`] | which node handles a name first |
//! | [`key_mapping`] | which S3 key an object, and its large-object manifest, has |
//! | [`metadata_mapping`] | how Swift headers become S3 metadata, and when two sets mean the same |
//! | [`segments`] | which containers hold segments of large objects, by their names |
//! | [`swift_layout`] | how objects, segments and containers lie on another Swift cluster |
//! | [`selection`], [`exclude`] | which objects a mapping is about |
//! | [`restored`] | how objects that come back from a remote are dated and marked |
//! | [`large_object`] | what a large object consists of, its parts on the remote, and its companion |
//! | [`lifecycle`] | what to do with a bucket's expiration rules |
//! | [`metric_name`] | the StatsD names that dashboards already use |
//! | [`limits`], [`delete_limit`] | how fast the remote may be used, and how many deletes are too many |
//! | [`secret`], [`remote`], [`mapping`], [`sync_config`] | the configuration file, parsed once into types |
//! | [`sentences`] | what a mapping does, for people |
//! | [`document`] | the configuration as a text that is shown, compared and handed to nodes |
//!
//! Everything here is a total function of its arguments. Nothing here may read the time, open a file or
//! talk to a peer; callers hand in what they know.

pub mod delete_limit;
pub mod document;
pub mod exclude;
pub mod key_mapping;
pub mod large_object;
pub mod lifecycle;
pub mod limits;
pub mod mapping;
pub mod metadata_mapping;
pub mod metric_name;
pub mod remote;
pub mod restored;
mod rfc2047;
pub mod secret;
pub mod segments;
pub mod selection;
pub mod sentences;
pub mod share;
pub mod swift_layout;
pub mod sync_config;
pub mod timestamp;

pub use delete_limit::DeleteLimit;
pub use document::{
    ChangeKind, DocumentChange, NodeConfig, RefusedMapping, SECRET_PLACEHOLDER, diff, element,
    local_settings, lookup, parse_document, parse_for_node, redact, restore_secrets,
};
pub use exclude::{ExcludePattern, MatchLimitExceeded};
pub use key_mapping::{KeyMapping, MAX_KEY_BYTES};
pub use lifecycle::{LifecyclePlan, LifecycleRule, expiration_days, own_expiration, plan_lifecycle};
pub use limits::{Limits, Rates, WeekMinute};
pub use mapping::{ContainerSelector, Mapping, Merge, MergeFailure};
pub use metadata_mapping::{
    DLO_ETAG_MARKER, DLO_MARKER, MAX_USER_METADATA_BYTES, RemoteMetadata, SLO_ETAG_MARKER, SLO_MARKER,
    decode_name, decode_value, decode_value_bytes, encode_name, encode_value, same_meaning, to_remote,
    user_metadata_bytes,
};
pub use metric_name::statsd_name;
pub use remote::{Addressing, ArchivedMetadata, Remote, S3Remote, SwiftAuth, SwiftRemote};
pub use restored::{
    RESTORED_HEADER, SHUNT_BYPASS_HEADER, restore_timestamp, restored_at, restored_from, restored_mark,
};
pub use secret::{CredentialSource, Secret, SecretSource};
pub use segments::holds_segments;
pub use selection::SelectionCriteria;
pub use sentences::sentences;
pub use share::{name_hash, owner_index};
pub use sync_config::{
    ConfigProblem, CoordinationChoice, LogFormat, LogLevel, ParsedConfig, Statsd, SyncConfig, Syslog,
    SyslogProtocol, parse_sync_config,
};
pub use timestamp::{RowTimestamps, Timestamp, TimestampError};
