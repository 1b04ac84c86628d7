//! Digests of tables, to compare two copies of a state row by row. They do not depend on the order of rows.

use rusqlite::Connection;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::super::StoreError;
use super::keys::Keys;
use super::tables::{self, RowKey, TABLES};

/// Rows that are held in memory at a time.
const ROWS_AT_ONCE: usize = 500;
/// Counted anew when a state is read, so that it may differ between two copies.
const COUNTED: &str = "failures";

/// How many rows a table has, and what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableDigest {
    /// How many.
    pub rows: u64,
    /// The digests of all rows, one upon the other. A row has its key in its digest, so that no two take each other out.
    sum: [u8; 32],
}

impl TableDigest {
    /// In hexadecimal digits.
    #[must_use]
    pub fn shown(&self) -> String {
        hex::encode(self.sum)
    }

    pub(super) fn add(&mut self, key: &RowKey, value: &[u8]) {
        self.rows = self.rows.saturating_add(1);
        self.change(key, value);
    }

    pub(super) fn remove(&mut self, key: &RowKey, value: &[u8]) {
        self.rows = self.rows.saturating_sub(1);
        self.change(key, value);
    }

    fn change(&mut self, key: &RowKey, value: &[u8]) {
        let mut digest = Sha256::new();
        digest.update(Keys::new("").state(0).row(key));
        digest.update([0]);
        // Whoever wrote it may have had its columns in another order.
        match serde_json::from_slice::<Map<String, Value>>(value) {
            Ok(object) => {
                let mut columns: Vec<_> = object.into_iter().filter(|(name, _)| name != COUNTED).collect();
                columns.sort_by(|(a, _), (b, _)| a.cmp(b));
                for (name, value) in columns {
                    digest.update(name);
                    digest.update([0]);
                    digest.update(value.to_string());
                    digest.update([0]);
                }
            }
            Err(_) => digest.update(value),
        }
        for (sum, byte) in self.sum.iter_mut().zip(digest.finalize()) {
            *sum ^= byte;
        }
    }
}

/// The digests of all tables of a database, in the order of [`TABLES`].
///
/// # Errors
/// When the database fails.
pub fn digests(connection: &Connection) -> Result<[TableDigest; TABLES.len()], StoreError> {
    let mut digests = [TableDigest::default(); TABLES.len()];
    for (index, digest) in digests.iter_mut().enumerate() {
        let mut after = None;
        loop {
            let page = tables::read_page(connection, index, after.as_ref(), ROWS_AT_ONCE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in &page {
                digest.add(key, value);
            }
        }
    }
    Ok(digests)
}
