//! The mappings that merge, by account and container.

use std::collections::HashMap;
use std::sync::Arc;

use swift_s3_policy::{ContainerSelector, Mapping, SyncConfig};
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
    /// It is merged, but its remote cannot be used as it is configured; the text says why, without secrets.
    Broken(Arc<str>),
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

#[derive(Debug)]
struct Entry {
    mapping: Arc<Mapping>,
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
    pub(super) async fn build(config: &SyncConfig, remotes: &Remotes, before: &Self) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let internal = before.internal_for(config.internal_url.as_deref(), &mut problems);
        let mut table = Self { internal, ..Self::default() };
        let proxies = (config.http_proxy.as_deref(), config.https_proxy.as_deref());
        for mapping in config.mappings.iter().filter(|mapping| mapping.merge.is_some()) {
            let remote = match remotes.open(&mapping.remote, proxies, CONNECTIONS).await {
                Ok(remote) => Ok(remote),
                Err(error) => {
                    problems.push(format!("{} ({}): {error}", mapping.path, mapping.label()));
                    before.remote_of(mapping).ok_or_else(|| Arc::from(error.to_string()))
                }
            };
            let account = table.accounts.entry(mapping.account.clone()).or_default();
            let mapping = Arc::clone(mapping);
            match &mapping.container {
                ContainerSelector::All => account.all = Some(Entry { mapping, remote, route: None }),
                ContainerSelector::One(container) => {
                    let container = container.clone();
                    let route = remote.as_ref().ok().map(|remote| {
                        Arc::new(Route::new(Arc::clone(&mapping), &container, Arc::clone(remote)))
                    });
                    account.one.insert(container, Entry { mapping, remote, route });
                }
            }
        }
        (table, problems)
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
        let account = self.accounts.get(&mapping.account)?;
        let entry = match &mapping.container {
            ContainerSelector::All => account.all.as_ref()?,
            ContainerSelector::One(container) => account.one.get(container)?,
        };
        let remote = entry.remote.as_ref().ok()?;
        (entry.mapping.id() == mapping.id()).then(|| Arc::clone(remote))
    }

    pub(super) fn find(&self, account: &str, container: &str) -> Found {
        let Some(account) = self.accounts.get(account) else { return Found::Nothing };
        let Some(entry) = account.one.get(container).or(account.all.as_ref()) else { return Found::Nothing };
        match (&entry.route, &entry.remote) {
            (Some(route), _) => Found::Merged(Arc::clone(route)),
            (None, Ok(remote)) => {
                let (mapping, remote) = (Arc::clone(&entry.mapping), Arc::clone(remote));
                Found::Merged(Arc::new(Route::new(mapping, container, remote)))
            }
            (None, Err(reason)) => Found::Broken(Arc::clone(reason)),
        }
    }

    /// Merged containers and accounts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.values().map(|account| account.one.len() + usize::from(account.all.is_some())).sum()
    }

    /// Nothing is merged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that is merged, in a fixed order.
    #[must_use]
    pub fn merged(&self) -> Vec<MergedContainer> {
        let entries = self.accounts.values().flat_map(|account| account.one.values().chain(&account.all));
        let mut merged: Vec<MergedContainer> = entries
            .map(|entry| MergedContainer {
                account: entry.mapping.account.clone(),
                container: entry.mapping.container.as_str().to_owned(),
                writes: entry.mapping.merge.unwrap_or_default().writes,
            })
            .collect();
        merged
            .sort_by(|left, right| (&left.account, &left.container).cmp(&(&right.account, &right.container)));
        merged
    }
}
