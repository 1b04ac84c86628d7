//! What is written here after Swift's code, compared with Swift's code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use swift_s3_store::{Entry, ObjectEntry};

use super::format::Format;
use super::merge::merge;
use super::model;
use super::params::Params;
use super::render::render;
use super::rows::{RemoteRow, read_page};
use super::tests::{name, names, params};

/// Debian's Python, for which Debian's Swift is installed.
const PYTHON: &str = "/usr/bin/python3";

/// A Python that answers with Swift's code.
struct Original {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Original {
    fn start() -> Self {
        let mut process = Command::new(PYTHON)
            .arg("-c")
            .arg(include_str!("original.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, questions, answers }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "Python ended; see its words above (`make setup` installs Swift)");
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The same cases in every run.
fn draw<T>(runner: &mut TestRunner, strategy: &impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).unwrap().current()
}

#[test]
fn the_model_lists_what_swift_lists() {
    let mut original = Original::start();
    let mut runner = TestRunner::deterministic();
    let mut compared = 0;
    for _ in 0..60 {
        let names = draw(&mut runner, &names(25));
        // Of these the model thinks otherwise; see there.
        let names: BTreeSet<String> = names.into_iter().filter(|name| !name.contains('0')).collect();
        let queries: Vec<Params> = (0..20).map(|_| draw(&mut runner, &params())).collect();
        let described: Vec<Value> = queries
            .iter()
            .map(|query| {
                json!({"limit": query.limit, "marker": query.marker, "end_marker": query.end_marker,
                       "prefix": query.prefix, "delimiter": query.delimiter, "path": query.path,
                       "reverse": query.reverse})
            })
            .collect();
        let answers = original.ask(&json!({"names": names, "queries": described}));
        for (query, answer) in queries.iter().zip(answers.as_array().unwrap()) {
            let Some(rows) = answer.as_array() else { continue };
            let rows: Vec<(String, bool)> = rows
                .iter()
                .map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_bool().unwrap()))
                .collect();
            let has_open_folder = names.iter().any(|folder| {
                folder.ends_with('/') && names.iter().any(|name| name != folder && name.starts_with(folder))
            });
            if query.path.is_some() && query.reverse && has_open_folder {
                continue;
            }
            assert_eq!(model::list(&names, query), rows, "{query:?} of {names:?}");
            compared += 1;
        }
    }
    assert!(compared > 1_000, "{compared}");
}

#[test]
fn the_header_accept_is_read_as_swift_reads_it() {
    let mut original = Original::start();
    let mut runner = TestRunner::deterministic();
    let word = || {
        prop_oneof![
            Just("text"),
            Just("application"),
            Just("*"),
            Just("image"),
            Just("a b"),
            Just(""),
            Just("té"),
            Just("+.1"),
        ]
    };
    let subtype = prop_oneof![Just("plain"), Just("json"), Just("xml"), Just("*"), Just("x/y"), Just("")];
    let parameter = prop_oneof![
        4 => Just(String::new()), 3 => "; ?q ?= ?[01]\\.[0-9]", 1 => Just(";q=\"1\"".to_owned()), 1 => Just(";q=x".to_owned()),
        1 => Just("; charset=\"a\\\"b\"".to_owned()), 1 => Just(";a=\"b;c\"".to_owned()), 1 => Just(";a=b;q=.5;q=1".to_owned()),
        1 => Just(";a=\"b=c\"".to_owned()), 1 => Just(" ".to_owned()), 1 => Just(";".to_owned()), 1 => Just(";a".to_owned()),
    ];
    let range = (word(), subtype, parameter, any::<bool>()).prop_map(|(kind, subtype, parameter, spaced)| {
        format!("{}{kind}/{subtype}{parameter}", if spaced { " " } else { "" })
    });
    let header = prop_oneof![
        9 => prop::collection::vec(range, 1..4).prop_map(|ranges| ranges.join(",")),
        1 => "[a-z/;=,\"* ]{0,8}",
    ];
    let headers: Vec<String> = (0..3_000).map(|_| draw(&mut runner, &header)).collect();
    let answers = original.ask(&json!({"accept": headers}));
    let mut accepted = 0;
    for (header, answer) in headers.iter().zip(answers.as_array().unwrap()) {
        let chosen = Format::choose(None, header).map(Format::content_type);
        let chosen = chosen.and_then(|kind| kind.split(';').next());
        assert_eq!(chosen, answer.as_str(), "{header:?}");
        accepted += usize::from(chosen.is_some());
    }
    assert!(accepted > 150, "{accepted}");
}

#[test]
fn pages_are_written_as_swift_writes_them() {
    let mut original = Original::start();
    let mut runner = TestRunner::deterministic();
    let line = || {
        (name(), any::<bool>(), any::<u32>(), prop::option::of("[0-9a-f]{32}"), "[a-z]{1,4}/[a-z<&\"]{1,4}")
    };
    for _ in 0..150 {
        let lines = draw(&mut runner, &prop::collection::vec(line(), 0..5));
        let container = draw(&mut runner, &name());
        let described: Vec<Value> = lines
            .iter()
            .map(|(name, is_folder, bytes, hash, kind)| {
                if *is_folder {
                    return json!({"subdir": name});
                }
                json!({"bytes": bytes, "hash": hash.as_deref().unwrap_or_default(), "name": name, "content_type": kind,
                       "last_modified": "2024-02-29T10:11:12.345670"})
            })
            .collect();
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_709_201_472, 345_670_000);
        let remote: Vec<RemoteRow> = lines
            .into_iter()
            .map(|(name, is_folder, bytes, etag, content_type)| {
                let key = format!("p/{name}");
                let entry = if is_folder {
                    Entry::Folder(key)
                } else {
                    let length = u64::from(bytes);
                    let (content_type, last_modified) = (Some(content_type), Some(time));
                    Entry::Object(ObjectEntry {
                        key,
                        etag,
                        length,
                        content_type,
                        last_modified,
                        slo_etag: None,
                    })
                };
                RemoteRow::new(entry, "p/").unwrap()
            })
            .collect();
        let answer = original.ask(&json!({"lines": described, "container": container}));
        let page = answer["json"].as_str().unwrap();
        let local = read_page(page.as_bytes()).unwrap();
        let both = [merge(&local, &[], 10, false), merge(&[], &remote, 10, false)];
        for lines in both {
            assert_eq!(
                render(Format::Text, &lines, &container, "r").unwrap(),
                answer["text"].as_str().unwrap()
            );
            assert_eq!(
                render(Format::Xml, &lines, &container, "r").unwrap(),
                answer["xml"].as_str().unwrap()
            );
            let json = render(Format::Json, &lines, &container, "r").unwrap();
            assert_eq!(json.replace(", \"content_location\": [\"r\"]", ""), page);
        }
    }
}
