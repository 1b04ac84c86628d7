//! What a node reads.

use super::*;

#[test]
fn a_document_may_lack_what_belongs_to_nodes() {
    let parsed = parse_document(&containers(&[mapping(json!({}))])).unwrap();
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    let config = parsed.config;
    assert_eq!(config.devices.to_str(), Some("/srv/node"));
    assert_eq!(config.status_dir.to_str(), Some("/var/lib/swift-s3-sync"));
    assert_eq!((config.items_chunk, config.mappings.len()), (1000, 1));
    let problems = parse_document(r#"{"devices": 5, "items_chunk": 0, "containers": [{}]}"#).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    let missing = ["account", "container", "aws_bucket"].map(|key| format!("containers[0].{key}"));
    assert_eq!(paths, ["devices", "items_chunk", &missing[0], &missing[1], &missing[2]]);
}

#[test]
fn a_node_joins_its_own_file_and_the_document() {
    let document = merged(
        json!({"devices": "/there", "log_level": "debug", "workers": 3, "items_chunk": 7}),
        read(&containers(&[mapping(json!({}))])),
    );
    let local = r#"{"devices": "/here", "status_dir": "/s", "swift_dir": null, "statsd_host": "stats",
        "workers": 99, "containers": [{}], "limits": {"concurrency": 0}, "staus_dir": 1, "// x": 1}"#;
    let node = parse_for_node(&document.to_string(), Some(local)).unwrap();
    assert_eq!(node.config.devices.to_str(), Some("/here"));
    assert_eq!(node.config.status_dir.to_str(), Some("/s"));
    assert_eq!((node.config.workers, node.config.items_chunk), (3, 7));
    assert_eq!(node.config.log_level, crate::LogLevel::Debug);
    assert!(node.config.limits.is_unlimited());
    assert_eq!(node.config.mappings.len(), 1);
    let warned: Vec<_> = node.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(warned, ["workers", "containers", "limits", "staus_dir"]);
    assert!(node.refused.is_empty());

    let own = local_settings(local).unwrap();
    assert_eq!(own.config.status_dir.to_str(), Some("/s"));
    assert_eq!((own.config.workers, own.config.mappings.len()), (10, 0));
    assert_eq!(own.warnings.len(), 4);
    assert_eq!(local_settings(r#"{"devices": 5}"#).unwrap_err()[0].path, "devices");
    assert_eq!(parse_for_node("{}", Some(r#"{"devices": 5}"#)).unwrap_err()[0].path, "devices");
    assert_eq!(local_settings("{}").unwrap().config.devices.to_str(), Some("/srv/node"));
}

#[test]
fn a_node_refuses_mappings_one_by_one() {
    let prefixed = |container: &str| mapping(json!({"container": container, "custom_prefix": "p"}));
    let document = containers(&[
        mapping(json!({"container": "a", "copy_after": "later", "aws_secret": PLANTED})),
        mapping(json!({"container": "b"})),
        json!(5),
        mapping(json!({"container": "d", "aws_bucket": null})),
        prefixed("e"),
        prefixed("f"),
    ]);
    assert!(parse_document(&document).is_err());
    let node = parse_for_node(&document, None).unwrap();
    let served: Vec<_> =
        node.config.mappings.iter().map(|mapping| (mapping.path.as_str(), mapping.label())).collect();
    assert_eq!(
        served,
        [("containers[1]", "AUTH_test/b".to_owned()), ("containers[4]", "AUTH_test/e".to_owned())]
    );
    let refused: Vec<_> = node
        .refused
        .iter()
        .map(|refused| {
            let paths: Vec<_> = refused.problems.iter().map(|problem| problem.path.as_str()).collect();
            (refused.index, refused.label.as_str(), refused.mapping_id.is_some(), paths)
        })
        .collect();
    assert_eq!(
        refused,
        [
            (0, "AUTH_test/a", true, vec!["containers[0].aws_identity", "containers[0].copy_after"]),
            (2, "containers[2]", false, vec!["containers[2]"]),
            (3, "AUTH_test/d", false, vec!["containers[3].aws_bucket"]),
            (5, "AUTH_test/f", true, vec!["containers[5].custom_prefix"]),
        ]
    );
    assert!(!format!("{node:?}").contains(PLANTED));
    let problems = parse_for_node(r#"{"workers": 0, "containers": [5]}"#, None).unwrap_err();
    assert_eq!(lines(&problems).len(), 1, "only what is not about a mapping: {problems:?}");
}

#[test]
fn ids_stay_with_their_mappings_when_others_are_refused() {
    let twin = |pattern: &str, more| merged(mapping(json!({"exclude_pattern": pattern})), more);
    let good = containers(&[twin("a", json!({})), twin("b", json!({})), twin("c", json!({}))]);
    let ids = parse_for_node(&good, None).unwrap().config.mapping_ids();
    assert_eq!(ids[1], format!("{}-2", ids[0]));
    assert_eq!(ids[2], format!("{}-3", ids[0]));
    let bad = containers(&[
        twin("a", json!({"workers": 1, "copy_after": "x"})),
        twin("b", json!({})),
        twin("c", json!({})),
    ]);
    let node = parse_for_node(&bad, None).unwrap();
    assert_eq!(node.config.mapping_ids(), ids[1..]);
    assert_eq!(node.refused[0].mapping_id.as_ref(), Some(&ids[0]));
    // What is refused does not take the place of its repetition.
    let repeated = containers(&[mapping(json!({"aws_secret": 5})), mapping(json!({}))]);
    assert_eq!(parse_for_node(&repeated, None).unwrap().config.mappings.len(), 1);
}
