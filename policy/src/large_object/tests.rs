#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use md5::{Digest, Md5};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::manifest::Nested;
use super::*;

const MIB: u64 = 1 << 20;

fn md5_hex(content: &[u8]) -> String {
    hex::encode(Md5::digest(content))
}

fn entry(name: &str, bytes: u64) -> Value {
    json!({"name": format!("/s/{name}"), "bytes": bytes, "hash": md5_hex(name.as_bytes()),
        "content_type": "application/octet-stream", "last_modified": "2024-01-01T00:00:00.000000"})
}

fn with(mut entry: Value, name: &str, value: Value) -> Value {
    entry[name] = value;
    entry
}

fn parse(entries: &[Value]) -> Result<Manifest, ManifestError> {
    Manifest::parse(&serde_json::to_vec(entries).unwrap())
}

#[test]
fn three_whole_segments_are_the_parts_and_give_the_known_etags() {
    let contents = [vec![b'A'; 5 << 20], vec![b'B'; 5 << 20], vec![b'C'; 1024]];
    let entries: Vec<Value> = contents
        .iter()
        .map(|content| json!({"name": "/s/ségment", "bytes": content.len(), "hash": md5_hex(content)}))
        .collect();
    let manifest = parse(&entries).unwrap();
    let parts = classic_parts(&manifest).unwrap();
    assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2, 3]);
    let md5s: Vec<[u8; 16]> = parts.iter().map(|part| part.md5().unwrap()).collect();
    assert_eq!(multipart_etag(&md5s), "1c3dafcf2149c7b623d2361636f6528c-3");
    assert_eq!(manifest.etag(), "ed0ce9182fa1eb7f9b615687c447c9ad");
    assert_eq!(manifest.length(), Ok(10 * MIB + 1024));
}

#[test]
fn which_manifests_become_parts_as_they_are() {
    let large = || entry("a", 5 * MIB);
    let nested = with(large(), "sub_slo", json!(true));
    let many = |count: usize| vec![large(); count];
    let table = [
        ("one tiny segment", vec![entry("a", 1)], true),
        ("the last one tiny", vec![large(), entry("b", 1)], true),
        ("another one tiny", vec![large(), entry("b", 10), large()], false),
        ("5 GiB", vec![entry("a", MAX_PART_BYTES)], true),
        ("above 5 GiB", vec![entry("a", MAX_PART_BYTES + 1)], false),
        ("a range", vec![with(large(), "range", json!("0-9"))], false),
        ("nested", vec![nested], false),
        ("inline data", vec![large(), json!({"data": "eA=="})], false),
        ("a hash that is no MD5", vec![with(large(), "hash", json!("opaque"))], false),
        ("10,000 segments", many(MAX_PARTS), true),
        ("10,001 segments", many(MAX_PARTS + 1), false),
        ("above 5 TiB", vec![entry("a", MAX_PART_BYTES); 1025], false),
        ("none", vec![], false),
    ];
    for (name, entries, classic) in table {
        assert_eq!(classic_parts(&parse(&entries).unwrap()).is_some(), classic, "{name}");
    }
}

#[test]
fn what_swift_would_not_store_is_refused() {
    let good = || entry("a", 10);
    let without = |name: &str| {
        let mut entry = good();
        entry.as_object_mut().unwrap().remove(name);
        entry
    };
    let table = [
        ("no name", without("name")),
        ("no hash", without("hash")),
        ("no length", without("bytes")),
        ("a negative length", with(good(), "bytes", json!(-1))),
        ("no object in the name", with(good(), "name", json!("/only-container"))),
        ("a range beyond the end", with(good(), "range", json!("10-11"))),
        ("a range backwards", with(good(), "range", json!("5-4"))),
        ("a range of another type", with(good(), "range", json!(5))),
        ("data that is no base64", json!({"data": "?"})),
        ("not an entry", json!(1)),
    ];
    for (name, entry) in table {
        assert!(matches!(parse(&[entry]), Err(ManifestError::Entry { index: 0, .. })), "{name}");
    }
    assert!(matches!(Manifest::parse(b"{}"), Err(ManifestError::Json(_))));
    assert!(matches!(Manifest::parse(b"[{]"), Err(ManifestError::Json(_))));
    let endless = parse(&[entry("a", u64::MAX), entry("a", u64::MAX)]).unwrap();
    assert_eq!(endless.length(), Err(ManifestError::Overflow));
    assert_eq!(flatten(&endless), Err(ManifestError::Overflow));
    let too_many = vec![json!({"data": ""}); MAX_PIECES + 1];
    assert_eq!(parse(&too_many), Err(ManifestError::TooMany));
}

#[test]
fn ranges_are_read_as_swift_means_them() {
    for (text, expected) in [("0-9", 0..10), ("3-5", 3..6), ("5-", 5..10), ("-4", 6..10), ("2-99", 2..10)] {
        let manifest = parse(&[with(entry("a", 10), "range", json!(text))]).unwrap();
        let Entry::Object(entry) = &manifest.entries[0] else { panic!() };
        assert_eq!(entry.taken(), expected, "{text}");
    }
    let hash = md5_hex(b"a");
    let manifest = parse(&[with(entry("a", 10), "range", json!("3-5")), json!({"data": "eA=="})]).unwrap();
    assert_eq!(manifest.etag(), md5_hex(format!("{hash}:3-5;{}", md5_hex(b"x")).as_bytes()));
}

#[test]
fn the_source_of_a_dynamic_object_is_taken_exactly() {
    let source = |text: &str| dlo_source(text.as_bytes());
    let of = |container: &str, prefix: &str| Some((container.to_owned(), prefix.to_owned()));
    assert_eq!(source("c/a/"), of("c", "a/"));
    assert_eq!(source("c%20d/%C3%A9%2F"), of("c d", "é/"));
    assert_eq!(source("/c/a"), of("c", "a"));
    assert_eq!(source("c/"), of("c", ""));
    assert_eq!(source("c"), None);
    assert_eq!(source("/"), None);
}

/// An outer manifest around one nested manifest, of which it takes `range`.
fn nest(inner: &[Value], range: Option<&str>) -> Manifest {
    let inner_json = serde_json::to_vec(inner).unwrap();
    let inner = Manifest::parse(&inner_json).unwrap();
    let mut outer = json!({"name": "/s/inner", "bytes": inner.length().unwrap(), "hash": inner.etag(),
        "sub_slo": true, "content_type": "text/plain"});
    if let Some(range) = range {
        outer["range"] = json!(range);
    }
    let mut manifest = parse(&[outer, entry("tail", 3)]).unwrap();
    let Entry::Object(entry) = &mut manifest.entries[0] else { panic!() };
    entry.nested = Some(Nested { manifest: Some(Arc::new(inner)), object_etag: md5_hex(&inner_json) });
    manifest
}

#[test]
fn a_nested_manifest_gives_its_pieces_and_ranges_reach_into_it() {
    let inner = [entry("a", 10), with(entry("b", 10), "range", json!("2-5")), json!({"data": "eHl6"})];
    let manifest = nest(&inner, Some("8-14"));
    let pieces = flatten(&manifest).unwrap();
    let told: Vec<String> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Data(data) => format!("data {}", String::from_utf8_lossy(data)),
            Piece::Object { object, range, .. } => format!("{object} {range:?}"),
        })
        .collect();
    assert_eq!(told, ["a 8..10", "b 2..6", "data x", "tail 0..3"]);
    let covered = coverage(&manifest, &pieces);
    assert_eq!(covered.whole.len(), 1, "only the tail is there in whole: {covered:?}");
    assert!(covered.manifests.is_empty());
    let whole = nest(&[entry("a", 10), entry("empty", 0)], None);
    let covered = coverage(&whole, &flatten(&whole).unwrap());
    assert_eq!((covered.whole.len(), covered.manifests.len()), (3, 1), "{covered:?}");
}

#[test]
fn a_nested_manifest_must_be_the_one_that_is_meant() {
    let mut manifest = nest(&[entry("a", 10)], None);
    let Entry::Object(outer) = &mut manifest.entries[0] else { panic!() };
    outer.nested = Some(Nested {
        manifest: Some(Arc::new(parse(&[entry("b", 10)]).unwrap())),
        object_etag: String::new(),
    });
    assert!(matches!(flatten(&manifest), Err(ManifestError::OtherNested { .. })));
    let bare = parse(&[with(entry("a", 10), "sub_slo", json!("True"))]).unwrap();
    assert_eq!(flatten(&bare), Err(ManifestError::NotLoaded("/s/a".to_owned())));
}

#[test]
fn manifests_that_multiply_end_at_the_bound() {
    let mut inner = parse(&[json!({"data": "eA=="})]).unwrap();
    for _ in 0..8 {
        let fields =
            json!({"name": "/s/m", "bytes": inner.length().unwrap(), "hash": inner.etag(), "sub_slo": true});
        let mut outer = parse(&vec![fields; 10]).unwrap();
        let shared = Arc::new(inner);
        for entry in &mut outer.entries {
            let Entry::Object(entry) = entry else { panic!() };
            entry.nested = Some(Nested { manifest: Some(shared.clone()), object_etag: "e".to_owned() });
        }
        inner = outer;
    }
    assert_eq!(flatten(&inner), Err(ManifestError::TooMany));
    assert_eq!(companion_of_manifest(b"", &inner), Err(ManifestError::TooMany));
}

#[test]
fn segments_shared_by_ranges_are_whole_when_the_ranges_meet() {
    let part = |range: &str| with(entry("a", 10), "range", json!(range));
    for (ranges, whole) in [(["0-4", "5-9"], true), (["5-9", "0-6"], true), (["0-4", "6-9"], false)] {
        let manifest = parse(&ranges.map(part)).unwrap();
        let pieces = flatten(&manifest).unwrap();
        assert_eq!(coverage(&manifest, &pieces).whole.len(), usize::from(whole), "{ranges:?}");
        let companion = companion_of_manifest(b"[]", &manifest).unwrap();
        assert_eq!(companion, b"[]", "without nested manifests it is kept as it is");
    }
}

#[test]
fn parts_are_legal_up_to_the_largest_object() {
    let piece = |bytes: u64| Piece::Object {
        container: "c".into(),
        object: "o".into(),
        etag: Some(md5_hex(b"o")),
        bytes,
        range: 0..bytes,
    };
    let table = [
        vec![piece(1)],
        vec![piece(MAX_OBJECT_BYTES)],
        vec![piece(MAX_PART_BYTES); 1024],
        vec![piece(MAX_OBJECT_BYTES / MAX_PIECES as u64); MAX_PIECES],
        vec![piece(1), piece(MAX_PART_BYTES * 3), piece(1), piece(MAX_PART_BYTES)],
        vec![piece(1024); 1000],
    ];
    for pieces in table {
        check_parts(&pieces, &cut(&pieces).unwrap());
    }
    assert!(matches!(cut(&[piece(MAX_OBJECT_BYTES), piece(1)]), Err(ManifestError::TooLarge(_))));
    assert_eq!(cut(&vec![piece(1024); 1000]).unwrap().len(), 1, "tiny segments share a part");
    assert_eq!(cut(&[]), Ok(Vec::new()));
}

fn check_parts(pieces: &[Piece], parts: &[Part]) {
    let total: u64 = pieces.iter().map(Piece::length).sum();
    assert!(parts.len() <= MAX_PARTS);
    assert_eq!(parts.iter().map(|part| part.length).sum::<u64>(), total);
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(usize::from(part.number), index + 1);
        assert!(part.length <= MAX_PART_BYTES, "part {index} has {} bytes", part.length);
        assert!(index + 1 == parts.len() || part.length >= MIN_PART_BYTES);
        assert_eq!(part.length, part.pieces.iter().map(Piece::length).sum::<u64>());
    }
}

/// Objects with content, by name.
type Objects = BTreeMap<String, Vec<u8>>;

fn read(pieces: &[Piece], objects: &Objects) -> Vec<u8> {
    let mut content = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Data(data) => content.extend_from_slice(data),
            Piece::Object { object, range, .. } => {
                let bounds = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                content.extend_from_slice(&objects[object][bounds]);
            }
        }
    }
    content
}

prop_compose! {
    /// A manifest of some objects of `objects`, in parts or in whole, with data between them.
    fn entries_of(objects: Objects)(
        picks in proptest::collection::vec((any::<prop::sample::Index>(), 0..100_u64, 1..100_u64, 0..4), 1..8)
    ) -> Vec<Value> {
        let names: Vec<&String> = objects.keys().collect();
        picks.iter().map(|(pick, start, length, kind)| {
            let name = *pick.get(&names);
            let content = &objects[name];
            let bytes = content.len() as u64;
            let fields = json!({"name": format!("/s/{name}"), "bytes": bytes, "hash": md5_hex(content)});
            match kind {
                0 => json!({"data": "eHl6"}),
                1 if bytes > 0 => {
                    let first = start % bytes;
                    let last = (first + length).min(bytes) - 1;
                    with(fields, "range", json!(format!("{first}-{last}")))
                }
                _ => fields,
            }
        }).collect()
    }
}

fn objects() -> impl Strategy<Value = Objects> {
    proptest::collection::btree_map("[a-z]{1,3}", proptest::collection::vec(any::<u8>(), 0..80), 1..5)
}

proptest! {
    #[test]
    fn nested_contents_are_those_of_the_layers_cut_and_rebuilt(
        (objects, inner) in objects().prop_flat_map(|objects| (Just(objects.clone()), entries_of(objects))),
        start in 0..60_u64, length in 1..200_u64, whole in any::<bool>(),
    ) {
        let inner_manifest = parse(&inner).unwrap();
        let inner_content = read(&flatten(&inner_manifest).unwrap(), &objects);
        prop_assert_eq!(inner_content.len() as u64, inner_manifest.length().unwrap());
        let bytes = inner_content.len() as u64;
        prop_assume!(bytes > 0);
        let first = start % bytes;
        let last = (first + length).min(bytes) - 1;
        let range = format!("{first}-{last}");
        let mut objects = objects;
        objects.insert("tail".to_owned(), b"end".to_vec());
        let mut manifest = nest(&inner, (!whole).then_some(range.as_str()));
        let Entry::Object(tail) = &mut manifest.entries[1] else { panic!() };
        tail.etag = md5_hex(b"end");
        let pieces = flatten(&manifest).unwrap();
        let content = read(&pieces, &objects);
        let bounds = if whole { 0..inner_content.len() } else { first as usize..last as usize + 1 };
        let mut expected = inner_content[bounds].to_vec();
        expected.extend_from_slice(b"end");
        prop_assert_eq!(&content, &expected);

        let companion = companion_of_manifest(b"", &manifest).unwrap();
        let rebuilt = rebuild(&companion, content.len() as u64).unwrap();
        prop_assert_eq!(&rebuilt.manifest, &manifest);
        for segment in &rebuilt.segments {
            let made: Vec<u8> = segment.content.iter()
                .flat_map(|range| content[range.start as usize..range.end as usize].to_vec()).collect();
            prop_assert_eq!(md5_hex(&made), segment.etag.clone());
            prop_assert_eq!(&made, &objects[&segment.object]);
        }
        // What may be removed locally can be made again.
        for (container, object, etag) in coverage(&manifest, &pieces).whole {
            prop_assert!(rebuilt.segments.iter().any(|segment|
                (&segment.container, &segment.object, &segment.etag) == (&container, &object, &etag)));
        }
        prop_assert!(rebuild(&companion, content.len() as u64 + 1).is_err());
    }

    #[test]
    fn cuts_lose_and_add_nothing(lengths in proptest::collection::vec(0..40_u64 * MIB, 0..60), odd in 0..1000_u64) {
        let pieces: Vec<Piece> = lengths.iter().map(|length| Piece::Object {
            container: "c".into(), object: length.to_string(), etag: None, bytes: length + odd + 1, range: odd..length + odd,
        }).collect();
        let parts = cut(&pieces).unwrap();
        check_parts(&pieces, &parts);
        let mut joined: Vec<Piece> = Vec::new();
        for piece in parts.into_iter().flat_map(|part| part.pieces) {
            match (joined.last_mut(), &piece) {
                (Some(Piece::Object { object: before, range, .. }), Piece::Object { object, range: next, .. })
                    if *before == *object && range.end == next.start && range.start != next.start => range.end = next.end,
                _ => joined.push(piece),
            }
        }
        let expected: Vec<Piece> = pieces.into_iter().filter(|piece| piece.length() > 0).collect();
        prop_assert_eq!(joined, expected);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(json in proptest::collection::vec(any::<u8>(), 0..200), length in any::<u64>()) {
        let _ = Manifest::parse(&json);
        let _ = rebuild(&json, length);
        let _ = dlo_source(&json);
    }
}
