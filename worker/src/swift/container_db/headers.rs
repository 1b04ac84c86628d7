//! What users set on a container: metadata and access lists.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::Value;

use super::error::{DbError, DbErrorKind};
use super::row::{self, column};

/// Swift allows 4 KiB of metadata for a client's part, and middleware keeps some of its own.
const MAX_JSON_BYTES: usize = 1 << 20;

/// Reads the column `metadata`: an object of names, each with a list of its value and the time it was set.
/// Source: `DatabaseBroker.metadata` in `swift/common/db.py` of Swift 2.30.1.
pub(super) fn read(connection: &Connection) -> Result<BTreeMap<String, String>, DbError> {
    let sqlite = |error: rusqlite::Error| DbError::from_sqlite(&error, "reading the container's metadata");
    let corrupt = |problem: String| DbError::new(DbErrorKind::Corrupt, format!("metadata: {problem}"));
    let mut statement =
        connection.prepare_cached("SELECT metadata FROM container_stat LIMIT 1").map_err(sqlite)?;
    let mut rows = statement.query([]).map_err(sqlite)?;
    let Some(found) = rows.next().map_err(sqlite)? else { return Ok(BTreeMap::new()) };
    let json = column(found, 0).and_then(|value| row::optional_text(value, "metadata", MAX_JSON_BYTES));
    parse(&json.map_err(corrupt)?).map_err(corrupt)
}

fn parse(json: &str) -> Result<BTreeMap<String, String>, String> {
    if json.is_empty() {
        return Ok(BTreeMap::new());
    }
    let entries: BTreeMap<String, Value> =
        serde_json::from_str(json).map_err(|error| format!("expected an object, got {error}"))?;
    entries
        .into_iter()
        .map(|(name, entry)| match entry.get(0).and_then(Value::as_str) {
            Some(value) => Ok((name, value.to_owned())),
            // The value may be a secret.
            None => Err(format!("expected a value and its time for {name:?}")),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_without_their_times() {
        let json = r#"{"X-Container-Meta-A": ["\u00e9", "1.0"], "X-Container-Read": ["", "2.0"]}"#;
        let read = parse(json).unwrap();
        assert_eq!(read.get("X-Container-Meta-A").unwrap(), "é");
        assert_eq!(read.get("X-Container-Read").unwrap(), "");
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_swift_does_not_write_is_refused_without_telling_values() {
        for json in ["[]", "{", r#"{"a": "hunter2"}"#, r#"{"a": []}"#, r#"{"a": [{"hunter2": 1}]}"#] {
            assert!(!parse(json).unwrap_err().contains("hunter2"), "{json}");
        }
    }
}
