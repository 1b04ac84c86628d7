#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::sync_config::{MAPPING_KEYS, parse_sync_config};

fn s3() -> Value {
    json!({"account": "AUTH_a", "container": "photos", "aws_bucket": "b", "aws_identity": "id",
           "aws_secret": "planted-secret", "aws_endpoint": "https://s3.example.org/"})
}

fn swift() -> Value {
    json!({"account": "AUTH_a", "container": "photos", "protocol": "swift", "aws_bucket": "copies",
           "aws_identity": "test:tester", "aws_secret": "planted-secret",
           "aws_endpoint": "https://swift.example.org/auth/v1.0"})
}

fn with(mut mapping: Value, more: Value) -> Value {
    let members = more.as_object().unwrap().clone();
    mapping.as_object_mut().unwrap().extend(members);
    mapping
}

fn of(mapping: &Value) -> Vec<String> {
    let document = json!({"devices": "/d", "status_dir": "/s", "items_chunk": 1, "containers": [mapping]});
    let config = parse_sync_config(&document.to_string()).unwrap().config;
    let all = sentences(&config.mappings[0]);
    assert!(!all.join(" ").contains("planted-secret"), "{all:?}");
    all
}

#[test]
fn a_plain_mapping_is_told_in_few_sentences() {
    assert_eq!(
        of(&s3()),
        [
            "Every change in AUTH_a/photos goes to bucket b at https://s3.example.org.",
            "Local copies stay.",
            "Users' deletes are carried.",
            "Deletes are held until somebody releases them when more than 1,000 come within 1 hour and more than 50 % of the \
             container's objects are gone.",
            "Keys there begin with 8f4c3c/AUTH_a/photos/.",
            "The access key is id, its secret in the configuration.",
        ]
    );
    assert_eq!(
        of(&swift()),
        [
            "Every change in AUTH_a/photos goes to container copies of the Swift cluster https://swift.example.org/auth/v1.0.",
            "Local copies stay.",
            "Users' deletes are carried.",
            "Deletes are held until somebody releases them when more than 1,000 come within 1 hour and more than 50 % of the \
             container's objects are gone.",
            "The user is test:tester, the key in the configuration.",
        ]
    );
}

/// A mapping with everything that a key needs beside it, the key's value, and the sentence that the value makes.
fn rows() -> Vec<(Value, &'static str, Value, &'static str)> {
    let amazon = || {
        let mut mapping = s3();
        mapping.as_object_mut().unwrap().remove("aws_endpoint");
        mapping
    };
    let archive = || with(s3(), json!({"retain_local": false}));
    let merged = || with(s3(), json!({"merge_namespaces": true}));
    let v2 = |tenant| with(swift(), json!({"auth_type": "keystone_v2", "tenant_name": tenant}));
    let v3 = |more| {
        let names = json!({"auth_type": "keystone_v3", "project_name": "p", "project_domain_name": "d",
                           "user_domain_name": "u"});
        with(with(swift(), names), more)
    };
    vec![
        (
            s3(),
            "account",
            json!("AUTH_b"),
            "Every change in AUTH_b/photos goes to bucket b at https://s3.example.org.",
        ),
        (
            s3(),
            "container",
            json!("/*"),
            "Every change in every container of AUTH_a goes to bucket b at https://s3.example.org.",
        ),
        (
            swift(),
            "container",
            json!("/*"),
            "Every change in every container of AUTH_a goes to the container of the same name with \"copies\" in front, of the \
             Swift cluster https://swift.example.org/auth/v1.0.",
        ),
        (
            s3(),
            "container",
            json!("/*"),
            "Keys there begin with a digest, then AUTH_a, then the container's name.",
        ),
        (
            s3(),
            "protocol",
            json!("swift"),
            "Every change in AUTH_a/photos goes to container b of the Swift cluster https://s3.example.org.",
        ),
        (
            s3(),
            "aws_bucket",
            json!("c"),
            "Every change in AUTH_a/photos goes to bucket c at https://s3.example.org.",
        ),
        (
            amazon(),
            "aws_endpoint",
            json!("http://a"),
            "Every change in AUTH_a/photos goes to bucket b at http://a.",
        ),
        (s3(), "aws_endpoint", Value::Null, "Every change in AUTH_a/photos goes to bucket b at Amazon S3."),
        (
            s3(),
            "aws_identity",
            json!({"env": "KEY"}),
            "The access key is in the environment variable KEY of each node, its secret in the configuration.",
        ),
        (
            s3(),
            "aws_secret",
            json!({"file": "/k"}),
            "The access key is id, its secret in the file /k of each node.",
        ),
        (
            s3(),
            "aws_session_token",
            json!("planted-secret"),
            "The access key is id, its secret in the configuration, its session token in the configuration.",
        ),
        (s3(), "aws_region", json!("eu-west-1"), "Requests are signed for region eu-west-1."),
        (s3(), "aws_addressing_style", json!("path"), "Requests name the bucket in the path."),
        (s3(), "aws_addressing_style", json!("virtual"), "Requests name the bucket in the host name."),
        (amazon(), "encryption", json!(false), "Amazon is not asked to encrypt."),
        (s3(), "custom_prefix", json!("/pre/x/"), "Keys there begin with pre/x/."),
        (s3(), "custom_prefix", json!(""), "Keys there are the objects' names."),
        (
            s3(),
            "copy_after",
            json!(60),
            "Objects are copied once they are 1 minute old; deletes do not wait.",
        ),
        (s3(), "retain_local", json!(false), "Local copies go away once the copy there is proven (archive)."),
        (
            s3(),
            "retain_local",
            json!(false),
            "Users' deletes are carried, of archived objects too: then the only copy goes.",
        ),
        (archive(), "retain_local_segments", json!(true), "Segments of archived large objects stay here."),
        (
            s3(),
            "propagate_delete",
            json!(false),
            "Users' deletes are not carried: what is deleted here stays there.",
        ),
        (s3(), "exclude_pattern", json!("tmp/"), "Names that begin with a match of tmp/ are left out."),
        (
            s3(),
            "selection_criteria",
            json!({"AND": [{"X-Object-Meta-A": "b"}, {"OR": [{"c": "d"}, {"NOT": {"e": "f"}}]}]}),
            "Only objects are copied where x-object-meta-a is \"b\" and (c is \"d\" or not (e is \"f\")).",
        ),
        (
            s3(),
            "remote_delete_after",
            json!(2_592_000),
            "Copies there expire after 30 days, by a lifecycle rule of the bucket.",
        ),
        (
            swift(),
            "remote_delete_after",
            json!(3_600),
            "Copies there expire after 1 hour, their segments 1 day later.",
        ),
        (s3(), "storage_class", json!("GLACIER_IR"), "New copies are stored in class GLACIER_IR."),
        (
            s3(),
            "remote_archived_metadata",
            json!("keep"),
            "Copies in an archive class stay as they are when only metadata changes.",
        ),
        (
            s3(),
            "limits",
            json!({"concurrency": 8, "bytes_per_second": 50_000_000, "requests_per_second": 2_000}),
            "All workers together carry at most 8 objects at a time, 50 MB a second and 2,000 requests a second.",
        ),
        (
            s3(),
            "limits",
            json!({"timetable": [{"days": ["mon", "sat"], "from": "22:00", "to": "06:30", "bytes_per_second": 2_048}]}),
            "From 22:00 to 06:30 on every Monday, Saturday, they carry at most 2 KiB a second.",
        ),
        (
            with(s3(), json!({})),
            "limits",
            json!({"concurrency": 1, "timetable": [{"from": "00:00", "to": "24:00", "concurrency": null}]}),
            "From 00:00 to 24:00 on every day, they carry as much as they can.",
        ),
        (s3(), "delete_limit", json!(false), "No number of deletes is too many."),
        (
            s3(),
            "trace_sample_ratio",
            json!(0.25),
            "The way of 25 % of the objects is traced, and of all that fail.",
        ),
        (
            s3(),
            "delete_limit",
            json!({"count": 5, "ratio": 0.125, "per": 90}),
            "Deletes are held until somebody releases them when more than 5 come within 90 seconds and more than 12.5 % of the \
             container's objects are gone.",
        ),
        (
            s3(),
            "merge_namespaces",
            json!(true),
            "Through the shunt, what is there only is read and listed as if it were here.",
        ),
        (
            merged(),
            "restore_object",
            json!(true),
            "An archived object that is read in whole is written back.",
        ),
        (merged(), "merge_writes", json!(true), "DELETE and POST of archived objects reach the remote."),
        (
            merged(),
            "merge_failure",
            json!("local"),
            "A listing has local names only while the remote cannot be asked.",
        ),
        (v2("t"), "auth_type", json!("swift"), "The user is test:tester, the key in the configuration."),
        (
            v2("t"),
            "tenant_name",
            json!("w"),
            "The user is test:tester for tenant w (Keystone v2), the key in the configuration.",
        ),
        (
            v3(json!({})),
            "project_name",
            json!("q"),
            "The user is test:tester of domain u for project q of domain d (Keystone v3), the key in the configuration.",
        ),
        (
            v3(json!({})),
            "project_domain_name",
            json!("e"),
            "The user is test:tester of domain u for project p of domain e (Keystone v3), the key in the configuration.",
        ),
        (
            v3(json!({})),
            "user_domain_name",
            json!("v"),
            "The user is test:tester of domain v for project p of domain d (Keystone v3), the key in the configuration.",
        ),
        (swift(), "remote_account", json!("AUTH_z"), "Copies are kept in account AUTH_z there."),
        (swift(), "storage_policy", json!("gold"), "Containers there are created with storage policy gold."),
        (swift(), "convert_dlo", json!(true), "Dynamic large objects become static ones."),
        (
            with(swift(), json!({"convert_dlo": true})),
            "min_segment_size",
            json!(1_048_576),
            "Dynamic large objects become static ones; segments below 1 MiB are joined.",
        ),
        (swift(), "propagate_expiration", json!(true), "Expiry dates of objects are carried."),
        (
            with(swift(), json!({"propagate_expiration": true})),
            "propagate_expiration_offset",
            json!(-7_200),
            "Expiry dates of objects are carried, 2 hours earlier.",
        ),
        (
            with(swift(), json!({"remote_delete_after": 3_600})),
            "remote_delete_after_addition",
            json!(60),
            "Copies there expire after 1 hour, their segments 1 minute later.",
        ),
        (swift(), "sync_container_metadata", json!(true), "Metadata of containers is carried."),
        (
            with(swift(), json!({"sync_container_metadata": true})),
            "sync_container_acl",
            json!(true),
            "Metadata and ACLs of containers are carried.",
        ),
    ]
}

#[test]
fn every_key_that_changes_what_happens_changes_a_sentence() {
    let mut seen = BTreeSet::new();
    for (base, key, value, expected) in rows() {
        seen.insert(key);
        let changed = of(&with(base.clone(), json!({ key: value })));
        assert!(changed.iter().any(|sentence| sentence == expected), "{key}: {value}: {changed:#?}");
        assert!(
            !of(&base).iter().any(|sentence| sentence == expected),
            "{key}: so without it too: {expected}"
        );
    }
    let known: BTreeSet<&str> = MAPPING_KEYS.into_iter().collect();
    assert_eq!(seen, known, "a key of mappings without a sentence");
}

#[test]
fn without_an_access_key_the_default_chain_is_named() {
    let mapping = json!({"account": "a", "container": "c", "aws_bucket": "b"});
    assert_eq!(
        of(&mapping).last().unwrap(),
        "Credentials are what the AWS default chain finds on each node."
    );
}

#[test]
fn sentences_have_a_bound() {
    let all = of(&with(s3(), json!({"exclude_pattern": "é".repeat(5_000)})));
    assert!(all.iter().all(|sentence| sentence.chars().count() <= MAX_CHARACTERS + 1));
    assert!(all[1].ends_with("éé…"), "{all:?}");
}
