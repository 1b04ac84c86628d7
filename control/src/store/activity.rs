//! What people did and what happened: lines to be written, and pages of those that are kept.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use swift_s3_proto::v1::{Activity, ActivityKind};

use super::StoreError;
use super::reader::as_limit;
use super::writer::cut;
use crate::time;

/// A line to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at_ms: i64,
    /// What.
    pub kind: ActivityKind,
    /// Who; empty: nobody in particular, or access control is off.
    pub actor: String,
    /// True: a person or a script asked for it.
    pub is_asked_for: bool,
    /// The mapping; empty: none.
    pub mapping_id: String,
    /// The node; empty: none.
    pub node_id: String,
    /// The revision; 0: none.
    pub revision: i64,
    /// The rest in words.
    pub detail: String,
    /// What becomes of many of its kind.
    pub repeat: Repeat,
}

/// What becomes of lines that come in numbers, or again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// A line of its own.
    Never,
    /// The first of a group are lines of their own, the rest are counted in one more.
    Counted {
        /// What they have in common, such as the kind and the minute.
        group: String,
        /// What the rest is, behind its number: `more nodes connected in this minute`.
        rest: &'static str,
    },
    /// As counted, but it may be told again, which must not make another line, nor count.
    Once {
        /// Names it.
        key: String,
        /// What it has in common with others.
        group: String,
        /// What the rest is: `more nodes … in this minute`.
        rest: &'static str,
    },
    /// One line; its number is the sum of all that had this key. Beyond the first of a group, all the rest is one more line.
    Summed {
        /// Names it.
        key: String,
        /// How much this one adds.
        count: u32,
        /// What it has in common with others.
        group: String,
        /// What the rest is, behind its number.
        rest: &'static str,
    },
}

impl Line {
    /// Something that happened.
    #[must_use]
    pub fn happened(kind: ActivityKind, at_ms: i64, detail: String) -> Self {
        Self {
            at_ms,
            kind,
            actor: String::new(),
            is_asked_for: false,
            mapping_id: String::new(),
            node_id: String::new(),
            revision: 0,
            detail,
            repeat: Repeat::Never,
        }
    }

    /// As short as it will be written: what waits must not hold more than that.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        for text in [&mut self.actor, &mut self.mapping_id, &mut self.node_id, &mut self.detail] {
            text.truncate(cut(text).len());
            text.shrink_to_fit();
        }
        self
    }

    /// Something that somebody asked for.
    #[must_use]
    pub fn asked(kind: ActivityKind, at_ms: i64, actor: &str, detail: String) -> Self {
        Self { actor: actor.to_owned(), is_asked_for: true, ..Self::happened(kind, at_ms, detail) }
    }
}

/// Which lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityFilter {
    /// Only of this kind; unspecified: of any.
    pub kind: ActivityKind,
    /// Only of this mapping; empty: of any.
    pub mapping_id: String,
    /// Only what people asked for.
    pub only_people: bool,
}

/// Lines older than `before`, the newest first, at most `limit`. Few are kept, so that reading them all is quick.
pub(super) fn page(
    connection: &Connection,
    filter: &ActivityFilter,
    before: i64,
    limit: usize,
) -> Result<Vec<Activity>, StoreError> {
    let mut condition = "activity < ?".to_owned();
    let mut values = vec![Value::from(before)];
    if filter.kind != ActivityKind::Unspecified {
        condition.push_str(" AND kind = ?");
        values.push(Value::from(i32::from(filter.kind)));
    }
    if !filter.mapping_id.is_empty() {
        condition.push_str(" AND mapping_id = ?");
        values.push(Value::from(filter.mapping_id.clone()));
    }
    if filter.only_people {
        condition.push_str(" AND asked_for = 1");
    }
    values.push(Value::from(as_limit(limit)));
    let mut statement = connection.prepare_cached(&format!(
        "SELECT activity, at, kind, actor, asked_for, mapping_id, node_id, revision, detail, count
         FROM activity WHERE {condition} ORDER BY activity DESC LIMIT ?"
    ))?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        let (detail, count): (String, i64) = (row.get(8)?, row.get(9)?);
        Ok(Activity {
            id: row.get(0)?,
            at: Some(time::timestamp(row.get(1)?)),
            kind: row.get(2)?,
            actor: row.get(3)?,
            is_asked_for: row.get(4)?,
            mapping_id: row.get(5)?,
            node_id: row.get(6)?,
            revision: row.get(7)?,
            detail: if count > 0 { format!("{count} {detail}") } else { detail },
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
