//! Where owners leave how far they are with a share, so that the next owner need not begin from the start.
//!
//! Only who owns the share writes its record: the transaction compares the lease that holds the share's home, or the share itself. What is read
//! is never more than a hint of where to begin; see [`crate::marks`].

use std::collections::BTreeMap;

use swift_s3_etcd::etcd_client::{Compare, CompareOp, Txn, TxnOp};
use swift_s3_etcd::{Entry, Etcd, EtcdError, Repeat};

use super::keys;
use super::plan::{HomeDevice, PlaceId, ShareId};

/// Records of one container for one mapping; it has as many as replicas.
const MOST: usize = 256;

/// Reads and writes records.
#[derive(Debug)]
pub struct Records {
    etcd: Etcd,
    node: String,
}

/// The database's container, for one mapping.
#[derive(Clone, Debug)]
pub struct RecordName {
    /// The mapping's identity.
    pub identity: String,
    /// The account of the database; a shard's own.
    pub account: String,
    /// Its container; a shard's own.
    pub container: String,
}

/// What a record is written under.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The share.
    pub share: ShareId,
    /// The device that is its home.
    pub home: HomeDevice,
    /// That device is of this worker.
    pub is_home: bool,
    /// The lease that holds the home, or the share.
    pub lease: i64,
}

impl Records {
    pub(super) fn new(etcd: Etcd, node: &str) -> Self {
        Self { etcd, node: node.to_owned() }
    }

    /// The worker that writes them.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What the owners of a container's shares left, by share, as they wrote it.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn load(&self, name: &RecordName, place: PlaceId) -> Result<BTreeMap<u32, Vec<u8>>, EtcdError> {
        let folder =
            self.etcd.key(&keys::records(&name.identity, &name.account, &name.container, place.nodes));
        let found = self.etcd.list(&folder, MOST).await?;
        let index = |entry: &Entry| entry.key.strip_prefix(&folder)?.parse::<u32>().ok();
        Ok(found.entries.into_iter().filter_map(|entry| Some((index(&entry)?, entry.value))).collect())
    }

    /// Removes what was told of a container for a mapping that is no more.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn forget(&self, name: &RecordName) -> Result<(), EtcdError> {
        let folder = keys::all_records(&name.identity, &name.account, &name.container);
        self.etcd.delete(&self.etcd.key(&folder), true).await?;
        Ok(())
    }

    /// Writes a record. False: the share is not owned any more.
    ///
    /// # Errors
    /// When etcd does not answer; the record may have been written then, which does no harm.
    pub async fn save(&self, name: &RecordName, claim: &Claim, record: Vec<u8>) -> Result<bool, EtcdError> {
        let ShareId { place, index } = claim.share;
        let folder = keys::records(&name.identity, &name.account, &name.container, place.nodes);
        let key = self.etcd.key(&format!("{folder}{index}"));
        let share = self.etcd.key(&keys::share(claim.share));
        let is_ours = |key: String| Compare::lease(key, CompareOp::Equal, claim.lease);
        let conditions = if claim.is_home {
            let nobody_took_it = Compare::create_revision(share, CompareOp::Equal, 0);
            vec![is_ours(self.etcd.key(&keys::home(&claim.home))), nobody_took_it]
        } else {
            vec![is_ours(share)]
        };
        let txn = Txn::new().when(conditions).and_then([TxnOp::put(key, record, None)]);
        Ok(self.etcd.transaction(txn, Repeat::Freely).await?.succeeded())
    }
}
