//! Forgets the progress of what no mapping names any more.

use super::*;

impl Scheduler {
    pub(super) async fn prune(&mut self) {
        if !self.prune || !self.is_complete {
            return;
        }
        self.prune = false;
        let mut keep: HashMap<(String, String), Vec<String>> = HashMap::new();
        let mut unlisted: HashSet<String> = HashSet::new();
        for mapping in &self.config.mappings {
            let containers: Vec<&str> = match &mapping.container {
                ContainerSelector::One(container) => vec![container],
                ContainerSelector::All => {
                    let Some(known) = self.known_containers.get(&mapping.account) else {
                        unlisted.insert(file_name(&mapping.account));
                        continue;
                    };
                    known.iter().map(String::as_str).collect()
                }
            };
            for container in containers {
                keep.entry((file_name(&mapping.account), file_name(container)))
                    .or_default()
                    .push(mapping.identity(container));
            }
        }
        let is_kept = |name: &FeedName| {
            let file = (file_name(&name.account), file_name(&name.container));
            let unlisted = unlisted.contains(&file.0);
            unlisted || keep.get(&file).is_some_and(|identities| identities.contains(&name.identity))
        };
        let past_records = std::mem::take(&mut self.past_records);
        if let Some(records) = self.coordination.records() {
            for (_, name) in past_records.iter().filter(|(feed, _)| !is_kept(feed)) {
                self.shared.metrics.turned(self.due.len());
                if let Err(error) = records.forget(name).await {
                    tracing::warn!(container = %name.container, %error, "could not remove a record from etcd");
                }
            }
        }
        if let Some(link) = &self.link {
            let forgotten = self.past.drain(..).filter(|name| !is_kept(name)).collect();
            // Before a mapping can come back: its feeds then begin with what the control plane has.
            link.forget(forgotten).await;
        }
        let status = Arc::clone(&self.status);
        let pruned = tokio::task::spawn_blocking(move || {
            status.prune(|account, container| {
                let name = (account.to_owned(), container.to_owned());
                match keep.get(&name) {
                    _ if unlisted.contains(account) => Keep::Everything,
                    Some(identities) => Keep::Mappings(identities.clone()),
                    None => Keep::Nothing,
                }
            });
        });
        if let Err(error) = pruned.await {
            tracing::warn!(%error, "could not tidy the status folder");
        }
    }
}
