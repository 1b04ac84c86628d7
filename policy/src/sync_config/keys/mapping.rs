//! The keys of an element of `containers`.

use super::Change::{Compared, Live};
use super::Fallback::{Required, Value, Words};
use super::Remotes::{S3, Swift};
use super::{Key, key};

/// The keys of a mapping.
pub const MAPPING: [Key; 42] = [
    key("account", "text, 1 to 256 bytes, no `/`", Required, r#""AUTH_other""#, Compared,
        "The local account, such as `AUTH_test`."),
    key("container", "text, 1 to 256 bytes, no `/`; or `/*`", Required, r#""other""#, Compared,
        "The local container; `/*` is every container of the account, segment and versions containers too."),
    key("protocol", "`s3`, `swift`", Value(r#""s3""#), r#""swift""#, Compared, "What the remote speaks.")
        .beside(r#""aws_endpoint": "https://swift.example.org/auth/v1.0", "aws_identity": "USER", "aws_secret": "KEY""#),
    key("aws_bucket", "text, 1 to 255 bytes, no `/`, no white space", Required, r#""other""#, Compared,
        "The bucket; it must exist. Of a Swift remote (256 bytes then) the remote container; with `container: \"/*\"` what is put in \
         front of each container's name."),
    key("aws_endpoint", "`http` or `https` URL", Words("Amazon; required for `swift`"), r#""https://s3.example.org""#, Compared,
        "No credentials, query or fragment in it. A path is kept. Of a Swift remote where tokens come from: TempAuth's \
         `https://swift.example.org/auth/v1.0`, or Keystone's `https://keystone.example.org:5000/v3`."),
    key("aws_identity", "[secret](../configuration.md#secrets)", Words("default chain; required for `swift`"),
        r#"{"file": "/etc/swift-s3-sync/other.id"}"#, Live,
        "Access key, or user. Both this and `aws_secret` or neither: without them the AWS default chain holds (environment, profile, \
         SSO, container, instance role).")
        .beside(r#""aws_identity": "KEY", "aws_secret": "SECRET""#),
    key("aws_secret", "[secret](../configuration.md#secrets)", Words("default chain; required for `swift`"),
        r#"{"file": "/etc/swift-s3-sync/other.secret"}"#, Live, "Secret key, or the user's key or password.")
        .beside(r#""aws_identity": "KEY", "aws_secret": "SECRET""#),
    key("aws_session_token", "[secret](../configuration.md#secrets)", Words("none"), r#"{"env": "TOKEN"}"#, Live,
        "Of temporary credentials.")
        .beside(r#""aws_identity": "KEY", "aws_secret": "SECRET""#)
        .only_for(S3),
    key("aws_region", "text", Words("see meaning"), r#""eu-west-1""#, Live,
        "The region to sign for. Default: on Amazon what the endpoint's host name says, else what the default chain says, else \
         `us-east-1`; everywhere else `us-east-1`.")
        .since("0.1.0")
        .only_for(S3),
    key("aws_addressing_style", "`auto`, `path`, `virtual`", Value(r#""auto""#), r#""path""#, Live,
        "How requests name the bucket. `auto`: in the host name on Amazon, in the path elsewhere.")
        .since("0.1.0")
        .only_for(S3),
    key("encryption", "boolean", Value("true"), "false", Compared,
        "Ask for encryption at rest (`AES256`) with uploads and metadata updates. Only Amazon is asked.")
        .only_for(S3),
    key("custom_prefix", "text or null", Value("null"), r#""mirror""#, Compared,
        "Replaces the computed key prefix; slashes at its ends do not count. `\"\"` means that the key is the object's name. Refused \
         with `container: \"/*\"`.")
        .only_for(S3),
    key("copy_after", "seconds, 0 or more", Value("0"), "3600", Compared,
        "Minimum age of an object, by its newest timestamp, before it is copied. Deletes do not wait for it."),
    key("retain_local", "boolean", Value("true"), "false", Compared,
        "`false`: archive. The local object is removed once its copy is proven."),
    key("retain_local_segments", "boolean", Value("false"), "true", Live,
        "Of an archived large object: `false` removes the local segments that nothing else needs, too; \
         [which those are](../decisions/0003-segments-of-archived-large-objects.md)."),
    key("propagate_delete", "boolean", Value("true"), "false", Compared,
        "Users' deletes are carried to the remote. With `retain_local: false` a warning says what it means: a user's DELETE of an \
         archived object is answered 404 by Swift, but leaves a row in the container, and the copy is then deleted."),
    key("exclude_pattern", "regular expression", Words("none"), r#""tmp/""#, Compared,
        "Names that the mapping is not about, live or deleted; [its dialect](../configuration.md#exclude_pattern)."),
    key("selection_criteria", "object", Value("{}"), r#"{"content-type": "image/jpeg"}"#, Compared,
        "Which objects are copied, by their headers; [how](../configuration.md#selection_criteria)."),
    key("remote_delete_after", "seconds: 0, or on S3 43,200 or more", Value("0"), "86400", Compared,
        "Copies expire: on S3 by a lifecycle rule of the bucket ([how](../configuration.md#remote_delete_after)), on Swift by \
         `X-Delete-At`."),
    key("storage_class", "text of `A-Z`, `0-9`, `_`", Words("the bucket's"), r#""STANDARD_IA""#, Live,
        "The class of what is sent, such as `STANDARD_IA`, `GLACIER_IR` or `DEEP_ARCHIVE`. A name that neither Amazon nor Google has is \
         a warning. Objects that are there already keep theirs.")
        .since("0.1.0")
        .only_for(S3),
    key("remote_archived_metadata", "`upload`, `keep`", Value(r#""upload""#), r#""keep""#, Live,
        "Only the metadata changed of an object in an archive class (`GLACIER`, `DEEP_ARCHIVE`, an archive tier), which cannot be \
         copied in place. `upload` sends the whole object again, as the Python daemon did; `keep` leaves the remote as it is, and says \
         so in the log. A local object whose metadata is not remote is then not archived.")
        .since("0.1.0")
        .only_for(S3),
    key("limits", "object", Words("none"), r#"{"bytes_per_second": 50000000}"#, Live,
        "How fast the remote may be used for this mapping; [below](#limits).")
        .since("0.1.0"),
    key("delete_limit", "object, or `false`", Words("its own defaults"), "false", Live,
        "When deletes are held; [below](#delete_limit).")
        .since("0.1.0"),
    key("trace_sample_ratio", "number, 0 to 1", Words("`--trace-sample-ratio`"), "0.5", Live,
        "The part of the mapping's objects whose way is traced, where a collector receives traces. Objects that fail are traced always.")
        .since("0.1.0"),
    key("merge_namespaces", "boolean", Value("false"), "true", Live,
        "The [shunt](../shunt.md) shows archived objects of these containers as if they were local."),
    key("restore_object", "boolean", Value("false"), "true", Live,
        "The shunt writes an archived object back when it is read in whole. Needs `merge_namespaces`.")
        .beside(r#""merge_namespaces": true"#),
    key("merge_writes", "boolean", Value("false"), "true", Live,
        "DELETE and POST of archived objects through the shunt reach the remote. Needs `merge_namespaces`.")
        .beside(r#""merge_namespaces": true"#)
        .since("0.1.0"),
    key("merge_failure", "`error`, `local`", Value(r#""error""#), r#""local""#, Live,
        "What a merged listing is while the remote cannot be asked: 503, or the local names and `X-Cloud-Sync-Listing: partial`.")
        .beside(r#""merge_namespaces": true"#)
        .since("0.1.0"),
    key("auth_type", "`swift`, `keystone_v2`, `keystone_v3`", Value(r#""swift""#), r#""keystone_v2""#, Compared,
        "How tokens are asked for. Anything else means `swift`, with a warning.")
        .beside(r#""tenant_name": "TENANT""#)
        .only_for(Swift),
    key("tenant_name", "text", Words("required by `keystone_v2`"), r#""other""#, Compared, "The tenant.")
        .beside(r#""auth_type": "keystone_v2", "tenant_name": "TENANT""#)
        .only_for(Swift),
    key("project_name", "text", Words("required by `keystone_v3`"), r#""other""#, Compared, "The project.")
        .beside(KEYSTONE_V3)
        .only_for(Swift),
    key("project_domain_name", "text", Words("required by `keystone_v3`"), r#""other""#, Compared, "The project's domain.")
        .beside(KEYSTONE_V3)
        .only_for(Swift),
    key("user_domain_name", "text", Words("required by `keystone_v3`"), r#""other""#, Compared, "The user's domain.")
        .beside(KEYSTONE_V3)
        .only_for(Swift),
    key("remote_account", "text", Words("the user's own"), r#""AUTH_backup""#, Compared,
        "The account to work in, for users who may.")
        .only_for(Swift),
    key("storage_policy", "text", Words("the cluster's default"), r#""gold""#, Live, "Of containers that are created.")
        .only_for(Swift),
    key("convert_dlo", "boolean", Value("false"), "true", Compared, "Dynamic large objects become static ones.").only_for(Swift),
    key("min_segment_size", "bytes, 0 to 5 GiB", Value("0"), "1048576", Compared,
        "Smaller segments are joined; needs `convert_dlo`.")
        .beside(r#""convert_dlo": true"#)
        .only_for(Swift),
    key("propagate_expiration", "boolean", Value("false"), "true", Compared, "A local `X-Delete-At` is carried.").only_for(Swift),
    key("propagate_expiration_offset", "seconds, may be negative", Value("0"), "-60", Compared, "Added to it.")
        .beside(r#""propagate_expiration": true"#)
        .only_for(Swift),
    key("remote_delete_after_addition", "seconds, 0 or more", Value("86400"), "3600", Compared,
        "How much longer than the object its segments live, with `remote_delete_after`.")
        .only_for(Swift),
    key("sync_container_metadata", "boolean", Value("false"), "true", Compared,
        "Containers' `X-Container-Meta-*` are carried, but not their temporary-URL keys.")
        .only_for(Swift),
    key("sync_container_acl", "boolean", Value("false"), "true", Compared,
        "And their read and write ACLs; needs `sync_container_metadata`.")
        .beside(r#""sync_container_metadata": true"#)
        .only_for(Swift),
];

const KEYSTONE_V3: &str = r#""auth_type": "keystone_v3", "project_name": "PROJECT", "project_domain_name": "D1", "user_domain_name": "D2""#;
