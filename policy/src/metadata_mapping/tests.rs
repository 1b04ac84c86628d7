#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn from_headers(headers: &[(&str, &[u8])]) -> RemoteMetadata {
    to_remote(headers.iter().copied())
}

fn with_user(user: &[(&str, &str)]) -> RemoteMetadata {
    RemoteMetadata {
        content_type: "text/plain".to_owned(),
        user: user.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..RemoteMetadata::default()
    }
}

#[test]
fn values_are_stored_as_the_predecessor_stored_them() {
    for (value, stored) in [
        ("", ""),
        ("Bar baz", "Bar baz"),
        ("50% off, ~now", "50% off, ~now"),
        ("a\tb", "a\tb"),
        ("é", "=?UTF-8?B?w6k=?="),
        ("café au lait, tres bon", "=?UTF-8?Q?caf=C3=A9_au_lait=2C_tres_bon?="),
        ("\x04w", "=?UTF-8?Q?=04w?="),
        ("h\x04", "=?UTF-8?Q?h=04?="),
        ("\x04\x04\x04\x04\x04", "=?UTF-8?B?BAQEBAQ=?="),
    ] {
        assert_eq!(encode_value(value.as_bytes()), stored, "{value:?}");
        assert_eq!(decode_value(stored), value, "{stored:?}");
    }
}

#[test]
fn values_that_http_would_change_are_encoded() {
    for (value, stored) in [
        (" x", "=?UTF-8?Q?_x?="),
        ("x\t", "=?UTF-8?Q?x=09?="),
        ("x y z zz\r\n v", "=?UTF-8?Q?x_y_z_zz=0D=0A_v?="),
    ] {
        assert_eq!(encode_value(value.as_bytes()), stored, "{value:?}");
        assert_eq!(decode_value(stored), value);
    }
}

#[test]
fn plain_text_that_reads_like_an_encoded_word_survives() {
    for value in [
        "=?UTF-8?B?w6k=?=",
        "see =?utf-8?q?x?= there",
        "=?=?UTF-8?Q?x?=",
        "=?iso-8859-1?Q?x?=",
        "=?UTF-8?B?!!!?=",
    ] {
        let stored = encode_value(value.as_bytes());
        assert_ne!(stored, value);
        assert_eq!(decode_value(&stored), value);
    }
    assert_eq!(encode_value(b"a =? b ?= c"), "a =? b ?= c");
}

#[test]
fn bytes_that_are_not_utf8_come_back_exactly() {
    let stored = encode_value(b"a\xff");
    assert_eq!(stored, "=?UNKNOWN-8BIT?Q?a=FF?=");
    assert_eq!(decode_value_bytes(&stored), b"a\xff");
    assert_eq!(decode_value(&stored), "a\u{fffd}");
}

#[test]
fn long_values_have_no_line_break() {
    let value = "ü".repeat(150);
    let stored = encode_value(value.as_bytes());
    assert!(!stored.contains(['\r', '\n', ' ']), "{stored}");
    assert_eq!(decode_value(&stored), value);
}

#[test]
fn words_of_any_spelling_are_decoded() {
    for (stored, value) in [
        ("=?utf-8?b?w6k=?=", "é"),
        ("=?Utf-8?q?caf=c3=a9_x?=", "café x"),
        ("=?UTF-8?B?w6k?=", "é"),
        ("=?UTF-8*en?Q?=C3=A9?=", "é"),
        // Folded by Python 2, within a character and as a store may have joined the lines.
        ("=?UTF-8?B?w6nDqQ==?=\n =?utf-8?b?w6k=?=", "ééé"),
        ("=?UTF-8?Q?a=C3?= =?utf-8?q?=A9_b?=", "aé b"),
        ("=?UTF-8?Q?a=C3?=\r\n\t=?utf-8?q?=A9?=", "aé"),
        ("=?UTF-8?Q?a=ZZ=?=", "a=ZZ="),
        ("=?UTF-8?Q??=", ""),
    ] {
        assert_eq!(decode_value(stored), value, "{stored:?}");
    }
}

#[test]
fn what_is_not_wholly_encoded_words_stands_for_itself() {
    for value in [
        "plain",
        "=?UTF-8?B?w6k=?= and more",
        "x =?UTF-8?B?w6k=?=",
        "=?UTF-8?B?w6k=?==?UTF-8?B?w6k=?=",
        "=?iso-8859-1?Q?=E9?=",
        "=?UTF-8?B?*?=",
        "=?UTF-8?X?a?=",
        "=?UTF-8?Q?a",
        "=?",
        "",
    ] {
        assert_eq!(decode_value(value), value);
    }
}

#[test]
fn headers_are_mapped_and_the_rest_is_dropped() {
    let remote = from_headers(&[
        ("X-Object-Meta-Foo", b"Bar"),
        ("x-object-meta-", b"no name"),
        ("X-Object-Manifest", "seg ments/\u{e9}~%2F".as_bytes()),
        ("X-Static-Large-Object", b"True"),
        ("Content-Type", b"test/blob"),
        ("X-Robots-Tag", b"none"),
        ("X-Object-Sysmeta-X", b"1"),
    ]);
    assert_eq!(remote.content_type, "test/blob");
    let expected = [
        ("foo", "Bar"),
        ("x-object-manifest", "seg%20ments/%C3%A9%7E%252F"),
        ("x-static-large-object", "True"),
    ];
    let user: Vec<_> = remote.user.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(user, expected);
    assert_eq!(user_metadata_bytes(&remote), 3 + 3 + 17 + 26 + 21 + 4);
}

#[test]
fn content_type_falls_back_and_never_breaks_a_header() {
    assert_eq!(from_headers(&[]).content_type, "application/octet-stream");
    let odd = from_headers(&[("content-type", "text/plain; name=\u{e9}\n".as_bytes())]);
    assert!(odd.content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert_eq!(decode_value(&odd.content_type), "text/plain; name=\u{e9}\n");
}

#[test]
fn names_are_ascii_distinct_and_reversible() {
    for (name, stored) in [
        ("Foo", "foo"),
        ("a.b_c!%41", "a.b_c!%41"),
        ("Größe", "swift-hex-6772c3b6c39f65"),
        ("a b", "swift-hex-612062"),
        ("swift-hex-61", "swift-hex-73776966742d6865782d3631"),
        ("X-Static-Large-Object", "x-static-large-object-swift-user"),
        ("X-Object-Manifest", "x-object-manifest-swift-user"),
        ("swift-slo-etag", "swift-slo-etag-swift-user"),
        ("swift-slo-etag-swift-user", "swift-slo-etag-swift-user-swift-user"),
        ("color-swift-user", "color-swift-user"),
        ("my-x-object-manifest", "my-x-object-manifest"),
    ] {
        assert_eq!(encode_name(name), stored);
        assert_eq!(decode_name(stored), name.to_ascii_lowercase());
    }
}

#[test]
fn overlong_encoded_names_are_bounded_and_still_distinct() {
    let (one, other) = (encode_name(&"é".repeat(200)), encode_name(&"é".repeat(201)));
    assert!(one.starts_with("swift-sha256-") && one.len() <= MAX_ENCODED_NAME_BYTES);
    assert_ne!(one, other);
    assert_eq!(decode_name(&one), one);
    assert_eq!(decode_name("swift-hex-zz"), "swift-hex-zz");
}

#[test]
fn user_metadata_cannot_pose_as_a_marker() {
    let remote = from_headers(&[
        ("X-Object-Meta-X-Static-Large-Object", b"True"),
        ("X-Object-Meta-X-Object-Manifest", b"c/p"),
        ("X-Object-Meta-Swift-Slo-Etag", b"0"),
    ]);
    assert!(MARKERS.iter().all(|marker| !remote.user.contains_key(*marker)));
    // The predecessor takes every name with such an end for the marker.
    let ends_like_one = |name: &String| name.ends_with(SLO_MARKER) || name.ends_with(DLO_MARKER);
    assert!(!remote.user.keys().any(ends_like_one));
    assert_eq!(remote.user.len(), 3);
}

#[test]
fn encodings_of_all_versions_mean_the_same() {
    for (value, remote) in [
        ("two words, 50%", "two words, 50%"),
        ("two words, 50%", "two%20words%2C%2050%25"),
        ("a/b~c", "a/b%7Ec"),
        ("a/b~c", "a%2Fb~c"),
        ("é", "é"),
        ("é", "=?utf-8?q?=c3=a9?="),
        ("é", "%C3%A9"),
        ("é", "%c3%a9"),
        ("=?UTF-8?Q?x?=", "=?UTF-8?Q?x?="),
        (" lead", "%20lead"),
    ] {
        let local = with_user(&[("k", &encode_value(value.as_bytes()))]);
        assert!(same_meaning(&local, &with_user(&[("k", remote)])), "{value:?} {remote:?}");
    }
}

#[test]
fn different_values_never_mean_the_same() {
    for (value, remote) in [
        ("a", "b"),
        ("a", "A"),
        ("A", "%41"),
        ("a b", "a+b"),
        ("a b", "a%20b c"),
        ("x", "=?UTF-8?Q?y?="),
        ("a%", "a%2"),
    ] {
        let local = with_user(&[("k", &encode_value(value.as_bytes()))]);
        assert!(!same_meaning(&local, &with_user(&[("k", remote)])), "{value:?} {remote:?}");
    }
}

#[test]
fn sets_of_names_content_types_and_markers_are_compared() {
    let slo = &[(SLO_MARKER, "True")];
    for (local, remote, same) in [
        (with_user(&[("a", "1")]), with_user(&[("A", "1")]), true),
        (with_user(&[("a", "1")]), with_user(&[]), false),
        (with_user(&[]), with_user(&[("a", "1")]), false),
        (with_user(&[("a", "")]), with_user(&[]), true),
        (with_user(&[]), with_user(&[("a", "")]), true),
        (with_user(slo), with_user(&[(SLO_MARKER, "true")]), true),
        (with_user(slo), with_user(&[]), false),
        (with_user(&[]), with_user(slo), false),
        (with_user(slo), with_user(&[slo[0], (SLO_ETAG_MARKER, "e")]), true),
        (with_user(&[]), with_user(&[(SLO_ETAG_MARKER, "e")]), false),
        (with_user(&[slo[0], (SLO_ETAG_MARKER, "e")]), with_user(&[slo[0], (SLO_ETAG_MARKER, "f")]), false),
        (with_user(&[(DLO_MARKER, "c/p%20q")]), with_user(&[(DLO_MARKER, "c/p q")]), true),
        (with_user(&[(DLO_MARKER, "c/p")]), with_user(&[(DLO_MARKER, "c/P")]), false),
    ] {
        assert_eq!(same_meaning(&local, &remote), same, "{local:?} {remote:?}");
    }
    let mut other = with_user(&[]);
    other.content_type = "text/html".to_owned();
    assert!(!same_meaning(&with_user(&[]), &other));
}

proptest! {
    #[test]
    fn any_value_fits_a_header_and_comes_back(value in vec(any::<u8>(), 0..200)) {
        let stored = encode_value(&value);
        prop_assert!(stored.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')));
        prop_assert_eq!(stored.trim(), &stored);
        prop_assert_eq!(decode_value_bytes(&stored), value);
    }

    #[test]
    fn printable_values_come_back_too(value in "[ -~\t\r\n?=BbQqUTF8-]{0,40}") {
        let stored = encode_value(value.as_bytes());
        prop_assert_eq!(stored.trim(), &stored);
        prop_assert_eq!(decode_value(&stored), value);
    }

    #[test]
    fn any_name_is_a_token_and_comes_back(name in "\\PC{1,80}") {
        let stored = encode_name(&name);
        prop_assert!(stored.bytes().all(is_token_character));
        prop_assert!(!MARKERS.contains(&stored.as_str()));
        prop_assert_eq!(decode_name(&stored), name.to_ascii_lowercase());
    }

    #[test]
    fn what_was_uploaded_is_always_in_sync(value in vec(any::<u8>(), 0..60), name in "\\PC{1,20}") {
        let header = format!("X-Object-Meta-{name}");
        let local = to_remote([(header.as_str(), value.as_slice())].into_iter());
        prop_assert!(same_meaning(&local, &local));
    }

    #[test]
    fn decoding_never_panics(value in "\\PC{0,60}") {
        decode_value(&value);
        decode_name(&value);
        percent_decoded(&value);
    }
}

#[test]
fn common_headers_and_the_time_of_expiry_are_carried() {
    let remote = from_headers(&[
        ("Content-Disposition", "attachment; filename=\"é\"".as_bytes()),
        ("Content-Encoding", b"gzip"),
        ("Cache-Control", b"no-store"),
        ("Content-Language", b"de"),
        ("X-Delete-At", b"1800000000"),
        ("X-Object-Meta-X-Delete-At", b"a user's"),
        ("X-Robots-Tag", b"none"),
    ]);
    let names: Vec<&str> = remote.headers.keys().map(String::as_str).collect();
    assert_eq!(names, ["cache-control", "content-disposition", "content-encoding", "content-language"]);
    assert_eq!(decode_value(&remote.headers["content-disposition"]), "attachment; filename=\"é\"");
    assert_eq!(remote.user["x-delete-at"], "1800000000");
    assert_eq!(remote.user["x-delete-at-swift-user"], "a user's");
    assert!(same_meaning(&remote, &remote));
}

#[test]
fn headers_count_where_a_user_must_have_wanted_them() {
    let with = |name: &str, value: &str| {
        let mut metadata = with_user(&[]);
        metadata.headers.insert(name.to_owned(), value.to_owned());
        metadata
    };
    let none = with_user(&[]);
    for (name, only_local, only_remote) in [
        ("content-disposition", false, false),
        ("content-language", false, false),
        ("cache-control", false, true),
        ("content-encoding", true, true),
    ] {
        assert!(same_meaning(&with(name, "a"), &with(name, "a")), "{name}");
        assert!(!same_meaning(&with(name, "a"), &with(name, "b")), "{name}");
        assert_eq!(same_meaning(&with(name, "a"), &none), only_local, "{name}");
        assert_eq!(same_meaning(&none, &with(name, "a")), only_remote, "{name}");
    }
}
