//! Questions to the database. Each runs on a connection of its own in a thread that may block; the write-ahead log lets it
//! read while the writer writes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use swift_s3_proto::v1::{Activity, FailureCount, FeedKey, FeedProgress, RemoteUsage};
use tokio::sync::Semaphore;

use super::activity::{self, ActivityFilter};
use super::cursors::{self, CursorFilter, CursorPage, CursorPosition};
use super::parked::{self, FailureFilter, FailurePage, FailurePosition};
use super::records::{KnownFeed, NodeRecord, RevisionRecord, StaleFeed, StoredSwitch};
use super::{StoreError, schema, usage};

/// Questions at a time; more wait for their turn.
const CONNECTIONS: usize = 8;

/// Asks the database. Clones share connections.
#[derive(Clone, Debug)]
pub struct Reader {
    path: Arc<Path>,
    /// `None` once the store is closing: then connections are closed after their question.
    idle: Arc<Mutex<Option<Vec<Connection>>>>,
    /// Each connection takes file descriptors and memory, however many ask.
    room: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: Arc::from(path),
            idle: Arc::new(Mutex::new(Some(Vec::new()))),
            room: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Where the database is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Closes connections, those in use after their question: the last connection leaves a single file behind.
    pub(super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.clone();
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(|_| StoreError::Stopping)?;
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut idle = reader.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = idle.as_mut().and_then(Vec::pop);
            drop(idle);
            let connection = match kept {
                Some(connection) => connection,
                None => open(&reader.path)?,
            };
            let answer = question(&connection)?;
            let mut idle = reader.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(idle) = idle.as_mut() {
                idle.push(connection);
            }
            Ok(answer)
        });
        asked.await.map_err(|error| StoreError::Failed(error.to_string()))?
    }

    /// One revision and its document, with secrets; 0: the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revision(&self, revision: i64) -> Result<Option<(RevisionRecord, String)>, StoreError> {
        self.ask(move |connection| {
            let found = connection
                .query_row(
                    "SELECT revision, applied_at, author, comment, mappings, rolled_back_to, document FROM revisions
                     WHERE revision = ?1 OR ?1 = 0 ORDER BY revision DESC LIMIT 1",
                    [revision],
                    |row| Ok((revision_record(row)?, row.get(6)?)),
                )
                .optional()?;
            Ok(found)
        })
        .await
    }

    /// Revisions below `before`, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revisions(&self, before: i64, limit: usize) -> Result<Vec<RevisionRecord>, StoreError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT revision, applied_at, author, comment, mappings, rolled_back_to FROM revisions
                 WHERE revision < ? ORDER BY revision DESC LIMIT ?",
            )?;
            let rows = statement.query_map(params![before, as_limit(limit)], revision_record)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// All switches, by mapping.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn switches(&self) -> Result<Vec<StoredSwitch>, StoreError> {
        self.ask(switches).await
    }

    /// What time it was by the clock that counts ages, when something was last forgotten for its age.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn house_clock(&self) -> Result<Option<i64>, StoreError> {
        self.ask(|connection| {
            let clock = "SELECT value FROM counters WHERE name = 'house_clock'";
            Ok(connection.query_row(clock, [], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Feeds not reported since `before_ms`, whose nodes are not connected, and not heard of since either.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stale_feeds(
        &self,
        before_ms: i64,
        connected: Vec<String>,
    ) -> Result<Vec<StaleFeed>, StoreError> {
        self.ask(move |connection| {
            let connected = super::writer::json(&connected)?;
            let mut statement = connection.prepare_cached(
                "SELECT feed, mapping_identity, database_id FROM progress WHERE updated_at < ?1
                     AND node_id NOT IN (SELECT node_id FROM nodes WHERE last_seen_at >= ?1)
                     AND node_id NOT IN (SELECT value FROM json_each(?2))",
            )?;
            let rows = statement.query_map(params![before_ms, connected], |row| {
                Ok(StaleFeed { feed: row.get(0)?, mapping_identity: row.get(1)?, database_id: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// All nodes, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT node_id, role, version, host, addresses, capabilities, revision, last_seen_at, is_lost
                 FROM nodes ORDER BY node_id",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(NodeRecord {
                    node_id: row.get(0)?,
                    role: row.get(1)?,
                    version: row.get(2)?,
                    host: row.get(3)?,
                    addresses: from_json(row, 4)?,
                    capabilities: from_json(row, 5)?,
                    revision: row.get(6)?,
                    last_seen_at_ms: row.get(7)?,
                    is_lost: row.get(8)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Every feed that progress is known of and whose node is remembered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known_feeds(&self) -> Result<Vec<KnownFeed>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT mapping_identity, database_id, mapping_id, account, container, node_id, replicas, nodes
                 FROM progress WHERE node_id IN (SELECT node_id FROM nodes)",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(KnownFeed {
                    mapping_identity: row.get(0)?,
                    database_id: row.get(1)?,
                    mapping_id: row.get(2)?,
                    account: row.get(3)?,
                    container: row.get(4)?,
                    node_id: row.get(5)?,
                    replicas: from_json(row, 6)?,
                    nodes: row.get(7)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// What is remembered of feeds, parked rows included.
    ///
    /// # Errors
    /// When the database fails, or all of it is larger than `max_bytes`.
    pub async fn progress(
        &self,
        keys: Vec<FeedKey>,
        max_bytes: usize,
    ) -> Result<Vec<FeedProgress>, StoreError> {
        self.ask(move |connection| {
            // One snapshot for all: cursors and parked rows belong together.
            let transaction = connection.unchecked_transaction()?;
            let mut feeds = Vec::new();
            let mut bytes = 0;
            for key in keys {
                let Some(feed) = one_feed(&transaction, key)? else { continue };
                bytes += prost::Message::encoded_len(&feed) + 8;
                if bytes > max_bytes {
                    return Err(StoreError::Refused(format!(
                        "the progress of these feeds exceeds the {max_bytes} bytes of one answer; ask for fewer at a time"
                    )));
                }
                feeds.push(feed);
            }
            Ok(feeds)
        })
        .await
    }

    /// A page of rows set aside.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn failures(
        &self,
        filter: FailureFilter,
        after: Option<FailurePosition>,
        limit: usize,
    ) -> Result<FailurePage, StoreError> {
        self.ask(move |connection| parked::page(connection, &filter, after.as_ref(), limit)).await
    }

    /// How many rows match, and the nodes that have them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_failures(&self, filter: FailureFilter) -> Result<(u64, Vec<String>), StoreError> {
        self.ask(move |connection| parked::count(connection, &filter)).await
    }

    /// Rows set aside after failures by their class, the most frequent first. Empty names match everything. Looks at each row
    /// that matches: about a second for a million.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn failure_reasons(
        &self,
        mapping_id: &str,
        account: &str,
        container: &str,
    ) -> Result<Vec<FailureCount>, StoreError> {
        let (mapping_id, account, container) =
            (mapping_id.to_owned(), account.to_owned(), container.to_owned());
        self.ask(move |connection| parked::reasons(connection, &mapping_id, &account, &container)).await
    }

    /// The same of everything, by mapping.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn failure_reasons_by_mapping(&self) -> Result<Vec<(String, FailureCount)>, StoreError> {
        self.ask(parked::reasons_by_mapping).await
    }

    /// A page of cursors.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cursors(
        &self,
        filter: CursorFilter,
        after: Option<CursorPosition>,
        limit: usize,
    ) -> Result<CursorPage, StoreError> {
        self.ask(move |connection| cursors::page(connection, &filter, after.as_ref(), limit)).await
    }

    /// Lines of activity below the number `before`, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn activity(
        &self,
        filter: ActivityFilter,
        before: i64,
        limit: usize,
    ) -> Result<Vec<Activity>, StoreError> {
        self.ask(move |connection| activity::page(connection, &filter, before, limit)).await
    }

    /// What was asked of remotes in a month such as `2026-11`, by mapping.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage(&self, month: String) -> Result<HashMap<String, RemoteUsage>, StoreError> {
        self.ask(move |connection| usage::of_month(connection, &month)).await
    }

    /// Rows set aside after failures, by mapping, account and container.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn failure_totals(&self) -> Result<HashMap<(String, String, String), u64>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT mapping_id, account, container, sum(failures) FROM progress
                 WHERE failures > 0 GROUP BY mapping_id, account, container",
            )?;
            let rows = statement
                .query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get::<_, u64>(3)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    // Opened for writing, because a reader must be able to create the log's index; the pragma keeps it from writing rows.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(schema::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", "on")?;
    Ok(connection)
}

pub(super) fn switches(connection: &Connection) -> Result<Vec<StoredSwitch>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT mapping_id, paused, released_at FROM switches ORDER BY mapping_id")?;
    let rows = statement.query_map([], |row| {
        Ok(StoredSwitch { mapping_id: row.get(0)?, is_paused: row.get(1)?, released_at_ms: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn one_feed(connection: &Connection, key: FeedKey) -> Result<Option<FeedProgress>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT feed, mapping_id, account, container, cursors, replicas, nodes, delete_valve
         FROM progress WHERE mapping_identity = ? AND database_id = ?",
    )?;
    let found = statement
        .query_row([&key.mapping_identity, &key.database_id], |row| {
            let feed = FeedProgress {
                key: None,
                mapping_id: row.get(1)?,
                account: row.get(2)?,
                container: row.get(3)?,
                cursors: from_json(row, 4)?,
                replicas: from_json(row, 5)?,
                nodes: row.get(6)?,
                delete_valve: row.get(7)?,
                is_complete: true,
                ..FeedProgress::default()
            };
            Ok((row.get::<_, i64>(0)?, feed))
        })
        .optional()?;
    let Some((id, mut feed)) = found else { return Ok(None) };
    feed.key = Some(key);
    feed.parked = parked::of_feed(connection, id)?;
    Ok(Some(feed))
}

fn revision_record(row: &rusqlite::Row<'_>) -> rusqlite::Result<RevisionRecord> {
    Ok(RevisionRecord {
        revision: row.get(0)?,
        applied_at_ms: row.get(1)?,
        author: row.get(2)?,
        comment: row.get(3)?,
        mappings: row.get(4)?,
        rolled_back_to: row.get(5)?,
    })
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

pub(super) fn as_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::store::{DataDirectory, Store};

    #[tokio::test]
    async fn many_questions_share_few_connections() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDirectory::lock(folder.path()).unwrap()).unwrap();
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let questions = (0..40).map(|_| {
            let (open, most) = (Arc::clone(&open), Arc::clone(&most));
            store.reader().ask(move |_| {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(10));
                open.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        });
        assert!(futures_util::future::join_all(questions).await.into_iter().all(|answer| answer.is_ok()));
        assert!(most.load(Ordering::SeqCst) <= CONNECTIONS, "{most:?} at a time");
        store.close().await;
    }
}
