//! Lines of activity. Much of one kind is bounded here, where it is known what was told before, also by an earlier process.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::activity::{Line, Repeat};
use super::progress::cut;
use super::{StoreError, refused};

/// Lines of one group that are written one by one. More would hide everything else, and a number says the same.
const EACH: i64 = 10;
/// Lines that are kept of what people asked for, and as many of what happened by itself: a cluster that is ill must not push
/// out who changed what.
pub(super) const KEPT: i64 = 5_000;

/// Writes lines, and removes those that are too old. A line that the database does not take is left out, however often it came.
pub(super) fn add(connection: &Connection, lines: &[Line]) -> Result<(), StoreError> {
    for line in lines {
        match add_one(connection, line) {
            Err(StoreError::Refused(why)) => {
                tracing::warn!(kind = line.kind.as_str_name(), why, "could not write down what happened");
            }
            added => added?,
        }
    }
    for is_asked_for in [false, true] {
        if lines.iter().any(|line| line.is_asked_for == is_asked_for) {
            connection
                .prepare_cached(
                    "DELETE FROM activity WHERE asked_for = ?1 AND activity <= (
                         SELECT activity FROM activity WHERE asked_for = ?1 ORDER BY activity DESC LIMIT 1 OFFSET ?2
                     )",
                )?
                .execute(params![is_asked_for, KEPT])?;
        }
    }
    Ok(())
}

fn add_one(connection: &Connection, line: &Line) -> Result<(), StoreError> {
    match &line.repeat {
        Repeat::Never => insert(connection, line, &line.detail, 0, None, ""),
        Repeat::Summed { key, count, group, rest } => {
            let count = i64::from(*count);
            match is_there(connection, key)? || has_room(connection, group)? {
                true => insert(connection, line, &line.detail, count, Some(key), group),
                false => insert(connection, &of_many(line), rest, count, Some(&format!("more/{group}")), ""),
            }
        }
        Repeat::Counted { group, rest } => match has_room(connection, group)? {
            true => insert(connection, line, &line.detail, 0, None, group),
            false => insert(connection, &of_many(line), rest, 1, Some(&format!("more/{group}")), ""),
        },
        Repeat::Once { key, group, rest } => {
            if is_known(connection, key, line)? || is_forgotten(connection, line)? {
                return Ok(());
            }
            match has_room(connection, group)? {
                true => insert(connection, line, &line.detail, 0, Some(key), group),
                // Without a number: those that are told again are not known from others.
                false => insert(connection, &of_many(line), rest, 0, Some(&format!("more/{group}")), ""),
            }
        }
    }
}

/// A line about several: no single node, no single mapping.
fn of_many(line: &Line) -> Line {
    Line { mapping_id: String::new(), node_id: String::new(), ..line.clone() }
}

fn is_there(connection: &Connection, key: &str) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached("SELECT 1 FROM activity WHERE once = ?")?.exists([key])?)
}

/// True if a line of this key is there. Its detail is the one that its node told last; others say the same in other words, in turn.
fn is_known(connection: &Connection, key: &str, line: &Line) -> Result<bool, StoreError> {
    let known: Option<(String, String)> = connection
        .prepare_cached("SELECT node_id, detail FROM activity WHERE once = ?")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (node_id, detail) = (cut(&line.node_id), cut(&line.detail));
    if known.as_ref().is_some_and(|known| known.0 == node_id && known.1 != detail) {
        connection
            .prepare_cached("UPDATE activity SET detail = ?2 WHERE once = ?1")?
            .execute(params![key, detail])?;
    }
    Ok(known.is_some())
}

/// True if the line would be older than all that are kept: it was told before, and is forgotten.
fn is_forgotten(connection: &Connection, line: &Line) -> Result<bool, StoreError> {
    let oldest: Option<i64> = connection
        .prepare_cached(
            "SELECT at FROM activity WHERE asked_for = ? ORDER BY activity DESC LIMIT 1 OFFSET ?",
        )?
        .query_row(params![line.is_asked_for, KEPT - 1], |row| row.get(0))
        .optional()?;
    Ok(oldest.is_some_and(|oldest| line.at_ms < oldest))
}

fn has_room(connection: &Connection, group: &str) -> Result<bool, StoreError> {
    let mut count =
        connection.prepare_cached("SELECT count(*) FROM activity WHERE in_group = ? AND in_group <> ''")?;
    Ok(count.query_row([group], |row| row.get::<_, i64>(0))? < EACH)
}

/// Adds the count to the line of this key, if there is one.
fn insert(
    connection: &Connection,
    line: &Line,
    detail: &str,
    count: i64,
    once: Option<&str>,
    in_group: &str,
) -> Result<(), StoreError> {
    if let Some(once) = once {
        let added = connection
            .prepare_cached("UPDATE activity SET count = count + ?2 WHERE once = ?1")?
            .execute(params![once, count])?;
        if added > 0 {
            return Ok(());
        }
    }
    connection
        .prepare_cached(
            "INSERT INTO activity
                 (at, kind, actor, asked_for, mapping_id, node_id, revision, detail, count, once, in_group)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            line.at_ms,
            i32::from(line.kind),
            cut(&line.actor),
            line.is_asked_for,
            cut(&line.mapping_id),
            cut(&line.node_id),
            line.revision,
            cut(detail),
            count,
            once,
            in_group
        ])
        .map_err(refused)?;
    Ok(())
}
