//! What nodes work by: the document in force and the switches, as one value that every session watches. A session sends
//! the latest only, so that a slow node misses what is out of date and never the last.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use swift_s3_proto::v1::{MappingSwitch, Snapshot};
use tokio::sync::watch;

use crate::documents::MappingInfo;

/// The whole state that nodes work by.
#[derive(Clone)]
pub struct Current {
    /// The revision of `document`; 0: none.
    pub revision: i64,
    /// Grows with each change of anything here, over restarts too.
    pub generation: u64,
    /// The configuration, with its secrets.
    pub document: Bytes,
    /// Its mappings.
    pub mappings: Arc<[MappingInfo]>,
    /// What operators switched.
    pub switches: Arc<[MappingSwitch]>,
    /// Workers over which limits are divided, at least 1.
    pub worker_count: u32,
}

impl Current {
    /// As nodes get it.
    #[must_use]
    pub fn snapshot(&self, nonce: String) -> Snapshot {
        Snapshot {
            nonce,
            revision: self.revision,
            generation: self.generation,
            document: self.document.clone(),
            switches: self.switches.to_vec(),
            worker_count: self.worker_count,
        }
    }

    /// The document as text; empty if there is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.document).unwrap_or_default()
    }

    /// True while an operator holds the mapping.
    #[must_use]
    pub fn is_paused(&self, mapping_id: &str) -> bool {
        self.switches.iter().any(|switch| switch.is_paused && switch.mapping_id == mapping_id)
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The document has secrets.
        formatter
            .debug_struct("Current")
            .field("revision", &self.revision)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A new configuration.
#[derive(Clone)]
pub struct NewDocument {
    /// Its revision.
    pub revision: i64,
    /// Its text.
    pub document: Bytes,
    /// Its mappings.
    pub mappings: Arc<[MappingInfo]>,
}

impl fmt::Debug for NewDocument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The document has secrets.
        formatter.debug_struct("NewDocument").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// Publishes the state. Clones share it.
#[derive(Clone, Debug)]
pub struct Push {
    current: Arc<watch::Sender<Arc<Current>>>,
}

impl Push {
    /// Begins with what was stored. `epoch` is higher than at any earlier start.
    #[must_use]
    pub fn new(epoch: u32, document: NewDocument, switches: Vec<MappingSwitch>, workers: u32) -> Self {
        let current = Current {
            revision: document.revision,
            generation: u64::from(epoch) << 32,
            document: document.document,
            mappings: document.mappings,
            switches: switches.into(),
            worker_count: workers.max(1),
        };
        Self { current: Arc::new(watch::Sender::new(Arc::new(current))) }
    }

    /// The state now.
    #[must_use]
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.borrow())
    }

    /// The state from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Current>> {
        self.current.subscribe()
    }

    /// Puts a document in force, unless a later one is.
    pub fn publish_document(&self, document: NewDocument) {
        self.change(|current| {
            let is_newer = document.revision > current.revision;
            if is_newer {
                current.revision = document.revision;
                current.document = document.document;
                current.mappings = document.mappings;
            }
            is_newer
        });
    }

    /// Puts switches in force.
    pub fn publish_switches(&self, switches: Vec<MappingSwitch>) {
        self.change(|current| {
            let differs = *current.switches != *switches;
            current.switches = switches.into();
            differs
        });
    }

    /// Tells over how many workers limits are divided.
    pub fn publish_workers(&self, count: u32) {
        self.change(|current| {
            let count = count.max(1);
            let differs = current.worker_count != count;
            current.worker_count = count;
            differs
        });
    }

    fn change(&self, change: impl FnOnce(&mut Current) -> bool) {
        self.current.send_if_modified(|shared| {
            let mut current = Current::clone(shared);
            let changed = change(&mut current);
            if changed {
                current.generation += 1;
                *shared = Arc::new(current);
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(revision: i64) -> NewDocument {
        NewDocument {
            revision,
            document: Bytes::from(format!("{{\"r\":{revision}}}")),
            mappings: Arc::from([]),
        }
    }

    #[test]
    fn a_generation_passes_for_each_change_and_none_for_no_change() {
        let push = Push::new(3, document(0), Vec::new(), 0);
        let start = push.current().generation;
        assert_eq!(start, 3 << 32);
        push.publish_document(document(1));
        push.publish_workers(0);
        push.publish_workers(1);
        push.publish_switches(Vec::new());
        assert_eq!(push.current().generation, start + 1);
        push.publish_workers(2);
        let switch = MappingSwitch { mapping_id: "a".to_owned(), is_paused: true, deletes_released_at: None };
        push.publish_switches(vec![switch.clone()]);
        push.publish_switches(vec![switch]);
        assert_eq!(push.current().generation, start + 3);
        assert!(push.current().is_paused("a") && !push.current().is_paused("b"));
    }

    #[test]
    fn an_older_document_never_replaces_a_newer_one() {
        let push = Push::new(1, document(0), Vec::new(), 0);
        push.publish_document(document(2));
        push.publish_document(document(1));
        assert_eq!((push.current().revision, push.current().text()), (2, "{\"r\":2}"));
    }
}
