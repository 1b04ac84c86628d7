//! One of several processes leads: whoever has made a key that was not there, and bound it to a lease.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};

use crate::error::EtcdError;
use crate::follow::Entry;
use crate::lease::Lease;
use crate::requests::{Etcd, Repeat};

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Election {
    /// It leads. The key was created at this revision, which no other leader's key ever has: writes that compare it
    /// happen only while this candidate leads.
    Won(i64),
    /// Another one leads; its key.
    Lost(Entry),
}

/// Tries once to lead, with a lease and a value of the candidate's own. Leads until the lease ends.
///
/// # Errors
/// When etcd does not answer. The lease must be given back then, since the key may have been made.
pub async fn campaign(etcd: &Etcd, key: &str, value: &[u8], lease: &Lease) -> Result<Election, EtcdError> {
    let options = PutOptions::new().with_lease(lease.id());
    let transaction = Txn::new()
        .when([Compare::create_revision(key, CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key, value, Some(options))])
        .or_else([TxnOp::get(key, None)]);
    let answer = etcd.transaction(transaction, Repeat::Freely).await?;
    if answer.succeeded() {
        return Ok(Election::Won(answer.header().map_or(0, |header| header.revision())));
    }
    let found = answer.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(get) => get.kvs().first().map(Entry::from),
        _ => None,
    });
    let found = found.ok_or_else(|| {
        EtcdError::new(crate::ErrorKind::Other, "a campaign", "the leader's key is there, and is not shown")
    })?;
    // The first member took it and fell silent; the next one shows our own key.
    match found.lease == lease.id() {
        true => Ok(Election::Won(found.created)),
        false => Ok(Election::Lost(found)),
    }
}
