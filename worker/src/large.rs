//! Large objects: their segments in the local cluster, and uploads in parts.
//!
//! | module | does |
//! |---|---|
//! | [`segments`] | opens what a manifest names, loads nested manifests |
//! | [`content`] | streams pieces of local objects, one after the other, each opened when its turn comes |
//! | [`listing`] | lists the segments of dynamic objects |
//! | [`lane`] | keeps small objects moving beside large ones |
//! | [`upload`] | drives an upload in parts: bounded, resumable, checked |
//! | [`verdict`] | says whether the remote has it already |
//!
//! [`crate::transfer`] decides what is done with them. Nothing here removes anything local.

pub(crate) mod content;
pub(crate) mod lane;
mod listing;
pub(crate) mod segments;
pub(crate) mod upload;
pub(crate) mod verdict;

use std::sync::Arc;

use tokio::sync::Semaphore;

use segments::Segments;

/// Parts of one object in flight: enough to keep a remote busy whose every part waits for a round trip and a digest, and few enough that
/// one object does not take all connections.
pub(crate) const PARTS_OF_ONE: usize = 4;
/// Parts in flight in the whole process. Each holds a connection to an object server, one to the remote, and some 200 KiB of buffers.
const PARTS_OF_ALL: usize = 16;
/// Large objects in flight in the whole process.
const OBJECTS: usize = PARTS_OF_ALL / PARTS_OF_ONE;

/// What transfers of large objects share. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Large {
    /// The local side.
    pub segments: Segments,
    /// Bounds parts in flight.
    pub parts: Arc<Semaphore>,
    /// Bounds objects in flight in the lane of large ones.
    pub objects: Arc<Semaphore>,
}

impl Large {
    /// The places of large objects, and how many there are.
    pub(crate) fn places(&self) -> (Arc<Semaphore>, usize) {
        (Arc::clone(&self.objects), OBJECTS)
    }

    /// The shared state of one process.
    pub(crate) fn new(segments: Segments) -> Self {
        Self {
            segments,
            parts: Arc::new(Semaphore::new(PARTS_OF_ALL)),
            objects: Arc::new(Semaphore::new(OBJECTS)),
        }
    }
}
