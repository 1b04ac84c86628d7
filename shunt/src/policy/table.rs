//! The mappings that merge, by account and container.

use std::collections::HashMap;
use std::sync::Arc;

use swift_s3_policy::{ContainerSelector, Mapping, Merge, SyncConfig};
use swift_s3_store::{RemoteStore, Remotes};

use super::route::Route;
use crate::restore::{InternalUrl, SwiftWriter};

/// Connections to one remote. Each answer that streams holds one.
const CONNECTIONS: usize = 512;

/// What the shunt does for a container.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing: Swift alone answers.
    Nothing,
    /// It is merged.
    Merged(Arc<Route>),
    /// It is merged, but its remote cannot be used as it is configured.
    Broken(Broken),
}

/// A container whose remote cannot be used.
#[derive(Clone, Debug)]
pub struct Broken {
    id: Arc<str>,
    /// What is to be done for it.
    pub merge: Merge,
    /// Why it cannot, without secrets.
    pub reason: Arc<str>,
}

impl Broken {
    /// The mapping's id, if it could be read.
    #[must_use]
    pub fn mapping(&self) -> Option<&str> {
        Some(&*self.id).filter(|id| !id.is_empty())
    }
}

/// A merged container or all of an account, for the filter in Swift's pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedContainer {
    /// The account.
    pub account: String,
    /// The container, or `/*`.
    pub container: String,
    /// DELETE and POST reach the remote.
    pub writes: bool,
}

/// A mapping that merges, and cannot be served as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unserved {
    pub(super) account: String,
    pub(super) container: ContainerSelector,
    /// What it wants, as far as that could be read.
    pub(super) merge: Merge,
    /// What is wrong with it.
    pub(super) reason: String,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None`: it could not be read, and there was none before.
    mapping: Option<Arc<Mapping>>,
    /// Of the mapping.
    id: Arc<str>,
    merge: Merge,
    remote: Result<Arc<RemoteStore>, Arc<str>>,
    /// Of a mapping of one container; others are made for each request.
    route: Option<Arc<Route>>,
}

#[derive(Debug, Default)]
struct Account {
    one: HashMap<String, Entry>,
    all: Option<Entry>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Table {
    accounts: HashMap<String, Account>,
    /// The way into Swift for what is written back: the proxy without authentication at this URL.
    internal: Option<(String, Arc<InternalUrl>)>,
}

impl Table {
    /// Opens the remotes of all mappings that merge. Of several for one container the last one counts. Answers the problems, too.
    ///
    /// `unserved` are mappings that merge and could not be read: they keep the entry they had.
    pub(super) async fn build(
        config: &SyncConfig,
        unserved: &[Unserved],
        remotes: &Remotes,
        before: &Self,
    ) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let internal = before.internal_for(config.internal_url.as_deref(), &mut problems);
        let mut table = Self { internal, ..Self::default() };
        for unserved in unserved {
            let entry = before.entry(&unserved.account, &unserved.container).cloned();
            let entry = entry.unwrap_or_else(|| Entry {
                mapping: None,
                id: Arc::default(),
                merge: unserved.merge,
                remote: Err(Arc::from(unserved.reason.as_str())),
                route: None,
            });
            table.put(&unserved.account, &unserved.container, entry);
        }
        let proxies = (config.http_proxy.as_deref(), config.https_proxy.as_deref());
        for mapping in config.mappings.iter().filter(|mapping| mapping.merge.is_some()) {
            let remote = match remotes.open(&mapping.remote, proxies, CONNECTIONS).await {
                Ok(remote) => Ok(remote),
                Err(error) => {
                    problems.push(format!("{} ({}): {error}", mapping.path, mapping.label()));
                    before.remote_of(mapping).ok_or_else(|| Arc::from(error.to_string()))
                }
            };
            let id: Arc<str> = Arc::from(mapping.id());
            let route = match (&mapping.container, &remote) {
                (ContainerSelector::One(container), Ok(remote)) => {
                    let (mapping, remote) = (Arc::clone(mapping), Arc::clone(remote));
                    Some(Arc::new(Route::new(mapping, Arc::clone(&id), container, remote)))
                }
                _ => None,
            };
            let merge = mapping.merge.unwrap_or_default();
            let entry = Entry { mapping: Some(Arc::clone(mapping)), id, merge, remote, route };
            table.put(&mapping.account, &mapping.container, entry);
        }
        (table, problems)
    }

    fn put(&mut self, account: &str, container: &ContainerSelector, entry: Entry) {
        let account = self.accounts.entry(account.to_owned()).or_default();
        match container {
            ContainerSelector::All => account.all = Some(entry),
            ContainerSelector::One(container) => drop(account.one.insert(container.clone(), entry)),
        }
    }

    fn entry(&self, account: &str, container: &ContainerSelector) -> Option<&Entry> {
        let account = self.accounts.get(account)?;
        match container {
            ContainerSelector::All => account.all.as_ref(),
            ContainerSelector::One(container) => account.one.get(container),
        }
    }

    /// The one that was there, if it leads to the same place.
    fn internal_for(
        &self,
        url: Option<&str>,
        problems: &mut Vec<String>,
    ) -> Option<(String, Arc<InternalUrl>)> {
        let url = url?;
        if let Some((known, writer)) = self.internal.as_ref().filter(|(known, _)| known == url) {
            return Some((known.clone(), Arc::clone(writer)));
        }
        match InternalUrl::new(url) {
            Ok(writer) => Some((url.to_owned(), Arc::new(writer))),
            Err(error) => {
                problems.push(format!("internal_url: {error}"));
                None
            }
        }
    }

    /// The way into Swift for what is written back, if the configuration names one.
    #[must_use]
    pub fn writer(&self) -> Option<Arc<dyn SwiftWriter>> {
        let (_, writer) = self.internal.as_ref()?;
        Some(Arc::clone(writer) as Arc<dyn SwiftWriter>)
    }

    /// The remote that a mapping had, if it still goes to the same place.
    fn remote_of(&self, mapping: &Mapping) -> Option<Arc<RemoteStore>> {
        let entry = self.entry(&mapping.account, &mapping.container)?;
        let remote = entry.remote.as_ref().ok()?;
        let known = entry.mapping.as_ref()?;
        (known.id() == mapping.id()).then(|| Arc::clone(remote))
    }

    pub(super) fn find(&self, account: &str, container: &str) -> Found {
        let Some(account) = self.accounts.get(account) else { return Found::Nothing };
        let Some(entry) = account.one.get(container).or(account.all.as_ref()) else { return Found::Nothing };
        match (&entry.route, &entry.mapping, &entry.remote) {
            (Some(route), ..) => Found::Merged(Arc::clone(route)),
            (None, Some(mapping), Ok(remote)) => {
                let (mapping, remote) = (Arc::clone(mapping), Arc::clone(remote));
                Found::Merged(Arc::new(Route::new(mapping, Arc::clone(&entry.id), container, remote)))
            }
            (None, _, Err(reason)) => Found::Broken(Broken {
                id: Arc::clone(&entry.id),
                merge: entry.merge,
                reason: Arc::clone(reason),
            }),
            (None, None, Ok(_)) => Found::Nothing,
        }
    }

    /// Merged containers and accounts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.values().map(|account| account.one.len() + usize::from(account.all.is_some())).sum()
    }

    /// Those of them whose remote cannot be used as it is configured.
    #[must_use]
    pub fn broken(&self) -> usize {
        let entries = self.accounts.values().flat_map(|account| account.one.values().chain(&account.all));
        entries.filter(|entry| entry.remote.is_err()).count()
    }

    /// Nothing is merged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Asked for each request. No account is without an entry.
        self.accounts.is_empty()
    }

    /// All that is merged, in a fixed order.
    #[must_use]
    pub fn merged(&self) -> Vec<MergedContainer> {
        let mut merged = Vec::new();
        for (account, entries) in &self.accounts {
            let all = entries.all.iter().map(|entry| ("/*", entry));
            let one = entries.one.iter().map(|(container, entry)| (container.as_str(), entry));
            merged.extend(one.chain(all).map(|(container, entry)| MergedContainer {
                account: account.clone(),
                container: container.to_owned(),
                writes: entry.merge.writes,
            }));
        }
        merged
            .sort_by(|left, right| (&left.account, &left.container).cmp(&(&right.account, &right.container)));
        merged
    }
}
