//! Revisions, switches, nodes, counters.

use rusqlite::{Connection, OptionalExtension, params};

use swift_s3_proto::v1::ActivityKind;

use super::super::activity::Line;
use super::super::reader;
use super::super::records::{NewRevision, NodeRecord, RevisionRecord, SwitchChange, Switched};
use super::{StoreError, activity, beside, json};
use crate::time;

pub(super) fn apply(connection: &Connection, new: &NewRevision) -> Result<RevisionRecord, StoreError> {
    let current: i64 =
        connection.query_row("SELECT coalesce(max(revision), 0) FROM revisions", [], |row| row.get(0))?;
    if current != new.expected {
        return Err(StoreError::Conflict { current, expected: new.expected });
    }
    let record = RevisionRecord {
        revision: current + 1,
        applied_at_ms: new.applied_at_ms,
        author: new.author.clone(),
        comment: new.comment.clone(),
        mappings: new.mappings,
        rolled_back_to: new.rolled_back_to,
    };
    connection.execute(
        "INSERT INTO revisions (revision, document, applied_at, author, comment, mappings, rolled_back_to)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            record.revision,
            new.document,
            record.applied_at_ms,
            record.author,
            record.comment,
            record.mappings,
            record.rolled_back_to
        ],
    )?;
    beside(connection, "activity", || activity::add(connection, &[applied(&record)]))?;
    Ok(record)
}

fn applied(record: &RevisionRecord) -> Line {
    let (kind, mut detail) = match record.rolled_back_to {
        0 => (ActivityKind::ConfigApplied, format!("{} mappings", record.mappings)),
        older => {
            (ActivityKind::ConfigRolledBack, format!("to revision {older}, {} mappings", record.mappings))
        }
    };
    if !record.comment.is_empty() {
        detail.push_str(": ");
        detail.push_str(&record.comment);
    }
    let line = Line::asked(kind, record.applied_at_ms, &record.author, detail);
    Line { revision: record.revision, ..line }
}

pub(super) fn switch(
    connection: &Connection,
    mapping_id: &str,
    change: SwitchChange,
    by: &str,
    now_ms: i64,
) -> Result<Switched, StoreError> {
    let changed = change_switch(connection, mapping_id, change, by)?;
    if changed {
        let (kind, detail) = match change {
            SwitchChange::Pause { .. } => (ActivityKind::MappingPaused, String::new()),
            SwitchChange::Resume => (ActivityKind::MappingResumed, String::new()),
            SwitchChange::ReleaseDeletes { held_at_ms } => (
                ActivityKind::DeletesReleased,
                format!("those held at {} or before", time::shown(held_at_ms)),
            ),
        };
        let line = Line::asked(kind, now_ms, by, detail);
        let line = Line { mapping_id: mapping_id.to_owned(), ..line };
        beside(connection, "activity", || activity::add(connection, &[line]))?;
    }
    Ok(Switched { changed, switches: reader::switches(connection)? })
}

fn change_switch(
    connection: &Connection,
    mapping_id: &str,
    change: SwitchChange,
    by: &str,
) -> Result<bool, StoreError> {
    let was_paused = connection
        .query_row("SELECT paused FROM switches WHERE mapping_id = ?", [mapping_id], |row| {
            row.get::<_, bool>(0)
        })
        .optional()?
        .unwrap_or(false);
    let (paused, paused_at) = match change {
        SwitchChange::Pause { at_ms } => (true, Some(at_ms)),
        SwitchChange::Resume => (false, None),
        SwitchChange::ReleaseDeletes { held_at_ms } => {
            // What was released stays so, however the clocks of nodes differ.
            connection.execute(
                "INSERT INTO switches (mapping_id, paused, paused_by, released_by, released_at) VALUES (?1, 0, '', ?2, ?3)
                 ON CONFLICT DO UPDATE SET released_by = ?2, released_at = max(coalesce(released_at, ?3), ?3)",
                params![mapping_id, by, held_at_ms],
            )?;
            return Ok(true);
        }
    };
    if was_paused == paused {
        return Ok(false);
    }
    connection.execute(
        "INSERT INTO switches (mapping_id, paused, paused_by, paused_at, released_by) VALUES (?1, ?2, ?3, ?4, '')
         ON CONFLICT DO UPDATE SET paused = ?2, paused_by = ?3, paused_at = ?4",
        params![mapping_id, paused, by, paused_at],
    )?;
    Ok(true)
}

pub(super) fn save_nodes(connection: &Connection, nodes: &[NodeRecord]) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO nodes
             (node_id, role, version, host, addresses, capabilities, revision, last_seen_at, is_lost)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for node in nodes {
        statement.execute(params![
            node.node_id,
            node.role,
            node.version,
            node.host,
            json(&node.addresses)?,
            json(&node.capabilities)?,
            node.revision,
            node.last_seen_at_ms,
            node.is_lost
        ])?;
    }
    Ok(())
}

pub(super) fn next_epoch(connection: &Connection, least: u32) -> Result<u32, StoreError> {
    Ok(connection.query_row(
        "INSERT INTO counters (name, value) VALUES ('epoch', max(?1, 1))
         ON CONFLICT DO UPDATE SET value = max(value + 1, ?1) RETURNING value",
        [least],
        |row| row.get(0),
    )?)
}
