//! The task that adds up figures, as long as this process answers for the cluster.

use std::sync::Arc;
use std::time::Instant;

use super::figures::{Facts, Figures};
use crate::control::Control;
use crate::store::StoreError;
use crate::time;

/// However large the cluster, at least so many times as long as it took is rested: it never takes more than a twentieth of a core.
const REST: u32 = 20;

/// Adds up until [`Control::stopping`] fires; then nothing is told of nodes and mappings any more.
pub(crate) async fn keep(control: Arc<Control>) {
    let mut applied = Applied::default();
    let mut pause = control.settings.figures;
    loop {
        tokio::select! {
            () = control.stopping.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        let began = Instant::now();
        // Disks may hang; stepping down must not wait for them, nor may the numbers of a leader that was stand beside those of the next one.
        let added_up = control.stopping.run_until_cancelled(add_up(&control, &mut applied));
        let Some(added_up) = added_up.await else { break };
        match added_up {
            Ok(figures) => control.settings.metrics.publish(Some(figures)),
            // The age of the figures tells it; why it is so, the store says itself.
            Err(error) => tracing::debug!(%error, "could not add up figures"),
        }
        pause = began.elapsed().saturating_mul(REST).max(control.settings.figures);
    }
    control.settings.metrics.publish(None);
}

/// When the revision in force was applied. Asked once for each: it comes with the document, which may have megabytes.
#[derive(Default)]
struct Applied {
    revision: i64,
    at_ms: Option<i64>,
}

impl Applied {
    async fn of(&mut self, control: &Control, revision: i64) -> Option<i64> {
        if revision != self.revision {
            let asked = control.store.reader().revision(revision).await.ok()?;
            *self = Self { revision, at_ms: asked.map(|(record, _)| record.applied_at_ms) };
        }
        self.at_ms
    }
}

async fn add_up(control: &Arc<Control>, applied: &mut Applied) -> Result<Figures, StoreError> {
    // The same that pages and watchers share; it takes the locks of feeds for one node at a time.
    let overview = control.overview.get(control).await?;
    let applied_at_ms = applied.of(control, overview.current.revision).await;
    let (store_bytes, history_bytes) = (control.store.size().await, control.history.size().await);
    // These are numbers that are kept, or one for each node.
    let feeds = control.feeds().count();
    let tally = control.registry.tally();
    Ok(Figures::new(&Facts {
        overview: &overview,
        applied_at_ms,
        now_ms: time::now_ms(),
        feeds,
        takeovers: tally.takeovers,
        slow_nodes: tally.slow_nodes_ended,
        audits: control.audits.count(),
        queue: control.store.queue(),
        store_bytes,
        history_bytes,
    }))
}
