//! Which writes to etcd a change of rows takes, and in which order.
//!
//! etcd takes 128 operations and 1.5 MiB in one transaction (`--max-txn-ops`, `--max-request-bytes`, the defaults of 3.4 and
//! later), so that many rows take several. Whoever reads between two of them, because the writer was killed there, must find
//! nothing that is wrong:
//!
//! - A cursor says that every row up to it is done or set aside. So rows set aside are written before the cursor that passed
//!   them, and removed after it. One too many is looked at once more; one too few would be lost.
//! - A feed is removed before its rows. Rows without their feed are dropped when the state is read.
//! - The parts of a large row are written before the row that names them, and removed after it.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::keys::State;
use super::tables::RowKey;

/// Operations in one transaction. etcd takes 128; some are needed besides.
const MAX_OPERATIONS: usize = 100;
/// Bytes of keys and values in one transaction. etcd takes 1.5 MiB, with what is around them.
const MAX_BYTES: usize = 1024 * 1024;
/// A row that is larger is written in parts of this size.
const PART_BYTES: usize = 512 * 1024;

/// A row that changed.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: RowKey,
    /// What it is now; none: it is gone.
    pub value: Option<Vec<u8>>,
}

/// A write. Values hold secrets, and are not shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes a key.
    Put(String, Vec<u8>),
    /// Removes a key.
    Delete(String),
    /// Removes all keys that begin so.
    DeletePrefix(String),
}

impl Operation {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len().saturating_add(value.len()),
            Self::Delete(key) | Self::DeletePrefix(key) => key.len(),
        }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(key, value) => write!(formatter, "put {key} ({} bytes)", value.len()),
            Self::Delete(key) => write!(formatter, "delete {key}"),
            Self::DeletePrefix(key) => write!(formatter, "delete {key}*"),
        }
    }
}

/// Stands for a row that is written in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parts {
    /// How many; they are numbered from 0.
    #[serde(rename = "$parts")]
    pub(super) count: usize,
    /// The size of the whole.
    pub(super) bytes: usize,
    /// Of the whole, in hexadecimal digits. Parts are under it, so that those of another value never mix with them.
    pub(super) sha256: String,
}

impl Parts {
    fn of(value: &[u8]) -> Self {
        Self {
            count: value.len().div_ceil(PART_BYTES),
            bytes: value.len(),
            sha256: hex::encode(Sha256::digest(value)),
        }
    }

    /// What the keys of all parts begin with, without the slash behind it.
    pub(super) fn root(&self, state: &State, row: &RowKey) -> String {
        format!("{}{}", state.parts(row), self.sha256)
    }

    /// The key of a part.
    pub(super) fn key(&self, state: &State, row: &RowKey, index: usize) -> String {
        format!("{}/{index}", self.root(state, row))
    }

    /// What a value stands for, if it stands for parts.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        // No row is so short that it could be taken for one, and has this key.
        value.starts_with(b"{\"$parts\"").then(|| serde_json::from_slice(value).ok()).flatten()
    }

    /// The whole, if these are its parts.
    pub(super) fn join(&self, parts: Vec<Vec<u8>>) -> Option<Vec<u8>> {
        let whole = parts.concat();
        (parts.len() == self.count && *self == Self::of(&whole)).then_some(whole)
    }
}

/// The writes for these changes, as transactions in their order.
#[must_use]
pub(super) fn plan(state: &State, changes: Vec<Change>) -> Vec<Vec<Operation>> {
    let mut steps: [Vec<Operation>; 5] = Default::default();
    let [parts, part_rows, rows, removed, removed_parts] = &mut steps;
    for Change { key, value } in changes {
        let is_part = key.table().is_some_and(|table| table.is_part);
        let name = state.row(&key);
        let Some(value) = value else {
            let to = if is_part { &mut *removed_parts } else { &mut *removed };
            to.push(Operation::Delete(name));
            if !is_part {
                removed_parts.push(Operation::DeletePrefix(state.parts(&key)));
            }
            continue;
        };
        let value = if value.len() > PART_BYTES {
            let described = Parts::of(&value);
            for (index, part) in value.chunks(PART_BYTES).enumerate() {
                parts.push(Operation::Put(described.key(state, &key, index), part.to_vec()));
            }
            serde_json::to_vec(&described).unwrap_or_default()
        } else {
            value
        };
        let to = if is_part { &mut *part_rows } else { &mut *rows };
        to.push(Operation::Put(name, value));
    }
    pack(steps.into_iter().flatten())
}

/// As few transactions as the limits allow, in the same order.
pub(super) fn pack(operations: impl Iterator<Item = Operation>) -> Vec<Vec<Operation>> {
    let mut transactions = Vec::new();
    let mut current = Vec::new();
    let mut bytes = 0_usize;
    for operation in operations {
        let more = operation.bytes();
        if !current.is_empty() && (current.len() >= MAX_OPERATIONS || bytes.saturating_add(more) > MAX_BYTES)
        {
            transactions.push(std::mem::take(&mut current));
            bytes = 0;
        }
        bytes = bytes.saturating_add(more);
        current.push(operation);
    }
    if !current.is_empty() {
        transactions.push(current);
    }
    transactions
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::keys::Keys;
    use super::super::tables::KeyPart;
    use super::*;

    fn state() -> State {
        Keys::new("/p/").state(1)
    }

    fn feed(number: i64, value: Option<&[u8]>) -> Change {
        let key = RowKey { table: 2, key: vec![KeyPart::Number(number)] };
        Change { key, value: value.map(<[u8]>::to_vec) }
    }

    fn parked(feed: i64, object: &str, value: Option<&[u8]>) -> Change {
        let key = RowKey { table: 3, key: vec![KeyPart::Number(feed), KeyPart::Text(object.to_owned())] };
        Change { key, value: value.map(<[u8]>::to_vec) }
    }

    fn shown(transactions: &[Vec<Operation>]) -> Vec<String> {
        transactions
            .concat()
            .iter()
            .map(|operation| format!("{operation:?}").replace("/p/control/state/1/", ""))
            .collect()
    }

    #[test]
    fn rows_set_aside_are_there_before_their_cursor_and_go_after_it() {
        let changes = vec![
            feed(2, None),
            parked(1, "old", None),
            feed(1, Some(b"12")),
            parked(1, "new", Some(b"1")),
            parked(2, "x", None),
        ];
        assert_eq!(
            shown(&plan(&state(), changes)),
            [
                "put parked/1/new (1 bytes)",
                "put progress/1 (2 bytes)",
                "delete progress/2",
                "delete parts/progress/2/*",
                "delete parked/1/old",
                "delete parked/2/x",
            ]
        );
    }

    #[test]
    fn a_transaction_stays_within_the_limits_and_nothing_is_left_out() {
        let value = vec![7; 40_000];
        let changes: Vec<Change> = (0..250).map(|number| feed(number, Some(&value))).collect();
        let transactions = plan(&state(), changes);
        assert!(transactions.len() > 9);
        for transaction in &transactions {
            assert!(transaction.len() <= MAX_OPERATIONS);
            assert!(transaction.iter().map(Operation::bytes).sum::<usize>() <= MAX_BYTES);
        }
        assert_eq!(transactions.concat().len(), 250);
        let small: Vec<Change> = (0..250).map(|number| feed(number, Some(b"1"))).collect();
        let sizes: Vec<usize> = plan(&state(), small).iter().map(Vec::len).collect();
        assert_eq!(sizes, [100, 100, 50]);
        assert!(plan(&state(), Vec::new()).is_empty());
    }

    #[test]
    fn a_large_row_is_written_in_parts_that_come_first_and_fit_together_again() {
        let value: Vec<u8> =
            (0..1_300_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let transactions = plan(&state(), vec![feed(1, Some(&value))]);
        let operations = transactions.concat();
        assert_eq!(operations.len(), 4);
        let mut parts = Vec::new();
        for operation in &operations[..3] {
            let Operation::Put(key, part) = operation else { panic!("{operation:?}") };
            assert!(key.starts_with("/p/control/state/1/parts/progress/1/"), "{key}");
            parts.push(part.clone());
        }
        let Operation::Put(key, stands_for) = &operations[3] else { panic!("{operations:?}") };
        assert_eq!(key, "/p/control/state/1/progress/1");
        let described = Parts::parse(stands_for).unwrap();
        assert!(described.join(parts.clone()) == Some(value));
        parts.swap(0, 1);
        assert!(described.join(parts.clone()).is_none(), "in another order");
        parts.pop();
        assert!(described.join(parts).is_none(), "one is missing");
        assert_eq!(Parts::parse(b"{\"feed\":1}"), None);
    }
}
