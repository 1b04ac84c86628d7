//! Names that an operator wants handled again, whatever is known of them. They go through the feed's passes, so that two writes of one
//! name are never in flight together.

use std::sync::PoisonError;

use tokio::sync::oneshot;

use super::Feed;
use crate::transfer::Done;

/// Names that wait for a pass.
const MOST_WAITING: usize = 10_000;

/// A name to handle again.
#[derive(Debug)]
pub struct Again {
    /// The object's name.
    pub object: String,
    /// What to do.
    pub what: AgainWhat,
    /// Also if another node handles the name first.
    pub any_share: bool,
    /// Told how it ended; dropped if the pass ended before.
    pub ended: oneshot::Sender<AgainEnd>,
}

/// What to do with the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgainWhat {
    /// What its row asks for.
    Row,
    /// Remove the remote object, unless the name has a live row, or an object at any object server.
    Delete {
        /// Where to look for the object if it has no row.
        policy_index: u32,
    },
}

/// How it ended.
#[derive(Debug)]
pub enum AgainEnd {
    /// It is handled.
    Done(Done),
    /// It failed.
    Failed(String),
    /// There is no row of the name in this database.
    NoRow,
    /// Another node handles the name first.
    OtherNode,
    /// It must not be done.
    Refused(String),
}

impl Feed {
    /// Has names handled again in the next pass, or in the one under way once the feed is touched. False: too many wait already.
    #[must_use]
    pub fn handle_again(&self, names: Vec<Again>) -> bool {
        let mut waiting = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len().saturating_add(names.len()) > MOST_WAITING {
            return false;
        }
        waiting.extend(names);
        true
    }

    pub(super) fn take_again(&self) -> Vec<Again> {
        std::mem::take(&mut *self.again.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn has_again(&self) -> bool {
        !self.again.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
