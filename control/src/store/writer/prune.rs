//! What is forgotten for its age.

use rusqlite::{Connection, params};

use super::super::records::{Prune, Pruned};
use super::{StoreError, json, usage};

pub(super) fn revisions(connection: &Connection, keep: u32) -> Result<usize, StoreError> {
    Ok(connection.execute(
        "DELETE FROM revisions WHERE revision <= (SELECT max(revision) FROM revisions) - max(?, 1)",
        [keep],
    )?)
}

pub(super) fn nodes_and_feeds(connection: &Connection, prune: &Prune) -> Result<Pruned, StoreError> {
    let (connected, feeds) = (json(&prune.connected)?, json(&prune.feeds)?);
    let nodes = connection.execute(
        "DELETE FROM nodes WHERE last_seen_at < ?1 AND node_id NOT IN (SELECT value FROM json_each(?2))",
        params![prune.before_ms, connected],
    )?;
    // A feed's row may be old because nothing happened in its container. It goes only with its node.
    let feeds = connection.execute(
        "DELETE FROM progress WHERE feed IN (SELECT value FROM json_each(?3)) AND updated_at < ?1
             AND node_id NOT IN (SELECT node_id FROM nodes)
             AND node_id NOT IN (SELECT value FROM json_each(?2))",
        params![prune.before_ms, connected, feeds],
    )?;
    connection.execute(
        "INSERT INTO counters (name, value) VALUES ('house_clock', ?1)
         ON CONFLICT DO UPDATE SET value = ?1",
        [prune.clock_ms],
    )?;
    usage::prune(connection, prune.before_ms)?;
    Ok(Pruned { nodes, feeds })
}
