//! Differences between documents.

use super::*;

fn change(kind: ChangeKind, path: &str, before: Option<&str>, after: Option<&str>) -> DocumentChange {
    DocumentChange {
        kind,
        path: path.to_owned(),
        mapping_id: None,
        mapping: None,
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    }
}

#[test]
fn differences_outside_of_mappings_are_told_by_path() {
    let old = json!({
        "// 1": "comment", "workers": 1, "log_level": "info", "limits": {"concurrency": 1, "timetable": [{"from": "a"}]},
        "http_proxy": "http://u:p@proxy:1", "syslog": {"host": "h", "// c": 1}, "containers": [],
    });
    let new = json!({
        "limits": {"concurrency": 2, "timetable": [{"from": "b"}]}, "workers": 1, "log_format": "json",
        "http_proxy": "http://u:q@proxy:1", "// 2": "other", "syslog": {"host": "h", "// c": 2},
    });
    use ChangeKind::{Added, Changed, Removed};
    assert_eq!(
        diff(Some(&old.to_string()), &new.to_string()),
        [
            change(Changed, "limits.concurrency", Some("1"), Some("2")),
            change(Changed, "limits.timetable[0].from", Some("\"a\""), Some("\"b\"")),
            change(Added, "log_format", None, Some("\"json\"")),
            change(
                Changed,
                "http_proxy",
                Some("\"http://***@proxy:1\""),
                Some("\"http://***@proxy:1 (changed)\"")
            ),
            change(Removed, "log_level", Some("\"info\""), None),
        ]
    );
}

#[test]
fn mappings_are_compared_with_themselves_wherever_they_stand() {
    let one = keyed("one", "https://a", "K1", json!("secret-1"));
    let two = keyed("two", "https://a", "K1", json!("secret-2"));
    let three = keyed("three", "https://a", "K1", json!("secret-3"));
    let later = merged(two.clone(), json!({"copy_after": 5, "aws_secret": "secret-4", "// c": "x"}));
    let old = containers(&[one.clone(), two.clone()]);
    let new = containers(&[later, three, one.clone()]);
    let ids = parse_document(&new).unwrap().config.mapping_ids();
    let found = diff(Some(&old), &new);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0].path, "containers[0].aws_secret");
    assert_eq!(found[0].before.as_deref(), Some("\"***\""));
    assert_eq!(found[0].after.as_deref(), Some("\"*** (changed)\""));
    assert_eq!(found[1].path, "containers[0].copy_after");
    assert_eq!((found[1].kind, found[1].after.as_deref()), (ChangeKind::Added, Some("5")));
    assert_eq!(found[1].mapping.as_deref(), Some("AUTH_test/two"));
    assert_eq!(found[1].mapping_id.as_deref(), Some(ids[0].as_str()));
    assert_eq!((found[2].kind, found[2].path.as_str()), (ChangeKind::Added, "containers[1]"));
    let added = read(found[2].after.as_deref().unwrap());
    assert_eq!(added, keyed("three", "https://a", "K1", json!("***")));
    assert_eq!(found[2].mapping_id.as_deref(), Some(ids[1].as_str()));

    let gone = diff(Some(&old), &containers(&[two]));
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].kind, gone[0].path.as_str()), (ChangeKind::Removed, "containers[0]"));
    assert_eq!(gone[0].mapping.as_deref(), Some("AUTH_test/one"));
    assert_eq!(diff(Some(&old), "{}").len(), 2);
}

#[test]
fn another_bucket_is_another_mapping_and_a_broken_one_is_compared_by_its_place() {
    let old = containers(&[mapping(json!({})), mapping(json!({"container": "d"}))]);
    let other = diff(
        Some(&old),
        &containers(&[mapping(json!({"aws_bucket": "x"})), mapping(json!({"container": "d"}))]),
    );
    let kinds: Vec<_> = other.iter().map(|change| (change.kind, change.path.as_str())).collect();
    assert_eq!(kinds, [(ChangeKind::Added, "containers[0]"), (ChangeKind::Removed, "containers[0]")]);
    let broken = diff(Some(&old), &containers(&[mapping(json!({"aws_bucket": 5})), json!(7)]));
    let paths: Vec<_> = broken.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["containers[0].aws_bucket", "containers[1]"]);
    assert_eq!(broken[0].mapping.as_deref(), Some("AUTH_test/c"));
}
