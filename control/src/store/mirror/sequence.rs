//! Writes to etcd that happen in one order, only while their condition holds, and whose outcome becomes known.
//!
//! Each write compares two keys. The first says who may write: the leader's key as it was created, or no leader at all. The
//! second, the sequence, is written by every write with a value of its own, and must still be what the write before made of it.
//!
//! So a write that got lost on its way, and arrives when its sender has long given it up, changes nothing: another write came
//! first. And after an answer that did not come, the sequence tells what happened: it holds the value of the lost write, or it
//! is still the one before and is moved on, which takes the lost write its chance.

use std::time::Duration;

use swift_s3_etcd::etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse, TxnResponse};
use swift_s3_etcd::{BootTime, Etcd, EtcdError, Repeat, boot_time};

use super::keys::Keys;
use super::plan::Operation;

/// How long the outcome of a lost write is looked for.
const SETTLE: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Why something was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Somebody else may write now.
    #[error("another control process leads now, or the state in etcd was replaced")]
    NotOurs {
        /// True if it may have been written before.
        unclear: bool,
    },
    /// Nothing was written.
    #[error("{0}")]
    Failed(EtcdError),
    /// It may have been written.
    #[error("{0}")]
    Unknown(EtcdError),
}

/// Makes writes, one after the other.
#[derive(Debug)]
pub struct Sequence {
    etcd: Etcd,
    leader_key: String,
    /// What the leader's key must have been created at; 0: there must be none.
    created: i64,
    key: String,
    /// The revision at which the sequence was written last, as far as is known, and what it was made.
    modified: i64,
    last: Vec<u8>,
    name: String,
    count: u64,
    /// The value of a write whose outcome is not known.
    lost: Option<String>,
}

/// What etcd made of a write.
enum Answer {
    Written(i64),
    Moved { value: Vec<u8>, modified: i64 },
    NotOurs,
}

impl Sequence {
    /// Takes the sequence over from whoever wrote before. With `created` 0 nobody may lead.
    ///
    /// # Errors
    /// When somebody else may write, or etcd does not answer.
    pub async fn begin(etcd: &Etcd, keys: &Keys, created: i64, name: &str) -> Result<Self, WriteError> {
        let key = keys.sequence();
        let found = etcd.get(&key).await.map_err(WriteError::Failed)?;
        let mut sequence = Self {
            etcd: etcd.clone(),
            leader_key: keys.leader(),
            created,
            key,
            modified: found.as_ref().map_or(0, |entry| entry.modified),
            last: found.map(|entry| entry.value).unwrap_or_default(),
            name: format!("{name}-{:016x}", rand::random::<u64>()),
            count: 0,
            lost: None,
        };
        sequence.write(Vec::new()).await?;
        Ok(sequence)
    }

    /// The revision of the last write.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.modified
    }

    /// Runs these operations in one transaction.
    ///
    /// # Errors
    /// When it was not written, or that is not known. In the latter case the next write finds out first.
    pub async fn write(&mut self, operations: Vec<Operation>) -> Result<(), WriteError> {
        if let Some(lost) = self.lost.clone() {
            self.settle(&lost).await.map_err(|error| match error {
                // Of this write nothing was sent.
                WriteError::Unknown(error) => WriteError::Failed(error),
                WriteError::NotOurs { .. } => WriteError::NotOurs { unclear: false },
                WriteError::Failed(error) => WriteError::Failed(error),
            })?;
        }
        let value = self.next_value();
        match self.send(&value, operations).await {
            Ok(Answer::Written(revision)) => {
                self.written(revision, value.into_bytes());
                Ok(())
            }
            Ok(Answer::NotOurs) => Err(WriteError::NotOurs { unclear: false }),
            // One member took it and fell silent, the next said that it was there already.
            Ok(Answer::Moved { value: found, modified }) if found == value.as_bytes() => {
                self.written(modified, found);
                Ok(())
            }
            Ok(Answer::Moved { .. }) => Err(WriteError::NotOurs { unclear: false }),
            Err(error) if !error.outcome_unknown() => Err(WriteError::Failed(error)),
            Err(error) => match self.settle(&value).await? {
                true => Ok(()),
                false => Err(WriteError::Failed(error)),
            },
        }
    }

    /// Finds out whether the write with this value happened; if not, it never will.
    async fn settle(&mut self, lost: &str) -> Result<bool, WriteError> {
        self.lost = Some(lost.to_owned());
        let until: BootTime = boot_time().plus(SETTLE);
        // Values that were tried since. An older one of ours is there again after a backup was restored: all that was written
        // since is gone then, and must be read anew.
        let tried =
            lost.rsplit_once('/').and_then(|(_, count)| count.parse::<u64>().ok()).unwrap_or(u64::MAX);
        loop {
            let value = self.next_value();
            let (is_written, revision, now) = match self.send(&value, Vec::new()).await {
                Ok(Answer::Written(revision)) => (false, revision, value.into_bytes()),
                Ok(Answer::Moved { value, modified }) if value == lost.as_bytes() => (true, modified, value),
                // An earlier look moved it on: only one of all these writes can have happened.
                Ok(Answer::Moved { value, modified })
                    if self.count_of(&value).is_some_and(|count| count > tried) =>
                {
                    (false, modified, value)
                }
                Ok(Answer::Moved { .. } | Answer::NotOurs) => {
                    return Err(WriteError::NotOurs { unclear: true });
                }
                Err(error) if boot_time() >= until => return Err(WriteError::Unknown(error)),
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            self.lost = None;
            self.written(revision, now);
            return Ok(is_written);
        }
    }

    fn written(&mut self, revision: i64, value: Vec<u8>) {
        (self.modified, self.last) = (revision, value);
    }

    /// The number in a value of ours.
    fn count_of(&self, value: &[u8]) -> Option<u64> {
        let count = value.strip_prefix(self.name.as_bytes())?.strip_prefix(b"/")?;
        std::str::from_utf8(count).ok()?.parse().ok()
    }

    fn next_value(&mut self) -> String {
        self.count = self.count.saturating_add(1);
        format!("{}/{}", self.name, self.count)
    }

    async fn send(&self, value: &str, operations: Vec<Operation>) -> Result<Answer, EtcdError> {
        let mut conditions = vec![
            Compare::create_revision(self.leader_key.as_str(), CompareOp::Equal, self.created),
            Compare::mod_revision(self.key.as_str(), CompareOp::Equal, self.modified),
        ];
        if self.modified > 0 {
            // Revisions are given again after a backup was restored, values are not.
            conditions.push(Compare::value(self.key.as_str(), CompareOp::Equal, self.last.clone()));
        }
        let mut writes: Vec<TxnOp> = operations.into_iter().map(write).collect();
        writes.push(TxnOp::put(self.key.as_str(), value, None));
        let look = [TxnOp::get(self.leader_key.as_str(), None), TxnOp::get(self.key.as_str(), None)];
        let transaction = Txn::new().when(conditions).and_then(writes).or_else(look);
        // The condition lets it happen once, however often it is sent.
        let answer = self.etcd.transaction(transaction, Repeat::Freely).await?;
        Ok(self.understand(&answer))
    }

    fn understand(&self, answer: &TxnResponse) -> Answer {
        if answer.succeeded() {
            return Answer::Written(answer.header().map_or(0, |header| header.revision()));
        }
        let looked = answer.op_responses();
        let mut found = looked.iter().map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first(),
            _ => None,
        });
        let leader = found.next().flatten().map_or(0, |pair| pair.create_revision());
        if leader != self.created {
            return Answer::NotOurs;
        }
        let sequence = found.next().flatten();
        Answer::Moved {
            value: sequence.map(|pair| pair.value().to_vec()).unwrap_or_default(),
            modified: sequence.map_or(0, |pair| pair.mod_revision()),
        }
    }
}

fn write(operation: Operation) -> TxnOp {
    use swift_s3_etcd::etcd_client::DeleteOptions;
    match operation {
        Operation::Put(key, value) => TxnOp::put(key, value, None),
        Operation::Delete(key) => TxnOp::delete(key, None),
        Operation::DeletePrefix(prefix) => TxnOp::delete(prefix, Some(DeleteOptions::new().with_prefix())),
    }
}
