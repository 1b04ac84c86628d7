//! The revision that a document was read at, kept inside it as the comment `"// revision"`.
//!
//! A document is otherwise passed on letter by letter: how numbers are written and whether keys repeat is for the server
//! to judge.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The comment's key.
pub(super) const REVISION_KEY: &str = "// revision";

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn written(members: &[(String, &RawValue)], first: Option<String>) -> String {
    let others = members
        .iter()
        .filter(|(key, _)| key != REVISION_KEY)
        .map(|(key, value)| format!("{}: {}", serde_json::Value::from(key.as_str()), value.get()));
    let lines: Vec<String> = first.into_iter().chain(others).map(|member| format!("  {member}")).collect();
    if lines.is_empty() { "{}\n".to_owned() } else { format!("{{\n{}\n}}\n", lines.join(",\n")) }
}

/// The document with its revision as the first key. What is no JSON object is returned as it is.
#[must_use]
pub(super) fn with_revision(document: &str, revision: i64) -> String {
    match serde_json::from_str::<Members<'_>>(document) {
        Ok(Members(members)) => written(&members, Some(format!("\"{REVISION_KEY}\": \"{revision}\""))),
        Err(_) => document.to_owned(),
    }
}

/// The document without that key, and the revision that it told.
///
/// # Errors
/// In words, if the key holds no revision.
pub(super) fn without_revision(document: &str) -> Result<(String, Option<i64>), String> {
    let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(document) else {
        return Ok((document.to_owned(), None));
    };
    let mut told = members.iter().filter(|(key, _)| key == REVISION_KEY).map(|(_, value)| value.get());
    let Some(text) = told.next() else { return Ok((document.to_owned(), None)) };
    if told.next().is_some() {
        return Err(format!("found the key \"{REVISION_KEY}\" twice, expected it once"));
    }
    let revision =
        text.trim_matches('"').parse().ok().filter(|revision| *revision >= 0).ok_or_else(|| {
            format!("found {text} in \"{REVISION_KEY}\", expected a revision such as \"12\"")
        })?;
    Ok((written(&members, None), Some(revision)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_revision_goes_in_first_and_comes_out_again() {
        let document = "{\n  \"zone\": 1.50,\n  \"a\": {\"b\": [1e3, \"\\u00e9\"]}\n}\n";
        let with = with_revision(document, 12);
        assert_eq!(
            with,
            "{\n  \"// revision\": \"12\",\n  \"zone\": 1.50,\n  \"a\": {\"b\": [1e3, \"\\u00e9\"]}\n}\n"
        );
        assert_eq!(without_revision(&with), Ok((document.to_owned(), Some(12))));
        assert_eq!(with_revision(&with, 13), with.replace("12", "13"), "an older one is replaced");
    }

    #[test]
    fn a_document_without_it_is_left_alone() {
        for document in ["{\"a\":1,\"a\":2}", "[1]", "{", "", "{\"containers\": [{\"// revision\": \"3\"}]}"]
        {
            assert_eq!(without_revision(document), Ok((document.to_owned(), None)));
        }
        assert_eq!(with_revision("no json", 1), "no json");
        assert_eq!(with_revision("{}", 1), "{\n  \"// revision\": \"1\"\n}\n");
        assert_eq!(without_revision("{\"// revision\": 4}"), Ok(("{}\n".to_owned(), Some(4))));
    }

    #[test]
    fn a_wrong_revision_is_refused() {
        for document in
            ["{\"// revision\": \"x\"}", "{\"// revision\": -1}", "{\"// revision\": 1, \"// revision\": 2}"]
        {
            assert!(without_revision(document).is_err(), "{document}");
        }
    }
}
