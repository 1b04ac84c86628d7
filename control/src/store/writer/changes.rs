//! Revisions, switches, nodes, counters.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::reader;
use super::super::records::{NewRevision, NodeRecord, RevisionRecord, SwitchChange, Switched};
use super::{StoreError, json};

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
    Ok(record)
}

pub(super) fn switch(
    connection: &Connection,
    mapping_id: &str,
    change: SwitchChange,
    by: &str,
) -> Result<Switched, StoreError> {
    let changed = change_switch(connection, mapping_id, change, by)?;
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
             (node_id, role, version, host, addresses, capabilities, revision, last_seen_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
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
            node.last_seen_at_ms
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
