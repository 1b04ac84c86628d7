#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

mod comparing;
mod nodes;
mod restoring;

const SAMPLE: &str = include_str!("../../../docs/sync.sample.json");

/// Stands in every secret place of a test, so that one search tells whether it got out.
const PLANTED: &str = "hunter2";

fn mapping(more: Value) -> Value {
    merged(json!({"account": "AUTH_test", "container": "c", "aws_bucket": "b"}), more)
}

/// A mapping with an endpoint and an access key.
fn keyed(container: &str, endpoint: &str, identity: &str, secret: Value) -> Value {
    mapping(json!({
        "container": container, "aws_endpoint": endpoint, "aws_identity": identity, "aws_secret": secret,
    }))
}

fn merged(mut base: Value, more: Value) -> Value {
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}

fn containers(mappings: &[Value]) -> String {
    json!({"containers": mappings}).to_string()
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn lines(problems: &[ConfigProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn secrets_are_hidden_wherever_they_stand() {
    let document = json!({
        "http_proxy": format!("http://user:{PLANTED}@proxy:3128"),
        "https_proxy": format!("user:{PLANTED}@p:{PLANTED}@proxy:3128"),
        "internal_url": format!("http://{PLANTED}@127.0.0.1:8080/v1"),
        "db_password": PLANTED, "API-Key": PLANTED, "authToken": PLANTED, "credentials": {"a": PLANTED},
        "webhook": format!("see https://u:{PLANTED}@hooks.example/x and more"),
        "//aws_secret": PLANTED,
        "// old": {"aws_secret": PLANTED, "endpoint": format!("https://{PLANTED}@h")},
        "migrations": [{"aws_secret": PLANTED, "aws_identity": "KEY0"}],
        "migrator_settings": {"deep": [{"private_key": [PLANTED]}]},
        "containers": [
            mapping(json!({"aws_identity": "KEY1", "aws_secret": PLANTED, "aws_session_token": PLANTED})),
            mapping(json!({"aws_secret": [PLANTED]})),
            mapping(json!({"aws_secret": {"inline": PLANTED}})),
            mapping(json!({"aws_secret": {"file": PLANTED}})),
            mapping(json!({"aws_secret": {"env": "A", "x": PLANTED}})),
            mapping(json!({"aws_sceret": PLANTED, "AWS-SECRET": PLANTED, "aws_secrets": [PLANTED]})),
            mapping(json!({"aws_endpoint": format!("https://u:{PLANTED}@s3.example.org/")})),
            mapping(json!({"aws_secret": 4242424242_u64, "aws_session_token": 0.4242424242})),
        ],
    });
    let shown = redact(&document.to_string()).unwrap();
    for hidden in [PLANTED, "4242424242", "user:", "u:"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
    let shown = read(&shown);
    assert_eq!(shown["http_proxy"], "http://***@proxy:3128");
    assert_eq!(shown["https_proxy"], "***@proxy:3128");
    assert_eq!(shown["webhook"], "see https://***@hooks.example/x and more");
    assert_eq!(shown["containers"][0]["aws_secret"], "***");
    assert_eq!(shown["containers"][0]["aws_identity"], "KEY1");
    assert_eq!(shown["migrations"][0]["aws_identity"], "KEY0");
    for kind in [diff(None, &document.to_string()), diff(Some(&document.to_string()), "{}")] {
        assert!(!format!("{kind:?}").contains(PLANTED), "{kind:?}");
        assert!(!kind.is_empty());
    }
}

#[test]
fn what_is_no_secret_is_shown_unchanged_and_in_order() {
    let document = r#"{
  "workers": 3,
  "// 1": "keys, tokens and secrets: see a@b.example and https://example.org/@home",
  "items_chunk": 1000,
  "containers": [
    {
      "container": "c",
      "account": "x@y",
      "aws_identity": "KEY",
      "aws_secret": {
        "file": "/etc/secret"
      },
      "aws_session_token": {
        "env": "TOKEN"
      },
      "exclude_pattern": "https://a@b",
      "selection_criteria": {
        "x-object-meta-token": "yes"
      },
      "custom_prefix": "***"
    }
  ],
  "use_token": true,
  "password": null,
  "passphrase": ""
}
"#;
    let shown = redact(document).unwrap();
    assert_eq!(shown, document.replace("https://example.org/@home", "https://***@home"));
    assert_eq!(redact(&format!("\u{feff}{document}")).unwrap(), shown);
    assert_eq!(redact(&shown).unwrap(), shown);
}

#[test]
fn what_is_no_document_is_one_problem() {
    for text in ["", "[]", "{", &"[".repeat(100_000), &"{\"a\":".repeat(100_000)] {
        assert!(redact(text).is_err());
        assert_eq!(restore_secrets(text, None).unwrap_err().len(), 1);
        assert_eq!(parse_document(text).unwrap_err().len(), 1);
        assert_eq!(parse_for_node(text, None).unwrap_err().len(), 1);
        assert_eq!(parse_for_node("{}", Some(text)).unwrap_err().len(), 1);
        assert!(local_settings(text).unwrap_err()[0].path.starts_with("local settings, "));
        assert!(diff(Some(text), text).is_empty());
        assert!(lookup(text, "a", "c").is_empty());
    }
}

#[test]
fn the_sample_survives_being_shown_and_applied_again() {
    let shown = redact(SAMPLE).unwrap();
    assert!(!shown.contains("SECRET-KEY"));
    let restored = restore_secrets(&shown, Some(SAMPLE)).unwrap();
    assert_eq!(read(&restored), read(SAMPLE));
    assert!(diff(Some(SAMPLE), &restored).is_empty());
    assert!(diff(Some(SAMPLE), &shown).is_empty());
    assert!(parse_document(&restored).unwrap().warnings.is_empty());
}

#[test]
fn lookup_finds_the_mappings_of_a_container() {
    let all = mapping(json!({"container": "/*", "aws_secret": "s"}));
    let document = containers(&[
        mapping(json!({})),
        mapping(json!({"container": "d"})),
        all.clone(),
        mapping(json!({"account": "AUTH_other", "container": "/*"})),
        json!(5),
    ]);
    let found: Vec<Value> = lookup(&document, "AUTH_test", "c").iter().map(|text| read(text)).collect();
    assert_eq!(found, [mapping(json!({})), all.clone()]);
    assert_eq!(lookup(&document, "AUTH_test", "x").len(), 1);
    assert!(lookup(&document, "AUTH_none", "c").is_empty());
}

/// Any JSON, with keys that mean something.
fn any_value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("***".to_owned()),
        Just("http://u:p@h".to_owned()),
        Just("http://***@h".to_owned()),
        Just(PLANTED.to_owned()),
        Just("/x".to_owned()),
        "[a-z@:/*]{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "account",
        "container",
        "containers",
        "aws_bucket",
        "aws_secret",
        "aws_identity",
        "aws_endpoint",
        "file",
        "env",
        "http_proxy",
        "my_token",
        "// note",
        "selection_criteria",
        "custom_prefix",
        "limits",
        "x",
    ]);
    leaf.prop_recursive(5, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

fn any_document() -> impl Strategy<Value = Value> {
    let containers = prop::collection::vec(any_value(), 0..4);
    (prop::collection::vec(("[a-z_]{1,6}", any_value()), 0..3), containers).prop_map(
        |(members, containers)| {
            let mut document: Value = members.into_iter().collect();
            if !document.is_object() {
                document = json!({});
            }
            document["containers"] = containers.into();
            document
        },
    )
}

/// Whether a placeholder is there from the start; such a document cannot have been accepted.
fn has_placeholder(document: &Value) -> bool {
    restore_secrets(&document.to_string(), None).is_err() || document.to_string().contains("***")
}

proptest! {
    #[test]
    fn what_was_shown_can_be_applied_again(document in any_document()) {
        prop_assume!(!has_placeholder(&document));
        let text = document.to_string();
        let shown = redact(&text).unwrap();
        let restored = restore_secrets(&shown, Some(&text));
        prop_assert_eq!(read(&restored.unwrap()), document);
    }

    #[test]
    fn nothing_differs_from_itself_shown_or_not(document in any_document()) {
        let text = document.to_string();
        let shown = redact(&text).unwrap();
        prop_assert_eq!(&redact(&shown).unwrap(), &shown);
        prop_assert!(diff(Some(&text), &text).is_empty());
        prop_assert!(diff(Some(&text), &shown).is_empty());
    }

    #[test]
    fn no_function_fails_on_any_pair_of_documents(old in any_document(), new in any_document()) {
        let (old, new) = (old.to_string(), new.to_string());
        let _ = diff(Some(&old), &new);
        let _ = restore_secrets(&new, Some(&old));
        let _ = parse_document(&new);
        let _ = parse_for_node(&new, Some(&old));
        let _ = local_settings(&new);
        let _ = lookup(&new, "a", "c");
    }
}

#[test]
fn one_element_is_shown_without_its_secrets() {
    let document = json!({"containers": [
        {"account": "a"},
        {"account": "b", "aws_identity": "id", "aws_secret": "hunter2", "nested": {"password": "hunter3"}},
        7
    ]})
    .to_string();
    let shown = element(&document, 1);
    assert!(!shown.contains("hunter") && shown.contains("\"aws_identity\": \"id\""), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["nested"]["password"], "***");
    assert_eq!(element(&document, 0), "{\n  \"account\": \"a\"\n}\n");
    assert_eq!((element(&document, 3).as_str(), element("no JSON", 0).as_str()), ("", ""));
}
