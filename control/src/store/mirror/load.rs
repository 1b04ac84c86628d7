//! The state as it is in etcd at one revision, put into a database.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use swift_s3_etcd::etcd_client::{GetOptions, GetResponse, KeyValue, SortOrder, SortTarget};
use swift_s3_etcd::{Etcd, EtcdError, Repeat};
use tokio::runtime::Handle;

use super::digest::TableDigest;
use super::keys::State;
use super::plan::{self, Operation, Parts};
use super::tables::{self, Column, Insertion, KeyPart, RowKey, TABLES};

/// A page is to come within this time.
const PAGE_LIMIT: Duration = Duration::from_secs(10);
/// Pages are made so large that they have about so many bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Keys of the first page, and the most of any.
const FIRST_PAGE: i64 = 64;
const LARGEST_PAGE: i64 = 5_000;
/// The largest answer that is taken: pages grow by a factor of two at most.
const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;
/// We write no larger values; etcd takes none by default.
const MAX_VALUE_BYTES: usize = 1536 * 1024;
/// A row in parts is not larger than a configuration can be, with what JSON adds.
const MAX_ROW_BYTES: usize = 256 * 1024 * 1024;

/// Why a state cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// etcd.
    #[error("{0}")]
    Etcd(#[from] EtcdError),
    /// A value that was not written by this program, or was changed since.
    #[error("{key} in etcd is damaged: {problem}; restore a backup of etcd, or repair or remove this key")]
    Damaged {
        /// Where.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database.
    #[error("the database failed: {0}")]
    Database(String),
}

impl From<rusqlite::Error> for LoadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// How many rows there are, and what they are, in the order of [`TABLES`].
    pub digests: [TableDigest; TABLES.len()],
    /// Removes what means nothing, because a write of many rows was cut short.
    pub leftovers: Vec<Operation>,
    /// When each feed was written last.
    feeds: HashMap<i64, i64>,
    /// The parts that rows name, by the key that they begin with.
    used_parts: HashSet<String>,
}

/// Reads the state as it was at `revision` into an empty database. Blocks; must not run on a thread of the runtime.
///
/// # Errors
/// When etcd or the database fails, or a value is damaged.
pub fn load(
    runtime: &Handle,
    etcd: &Etcd,
    state: &State,
    revision: i64,
    connection: &mut Connection,
    progress: &mut dyn FnMut(u64),
) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded::default();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (index, table) in TABLES.iter().enumerate() {
        let columns = tables::columns(&transaction, table)?;
        let mut pages = Pages::new(state.table(table), revision);
        while let Some(page) = runtime.block_on(pages.next(etcd))? {
            for pair in page.kvs() {
                let row = Row { runtime, etcd, state, revision, table: index, pair };
                row.insert(&transaction, &columns, &mut loaded)?;
            }
            progress(u64::try_from(page.kvs().len()).unwrap_or(0));
        }
    }
    loaded.unused_parts(runtime, etcd, state, revision)?;
    // A feed's count may be of before its rows.
    transaction.execute_batch(
        "UPDATE progress SET failures = n FROM (
             SELECT p.feed AS f, (SELECT count(*) FROM parked k WHERE k.feed = p.feed AND k.attempts > 0) AS n FROM progress p
         ) WHERE feed = f AND failures <> n",
    )?;
    transaction.commit()?;
    Ok(loaded)
}

/// One row as it is in etcd.
struct Row<'a> {
    runtime: &'a Handle,
    etcd: &'a Etcd,
    state: &'a State,
    revision: i64,
    table: usize,
    pair: &'a KeyValue,
}

impl Row<'_> {
    fn insert(
        &self,
        connection: &Connection,
        columns: &[Column],
        loaded: &mut Loaded,
    ) -> Result<(), LoadError> {
        let name = || String::from_utf8_lossy(self.pair.key()).into_owned();
        let damaged = |problem: String| LoadError::Damaged { key: name(), problem };
        let row = self.state.parse(self.table, self.pair.key());
        let row = row.ok_or_else(|| damaged("this is not the name of a row".to_owned()))?;
        check_size(self.pair.value()).map_err(damaged)?;
        let whole = match Parts::parse(self.pair.value()) {
            Some(parts) => {
                loaded.used_parts.insert(parts.root(self.state, &row));
                Some(whole(self.runtime, self.etcd, self.state, &row, &parts, self.revision)?)
            }
            None => None,
        };
        let value = whole.as_deref().unwrap_or(self.pair.value());
        let insert = || tables::insert(connection, &row, columns, value).map_err(damaged);
        let mut insertion = insert()?;
        let mut unknown = TableDigest::default();
        let digest = loaded.digests.get_mut(self.table).unwrap_or(&mut unknown);
        if let Insertion::Twin(other) = insertion {
            // Two feeds with one key: the writer was killed before it removed the older one.
            if loaded.feeds.get(&other).is_some_and(|written| *written > self.pair.mod_revision()) {
                loaded.leftovers.push(Operation::Delete(name()));
                return Ok(());
            }
            let key = RowKey { table: self.table, key: vec![KeyPart::Number(other)] };
            if let Ok(Some(older)) = tables::read(connection, &key) {
                digest.remove(&key, &older);
            }
            connection.execute("DELETE FROM progress WHERE feed = ?", [other])?;
            loaded.leftovers.push(Operation::Delete(self.state.row(&key)));
            insertion = insert()?;
        }
        match (insertion, row.key.first()) {
            (Insertion::Done, Some(KeyPart::Number(feed))) if tables::is_feed(self.table) => {
                loaded.feeds.insert(*feed, self.pair.mod_revision());
                digest.add(&row, value);
            }
            (Insertion::Done, _) => digest.add(&row, value),
            (Insertion::Orphan, _) => loaded.leftovers.push(Operation::Delete(name())),
            (Insertion::Twin(_), _) => return Err(damaged("a feed with the key of two others".to_owned())),
        }
        Ok(())
    }
}

impl Loaded {
    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.digests.iter().map(|digest| digest.rows).sum()
    }

    /// The removals of leftovers, as transactions.
    #[must_use]
    pub fn into_removals(self) -> Vec<Vec<Operation>> {
        plan::pack(self.leftovers.into_iter())
    }

    /// Parts that no row names: their row was not written any more, or is removed already.
    fn unused_parts(
        &mut self,
        runtime: &Handle,
        etcd: &Etcd,
        state: &State,
        revision: i64,
    ) -> Result<(), LoadError> {
        let mut pages = Pages { keys_only: true, ..Pages::new(state.all_parts(), revision) };
        while let Some(page) = runtime.block_on(pages.next(etcd))? {
            for pair in page.kvs() {
                let name = String::from_utf8_lossy(pair.key()).into_owned();
                let root = name.rsplit_once('/').map_or("", |(root, _)| root);
                if !self.used_parts.contains(root) {
                    self.leftovers.push(Operation::Delete(name));
                }
            }
        }
        Ok(())
    }
}

fn check_size(value: &[u8]) -> Result<(), String> {
    match value.len() > MAX_VALUE_BYTES {
        true => Err(format!("{} bytes; at most {MAX_VALUE_BYTES} are written", value.len())),
        false => Ok(()),
    }
}

fn whole(
    runtime: &Handle,
    etcd: &Etcd,
    state: &State,
    row: &RowKey,
    parts: &Parts,
    revision: i64,
) -> Result<Vec<u8>, LoadError> {
    let damaged = |problem: String| LoadError::Damaged { key: state.row(row), problem };
    if parts.bytes > MAX_ROW_BYTES || parts.count > parts.bytes {
        return Err(damaged(format!("{} bytes in {} parts", parts.bytes, parts.count)));
    }
    let mut read = Vec::new();
    for index in 0..parts.count {
        let key = parts.key(state, row, index);
        let found = runtime.block_on(get(etcd, &key, revision))?;
        let value = found.kvs().first().map(|pair| pair.value().to_vec());
        read.push(value.ok_or_else(|| damaged(format!("its part {index} is missing")))?);
    }
    parts.join(read).ok_or_else(|| damaged("its parts do not make up what it was".to_owned()))
}

async fn get(etcd: &Etcd, key: &str, revision: i64) -> Result<GetResponse, EtcdError> {
    etcd.call("reading a part of a row", Repeat::Freely, PAGE_LIMIT, |client| async move {
        let options = GetOptions::new().with_revision(revision);
        client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES).get(key, Some(options)).await
    })
    .await
}

/// Pages of a prefix at one revision.
struct Pages {
    from: Option<Vec<u8>>,
    end: Vec<u8>,
    revision: i64,
    limit: i64,
    keys_only: bool,
}

impl Pages {
    fn new(prefix: String, revision: i64) -> Self {
        // The prefix ends with a slash; behind it comes a zero.
        let mut end = prefix.clone().into_bytes();
        end.pop();
        end.push(b'/' + 1);
        Self { from: Some(prefix.into_bytes()), end, revision, limit: FIRST_PAGE, keys_only: false }
    }

    /// The next page; `None` behind the last.
    async fn next(&mut self, etcd: &Etcd) -> Result<Option<GetResponse>, EtcdError> {
        let Some(from) = self.from.clone() else { return Ok(None) };
        let mut options = GetOptions::new()
            .with_range(self.end.clone())
            .with_limit(self.limit)
            .with_revision(self.revision)
            .with_sort(SortTarget::Key, SortOrder::Ascend);
        if self.keys_only {
            options = options.with_keys_only();
        }
        let page = etcd
            .call("reading the state", Repeat::Freely, PAGE_LIMIT, |client| {
                let (from, options) = (from.clone(), options.clone());
                async move {
                    client
                        .kv_client()
                        .max_decoding_message_size(MAX_ANSWER_BYTES)
                        .get(from, Some(options))
                        .await
                }
            })
            .await?;
        self.from = page.kvs().last().filter(|_| page.more()).map(|last| {
            let mut next = last.key().to_vec();
            next.push(0);
            next
        });
        let bytes: usize =
            page.kvs().iter().map(|pair| pair.key().len().saturating_add(pair.value().len())).sum();
        self.limit = next_limit(self.limit, bytes);
        Ok(Some(page))
    }
}

/// Twice as many when the page was small, half as many when it was large.
fn next_limit(limit: i64, bytes: usize) -> i64 {
    let next = match bytes {
        bytes if bytes > PAGE_BYTES => limit / 2,
        bytes if bytes < PAGE_BYTES / 2 => limit * 2,
        _ => limit,
    };
    next.clamp(1, LARGEST_PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_the_size_of_rows() {
        assert_eq!(next_limit(64, 1_000), 128);
        assert_eq!(next_limit(4_000, 1_000), LARGEST_PAGE);
        assert_eq!(next_limit(64, PAGE_BYTES + 1), 32);
        assert_eq!(next_limit(1, 10 * PAGE_BYTES), 1);
        assert_eq!(next_limit(64, PAGE_BYTES), 64);
    }
}
