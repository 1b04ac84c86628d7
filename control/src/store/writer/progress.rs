//! Reports of workers: cursors and parked rows.

use rusqlite::{Connection, OptionalExtension, params};
use swift_s3_proto::v1::{FeedKey, FeedProgress, ParkedRow};

use super::{StoreError, json, refused};

/// Rows set aside per feed. Workers keep half as many; more is a fault, and must not fill the disk.
pub const MAX_PARKED_PER_FEED: usize = 10_000;
/// Object names of Swift have 1,024 bytes unless its operator allows more.
const MAX_NAME_BYTES: usize = 4_096;
/// Identities, ids, accounts, reasons and the like.
pub(super) const MAX_WORD_BYTES: usize = 1_024;
/// Explanations are cut rather than refused.
const MAX_MESSAGE_BYTES: usize = 1_000;
/// The delete limit's state is a few numbers.
const MAX_VALVE_BYTES: usize = 64 * 1024;
/// Lanes of a feed, and replicas of a container.
const MAX_LANES: usize = 64;

/// Stores one report.
pub(super) fn save(
    connection: &Connection,
    node_id: &str,
    feeds: &[FeedProgress],
    now_ms: i64,
) -> Result<(), StoreError> {
    for feed in feeds {
        let key = check(feed)?;
        if feed.is_complete && feed.cursors.is_empty() && feed.parked.is_empty() {
            forget(connection, key)?;
            continue;
        }
        let id = match feed.is_complete {
            true => save_all(connection, node_id, key, feed, now_ms)?,
            false => save_change(connection, node_id, key, feed, now_ms)?,
        };
        if feed.is_complete || !feed.parked.is_empty() || !feed.unparked.is_empty() {
            let parked = save_parked(connection, id, feed).map_err(refused)?;
            if parked > MAX_PARKED_PER_FEED {
                return Err(StoreError::Refused(format!(
                    "{}/{}: {parked} rows set aside in one database; at most {MAX_PARKED_PER_FEED} are kept",
                    feed.account, feed.container
                )));
            }
        }
    }
    Ok(())
}

/// No mapping asks for the feed any more: what failed in it fails no more.
fn forget(connection: &Connection, key: &FeedKey) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("DELETE FROM progress WHERE mapping_identity = ? AND database_id = ?")?;
    statement.execute(params![key.mapping_identity, key.database_id]).map_err(refused)?;
    Ok(())
}

/// A change of what is known. Alone it would pass for all there is, and hide the rest.
fn save_change(
    connection: &Connection,
    node_id: &str,
    key: &FeedKey,
    feed: &FeedProgress,
    now_ms: i64,
) -> Result<i64, StoreError> {
    // Indexes are about these columns, and are left alone where they stay the same: almost always.
    let same = "UPDATE progress SET cursors = ?7, replicas = ?8, nodes = ?9, delete_valve = ?10, updated_at = ?11
         WHERE mapping_identity = ?1 AND database_id = ?2 AND mapping_id = ?3 AND account = ?4 AND container = ?5
             AND node_id = ?6 RETURNING feed";
    if let Some(id) = write_feed(connection, same, node_id, key, feed, now_ms)? {
        return Ok(id);
    }
    let sql = "UPDATE progress SET mapping_id = ?3, account = ?4, container = ?5, node_id = ?6, cursors = ?7,
             replicas = ?8, nodes = ?9, delete_valve = ?10, updated_at = ?11
         WHERE mapping_identity = ?1 AND database_id = ?2 RETURNING feed";
    write_feed(connection, sql, node_id, key, feed, now_ms)?.ok_or_else(|| StoreError::Unknown {
        account: feed.account.clone(),
        container: feed.container.clone(),
        database_id: key.database_id.clone(),
    })
}

fn save_all(
    connection: &Connection,
    node_id: &str,
    key: &FeedKey,
    feed: &FeedProgress,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let sql = "INSERT INTO progress (mapping_identity, database_id, mapping_id, account, container, node_id,
             cursors, replicas, nodes, delete_valve, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (mapping_identity, database_id) DO UPDATE SET
             mapping_id = excluded.mapping_id, account = excluded.account, container = excluded.container,
             node_id = excluded.node_id, cursors = excluded.cursors, replicas = excluded.replicas,
             nodes = excluded.nodes, delete_valve = excluded.delete_valve, updated_at = excluded.updated_at
         RETURNING feed";
    let saved = write_feed(connection, sql, node_id, key, feed, now_ms)?;
    saved.ok_or_else(|| refused(rusqlite::Error::QueryReturnedNoRows))
}

/// Runs a statement whose eleven parameters are the columns in the order of the table; answers the feed's number if a row was written.
fn write_feed(
    connection: &Connection,
    sql: &str,
    node_id: &str,
    key: &FeedKey,
    feed: &FeedProgress,
    now_ms: i64,
) -> Result<Option<i64>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let saved = statement.query_row(
        params![
            key.mapping_identity,
            key.database_id,
            feed.mapping_id,
            feed.account,
            feed.container,
            node_id,
            json(&feed.cursors)?,
            json(&feed.replicas)?,
            feed.nodes,
            feed.delete_valve,
            now_ms
        ],
        |row| row.get(0),
    );
    saved.optional().map_err(refused)
}

/// How many rows of the feed are set aside then.
fn save_parked(connection: &Connection, feed_id: i64, feed: &FeedProgress) -> rusqlite::Result<usize> {
    if feed.is_complete {
        connection.prepare_cached("DELETE FROM parked WHERE feed = ?")?.execute([feed_id])?;
    } else {
        let mut remove = connection.prepare_cached("DELETE FROM parked WHERE feed = ? AND object = ?")?;
        for object in &feed.unparked {
            remove.execute(params![feed_id, object])?;
        }
    }
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO parked (feed, object, account, container, row, share, deleted, timestamp,
             reason, message, attempts, next_try)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for row in &feed.parked {
        insert.execute(params![
            feed_id,
            row.object,
            feed.account,
            feed.container,
            row.rowid,
            row.share,
            row.deleted,
            row.timestamp,
            row.reason,
            cut(&row.message),
            row.attempts,
            i64::try_from(row.next_try).unwrap_or(i64::MAX)
        ])?;
    }
    connection
        .prepare_cached(
            "UPDATE progress SET failures = (SELECT count(*) FROM parked WHERE feed = ?1 AND attempts > 0)
             WHERE feed = ?1",
        )?
        .execute([feed_id])?;
    connection
        .prepare_cached("SELECT count(*) FROM parked WHERE feed = ?")?
        .query_row([feed_id], |row| row.get(0))
}

fn check(feed: &FeedProgress) -> Result<&FeedKey, StoreError> {
    let refused = |what: &str, found: usize, most: usize| {
        Err(StoreError::Refused(format!(
            "{what} has {found} bytes or entries, at most {most} are taken: feed of {}/{}",
            cut(&feed.account),
            cut(&feed.container)
        )))
    };
    let Some(key) = &feed.key else {
        return Err(StoreError::Refused("a feed without a key".to_owned()));
    };
    if key.mapping_identity.is_empty() || key.database_id.is_empty() {
        return Err(StoreError::Refused("a feed with an empty key".to_owned()));
    }
    let words = [
        ("mapping_identity", &key.mapping_identity),
        ("database_id", &key.database_id),
        ("mapping_id", &feed.mapping_id),
        ("account", &feed.account),
        ("container", &feed.container),
    ];
    for (what, word) in words {
        if word.len() > MAX_WORD_BYTES {
            return refused(what, word.len(), MAX_WORD_BYTES);
        }
    }
    let lists = [
        ("cursors", feed.cursors.len(), MAX_LANES),
        ("replicas", feed.replicas.len(), MAX_LANES),
        ("delete_valve", feed.delete_valve.len(), MAX_VALVE_BYTES),
        ("parked", feed.parked.len(), MAX_PARKED_PER_FEED),
        ("unparked", feed.unparked.len(), 4 * MAX_PARKED_PER_FEED),
    ];
    for (what, found, most) in lists {
        if found > most {
            return refused(what, found, most);
        }
    }
    for lane in feed.cursors.keys() {
        if lane.len() > MAX_WORD_BYTES {
            return refused("cursors", lane.len(), MAX_WORD_BYTES);
        }
    }
    for row in &feed.parked {
        if let Err((what, found, most)) = check_row(row) {
            return refused(what, found, most);
        }
    }
    Ok(key)
}

fn check_row(row: &ParkedRow) -> Result<(), (&'static str, usize, usize)> {
    if row.object.len() > MAX_NAME_BYTES {
        return Err(("an object's name", row.object.len(), MAX_NAME_BYTES));
    }
    for (what, word) in [("share", &row.share), ("timestamp", &row.timestamp), ("reason", &row.reason)] {
        if word.len() > MAX_WORD_BYTES {
            return Err((what, word.len(), MAX_WORD_BYTES));
        }
    }
    Ok(())
}

/// At most [`MAX_MESSAGE_BYTES`], whole characters.
pub(in crate::store) fn cut(message: &str) -> &str {
    let mut end = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.get(..end).unwrap_or_default()
}
