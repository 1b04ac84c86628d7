#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Map, Value, json};

use super::*;
use crate::sync_config::{ParsedConfig, parse_sync_config};

/// Where the keys of a table stand in a document that is else as short as it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Document,
    Mapping,
    Limits,
    Timetable,
    DeleteLimit,
    Syslog,
}

const TABLES: [(Place, &[Key]); 6] = [
    (Place::Document, &GLOBAL),
    (Place::Mapping, &MAPPING),
    (Place::Limits, &LIMITS),
    (Place::Timetable, &TIMETABLE),
    (Place::DeleteLimit, &DELETE_LIMIT),
    (Place::Syslog, &SYSLOG),
];

fn every_key() -> impl Iterator<Item = (Place, &'static Key)> {
    TABLES.into_iter().flat_map(|(place, keys)| keys.iter().map(move |key| (place, key)))
}

fn object(members: &str) -> Map<String, Value> {
    serde_json::from_str(&format!("{{{members}}}")).unwrap()
}

/// A document with these members where the key stands.
fn document(place: Place, key: &Key, members: Map<String, Value>) -> Value {
    let mut here = match place {
        Place::Document => {
            json!({"devices": "/srv/node", "status_dir": "/var/lib/1space", "items_chunk": 1000})
        }
        Place::Mapping if key.remotes == Remotes::Swift => json!({
            "account": "AUTH_test", "container": "c", "aws_bucket": "b", "protocol": "swift",
            "aws_endpoint": "https://swift.example.org/auth/v1.0", "aws_identity": "USER", "aws_secret": "KEY"
        }),
        Place::Mapping => json!({"account": "AUTH_test", "container": "c", "aws_bucket": "b"}),
        Place::Timetable => json!({"from": "08:00", "to": "18:00", "requests_per_second": 5}),
        Place::Limits | Place::DeleteLimit | Place::Syslog => json!({}),
    };
    here.as_object_mut().unwrap().extend(members);
    let whole =
        |name: &str, here: Value| document(Place::Document, key, Map::from_iter([(name.to_owned(), here)]));
    match place {
        Place::Document => here,
        Place::Mapping => whole("containers", json!([here])),
        Place::Limits => whole("limits", here),
        Place::Timetable => whole("limits", json!({"timetable": [here]})),
        Place::DeleteLimit => {
            document(Place::Mapping, &MAPPING[0], Map::from_iter([("delete_limit".to_owned(), here)]))
        }
        Place::Syslog => whole("syslog", here),
    }
}

/// What the document says with this value of a key, or without it.
fn parsed(place: Place, key: &Key, value: Option<&str>) -> ParsedConfig {
    let mut members = object(key.beside);
    if let Some(value) = value {
        members.insert(key.name.to_owned(), serde_json::from_str(value).unwrap());
    }
    let document = document(place, key, members);
    parse_sync_config(&document.to_string()).unwrap_or_else(|problems| panic!("{document}: {problems:?}"))
}

fn shown(parsed: &ParsedConfig) -> String {
    format!("{:?}", parsed.config)
}

#[test]
fn every_key_has_the_effect_that_the_table_says() {
    for (place, key) in every_key() {
        let (without, with) = (parsed(place, key, None), parsed(place, key, Some(key.example)));
        let is_changed = shown(&without) != shown(&with);
        assert_eq!(is_changed, key.change != Change::Nothing, "{place:?} {}: {}", key.name, key.example);
    }
}

#[test]
fn the_default_of_the_table_is_what_holds_without_the_key() {
    for (place, key) in every_key() {
        if let Fallback::Value(value) = key.fallback {
            let (without, with) = (parsed(place, key, None), parsed(place, key, Some(value)));
            assert_eq!(shown(&without), shown(&with), "{place:?} {}: {value}", key.name);
        }
    }
}

#[test]
fn what_the_table_requires_is_missed() {
    for (place, key) in every_key() {
        let mut document = document(place, key, object(key.beside));
        let pointer = match place {
            Place::Document => "",
            Place::Mapping => "/containers/0",
            Place::Limits => "/limits",
            Place::Timetable => "/limits/timetable/0",
            Place::DeleteLimit => "/containers/0/delete_limit",
            Place::Syslog => "/syslog",
        };
        document.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key.name);
        let is_taken = parse_sync_config(&document.to_string()).is_ok();
        let is_needed = key.fallback == Fallback::Required || key.beside.contains(&format!("{:?}", key.name));
        assert_eq!(is_taken, !is_needed, "{place:?} {}", key.name);
    }
}

#[test]
fn what_decides_what_is_remote_is_marked_so() {
    let identity = |parsed: &ParsedConfig| {
        let mapping = parsed.config.mappings.first().unwrap();
        mapping.identity(mapping.container.as_str())
    };
    for key in &MAPPING {
        let without = identity(&parsed(Place::Mapping, key, None));
        let with = identity(&parsed(Place::Mapping, key, Some(key.example)));
        assert_eq!(without != with, key.change == Change::Compared, "{}", key.name);
    }
}

#[test]
fn a_wrong_value_is_told_at_its_place() {
    for (place, key) in every_key() {
        let mut members = object(key.beside);
        members.insert(key.name.to_owned(), json!([[]]));
        let told = match parse_sync_config(&document(place, key, members).to_string()) {
            Ok(parsed) => parsed.warnings,
            Err(problems) => problems,
        };
        assert!(
            told.iter().any(|problem| problem.path.contains(key.name)),
            "{place:?} {}: {told:?}",
            key.name
        );
    }
}

#[test]
fn names_are_there_once_and_texts_are_whole() {
    for (place, keys) in TABLES {
        for key in keys {
            assert_eq!(
                keys.iter().filter(|other| other.name == key.name).count(),
                1,
                "{place:?} {}",
                key.name
            );
            assert!(key.meaning.ends_with('.'), "{place:?} {}", key.name);
            assert!(!key.meaning.contains('\n') && !key.meaning.contains("  "), "{place:?} {}", key.name);
        }
    }
}
