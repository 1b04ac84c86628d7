//! The state in etcd: every change is there before it counts.
//!
//! The database in the data directory is then a working copy of the one process that leads. The writer hands each of its
//! transactions to [`Mirror::store`] before it commits; the next leader reads what is there with [`load`].
//!
//! | module | job |
//! |---|---|
//! | `keys` | where things are |
//! | `tables` | rows as bytes; which rows a transaction changed |
//! | `plan` | changes as etcd transactions, in an order that may be cut short anywhere |
//! | `sequence` | writes that happen in one order, and only while this process leads |
//! | `load` | from etcd into a database |
//! | `digest` | what tells two copies apart |
//! | `meta` | the form of the state; states that are written as a whole |

use std::collections::BTreeSet;

use rusqlite::Connection;
use swift_s3_etcd::Term;
use tokio::runtime::Handle;

use super::StoreError;

mod digest;
mod keys;
mod load;
mod meta;
mod plan;
mod sequence;
mod tables;

pub use digest::{TableDigest, digests};
pub use keys::{Keys, State};
pub use load::{LoadError, Loaded, load};
pub use meta::{
    Meta, MetaError, SCHEMA, StateError, read_meta, remove_other_states, states, switch_to, write_state,
};
pub use plan::{Change, Operation};
pub use sequence::{Sequence, WriteError};
pub use tables::{RowKey, TABLES, Table, read_page};

/// Puts what a transaction of the writer changed into etcd.
#[derive(Debug)]
pub struct Mirror {
    runtime: Handle,
    sequence: Sequence,
    state: State,
    term: Term,
    /// Rows that may be different in etcd, because a write of theirs failed halfway. The next write makes them the same again.
    doubt: BTreeSet<RowKey>,
}

impl Mirror {
    /// Writes to `state` as long as `term` lasts.
    #[must_use]
    pub fn new(runtime: Handle, sequence: Sequence, state: State, term: Term) -> Self {
        Self { runtime, sequence, state, term, doubt: BTreeSet::new() }
    }

    /// Begins to note what changes on this connection.
    pub(super) fn watch(connection: &Connection) -> rusqlite::Result<()> {
        tables::watch(connection)
    }

    /// Puts the rows that the open transaction of `connection` changed into etcd. [`Mirror::ended`] must be told how that
    /// transaction went then.
    ///
    /// # Errors
    /// When they are not there, or it is not known; the transaction must be rolled back.
    pub(super) fn store(&mut self, connection: &Connection) -> Result<Vec<RowKey>, StoreError> {
        let mut keys = BTreeSet::from_iter(tables::take_changed(connection)?);
        if keys.is_empty() && self.doubt.is_empty() {
            return Ok(Vec::new());
        }
        keys.extend(self.doubt.iter().cloned());
        let changes = keys
            .iter()
            .map(|key| Ok(Change { key: key.clone(), value: tables::read(connection, key)? }))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let keys: Vec<RowKey> = keys.into_iter().collect();
        let mut is_begun = false;
        for transaction in plan::plan(&self.state, changes) {
            if let Err(error) = self.write(transaction) {
                let unclear = match &error {
                    WriteError::Unknown(_) => true,
                    WriteError::NotOurs { unclear } => *unclear,
                    WriteError::Failed(_) => false,
                };
                if is_begun || unclear {
                    self.doubt.extend(keys);
                    return Err(StoreError::Unclear(error.to_string()));
                }
                return Err(match error {
                    WriteError::NotOurs { .. } => StoreError::Deposed,
                    error => StoreError::Etcd(error.to_string()),
                });
            }
            is_begun = true;
        }
        Ok(keys)
    }

    /// Tells whether the transaction whose rows are in etcd was committed here too.
    pub(super) fn ended(&mut self, keys: Vec<RowKey>, is_committed: bool) {
        if is_committed {
            self.doubt.clear();
        } else {
            self.doubt.extend(keys);
        }
    }

    fn write(&mut self, transaction: Vec<Operation>) -> Result<(), WriteError> {
        if !self.term.is_valid() {
            return Err(WriteError::NotOurs { unclear: false });
        }
        let written = self.runtime.block_on(self.sequence.write(transaction));
        if let Err(WriteError::NotOurs { .. }) = written {
            self.term.end();
        }
        written
    }
}
