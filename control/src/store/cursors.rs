//! Pages of cursors: how far each container database is done.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{CursorStatus, FeedKey};

use super::StoreError;
use super::reader::{as_limit, from_json};
use crate::time;

/// Which cursors. Empty fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorFilter {
    /// That this node reported last.
    pub node_id: String,
    /// Of this mapping.
    pub mapping_id: String,
    /// Of this account.
    pub account: String,
    /// Of this container.
    pub container: String,
}

/// The last cursor of a page: the next page begins behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorPosition {
    account: String,
    container: String,
    mapping_id: String,
    database_id: String,
    mapping_identity: String,
}

impl CursorPosition {
    /// In the order of pages.
    fn columns(&self) -> [(&'static str, &String); 5] {
        [
            ("account", &self.account),
            ("container", &self.container),
            ("mapping_id", &self.mapping_id),
            ("database_id", &self.database_id),
            ("mapping_identity", &self.mapping_identity),
        ]
    }
}

/// A page of cursors.
#[derive(Clone, Debug, Default)]
pub struct CursorPage {
    /// By account, container, mapping and database.
    pub cursors: Vec<CursorStatus>,
    /// Where the next page begins, if there is one.
    pub next: Option<CursorPosition>,
}

/// The order of pages.
const ORDER: &str = "account, container, mapping_id, database_id, mapping_identity";

impl CursorFilter {
    /// The index that gives the rows of the narrowest filter in the order of pages. SQLite keeps no statistics here, and would
    /// choose by the number of conditions.
    fn index(&self) -> &'static str {
        match self {
            Self { container, .. } if !container.is_empty() => "progress_container",
            Self { node_id, .. } if !node_id.is_empty() => "progress_node",
            Self { mapping_id, .. } if !mapping_id.is_empty() => "progress_mapping",
            Self { .. } => "progress_place",
        }
    }

    /// The question, and what it binds.
    fn sql(&self, after: Option<&CursorPosition>, limit: usize) -> (String, Vec<Value>) {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        let columns = [
            ("container", &self.container),
            ("node_id", &self.node_id),
            ("mapping_id", &self.mapping_id),
            ("account", &self.account),
        ];
        let is_fixed =
            |name: &str| columns.iter().any(|(column, value)| *column == name && !value.is_empty());
        for (column, value) in columns.iter().filter(|(_, value)| !value.is_empty()) {
            conditions.push(format!("{column} = ?"));
            values.push(Value::from((*value).clone()));
        }
        if let Some(after) = after {
            // Columns that are the same in all rows are left out: compared too, they would keep the index from seeking.
            let rest: Vec<(&str, &String)> =
                after.columns().into_iter().filter(|(column, _)| !is_fixed(column)).collect();
            let names: Vec<&str> = rest.iter().map(|(column, _)| *column).collect();
            let marks = vec!["?"; rest.len()].join(", ");
            conditions.push(format!("({}) > ({marks})", names.join(", ")));
            values.extend(rest.into_iter().map(|(_, text)| Value::from(text.clone())));
        }
        values.push(Value::from(as_limit(limit.saturating_add(1))));
        let condition = match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        };
        let sql = format!(
            "SELECT mapping_identity, database_id, mapping_id, account, container, node_id, cursors, failures, updated_at
             FROM progress INDEXED BY {} {condition} ORDER BY {ORDER} LIMIT ?",
            self.index()
        );
        (sql, values)
    }
}

pub(super) fn page(
    connection: &Connection,
    filter: &CursorFilter,
    after: Option<&CursorPosition>,
    limit: usize,
) -> Result<CursorPage, StoreError> {
    let (sql, values) = filter.sql(after, limit);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        Ok(CursorStatus {
            key: Some(FeedKey { mapping_identity: row.get(0)?, database_id: row.get(1)? }),
            mapping_id: row.get(2)?,
            account: row.get(3)?,
            container: row.get(4)?,
            node_id: row.get(5)?,
            cursors: from_json(row, 6)?,
            failures: row.get(7)?,
            updated_at: Some(time::timestamp(row.get(8)?)),
        })
    })?;
    let mut cursors = rows.collect::<Result<Vec<_>, _>>()?;
    let has_more = cursors.len() > limit;
    cursors.truncate(limit);
    let next = cursors.last().filter(|_| has_more).map(|last| {
        let key = last.key.clone().unwrap_or_default();
        CursorPosition {
            account: last.account.clone(),
            container: last.container.clone(),
            mapping_id: last.mapping_id.clone(),
            database_id: key.database_id,
            mapping_identity: key.mapping_identity,
        }
    });
    Ok(CursorPage { cursors, next })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::{DataDirectory, Store};

    fn filter(columns: [&str; 4]) -> CursorFilter {
        let [node_id, mapping_id, account, container] = columns.map(str::to_owned);
        CursorFilter { node_id, mapping_id, account, container }
    }

    /// However many feeds there are, a page reads about as many rows as it has.
    #[tokio::test]
    async fn every_page_comes_from_an_index_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::lock(folder.path()).unwrap();
        let store = Store::open(&directory).unwrap();
        let connection = Connection::open(directory.database()).unwrap();
        let after = CursorPosition {
            account: "a".to_owned(),
            container: "c".to_owned(),
            mapping_id: "m".to_owned(),
            database_id: "d".to_owned(),
            mapping_identity: "i".to_owned(),
        };
        for (columns, seeks) in [
            (["", "", "", ""], ""),
            (["", "", "a", ""], "account=?"),
            (["", "m", "", ""], "mapping_id=?"),
            (["n", "", "", ""], "node_id=?"),
            (["", "", "", "c"], "container=?"),
            (["n", "m", "a", "c"], "container=? AND account=? AND mapping_id=?"),
        ] {
            for after in [None, Some(&after)] {
                let (sql, values) = filter(columns).sql(after, 10);
                let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                let plan: Vec<String> = statement
                    .query_map(params_from_iter(values), |row| row.get(3))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap();
                let plan = plan.join("; ");
                assert!(!plan.contains("TEMP B-TREE"), "{columns:?} {after:?}: {plan}");
                assert!(plan.contains(seeks), "{columns:?} {after:?}: {plan}");
                if after.is_some() {
                    assert!(plan.contains("SEARCH") && plan.contains('>'), "{columns:?}: {plan}");
                }
            }
        }
        drop(connection);
        store.close().await;
    }
}
