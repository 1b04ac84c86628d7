//! Placeholders, and which secrets take their places.

use super::*;

#[test]
fn placeholders_take_the_secret_of_the_same_endpoint_and_access_key() {
    let current = containers(&[
        keyed("one", "https://a", "K1", json!("secret-1")),
        keyed("two", "https://a", "K2", json!("secret-2")),
        keyed("three", "https://b/", "K1", json!("secret-3")),
        keyed("four", "", "K1", json!("secret-4")),
        merged(keyed("five", "https://c", "K5", json!("secret-5")), json!({"aws_session_token": "token-5"})),
    ]);
    let wanted = |container, endpoint, identity| keyed(container, endpoint, identity, json!("***"));
    for (element, secret) in [
        (wanted("one", "https://a", "K1"), "secret-1"),
        // Another container, another bucket.
        (wanted("new", "https://a", "K2"), "secret-2"),
        (merged(wanted("one", "https://a", "K1"), json!({"aws_bucket": "other"})), "secret-1"),
        (wanted("new", "https://b", "K1"), "secret-3"),
        (merged(wanted("new", "", "K1"), json!({"aws_endpoint": null})), "secret-4"),
    ] {
        let restored = restore_secrets(&containers(&[element]), Some(&current)).unwrap();
        assert_eq!(read(&restored)["containers"][0]["aws_secret"], secret);
    }
    let moved = merged(wanted("new", "https://c", "K5"), json!({"aws_session_token": "***"}));
    let restored = restore_secrets(&containers(&[moved]), Some(&current)).unwrap();
    assert_eq!(read(&restored)["containers"][0]["aws_session_token"], "token-5");
}

#[test]
fn a_secret_never_moves_to_another_endpoint_or_access_key() {
    let current = containers(&[
        keyed("one", "https://a", "K1", json!("secret-1")),
        keyed("file", "https://f", "K1", json!({"file": "/etc/secret"})),
        mapping(json!({"aws_identity": {"env": "KEY"}, "aws_secret": "secret-3"})),
    ]);
    for element in [
        keyed("one", "https://evil", "K1", json!("***")),
        keyed("one", "http://a", "K1", json!("***")),
        keyed("one", "https://a/path", "K1", json!("***")),
        keyed("one", "https://a:443", "K1", json!("***")),
        keyed("one", "https://A", "K1", json!("***")),
        keyed("one", "https://a\\@evil", "K1", json!("***")),
        keyed("one", "https://x@a", "K1", json!("***")),
        keyed("one", "", "K1", json!("***")),
        keyed("one", "https://a", "K2", json!("***")),
        keyed("one", "https://a", "", json!("***")),
        keyed("file", "https://f", "K1", json!("***")),
        mapping(json!({"aws_identity": "KEY", "aws_secret": "***"})),
        mapping(json!({"aws_identity": {"file": "KEY"}, "aws_secret": "***"})),
        // The place of another secret.
        merged(keyed("one", "https://a", "K1", json!("x")), json!({"aws_session_token": "***"})),
        merged(keyed("one", "https://a", "K1", json!("x")), json!({"aws_token": "***"})),
    ] {
        let problems =
            restore_secrets(&containers(std::slice::from_ref(&element)), Some(&current)).unwrap_err();
        assert!(problems[0].path.starts_with("containers[0].aws_"), "{element}");
        assert_eq!(problems.len(), 1, "{element}");
        assert!(!lines(&problems).concat().contains("secret-"));
    }
    let elsewhere = json!({
        "migrations": [keyed("one", "https://a", "K1", json!("***"))],
        "other": keyed("one", "https://a", "K1", json!("***")),
    });
    let problems = restore_secrets(&elsewhere.to_string(), Some(&current)).unwrap_err();
    assert_eq!(
        lines(&problems),
        [
            "migrations[0].aws_secret: found a placeholder; allowed: the secret itself, since no mapping in force \
             has this endpoint and access key",
            "other.aws_secret: found a placeholder; allowed: the secret itself, since the configuration in force \
             has none here",
        ]
    );
    assert!(restore_secrets(&containers(&[keyed("c", "", "K", json!("***"))]), None).is_err());
}

#[test]
fn disagreeing_secrets_are_told_apart_by_the_target_or_not_at_all() {
    let current = containers(&[
        keyed("one", "https://a", "K1", json!("secret-1")),
        keyed("two", "https://a", "K1", json!("secret-2")),
    ]);
    let restore = |elements: &[Value]| restore_secrets(&containers(elements), Some(&current));
    let placeholder = |container| keyed(container, "https://a", "K1", json!("***"));
    let restored = restore(&[placeholder("two"), placeholder("one")]).unwrap();
    assert_eq!(read(&restored)["containers"][0]["aws_secret"], "secret-2");
    assert_eq!(read(&restored)["containers"][1]["aws_secret"], "secret-1");
    let problems = restore(&[placeholder("one"), placeholder("three")]).unwrap_err();
    assert_eq!(
        lines(&problems),
        [
            "containers[1].aws_secret: found a placeholder; allowed: the secret itself, since mappings in force have \
          different ones for this endpoint and access key"
        ]
    );
}

#[test]
fn a_url_takes_its_credentials_back_only_if_it_leads_to_the_same_place() {
    let current = json!({"http_proxy": "http://u:p@proxy:3128", "https_proxy": "u:q@proxy:3128"}).to_string();
    for (key, url, restored) in [
        ("http_proxy", "http://***@proxy:3128", Some("http://u:p@proxy:3128")),
        ("https_proxy", "***@proxy:3128", Some("u:q@proxy:3128")),
        ("http_proxy", "http://***@evil:3128", None),
        ("http_proxy", "https://***@proxy:3128", None),
        ("https_proxy", "http://***@proxy:3128", None),
        ("internal_url", "http://***@proxy:3128", None),
        ("http_proxy", "http://new:one@evil:3128", Some("http://new:one@evil:3128")),
        ("http_proxy", "http://evil:3128", Some("http://evil:3128")),
    ] {
        let answer = restore_secrets(&json!({key: url}).to_string(), Some(&current));
        match restored {
            Some(restored) => assert_eq!(read(&answer.unwrap())[key], restored),
            None => assert_eq!(answer.unwrap_err()[0].path, key, "{url}"),
        }
    }
}

#[test]
fn placeholders_in_comments_are_restored_or_stay() {
    let current = json!({"// aws_secret": "old", "workers": 1}).to_string();
    for (current, restored) in [(Some(current.as_str()), "old"), (None, "***")] {
        let answer = restore_secrets(r#"{"// aws_secret": "***", "workers": 2}"#, current).unwrap();
        assert_eq!(read(&answer), json!({"// aws_secret": restored, "workers": 2}));
    }
}
