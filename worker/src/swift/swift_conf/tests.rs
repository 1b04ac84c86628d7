#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;
use crate::swift::testing::reference;

fn load(text: &[u8]) -> Result<SwiftConf, SwiftConfError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("swift.conf");
    std::fs::write(&path, text).unwrap();
    SwiftConf::load(&path)
}

#[test]
fn hashes_as_swift_does() {
    let hash = HashPath { prefix: b"start".to_vec(), suffix: b"changeme".to_vec() };
    let expected = reference("hashes", &["-"]);
    let expected = expected.as_array().unwrap();
    assert!(expected.len() > 300);
    for answer in expected {
        let path: Vec<&str> =
            answer["path"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        let found = hash.hex(path[0], path.get(1).copied(), path.get(2).copied());
        assert_eq!(found, answer["hex"].as_str().unwrap(), "{path:?}");
    }
    assert_eq!(hash.hex("a", Some(""), None), hash.hex("a", None, None));
}

/// Every text is read by Swift itself too, and both must agree.
#[test]
fn reads_swift_conf_as_swift_does() {
    let table: &[(&str, &[u8])] = &[
        ("both", b"[swift-hash]\nswift_hash_path_suffix = end\nswift_hash_path_prefix = start\n"),
        ("suffix only", b"[swift-hash]\nswift_hash_path_suffix=end\n"),
        ("colon and case", b"[swift-hash]\nSwift_Hash_Path_Suffix : e n d \n"),
        ("quotes are part of it", b"[swift-hash]\nswift_hash_path_suffix = \"end\"\n"),
        ("semicolon inside", b"[swift-hash]\nswift_hash_path_suffix = a ;b #c\n"),
        (
            "comments and blanks",
            b"# first\n\n[swift-hash]\n; more\n  # indented\nswift_hash_path_suffix = x\n",
        ),
        ("windows lines", b"[swift-hash]\r\nswift_hash_path_suffix = x\r\n"),
        ("continued", b"[swift-hash]\nswift_hash_path_suffix = x\n  y\n"),
        ("latin-1", b"[swift-hash]\nswift_hash_path_suffix = \xe4\xff\n"),
        ("utf-8", "[swift-hash]\nswift_hash_path_suffix = \u{e4}\u{4e2d}\n".as_bytes()),
        (
            "utf-8 that ends in a space of latin-1",
            "[swift-hash]\nswift_hash_path_suffix = \u{e0}\n".as_bytes(),
        ),
        ("double percent", b"[swift-hash]\nswift_hash_path_suffix = a%%b\n"),
        ("single percent", b"[swift-hash]\nswift_hash_path_suffix = a%b\n"),
        ("equals inside", b"[swift-hash]\nswift_hash_path_suffix = a=b:c\n"),
        ("defaults", b"[DEFAULT]\nswift_hash_path_suffix = d\n[swift-hash]\n"),
        ("neither", b"[swift-hash]\nother = 1\n"),
        ("both empty", b"[swift-hash]\nswift_hash_path_suffix =\nswift_hash_path_prefix =\n"),
        ("no section", b"swift_hash_path_suffix = x\n"),
        ("no value", b"[swift-hash]\nswift_hash_path_suffix\n"),
        ("another section", b"[swift]\nswift_hash_path_suffix = x\n"),
        (
            "policies",
            b"[swift-hash]\nswift_hash_path_suffix = x\n[storage-policy:0]\nname = gold\ndefault = yes\n\
              [storage-policy:12]\nname = slow\npolicy_type = replication\naliases = tape, slow, cold\n\
              deprecated = yes\n",
        ),
        (
            "erasure coding",
            b"[swift-hash]\nswift_hash_path_suffix = x\n[storage-policy:0]\nname = gold\ndefault = yes\n\
              [storage-policy:1]\nname = ec\npolicy_type = erasure_coding\nec_type = liberasurecode_rs_vand\n\
              ec_num_data_fragments = 2\nec_num_parity_fragments = 1\n",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in table {
        let path = folder.path().join("swift.conf");
        std::fs::write(&path, text).unwrap();
        let expected = reference("swift_conf", &[path.to_str().unwrap()]);
        let found = SwiftConf::load(&path);
        if expected.get("error").is_some() {
            found.expect_err(name);
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        let policies: Vec<Value> = found
            .policies
            .iter()
            .map(|policy| {
                let kind = match policy.kind {
                    PolicyKind::Replication => "replication",
                    PolicyKind::ErasureCoding => "erasure_coding",
                };
                json!({"index": policy.index, "name": policy.name, "type": kind, "deprecated": policy.deprecated})
            })
            .collect();
        assert_eq!(json!(hex::encode(&found.hash.prefix)), expected["prefix"], "{name}");
        assert_eq!(json!(hex::encode(&found.hash.suffix)), expected["suffix"], "{name}");
        // Swift's servers cannot read policies from a file that is no UTF-8.
        if let Some(expected) = expected.get("policies") {
            assert_eq!(json!(policies), *expected, "{name}");
        } else {
            assert_eq!(*name, "latin-1");
        }
    }
}

#[test]
fn refuses_policies_that_cannot_be_and_says_why() {
    let hash = "[swift-hash]\nswift_hash_path_suffix = very-secret\n";
    let table = [
        ("[storage-policy:-1]\nname = a\n", "0 or more, got \"-1\""),
        ("[storage-policy:x]\nname = a\n", "0 or more, got \"x\""),
        ("[storage-policy:]\nname = a\n", "0 or more, got \"\""),
        ("[storage-policy:99999999999]\nname = a\n", "0 or more"),
        ("[storage-policy:0]\n", "expected a name"),
        ("[storage-policy:0]\nname = a\npolicy_type = tape\n", "got \"tape\""),
        ("[storage-policy:1]\nname = a\n", "[storage-policy:0]"),
        ("[storage-policy:0]\nname = a\n[storage-policy:00]\nname = b\n", "one section for policy 0"),
    ];
    for (policies, expected) in table {
        let error = load(format!("{hash}{policies}").as_bytes()).expect_err(policies).to_string();
        assert!(error.contains(expected), "{policies}: {error}");
        assert!(!error.contains("very-secret"), "{error}");
    }
}

#[test]
fn an_empty_missing_or_endless_file_is_an_error_that_says_so() {
    assert!(load(b"").unwrap_err().to_string().contains("empty file"));
    assert!(load(b" \n\n").unwrap_err().to_string().contains("empty file"));
    assert!(load(&vec![b'#'; 2 << 20]).unwrap_err().to_string().contains("at most"));
    let missing = SwiftConf::load(Path::new("/nonexistent/swift.conf")).unwrap_err();
    assert!(matches!(missing, SwiftConfError::Read { .. }));
    assert!(missing.to_string().contains("/nonexistent/swift.conf"));
}

#[test]
fn the_hash_is_never_shown() {
    let conf = load(b"[swift-hash]\nswift_hash_path_suffix = very-secret\n").unwrap();
    assert!(!format!("{conf:?}").contains("very-secret"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = SwiftConf::parse(&text);
    }
}
