#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::mapping::ContainerSelector;
use crate::remote::{Addressing, ArchivedMetadata, SwiftAuth};
use crate::secret::{CredentialSource, Secret, SecretSource};

/// A mapping with the keys of `more` added or replaced.
fn mapping(more: Value) -> Value {
    let base = json!({"account": "AUTH_test", "container": "c", "aws_bucket": "b"});
    merged(base, more)
}

/// A document with the keys of `more` added or replaced.
fn document(more: Value) -> Value {
    merged(json!({"devices": "/srv/node", "status_dir": "/var/lib/1space", "items_chunk": 1000}), more)
}

fn merged(mut base: Value, more: Value) -> Value {
    let members = base.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    base
}

fn with_mapping(more: Value) -> Value {
    document(json!({"containers": [mapping(more)]}))
}

fn accepted(document: &Value) -> ParsedConfig {
    parse_sync_config(&document.to_string()).unwrap()
}

fn problems(document: &Value) -> Vec<ConfigProblem> {
    parse_sync_config(&document.to_string()).unwrap_err()
}

/// The problems of a mapping, one line each.
fn mapping_problems(more: Value) -> Vec<String> {
    problems(&with_mapping(more)).iter().map(ToString::to_string).collect()
}

fn paths(problems: &[ConfigProblem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let ParsedConfig { config, warnings } = accepted(&with_mapping(json!({})));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.devices, PathBuf::from("/srv/node"));
    assert_eq!(config.swift_dir, PathBuf::from("/etc/swift"));
    assert_eq!(config.items_chunk, 1000);
    assert_eq!(config.poll_interval, Duration::from_secs(5));
    assert_eq!((config.workers, config.enumerator_workers), (10, 10));
    assert_eq!(config.verification_slack, Duration::from_secs(3600));
    assert_eq!(config.stale_upload_age, Duration::from_secs(86_400));
    assert!(config.swift_bind_ip.is_empty());
    assert_eq!((config.log_level, config.log_format), (LogLevel::Info, LogFormat::Text));
    assert!(config.log_file.is_none() && config.syslog.is_none() && config.statsd.is_none());
    assert_eq!(config.mappings.len(), 1);
    let mapping = &config.mappings[0];
    assert_eq!(mapping.path, "containers[0]");
    assert_eq!(mapping.container, ContainerSelector::One("c".to_owned()));
    let remote = mapping.remote.s3().unwrap();
    assert_eq!(remote.endpoint, None);
    assert_eq!((&remote.storage_class, remote.archived_metadata), (&None, ArchivedMetadata::Upload));
    assert_eq!(remote.credentials, CredentialSource::DefaultChain);
    assert_eq!(remote.addressing, Addressing::Auto);
    assert!(remote.encryption && mapping.retain_local && mapping.propagate_delete);
    assert!(!mapping.retain_local_segments && mapping.selection.is_empty());
    assert!(mapping.exclude.is_none() && mapping.remote_delete_after.is_none());
    assert_eq!((mapping.copy_after, &mapping.custom_prefix), (Duration::ZERO, &None));
}

#[test]
fn a_full_configuration_of_the_predecessor_is_understood() {
    let ParsedConfig { config, warnings } = accepted(&document(json!({
        "containers": [{
            "account": "AUTH_تacct", "container": "archive-s3", "protocol": "s3",
            "aws_endpoint": "http://s3.example:9000", "aws_bucket": "s3-sync-test",
            "aws_identity": "KEY", "aws_secret": "SECRET", "aws_session_token": "TOKEN",
            "encryption": false, "custom_prefix": "/pre/", "exclude_pattern": "seg",
            "selection_criteria": {"X-Object-Meta-A": "b"}, "remote_delete_after": 86400,
            "copy_after": 86400, "retain_local": false, "retain_local_segments": true,
            "propagate_delete": false, "merge_namespaces": true, "restore_object": true,
            "convert_dlo": false, "min_segment_size": 0, "storage_policy": null,
        }],
        "migrations": [],
        "migrator_settings": {"items_chunk": 1000, "status_file": "/s", "log_file": "/l"},
        "log_file": "/var/log/sync.log", "log_level": "DEBUG", "poll_interval": 0.5,
        "workers": 1, "enumerator_workers": 1024, "verification_slack": 1.5, "stale_upload_age": 0,
        "swift_bind_ip": "127.0.0.2", "swift_dir": "/opt/swift", "bulk_process": false,
        "syslog": {"host": "log.example", "proto": "tcp"},
        "statsd_host": "stats", "statsd_prefix": "site", "http_proxy": "http://u:p@proxy:1",
        "https_proxy": "proxy:2", "internal_url": "http://127.0.0.1:8080/v1", "log_format": "json",
    })));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.poll_interval, Duration::from_millis(500));
    assert_eq!(config.verification_slack, Duration::from_secs(90));
    assert_eq!(config.stale_upload_age, Duration::ZERO);
    assert_eq!((config.workers, config.enumerator_workers), (1, 1024));
    assert_eq!(config.swift_bind_ip, ["127.0.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!((config.log_level, config.log_format), (LogLevel::Debug, LogFormat::Json));
    assert_eq!(config.log_file, Some(PathBuf::from("/var/log/sync.log")));
    assert_eq!(config.internal_url.as_deref(), Some("http://127.0.0.1:8080/v1"));
    let syslog = Syslog { host: "log.example".to_owned(), port: 514, protocol: SyslogProtocol::Tcp };
    assert_eq!(config.syslog, Some(syslog));
    let statsd = Statsd { host: "stats".to_owned(), port: 8125, prefix: Some("site".to_owned()) };
    assert_eq!(config.statsd, Some(statsd));
    assert_eq!(config.http_proxy.as_deref(), Some("http://u:p@proxy:1"));
    assert_eq!(config.https_proxy.as_deref(), Some("http://proxy:2"));
    let mapping = &config.mappings[0];
    let inline = |text: &str| SecretSource::Inline(Secret::new(text));
    assert_eq!(
        *mapping.remote.credentials(),
        CredentialSource::Static {
            identity: inline("KEY"),
            secret: inline("SECRET"),
            session_token: Some(inline("TOKEN")),
        }
    );
    assert_eq!(mapping.key_mapping("archive-s3").object_key("o"), "pre/o");
    assert_eq!(mapping.remote_delete_after, Some(Duration::from_secs(86_400)));
    assert!(mapping.exclude.as_ref().unwrap().excludes("segments/1"));
    assert!(!mapping.selection.matches(&[]));
    let shown = format!("{config:#?}");
    for hidden in ["KEY", "SECRET", "TOKEN", "u:p"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}

#[test]
fn what_is_not_a_json_object_is_one_problem() {
    let syntax = parse_sync_config("{\n  \"devices\": ,\n}").unwrap_err();
    assert_eq!(paths(&syntax), ["line 2, column 14"]);
    for text in ["", "{", "nul", "{\"a\": 1e999}", "\u{0}"] {
        assert_eq!(parse_sync_config(text).unwrap_err().len(), 1, "{text}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(parse_sync_config(&deep).unwrap_err().len(), 1);
    for text in ["[]", "null", "\"x\"", "5"] {
        assert_eq!(paths(&parse_sync_config(text).unwrap_err()), ["(document)"], "{text}");
    }
    let marked = format!("\u{feff}{}", document(json!({})));
    assert!(parse_sync_config(&marked).is_ok());
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let problems = problems(&json!({
        "devices": "", "items_chunk": "1000", "workers": 0, "enumerator_workers": 1025,
        "poll_interval": 0, "verification_slack": -1, "swift_bind_ip": "localhost",
        "log_level": "loud", "log_format": "xml", "log_file": 5, "syslog": "host",
        "statsd_host": "a b", "statsd_port": 0, "http_proxy": "ftp://x", "internal_url": "https://x",
        "migrations": {}, "migrator_settings": [], "swift_dir": [],
        "containers": [5, {"container": "a/b", "copy_after": "3600", "retain_local": "no"}],
    }));
    assert_eq!(
        paths(&problems),
        [
            "devices",
            "status_dir",
            "items_chunk",
            "swift_dir",
            "poll_interval",
            "workers",
            "enumerator_workers",
            "verification_slack",
            "swift_bind_ip",
            "internal_url",
            "log_file",
            "log_level",
            "log_format",
            "syslog",
            "http_proxy",
            "statsd_port",
            "statsd_host",
            "migrations",
            "migrator_settings",
            "containers[0]",
            "containers[1].account",
            "containers[1].container",
            "containers[1].aws_bucket",
            "containers[1].copy_after",
            "containers[1].retain_local",
        ]
    );
}

#[test]
fn problems_say_what_was_found_and_what_is_allowed() {
    for (more, line) in [
        (
            json!({"copy_after": "3600"}),
            "containers[0].copy_after: found the string \"3600\"; allowed: a number of seconds from 0 to 4294967295, without quotes",
        ),
        (
            json!({"copy_after": "soon"}),
            "containers[0].copy_after: found \"soon\"; allowed: a number of seconds from 0 to 4294967295",
        ),
        (
            json!({"copy_after": null}),
            "containers[0].copy_after: found null; allowed: a number of seconds from 0 to 4294967295",
        ),
        (
            json!({"copy_after": 1e300}),
            "containers[0].copy_after: found 1e+300; allowed: a number of seconds from 0 to 4294967295",
        ),
        (json!({"encryption": 1}), "containers[0].encryption: found 1; allowed: true or false"),
        (json!({"encryption": null}), "containers[0].encryption: found null; allowed: true or false"),
        (json!({"protocol": "foo"}), "containers[0].protocol: found \"foo\"; allowed: \"s3\" or \"swift\""),
        (
            json!({"selection_criteria": {"OR": [{}, {"a": "b", "c": "d"}]}}),
            "containers[0].selection_criteria.OR[1]: found an object with 2 keys; allowed: one key; join several with \"AND\" or \"OR\"",
        ),
        (
            json!({"remote_delete_after": 43199}),
            "containers[0].remote_delete_after: found 43199 seconds; allowed: 0 for never, or at least 43200: S3 counts in days, and less rounds to none",
        ),
        (
            json!({"container": "/*", "custom_prefix": "p"}),
            "containers[0].custom_prefix: found \"p\" together with container \"/*\"; allowed: null: with one prefix the containers would overwrite each other's objects",
        ),
    ] {
        assert_eq!(mapping_problems(more), [line]);
    }
}

#[test]
fn names_of_accounts_containers_and_buckets_are_checked() {
    for (key, value) in [
        ("account", json!("")),
        ("account", json!("a/b")),
        ("account", json!("a".repeat(257))),
        ("container", json!("")),
        ("container", json!("a/b")),
        ("container", json!("/")),
        ("container", json!("/**")),
        ("container", json!("é".repeat(129))),
        ("container", json!(null)),
        ("aws_bucket", json!("")),
        ("aws_bucket", json!("a/b")),
        ("aws_bucket", json!("..")),
        ("aws_bucket", json!("a b")),
        ("aws_bucket", json!(5)),
        ("custom_prefix", json!("p".repeat(1023))),
        ("aws_region", json!("a b")),
        ("aws_addressing_style", json!("dns")),
    ] {
        let problems = problems(&with_mapping(json!({key: value})));
        assert_eq!(paths(&problems), [format!("containers[0].{key}")], "{value}");
        assert!(problems[0].to_string().len() < 400);
    }
    let all = accepted(&with_mapping(json!({"container": "/*"})));
    assert_eq!(all.config.mappings[0].container, ContainerSelector::All);
}

#[test]
fn a_misspelt_required_key_is_pointed_at() {
    let problems = problems(&document(json!({
        "containers": [{"account": "a", "container": "c", "aws_buket": "b"}],
    })));
    assert_eq!(problems[0].path, "containers[0].aws_bucket");
    assert_eq!(problems[0].found, "nothing, but \"aws_buket\" beside it");
}

#[test]
fn endpoints_must_be_plain_urls() {
    for endpoint in [json!(null), json!(""), json!("http://127.0.0.1:9000"), json!("https://s3.example")] {
        accepted(&with_mapping(json!({"aws_endpoint": endpoint})));
    }
    for endpoint in [json!("s3.example:9000"), json!("ftp://s3"), json!("http://s3?x"), json!(5)] {
        let problems = problems(&with_mapping(json!({"aws_endpoint": endpoint})));
        assert_eq!(paths(&problems), ["containers[0].aws_endpoint"]);
    }
}

#[test]
fn secrets_come_from_three_places_and_are_never_shown() {
    let parsed = accepted(&with_mapping(json!({
        "aws_identity": {"env": "S3_KEY"}, "aws_secret": {"file": "/run/secret"},
    })));
    assert_eq!(
        *parsed.config.mappings[0].remote.credentials(),
        CredentialSource::Static {
            identity: SecretSource::Env("S3_KEY".to_owned()),
            secret: SecretSource::File(PathBuf::from("/run/secret")),
            session_token: None,
        }
    );
    for (more, expected) in [
        (json!({"aws_identity": "hunter2"}), "aws_secret"),
        (json!({"aws_secret": "hunter2"}), "aws_identity"),
        (json!({"aws_session_token": "hunter2"}), "aws_session_token"),
        (json!({"aws_identity": "i", "aws_secret": {"path": "hunter2"}}), "aws_secret"),
        (json!({"aws_identity": "i", "aws_secret": {"file": "hunter2"}}), "aws_secret"),
        (json!({"aws_identity": "i", "aws_secret": {"env": "hunter2=x"}}), "aws_secret"),
        (json!({"aws_identity": "i", "aws_secret": {"file": "/hunter2", "env": "A"}}), "aws_secret"),
        (json!({"aws_identity": "i", "aws_secret": ["hunter2"]}), "aws_secret"),
        (json!({"aws_identity": "i", "aws_secret": "hunter2\n"}), "aws_secret"),
        (json!({"aws_identity": "i", "aws_secret": ""}), "aws_secret"),
        (json!({"aws_identity": "i", "aws_secret": 7777777}), "aws_secret"),
        (json!({"aws_endpoint": "http://me:hunter2@host"}), "aws_endpoint"),
    ] {
        let lines = mapping_problems(more.clone());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(&format!("containers[0].{expected}: ")), "{lines:?}");
        assert!(!lines[0].contains("hunter2") && !lines[0].contains("7777777"), "{lines:?}");
    }
    let proxy = problems(&document(json!({"http_proxy": "ftp://me:hunter2@proxy"})));
    assert_eq!(proxy[0].found, "\"ftp://***@proxy\"");
    let ParsedConfig { warnings, .. } = accepted(&with_mapping(json!({"aws_scret_key": "hunter2"})));
    assert!(!format!("{warnings:?}").contains("hunter2"));
}

fn swift_mapping(more: Value) -> Value {
    let swift = json!({
        "protocol": "swift", "aws_endpoint": "http://keys/auth/v1.0", "aws_identity": "u", "aws_secret": "hunter2",
    });
    with_mapping(merged(swift, more))
}

#[test]
fn swift_remotes_have_the_predecessors_defaults() {
    let ParsedConfig { config, warnings } = accepted(&swift_mapping(json!({"aws_bucket": "copies"})));
    assert!(warnings.is_empty(), "{warnings:?}");
    let remote = config.mappings[0].remote.swift().unwrap();
    assert_eq!((remote.container.as_str(), &remote.auth), ("copies", &SwiftAuth::V1));
    assert_eq!((remote.convert_dlo, remote.min_segment_size), (false, 0));
    assert_eq!((remote.container_metadata, remote.container_acl), (false, false));
    assert_eq!((remote.expiration_offset, remote.segments_live_longer.as_secs()), (None, 86_400));
    let one = &config.mappings[0].container;
    assert_eq!(remote.object_container(one, "c"), "copies");
    assert_eq!(remote.segments_container(one, "s"), "copies_segments");
    let all = json!({"aws_bucket": "far:", "container": "/*", "remote_delete_after": 100});
    let ParsedConfig { config, .. } = accepted(&swift_mapping(all));
    let mapping = &config.mappings[0];
    let remote = mapping.remote.swift().unwrap();
    assert_eq!(remote.object_container(&mapping.container, "c"), "far:c");
    assert_eq!(remote.segments_container(&mapping.container, "s"), "far:s");
    assert_eq!(mapping.key_mapping("c").object_key("o"), "far:c/o");
    assert_eq!(mapping.remote_delete_after, Some(Duration::from_secs(100)));
}

#[test]
fn every_swift_key_is_read() {
    let more = json!({
        "auth_type": "keystone_v3", "project_name": "p", "project_domain_name": "pd", "user_domain_name": "ud",
        "remote_account": "AUTH_x", "storage_policy": "silver", "convert_dlo": true, "min_segment_size": 2000,
        "sync_container_metadata": true, "sync_container_acl": true, "propagate_expiration": true,
        "propagate_expiration_offset": -60, "remote_delete_after_addition": 172_800,
    });
    let ParsedConfig { config, warnings } = accepted(&swift_mapping(more));
    assert!(warnings.is_empty(), "{warnings:?}");
    let remote = config.mappings[0].remote.swift().unwrap();
    let auth = SwiftAuth::KeystoneV3 {
        project_name: "p".to_owned(),
        project_domain_name: "pd".to_owned(),
        user_domain_name: "ud".to_owned(),
    };
    assert_eq!(remote.auth, auth);
    assert_eq!(remote.remote_account.as_deref(), Some("AUTH_x"));
    assert_eq!(remote.storage_policy.as_deref(), Some("silver"));
    assert_eq!((remote.convert_dlo, remote.min_segment_size), (true, 2000));
    assert!(remote.container_metadata && remote.container_acl);
    assert_eq!((remote.expiration_offset, remote.segments_live_longer.as_secs()), (Some(-60), 172_800));
}

#[test]
fn bad_swift_remotes_are_told_by_path() {
    for (more, path, part) in [
        (json!({"aws_endpoint": null}), "aws_endpoint", "URL"),
        (json!({"aws_bucket": "a/b"}), "aws_bucket", "container"),
        (
            json!({"auth_type": "keystone_v3", "project_name": "p"}),
            "auth_type",
            "project_domain_name, user_domain_name",
        ),
        (json!({"auth_type": "keystone_v2"}), "auth_type", "tenant_name"),
        (json!({"auth_type": 3}), "auth_type", "keystone_v2"),
        (json!({"min_segment_size": 10}), "min_segment_size", "convert_dlo"),
        (json!({"propagate_expiration_offset": "x"}), "propagate_expiration_offset", "seconds"),
    ] {
        let found = problems(&swift_mapping(more.clone()));
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{more}: {lines:?}");
        assert!(
            lines[0].starts_with(&format!("containers[0].{path}: ")) && lines[0].contains(part),
            "{lines:?}"
        );
        assert!(!lines[0].contains("hunter2"));
    }
    let lines = mapping_problems(json!({"protocol": "swift", "aws_endpoint": "http://k"}));
    assert!(lines.iter().any(|line| line.contains("aws_identity")), "{lines:?}");
}

#[test]
fn keys_of_the_other_kind_of_remote_are_warned_of() {
    for (more, key) in [
        (with_mapping(json!({"convert_dlo": true})), "convert_dlo"),
        (with_mapping(json!({"min_segment_size": 5})), "min_segment_size"),
        (swift_mapping(json!({"custom_prefix": "p"})), "custom_prefix"),
        (swift_mapping(json!({"storage_class": "GLACIER"})), "storage_class"),
        (with_mapping(json!({"storage_class": "FROZEN"})), "storage_class"),
    ] {
        let ParsedConfig { warnings, .. } = accepted(&more);
        assert_eq!(paths(&warnings), [format!("containers[0].{key}")], "{more}");
    }
    let off = json!({"convert_dlo": false, "auth_type": "", "min_segment_size": 0});
    assert!(accepted(&with_mapping(off)).warnings.is_empty());
}

#[test]
fn two_containers_with_one_remote_container_are_refused() {
    let swift = |container: &str| {
        json!({"account": "a", "container": container, "protocol": "swift", "aws_endpoint": "http://k/v1",
            "aws_identity": "u", "aws_secret": "s", "aws_bucket": "far"})
    };
    let found = problems(&document(json!({"containers": [swift("one"), swift("two")]})));
    assert_eq!(paths(&found), ["containers[1].aws_bucket"]);
    assert!(found[0].found.contains("containers[0]"), "{found:?}");
}

#[test]
fn exclude_patterns_are_compiled() {
    for nothing in ["", "^$"] {
        let parsed = accepted(&with_mapping(json!({"exclude_pattern": nothing})));
        assert!(parsed.config.mappings[0].exclude.is_none());
    }
    let lines = mapping_problems(json!({"exclude_pattern": "seg("}));
    assert!(lines[0].starts_with("containers[0].exclude_pattern: found \"seg(\" ("), "{lines:?}");
    assert!(!lines[0].contains('\n'));
}

#[test]
fn oddities_are_warned_about() {
    for (document, path, part) in [
        (document(json!({"pol_interval": 5})), "pol_interval", "\"poll_interval\""),
        (document(json!({"colour": 5})), "colour", "documented keys"),
        (with_mapping(json!({"agent": 1})), "containers[0].agent", "documented keys"),
        (with_mapping(json!({"copy-after": 1})), "containers[0].copy-after", "\"copy_after\""),
        (with_mapping(json!({"retain_local": false})), "containers[0].propagate_delete", "archiver"),
        (document(json!({"bulk_process": true})), "bulk_process", "no effect"),
        (document(json!({"internal_client_path": "/x"})), "internal_client_path", "internal_url"),
        (document(json!({"internal_client_logname": "x"})), "internal_client_logname", "no effect"),
        (document(json!({"migrations": [{}]})), "migrations", "does not serve"),
        (document(json!({"syslog": {"hots": "x"}})), "syslog.hots", "\"host\""),
        (document(json!({"a\nb": 1})), "a\\nb", "documented keys"),
    ] {
        let ParsedConfig { warnings, .. } = accepted(&document);
        assert_eq!(paths(&warnings), [path]);
        assert!(warnings[0].allowed.contains(part), "{warnings:?}");
    }
}

#[test]
fn repeated_mappings_are_dropped_with_a_warning() {
    let parsed = accepted(&document(json!({"containers": [
        mapping(json!({})),
        mapping(json!({"copy_after": 0, "aws_identity": "other", "aws_secret": "key"})),
        mapping(json!({"copy_after": 1})),
        mapping(json!({"container": "/*"})),
    ]})));
    let kept: Vec<_> = parsed.config.mappings.iter().map(|kept| kept.path.as_str()).collect();
    assert_eq!(kept, ["containers[0]", "containers[2]", "containers[3]"]);
    assert_eq!(paths(&parsed.warnings), ["containers[1]"]);
    assert!(parsed.warnings[0].found.contains("containers[0]"));
}

#[test]
fn containers_must_not_share_a_prefix() {
    let two = |one: Value, other: Value| document(json!({"containers": [mapping(one), mapping(other)]}));
    let endpoint = "http://s3.example:9000";
    for (one, other) in [
        (json!({"custom_prefix": "p"}), json!({"custom_prefix": "/p/", "container": "d"})),
        (json!({"custom_prefix": ""}), json!({"custom_prefix": "/", "account": "AUTH_x"})),
        (
            json!({"custom_prefix": "p", "aws_endpoint": endpoint}),
            json!({"custom_prefix": "p", "aws_endpoint": "HTTP://s3.example:9000/", "container": "d"}),
        ),
    ] {
        let problems = problems(&two(one, other));
        assert_eq!(paths(&problems), ["containers[1].custom_prefix"]);
        assert!(problems[0].found.contains("containers[0]"));
    }
    for (one, other) in [
        (json!({"custom_prefix": "p"}), json!({"custom_prefix": "q", "container": "d"})),
        (json!({"custom_prefix": "p"}), json!({"custom_prefix": "pq", "container": "d"})),
        (json!({"custom_prefix": "p"}), json!({"custom_prefix": "p", "copy_after": 9})),
        (json!({"custom_prefix": "p"}), json!({"custom_prefix": "p", "container": "d", "aws_bucket": "e"})),
        (json!({}), json!({"container": "d"})),
    ] {
        let parsed = accepted(&two(one, other));
        assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    }
    for (outer, inner) in [("p", "p/q/r"), ("p/q", "p/q/r"), ("", "p")] {
        let inner = json!({"custom_prefix": inner, "container": "d"});
        let parsed = accepted(&two(inner, json!({"custom_prefix": outer})));
        assert_eq!(paths(&parsed.warnings), ["containers[0].custom_prefix"]);
        assert!(parsed.warnings[0].found.contains("containers[1]"));
    }
}

#[test]
fn bind_addresses_may_be_listed_and_unspecified_means_all() {
    for (value, count) in [
        (json!("0.0.0.0"), 0),
        (json!("::"), 0),
        (json!(null), 0),
        (json!("10.0.0.1"), 1),
        (json!(["10.0.0.1", "fd00::1"]), 2),
        (json!(["10.0.0.1", "0.0.0.0"]), 0),
    ] {
        let parsed = accepted(&document(json!({"swift_bind_ip": value})));
        assert_eq!(parsed.config.swift_bind_ip.len(), count, "{value}");
    }
}

#[test]
fn the_number_of_reported_problems_is_bounded() {
    let bad: Vec<Value> = (0..5000).map(Value::from).collect();
    let problems = problems(&document(json!({"containers": bad})));
    assert_eq!(problems.len(), 1001);
}

/// Any JSON, with keys that are looked at.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof![Just("/*"), Just("swift"), Just("http://a@b"), Just("[")].prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("account"),
        Just("container"),
        Just("containers"),
        Just("aws_bucket"),
        Just("aws_secret"),
        Just("copy_after"),
        Just("custom_prefix"),
        Just("selection_criteria"),
        Just("AND"),
        Just("NOT"),
        Just("exclude_pattern"),
        Just("syslog"),
        Just("file"),
        Just("workers"),
        Just("limits"),
        Just("timetable"),
        Just("delete_limit"),
        Just("odd"),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        let members = proptest::collection::vec((key.clone(), inner.clone()), 0..6);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_panics(one in any_json(), other in any_json()) {
        let _ = parse_sync_config(&one.to_string());
        let nested = document(json!({"containers": [one, mapping(json!({"selection_criteria": other}))]}));
        if let Err(problems) = parse_sync_config(&nested.to_string()) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn no_text_panics(text in "[\\[\\]{}\",:a-z0-9 ]{0,40}") {
        let _ = parse_sync_config(&text);
    }
}

#[test]
fn keys_that_begin_with_slashes_are_comments() {
    let text = r#"{"// 1": "where Swift's devices are mounted", "devices": "/d", "status_dir": "/s", "items_chunk": 5,
        "containers": [{"//": "an archive", "account": "a", "container": "c", "aws_bucket": "b"}]}"#;
    assert_eq!(parse_sync_config(text).unwrap().warnings, []);
}
