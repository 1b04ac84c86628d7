//! Random and damaged input for everything that reads what clients and servers send: no panic, bounded output, and what must hold
//! whatever comes.
//!
//! `SWIFT_S3_FUZZ_SECONDS` says how long each target runs (1 by default), `SWIFT_S3_FUZZ_SEED` repeats a run; a failing one prints its seed
//! and its input. There is no coverage feedback: inputs are drawn from a corpus of each target and changed at a few places.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use swift_s3_shunt::listing::{Format, Params, Place, RemoteRow, is_enough, merge, read_page, render};
use swift_s3_shunt::read::ranges::Ranges;
use swift_s3_shunt::request::{Target, query_value};
use swift_s3_store::{Entry, ObjectEntry};

/// The longest input; clients' heads are no longer either.
const MAX_INPUT: usize = 4096;

/// SplitMix64. Source: Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// An entry of the corpus, changed at up to eight places.
    fn input(&mut self, corpus: &[&[u8]], pieces: &[&[u8]]) -> Vec<u8> {
        let mut input = self.pick(corpus).to_vec();
        for _ in 0..self.below(9) {
            let at = self.below(input.len() + 1);
            match self.below(7) {
                0 if !input.is_empty() => {
                    let at = at.min(input.len() - 1);
                    input[at] ^= 1 << self.below(8);
                }
                1 => input.truncate(at),
                2 => input.splice(at..at, [u8::try_from(self.below(256)).unwrap()]).for_each(drop),
                3 => {
                    let end = (at + self.below(16)).min(input.len());
                    input.drain(at..end);
                }
                4 => {
                    let end = (at + self.below(64)).min(input.len());
                    let copy = input[at..end].to_vec();
                    let times = 1 + self.below(20);
                    input.splice(at..at, copy.repeat(times)).for_each(drop);
                }
                5 => {
                    let other = self.pick(corpus);
                    let from = self.below(other.len() + 1);
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => {
                    let piece = self.pick(pieces).to_vec();
                    input.splice(at..at, piece).for_each(drop);
                }
            }
        }
        input.truncate(MAX_INPUT);
        input
    }
}

/// Runs one target on input after input.
fn fuzz(target: &str, corpus: &[&[u8]], pieces: &[&[u8]], check: impl Fn(&[u8], &mut Random)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("SWIFT_S3_FUZZ_SECONDS").unwrap_or(1);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("SWIFT_S3_FUZZ_SEED").unwrap_or(now.as_secs() << 20 | u64::from(now.subsec_micros()));
    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut inputs = 0_u64;
    while Instant::now() < end {
        for _ in 0..100 {
            let input = random.input(corpus, pieces);
            let outcome = catch_unwind(AssertUnwindSafe(|| check(&input, &mut random)));
            assert!(
                outcome.is_ok(),
                "{target} fails; SWIFT_S3_FUZZ_SEED={seed}, input {inputs}: b\"{}\"",
                input.escape_ascii()
            );
            inputs += 1;
        }
    }
    println!("{target}: {inputs} inputs in {seconds} s, seed {seed}");
}

#[test]
fn paths_are_read() {
    let corpus: [&[u8]; 9] = [
        b"/v1/AUTH_test/container/object/with/slashes",
        b"/v1.0/a/c/%C3%A9%20+%2541",
        b"/v1/a/c%2Fo/..//%2e%2e/x",
        b"/v1/a/c/%00",
        b"/v1/a/c/%ff%fe",
        b"//v1//a//",
        b"/info",
        b"/v1/a/c?x",
        b"",
    ];
    fuzz("path", &corpus, &[b"%", b"/", b"%2F", b"%00", b"..", b"v1", b"\xc3"], |input, _| {
        let Ok(path) = std::str::from_utf8(input) else { return };
        match Target::of(path) {
            Target::Container { account, container } => {
                assert!(!account.is_empty() && !container.is_empty());
                assert!(!account.contains('/') && !container.contains('/'));
                assert!(!account.contains('\0') && !container.contains('\0'));
            }
            Target::Object { account, container, object } => {
                assert!(!account.contains('/') && !container.contains('/'));
                assert!(!object.is_empty() && !object.contains('\0'));
                assert!(object.len() <= path.len());
            }
            Target::Other => {}
        }
        let _ = query_value(Some(path), "a");
    });
}

const QUERIES: [&[u8]; 9] = [
    b"prefix=photos/&delimiter=/&limit=100&marker=photos/2020&end_marker=photos/2021&format=json",
    b"reverse=true&limit=10000&delimiter=--",
    b"path=a/b//&format=xml",
    b"marker=%C3%A9%20+x&end_marker=%F0%9F%98%80",
    b"limit=99999999999999999999999999",
    b"limit=-1&limit=&path",
    b"format=%ff&states=x",
    b"versions&version_marker=null",
    b"&&==&=a&a",
];

const QUERY_PIECES: [&[u8]; 12] = [
    b"&",
    b"=",
    b"%",
    b"%00",
    b"+",
    b"limit=",
    b"marker=",
    b"delimiter=",
    b"path=",
    b"reverse=1",
    b"\xff",
    b"%f4%8f%bf%bf",
];

#[test]
fn parameters_are_read_and_names_placed() {
    fuzz("parameters", &QUERIES, &QUERY_PIECES, |input, random| {
        let Ok(query) = std::str::from_utf8(input) else { return };
        let Some(params) = Params::parse(query) else { return };
        // What is sent to Swift means the same.
        let local = params.local_query();
        assert!(local.len() <= query.len() + 64 && local.contains("format=json"));
        let again = Params::parse(&local).expect("our own query is refused");
        assert_eq!(again.level(), params.level());
        assert_eq!(again.limit, params.limit);
        let level = params.level();
        for _ in 0..4 {
            let name = String::from_utf8_lossy(&random.input(&QUERIES, &QUERY_PIECES)).into_owned();
            match level.place(&name) {
                Place::Hidden => {}
                Place::Object => assert!(name.starts_with(&level.prefix)),
                Place::Folder(end) => {
                    let folder = name.get(..end).expect("the folder ends within a character");
                    assert!(folder.starts_with(&level.prefix) && !level.one_level);
                    assert!(folder.ends_with(level.delimiter.as_deref().unwrap()));
                }
            }
            if level.is_empty() {
                assert_eq!(level.place(&name), Place::Hidden, "{name:?}");
            }
        }
    });
}

#[test]
fn accept_headers_are_read() {
    let corpus: [&[u8]; 7] = [
        b"text/plain;q=0.5, application/json; charset=\"utf-8\"; q=0.9, */*;q=0.1",
        b"application/xml",
        b"text/*;level=1",
        b"*/*",
        b"a/b;c=\"d\\\"e,f;g=h\"",
        b"text/xml;q=1e999,text/plain;q=nan",
        b",;=/",
    ];
    fuzz("accept", &corpus, &[b",", b";", b"=", b"\"", b"\\", b"/", b"*", b"q=", b" "], |input, _| {
        let header: String = input.iter().copied().map(char::from).collect();
        let _ = Format::choose(None, &header).map(Format::content_type);
    });
}

#[test]
fn listings_of_swift_are_read_merged_and_written() {
    let corpus: [&[u8]; 6] = [
        br#"[{"bytes": 3, "hash": "d41d8cd98f00b204e9800998ecf8427e", "name": "a b", "content_type": "text/plain", "last_modified": "2024-02-29T10:11:12.345670"}, {"subdir": "b/"}, {"bytes": 0, "hash": "", "name": "c\u00e9\ud83d\ude00", "content_type": "x", "last_modified": "z", "slo_etag": "\"q\""}]"#,
        br#"[{"subdir": "a/"}, {"subdir": "b/"}]"#,
        b"[]",
        br#"[{"name": "\"]}\\"}, {"name": ""}]"#,
        br#"[[[[{}]]], {"name": {"name": [1e999, -0]}}]"#,
        b"<html>",
    ];
    let pieces: [&[u8]; 11] =
        [b"{", b"}", b"[", b"]", b"\"", b"\\u", b"\\ud800", b", ", b"\"name\": \"x\"", b"null", b"\xff"];
    let remote: Vec<RemoteRow> = ["a", "b/", "bb", "c\u{e9}\u{1f600}", "\u{10ffff}"]
        .iter()
        .filter_map(|name| {
            let key = format!("p/{name}");
            let entry = if name.ends_with('/') {
                Entry::Folder(key)
            } else {
                Entry::Object(ObjectEntry { key, ..ObjectEntry::default() })
            };
            RemoteRow::new(entry, "p/")
        })
        .collect();
    fuzz("listing", &corpus, &pieces, |input, random| {
        let Ok(local) = read_page(input) else { return };
        assert!(local.len() <= input.len());
        let limit = random.below(8);
        let reverse = random.below(2) == 1;
        let lines = merge(&local, &remote, limit, reverse);
        assert!(lines.len() <= limit && lines.len() <= local.len() + remote.len());
        let _ = is_enough(&local, &remote[..random.below(remote.len())], limit, reverse);
        for format in [Format::Text, Format::Json, Format::Xml] {
            let Ok(page) = render(format, &lines, "c\"<", "http://r;b;\"p\"") else { continue };
            assert!(page.len() <= input.len() * 6 + 4096, "{} bytes of {}", page.len(), input.len());
            if format == Format::Json {
                let again = read_page(page.as_bytes()).expect("our own page is no listing");
                assert_eq!(again.len(), lines.len());
                for (row, line) in again.iter().zip(&lines) {
                    assert_eq!(row.text, line.text());
                }
            }
        }
    });
}

#[test]
fn ranges_are_read() {
    let corpus: [&[u8]; 8] = [
        b"bytes=0-99",
        b"bytes=-5",
        b"bytes=5-",
        b"bytes=0-0,2-3,5-",
        b"bytes = 1 - 2",
        b"BYTES=18446744073709551615-18446744073709551616",
        b"bytes=3-1",
        b"lines=1-2",
    ];
    fuzz(
        "range",
        &corpus,
        &[b",", b"-", b"=", b"0", b"18446744073709551615", b" ", b"bytes="],
        |input, random| {
            let Ok(header) = std::str::from_utf8(input) else { return };
            let Some(ranges) = Ranges::parse(header) else { return };
            assert!(ranges.count() > 0 && ranges.count() <= header.len());
            let length = random.pick(&[&0, &1, &7, &100, &u64::MAX]);
            for range in ranges.of_length(*length) {
                assert!(range.start <= range.end && range.end <= *length, "{range:?} of {length}");
            }
            if let Some(range) = ranges.known_start() {
                assert!(range.start <= range.end);
            }
        },
    );
}
