//! Where a feed's progress is kept: in files of this node, or in the control plane.

use std::io;
use std::sync::Arc;

use crate::control::ControlMemory;
use crate::lane::Lane;
use crate::status_file::{SavedFeed, StatusFile};
use swift_s3_policy::Mapping;

/// Names a feed towards its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FeedName {
    /// The mapping's identity for the container.
    pub identity: String,
    /// The id of the container database.
    pub database: String,
    /// The mapping, as operators name it.
    pub mapping_id: String,
    /// The account as users see it.
    pub account: String,
    /// The container as users see it.
    pub container: String,
}

/// What is needed to take over the cursors of the original.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The mapping.
    pub mapping: &'a Mapping,
    /// Its lanes.
    pub lanes: &'a [Lane],
    /// The replica indexes that this node holds.
    pub own: &'a [u32],
    /// How many replicas there are.
    pub nodes: u32,
    /// No other mapping of the container goes to a bucket of the same name.
    pub sole: bool,
}

/// Where progress is kept.
#[derive(Clone, Debug)]
pub enum Memory {
    /// In the status folder of this node.
    Files(Arc<StatusFile>),
    /// In the control plane; in the status folder only what it has not acknowledged.
    Control(Arc<ControlMemory>),
}

impl Memory {
    /// What is remembered of a feed; what the original left, if nothing is.
    pub async fn load(&self, name: &FeedName, origin: Origin<'_>) -> Option<SavedFeed> {
        match self {
            Self::Files(file) => file.saved(name, origin),
            Self::Control(memory) => memory.load(name, origin).await,
        }
    }

    /// Remembers a feed. When this returns, what was saved survives the end of the process.
    ///
    /// # Errors
    /// When it can be kept nowhere.
    pub async fn save(&self, name: &FeedName, feed: &Arc<SavedFeed>) -> io::Result<()> {
        match self {
            Self::Files(file) => save_to_file(file, name, feed).await,
            Self::Control(memory) => memory.save(name, feed).await,
        }
    }

    /// Drops what is known of a database that is gone. On this node it goes with its mapping.
    pub async fn forget(&self, name: FeedName) {
        match self {
            Self::Files(_) => {}
            Self::Control(memory) => memory.forget(name).await,
        }
    }

    /// True when more is known elsewhere by now than when this feed began: it should load again.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Files(_) => false,
            Self::Control(memory) => memory.is_stale(),
        }
    }
}

/// Writes a feed's progress to its file, in a blocking thread.
pub(crate) async fn save_to_file(
    file: &Arc<StatusFile>,
    name: &FeedName,
    feed: &Arc<SavedFeed>,
) -> io::Result<()> {
    let (file, name, feed) = (Arc::clone(file), name.clone(), SavedFeed::clone(feed));
    tokio::task::spawn_blocking(move || file.save(&name.identity, &name.database, feed))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}
