//! What is stored, as types.

use swift_s3_proto::v1;

use crate::time;

/// A document to put in force.
#[derive(Clone)]
pub struct NewRevision {
    /// JSON, with its secrets.
    pub document: String,
    /// Who applies it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// How many mappings it has.
    pub mappings: u32,
    /// The revision that must be in force; 0: none.
    pub expected: i64,
    /// The revision it repeats; 0: none.
    pub rolled_back_to: i64,
    /// When.
    pub applied_at_ms: i64,
}

impl std::fmt::Debug for NewRevision {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The document has secrets.
        formatter
            .debug_struct("NewRevision")
            .field("author", &self.author)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// About one revision; the document is asked for on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRecord {
    /// Counts from 1.
    pub revision: i64,
    /// When it was applied.
    pub applied_at_ms: i64,
    /// By whom.
    pub author: String,
    /// Why.
    pub comment: String,
    /// How many mappings it has.
    pub mappings: u32,
    /// The revision it repeats; 0: none.
    pub rolled_back_to: i64,
}

impl From<RevisionRecord> for v1::Revision {
    fn from(record: RevisionRecord) -> Self {
        Self {
            revision: record.revision,
            applied_at: Some(time::timestamp(record.applied_at_ms)),
            author: record.author,
            comment: record.comment,
            mappings: record.mappings,
            rolled_back_to: record.rolled_back_to,
        }
    }
}

/// A node as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its id.
    pub node_id: String,
    /// A [`v1::Role`] as a number.
    pub role: i32,
    /// Its version.
    pub version: String,
    /// Its host's name.
    pub host: String,
    /// Addresses by which Swift's ring knows it.
    pub addresses: Vec<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// The revision that was in force there.
    pub revision: i64,
    /// Its last sign of life.
    pub last_seen_at_ms: i64,
    /// It is known, and was told, that it is gone.
    pub is_lost: bool,
}

/// A feed that progress is known of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFeed {
    /// Of its key.
    pub mapping_identity: String,
    /// Of its key.
    pub database_id: String,
    /// The mapping.
    pub mapping_id: String,
    /// The account.
    pub account: String,
    /// The container.
    pub container: String,
    /// The node that reported it last.
    pub node_id: String,
    /// Replica indexes which that node held.
    pub replicas: Vec<u32>,
    /// How many replicas the container had.
    pub nodes: u32,
}

/// What an operator does to a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchChange {
    /// Nothing is carried from now on.
    Pause {
        /// Now.
        at_ms: i64,
    },
    /// Carried again.
    Resume,
    /// Deletes held since then or before may go.
    ReleaseDeletes {
        /// By the clock of the node that holds them.
        held_at_ms: i64,
    },
}

/// What became of a change of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// False: it was so already.
    pub changed: bool,
    /// All switches, by mapping, as they are stored now.
    pub switches: Vec<StoredSwitch>,
}

/// A feed that may be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleFeed {
    /// Its number in the database.
    pub feed: i64,
    /// Of its key.
    pub mapping_identity: String,
    /// Of its key.
    pub database_id: String,
}

/// What is to be forgotten for its age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// Nodes and feeds not heard of since then.
    pub before_ms: i64,
    /// Never these.
    pub connected: Vec<String>,
    /// Only these feeds.
    pub feeds: Vec<i64>,
    /// What time it is by the clock that counts ages.
    pub clock_ms: i64,
}

/// How much was removed for its age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Nodes.
    pub nodes: usize,
    /// Feeds' progress.
    pub feeds: usize,
}

/// What operators switched for one mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSwitch {
    /// Which.
    pub mapping_id: String,
    /// Nothing is carried.
    pub is_paused: bool,
    /// Deletes held before this time may go.
    pub released_at_ms: Option<i64>,
}

/// The switches in the words of a snapshot: mappings with nothing switched are left out.
#[must_use]
pub fn switches_for_nodes(switches: &[StoredSwitch]) -> Vec<v1::MappingSwitch> {
    switches
        .iter()
        .filter(|switch| switch.is_paused || switch.released_at_ms.is_some())
        .map(|switch| v1::MappingSwitch {
            mapping_id: switch.mapping_id.clone(),
            is_paused: switch.is_paused,
            deletes_released_at: switch.released_at_ms.map(time::timestamp),
        })
        .collect()
}
