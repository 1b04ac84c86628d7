//! Requests to whichever member answers.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnResponse};
use tokio::sync::Mutex;

use crate::error::{ErrorKind, EtcdError};
use crate::follow::{Entry, Snapshot};
use crate::settings::EtcdSettings;

/// A member that does not answer within this time is left for the next one.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// Keys that are read at once.
const PAGE: i64 = 1_000;

/// What to do when a member fails while it may have carried the request out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Ask the next member: twice is as good as once.
    Freely,
    /// Tell the caller, who looks at what became of it.
    Never,
}

/// An etcd cluster. Clones share their connections.
///
/// One member is used as long as it answers; then the next one in the order of the settings.
#[derive(Clone)]
pub struct Etcd(Arc<Inner>);

struct Inner {
    settings: EtcdSettings,
    members: Vec<Mutex<Option<Client>>>,
    current: AtomicUsize,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Etcd").field(&self.0.settings.endpoints).finish()
    }
}

impl Etcd {
    /// Connects when it is first needed.
    #[must_use]
    pub fn new(settings: EtcdSettings) -> Self {
        let members = settings.endpoints.iter().map(|_| Mutex::default()).collect();
        Self(Arc::new(Inner { settings, members, current: AtomicUsize::new(0) }))
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &EtcdSettings {
        &self.0.settings
    }

    /// The whole name of a key of ours.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.0.settings.prefix)
    }

    /// Makes a request of the member that answered last, then of the others.
    ///
    /// # Errors
    /// The answer that all members would give, or the last failure when none answers.
    pub async fn call<T, F, Answer>(
        &self,
        what: &'static str,
        repeat: Repeat,
        limit: Duration,
        request: F,
    ) -> Result<T, EtcdError>
    where
        F: Fn(Client) -> Answer,
        Answer: Future<Output = Result<T, etcd_client::Error>>,
    {
        let count = self.0.members.len().max(1);
        let first = self.0.current.load(Ordering::Relaxed);
        let mut unknown = false;
        let mut failure = EtcdError::new(ErrorKind::Other, what, "there are no members");
        for step in 0..count {
            let index = (first + step) % count;
            let sent = async {
                let client = self.member(index).await?;
                request(client).await
            };
            failure = match tokio::time::timeout(limit, sent).await {
                Ok(Ok(answer)) => {
                    self.0.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(error)) => EtcdError::of(what, &error),
                Err(_) => EtcdError::timed_out(what),
            };
            if failure.kind() != ErrorKind::Unavailable {
                if matches!(failure.kind(), ErrorKind::Denied | ErrorKind::Other) {
                    // A token may be out of date in a way that the client does not renew it for: the next request logs in anew.
                    self.forget(index).await;
                }
                return Err(failure.or_unknown(unknown));
            }
            self.forget(index).await;
            unknown |= failure.outcome_unknown();
            if unknown && repeat == Repeat::Never {
                // Whoever asks next asks another member.
                self.0.current.store((index + 1) % count, Ordering::Relaxed);
                break;
            }
        }
        Err(failure.or_unknown(unknown))
    }

    async fn member(&self, index: usize) -> Result<Client, etcd_client::Error> {
        let missing = || etcd_client::Error::InvalidArgs("no such member".to_owned());
        let endpoint = self.0.settings.endpoints.get(index).ok_or_else(missing)?;
        let mut member = self.0.members.get(index).ok_or_else(missing)?.lock().await;
        if let Some(client) = &*member {
            return Ok(client.clone());
        }
        let client = Client::connect([endpoint], Some(self.0.settings.options(endpoint))).await?;
        Ok(member.insert(client).clone())
    }

    /// The next request to this member makes a new connection: the old one may hang.
    async fn forget(&self, index: usize) {
        if let Some(member) = self.0.members.get(index) {
            member.lock().await.take();
        }
    }

    /// A key, if it is there.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, EtcdError> {
        let answer = self
            .call("reading a key", Repeat::Freely, REQUEST_LIMIT, |mut client| async move {
                client.get(key, None).await
            })
            .await?;
        Ok(answer.kvs().first().map(Entry::from))
    }

    /// All keys that begin with `prefix`, as they were at one revision. `most` bounds how many.
    ///
    /// # Errors
    /// When etcd does not answer, or there are more.
    pub async fn list(&self, prefix: &str, most: usize) -> Result<Snapshot, EtcdError> {
        let mut snapshot = Snapshot { revision: 0, entries: Vec::new() };
        let end = end_of(prefix);
        let mut from = prefix.as_bytes().to_vec();
        loop {
            let (start, end, revision) = (from.clone(), end.clone(), snapshot.revision);
            let page = self
                .call("listing keys", Repeat::Freely, REQUEST_LIMIT, move |mut client| {
                    let options = GetOptions::new()
                        .with_range(end.clone())
                        .with_limit(PAGE)
                        .with_revision(revision)
                        .with_sort(SortTarget::Key, SortOrder::Ascend);
                    let start = start.clone();
                    async move { client.get(start, Some(options)).await }
                })
                .await?;
            if revision == 0 {
                snapshot.revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
            }
            snapshot.entries.extend(page.kvs().iter().map(Entry::from));
            if snapshot.entries.len() > most {
                let message = format!("more than {most} keys under {prefix}");
                return Err(EtcdError::new(ErrorKind::Other, "listing keys", message));
            }
            match page.kvs().last().filter(|_| page.more()) {
                Some(last) => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                None => return Ok(snapshot),
            }
        }
    }

    /// Writes a key; with a lease it goes with that.
    ///
    /// # Errors
    /// When etcd does not answer, or the lease has ended.
    pub async fn put(&self, key: &str, value: Vec<u8>, lease: Option<i64>) -> Result<(), EtcdError> {
        self.call("writing a key", Repeat::Freely, REQUEST_LIMIT, |mut client| {
            let value = value.clone();
            async move {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease));
                client.put(key, value, options).await
            }
        })
        .await?;
        Ok(())
    }

    /// Removes a key, or all that begin with it. How many went.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn delete(&self, key: &str, is_prefix: bool) -> Result<i64, EtcdError> {
        let answer = self
            .call("removing keys", Repeat::Freely, REQUEST_LIMIT, |mut client| async move {
                let options = is_prefix.then(|| DeleteOptions::new().with_prefix());
                client.delete(key, options).await
            })
            .await?;
        Ok(answer.deleted())
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// When etcd does not answer; with [`Repeat::Never`], [`EtcdError::outcome_unknown`] tells whether it may have been run.
    pub async fn transaction(&self, txn: Txn, repeat: Repeat) -> Result<TxnResponse, EtcdError> {
        self.call("a transaction", repeat, REQUEST_LIMIT, |mut client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        })
        .await
    }
}

/// The first key behind all that begin with `prefix`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // Everything, in etcd's words.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_behind_its_last_key() {
        assert_eq!(end_of("/a/"), b"/a0");
        assert_eq!(end_of(""), [0]);
    }
}
