//! What others may know of a feed while it works: its cursors, its counts, and how far it is behind.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::shares::Starts;
use super::{Feed, State, now};
use crate::lag::{Backlog, Measure};
use crate::lane::{Lane, Rows};
use crate::memory::Memory;
use crate::parked::Parked;
use crate::reason::Reason;
use crate::status_file::SavedFeed;
use crate::swift::container_db::{DbError, Row};
use crate::transfer::{Done, Outcome};
use crate::valve::Held;
use swift_s3_policy::owner_index;

/// Wishes that wait for the next pass; with more, all rows are tried again.
const MAX_WISHES: usize = 100;

/// A feed as it was last saved.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The id of the database; empty before it was first read.
    pub database: String,
    /// The lanes and their cursors.
    pub lanes: Vec<(Lane, i64)>,
    /// Since when deletes are held, and why.
    pub held: Option<Held>,
    /// How many replicas the container has.
    pub nodes: u32,
    /// With explicit coordination: rows behind the cursors that need no look.
    starts: Arc<Vec<(Rows, Starts)>>,
    saved: Option<Arc<SavedFeed>>,
}

impl View {
    /// True for a row of an own share that needs no look although it lies behind the cursor.
    #[must_use]
    pub fn is_settled(&self, rows: Rows, row: &Row) -> bool {
        let index = owner_index(&row.name, self.nodes);
        let starts = self.starts.iter().filter(|(of, _)| *of == rows);
        starts.filter_map(|(_, starts)| starts.get(&index)).any(|start| start.is_settled(row.rowid))
    }

    /// Rows set aside.
    #[must_use]
    pub fn parked(&self) -> Option<&Parked> {
        self.saved.as_ref().map(|saved| &saved.parked)
    }
}

/// Which rows set aside an operator wants tried again.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// This object; all if there is none.
    pub object: Option<String>,
    /// Rows of this class; all if there is none.
    pub reason: Option<Reason>,
}

impl Tried {
    pub(super) fn matches(&self, object: &str, reason: Reason) -> bool {
        self.object.as_deref().is_none_or(|wanted| wanted == object)
            && self.reason.is_none_or(|wanted| wanted == reason)
    }
}

impl Feed {
    /// A copy of what is known.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn publish(&self, state: &State) {
        self.mapping.set_held(&self.source.database, state.valve.held().cloned());
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = View {
            database: state.database.clone(),
            lanes: state.lanes.iter().map(|lane| (lane.lane, lane.progress.cursor())).collect(),
            held: state.valve.held().cloned(),
            nodes: state.nodes,
            starts: Arc::clone(&state.starts),
            saved: state.saved.clone(),
        };
    }

    pub(super) fn note_done(&self, done: &Done) {
        self.rows_done.fetch_add(1, Ordering::Relaxed);
        if let Outcome::Copied(bytes) = done.outcome {
            self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Rows finished and bytes sent since the feed began.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.rows_done.load(Ordering::Relaxed), self.bytes_sent.load(Ordering::Relaxed))
    }

    /// Leaves what is not reported yet to the feed that takes this one's place.
    pub fn close(&self) {
        if let Memory::Control(memory) = &self.memory {
            memory.close();
        }
    }

    /// Has rows tried again at the beginning of the next pass.
    pub fn try_again(&self, wanted: Tried) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        if retries.len() >= MAX_WISHES {
            // Whoever wishes so much wants everything.
            *retries = vec![Tried::default()];
        }
        retries.push(wanted);
    }

    /// True when an operator's wish waits for the next pass.
    #[must_use]
    pub fn has_wishes(&self) -> bool {
        self.has_again() || !self.retries.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Counts what lies behind the cursors. `None` while nothing was read yet, or the database has been replaced since.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn backlog(&self) -> Result<Option<Backlog>, DbError> {
        let view = self.view();
        if view.database.is_empty() {
            return Ok(None);
        }
        let mapping = Arc::clone(&self.route.mapping);
        let own = self.source.own.clone();
        self.read(move |database| {
            let info = database.info()?;
            if info.id != view.database {
                return Ok(None);
            }
            let settled = |rows: Rows, row: &Row| view.is_settled(rows, row);
            let measure = Measure::new(&view.lanes, &own, view.nodes, &mapping, view.held.is_some(), now());
            measure.without(&settled).scan(database, info.max_row, view.parked()).map(Some)
        })
        .await
    }

    /// The row of a name in the database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn row(&self, name: String) -> Result<Option<Row>, DbError> {
        self.read(move |database| Ok(database.row_by_name(&name)?.and_then(Result::ok))).await
    }
}
