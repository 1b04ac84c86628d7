//! The form of the state, and states that are written as a whole.
//!
//! A state has a number. The key `meta` names the one in use, so that another one can be written beside it, looked at, and put
//! in its place by a single write.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use swift_s3_etcd::{Entry, Etcd, EtcdError};

use super::super::StoreError;
use super::keys::{Keys, State};
use super::plan::{self, Change, Operation};
use super::sequence::{Sequence, WriteError};
use super::tables::{self, TABLES};

/// The version of the tables that this program writes.
pub const SCHEMA: usize = super::super::schema::MIGRATIONS.len();
/// Tells our state from that of others.
const APPLICATION: &str = "swift-s3-control";
/// Rows that are held in memory while a state is written.
const ROWS_AT_ONCE: usize = 500;
/// Keys of states that are listed to be removed.
const MAX_OPERATIONS: usize = 100;

/// What is known of the state in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Who writes it.
    pub application: String,
    /// The version of its tables.
    pub schema: usize,
    /// The number of the state in use.
    pub state: u64,
}

impl Meta {
    /// Of a state that this program writes.
    #[must_use]
    pub fn of(state: u64) -> Self {
        Self { application: APPLICATION.to_owned(), schema: SCHEMA, state }
    }
}

/// Why the state is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// etcd.
    #[error("{0}")]
    Etcd(#[from] EtcdError),
    /// Not ours.
    #[error("{key} in etcd was not written by swift-s3-control: {found}; choose another --etcd-prefix")]
    Foreign {
        /// Where.
        key: String,
        /// What it says.
        found: String,
    },
    /// Written by a newer program.
    #[error(
        "the state in etcd has schema version {found}, this program knows up to {SCHEMA}; upgrade swift-s3-control, or restore \
         a backup of etcd that was made before the upgrade"
    )]
    Newer {
        /// Its version.
        found: usize,
    },
}

/// What is known of the state in use; `None` if there is none. With the revision at which `meta` was written.
///
/// # Errors
/// When etcd does not answer, or the state is not of this program in a version it knows.
pub async fn read_meta(etcd: &Etcd, keys: &Keys) -> Result<Option<(Meta, i64)>, MetaError> {
    etcd.get(&keys.meta()).await?.map(|entry| understand(&entry)).transpose()
}

fn understand(entry: &Entry) -> Result<(Meta, i64), MetaError> {
    let foreign = |found: String| MetaError::Foreign { key: entry.key.clone(), found };
    let meta: Meta = serde_json::from_slice(&entry.value).map_err(|error| foreign(error.to_string()))?;
    if meta.application != APPLICATION || meta.schema == 0 {
        return Err(foreign(format!("application {:?}, schema {}", meta.application, meta.schema)));
    }
    if meta.schema > SCHEMA {
        return Err(MetaError::Newer { found: meta.schema });
    }
    Ok((meta, entry.modified))
}

/// Why a state was not written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// etcd.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// The database that is read.
    #[error("{0}")]
    Database(#[from] StoreError),
}

/// Writes every row of the database to a state that is not in use. `progress` is told how many more are there.
///
/// # Errors
/// When etcd or the database fails; the state is then not whole.
pub async fn write_state(
    sequence: &mut Sequence,
    state: &State,
    connection: &mut Connection,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), StateError> {
    for index in 0..TABLES.len() {
        let mut after = None;
        loop {
            let page = tables::read_page(connection, index, after.as_ref(), ROWS_AT_ONCE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let count = u64::try_from(page.len()).unwrap_or(0);
            let changes = page.into_iter().map(|(key, value)| Change { key, value: Some(value) }).collect();
            for transaction in plan::plan(state, changes) {
                sequence.write(transaction).await?;
            }
            progress(count);
        }
    }
    Ok(())
}

/// Puts a state in use.
///
/// # Errors
/// When etcd does not take it; the state of before is in use then, unless the outcome is unknown.
pub async fn switch_to(sequence: &mut Sequence, keys: &Keys, meta: &Meta) -> Result<(), WriteError> {
    let value = serde_json::to_vec(meta).unwrap_or_default();
    sequence.write(vec![Operation::Put(keys.meta(), value)]).await
}

/// Removes all states but this one: those that were in use before, and those that were never whole.
///
/// # Errors
/// When etcd fails; some of them may be left.
pub async fn remove_other_states(
    etcd: &Etcd,
    sequence: &mut Sequence,
    keys: &Keys,
    keep: u64,
) -> Result<(), WriteError> {
    let kept = keys.state(keep);
    let others = states(etcd, keys).await.map_err(WriteError::Failed)?;
    let others = others.into_iter().filter(|root| root != kept.root()).take(MAX_OPERATIONS);
    let removals: Vec<Operation> = others.map(Operation::DeletePrefix).collect();
    match removals.is_empty() {
        true => Ok(()),
        false => sequence.write(removals).await,
    }
}

/// What the keys of each state begin with, also of those that were never whole. Skips from one state to the next, so that it
/// costs one request each.
///
/// # Errors
/// When etcd does not answer.
pub async fn states(etcd: &Etcd, keys: &Keys) -> Result<Vec<String>, EtcdError> {
    use swift_s3_etcd::etcd_client::GetOptions;
    let all = keys.states();
    let end = |prefix: &str| {
        let mut end = prefix.trim_end_matches('/').to_owned();
        end.push(char::from(b'/' + 1));
        end
    };
    let (mut from, last) = (all.clone(), end(&all));
    let mut found = Vec::new();
    loop {
        let (start, last) = (from.clone(), last.clone());
        let limit = std::time::Duration::from_secs(2);
        let answer = etcd
            .call("listing states", swift_s3_etcd::Repeat::Freely, limit, move |mut client| {
                let options = GetOptions::new().with_range(last.clone()).with_limit(1).with_keys_only();
                let start = start.clone();
                async move { client.get(start, Some(options)).await }
            })
            .await?;
        let Some(pair) = answer.kvs().first() else { return Ok(found) };
        let key = String::from_utf8_lossy(pair.key()).into_owned();
        let number = key.strip_prefix(all.as_str()).and_then(|rest| rest.split_once('/'));
        let Some((number, _)) = number else { return Ok(found) };
        let root = format!("{all}{number}/");
        from = end(&root);
        found.push(root);
        if found.len() > MAX_OPERATIONS {
            return Ok(found);
        }
    }
}
