//! Keeping house: nodes are remembered, and what is too old is forgotten.
//!
//! Ages count only while control runs. After a long stop, or when the clock jumps ahead, everything looks old at once
//! though nothing had a chance to report.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::control::{Control, uninterrupted};
use crate::store::{NodeRecord, Prune, Pruned, StoreError};
use crate::time;

/// What keeping house needs.
#[derive(Debug)]
pub(crate) struct House {
    clock: Mutex<HouseClock>,
    /// Held while nodes are written or removed, so that a write under way does not bring a forgotten node back.
    saving: tokio::sync::Mutex<()>,
}

impl House {
    /// Goes on from the clock that was stored last, or from the last sign of life.
    pub(crate) fn begin(stored_ms: Option<i64>, nodes: &[NodeRecord]) -> Self {
        let seen = || nodes.iter().map(|node| node.last_seen_at_ms).max();
        let at_ms = stored_ms.or_else(seen).unwrap_or_else(time::now_ms);
        Self {
            clock: Mutex::new(HouseClock { at_ms, read_at: Instant::now() }),
            saving: tokio::sync::Mutex::new(()),
        }
    }
}

/// A clock that stands still while control does not run. It is never ahead of the wall clock.
#[derive(Debug)]
struct HouseClock {
    at_ms: i64,
    read_at: Instant,
}

impl HouseClock {
    fn read(&mut self, wall_ms: i64, now: Instant) -> i64 {
        let ran = now.saturating_duration_since(self.read_at).as_millis();
        let ran = self.at_ms.saturating_add(i64::try_from(ran).unwrap_or(i64::MAX));
        self.at_ms = ran.min(wall_ms);
        self.read_at = now;
        self.at_ms
    }
}

impl Control {
    /// Writes nodes that changed to the database. What fails is tried again with the next change.
    pub async fn save_nodes(&self) {
        let _saving = self.house.saving.lock().await;
        let nodes = self.registry.take_unsaved();
        if !nodes.is_empty()
            && let Err(error) = self.store.save_nodes(nodes).await
        {
            tracing::warn!(%error, "could not remember nodes");
        }
    }

    /// Forgets a node. `None`: it is not known; false: it is connected, and stays.
    ///
    /// # Errors
    /// When the database fails; then it is not forgotten.
    pub async fn forget_node(self: &Arc<Self>, node_id: &str) -> Result<Option<bool>, StoreError> {
        let (control, node_id) = (Arc::clone(self), node_id.to_owned());
        uninterrupted(async move {
            let _saving = control.house.saving.lock().await;
            match control.registry.is_connected(&node_id) {
                None => return Ok(None),
                Some(true) => return Ok(Some(false)),
                Some(false) => {}
            }
            control.store.forget_node(&node_id).await?;
            // Should it have connected meanwhile, it stays, and is written again with the next save.
            let forgotten = control.registry.forget(&node_id);
            if forgotten == Some(true) {
                control.feeds().forget(&node_id);
            }
            Ok(forgotten)
        })
        .await
    }

    /// Forgets what is too old.
    pub async fn prune(&self) {
        match self.store.prune_revisions(self.settings.history).await {
            Ok(0) => {}
            Ok(revisions) => tracing::info!(revisions, "removed revisions beyond those that are kept"),
            Err(error) => tracing::warn!(%error, "could not remove old revisions"),
        }
        match self.prune_nodes().await {
            Ok(pruned) if pruned == Pruned::default() => {}
            Ok(pruned) => tracing::info!(?pruned, "removed what was not heard of for as long as it is kept"),
            Err(error) => tracing::warn!(%error, "could not remove what is old"),
        }
    }

    async fn prune_nodes(&self) -> Result<Pruned, StoreError> {
        let clock_ms = {
            let mut clock = self.house.clock.lock().unwrap_or_else(PoisonError::into_inner);
            clock.read(time::now_ms(), Instant::now())
        };
        let retention = i64::try_from(self.settings.retention.as_millis()).unwrap_or(i64::MAX);
        let before_ms = clock_ms.saturating_sub(retention);
        let _saving = self.house.saving.lock().await;
        let nodes = self.registry.nodes();
        let connected: HashSet<String> = nodes
            .iter()
            .filter(|node| node.connected_at_ms.is_some())
            .map(|node| node.record.node_id.clone())
            .collect();
        let workers = || nodes.iter().filter(|node| node.connected_at_ms.is_some() && node.is_worker());
        let is_known = workers().next().is_some() && {
            let feeds = self.feeds();
            workers().all(|node| feeds.has_told_all(&node.record.node_id))
        };
        // Without workers, or while one has not told what it follows, everything might still be needed.
        let before_ms = if is_known { before_ms } else { i64::MIN };
        let ids: Vec<String> = connected.iter().cloned().collect();
        let mut stale = self.store.reader().stale_feeds(before_ms, ids.clone()).await?;
        self.feeds().keep_unfollowed(&mut stale, &connected);
        let feeds = stale.iter().map(|feed| feed.feed).collect();
        let pruned = self.store.prune(Prune { before_ms, connected: ids, feeds, clock_ms }).await?;
        for node in nodes.iter().filter(|node| node.record.last_seen_at_ms < before_ms) {
            if self.registry.forget(&node.record.node_id) == Some(true) {
                self.feeds().forget(&node.record.node_id);
            }
        }
        Ok(pruned)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn age_counts_only_while_control_runs_and_never_ahead_of_the_clock() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut clock = HouseClock { at_ms: 1_000_000, read_at: start };
        for (wall_ms, now, expected) in [
            // Stopped for long, or the clock jumped.
            (9_000_000, after(0), 1_000_000),
            (9_010_000, after(10), 1_010_000),
            // Set back.
            (1_000_000, after(20), 1_000_000),
            (9_000_000, after(30), 1_010_000),
        ] {
            assert_eq!(clock.read(wall_ms, now), expected);
        }
    }
}
