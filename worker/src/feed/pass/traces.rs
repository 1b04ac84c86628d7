//! One trace for each row that is handed out: from then until the cursor that covers it, or the set of rows set aside that holds it, is
//! durable.

use std::collections::VecDeque;

use swift_s3_daemon::telemetry::is_sampled;
use tracing::field::Empty;

use super::*;
use crate::metrics::{action, reason};

/// Rows that are done and whose traces wait for their cursor. A cursor that waits for one slow row may hold thousands; the traces of the
/// first of them then end without it.
const MOST: usize = 2_000;
/// Of a message in a trace.
const MOST_BYTES: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unsaved(VecDeque<Ended>);

#[derive(Debug)]
struct Ended {
    /// Index of its lane; none for a row that was set aside before.
    lane: Option<usize>,
    rowid: i64,
    span: Span,
}

impl Unsaved {
    /// Keeps the trace of a row that is done or set aside open. Traces that nobody will see are not worth it.
    pub(super) fn add(&mut self, task: &Task, has_failed: bool) {
        if task.span.is_disabled() || !(has_failed || is_sampled(&task.span)) {
            return;
        }
        self.push(Ended { lane: task.lane, rowid: task.row.rowid, span: task.span.clone() });
    }

    /// Takes out what is covered once these cursors, by index of the lane, are saved.
    fn covered_by(&mut self, cursors: &[i64]) -> VecDeque<Ended> {
        let is_covered = |ended: &Ended| match ended.lane {
            Some(index) => cursors.get(index).is_none_or(|cursor| ended.rowid <= *cursor),
            None => true,
        };
        let (covered, rest) = std::mem::take(&mut self.0).into_iter().partition(is_covered);
        self.0 = rest;
        covered
    }

    fn push(&mut self, ended: Ended) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(ended);
    }
}

/// Traces whose end is being saved.
#[derive(Debug, Default)]
pub(super) struct Saving(Vec<(Ended, Span)>);

impl Saving {
    /// It was not saved: the traces go on, until it is.
    pub(super) fn failed(self, unsaved: &mut Unsaved) {
        for (ended, saving) in self.0 {
            saving.record("otel.status_code", "ERROR");
            saving.record("error.type", "not_saved");
            unsaved.push(ended);
        }
    }
}

impl Pass<'_> {
    /// A trace of its own for a row: a pass may hand out thousands.
    pub(super) fn begin_trace(&self, task: &Task) -> Span {
        let route = &self.feed.route;
        // Of what the mapping leaves out nothing is told: a span for each would cost more than the row.
        if route.mapping.exclude.as_ref().is_some_and(|pattern| pattern.excludes(&task.row.name)) {
            return Span::none();
        }
        tracing::info_span!(
            parent: None,
            "transfer",
            swift_s3_sync.mapping.id = self.feed.mapping.id.as_str(),
            swift.account = route.account.as_str(),
            swift.container = route.container.as_str(),
            swift_s3_sync.object.name = task.row.name.as_str(),
            swift_s3_sync.row.id = task.row.rowid,
            swift_s3_sync.row.is_retry = task.lane.is_none(),
            swift_s3_sync.action = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
            "error.type" = Empty,
        )
    }

    /// A transfer broke off, and could not tell of its end itself.
    pub(super) fn tell_broken_off(&self, id: Id, ended: &Result<Done, Trouble>) {
        let Some(task) = self.in_flight.get(&id) else { return };
        let metrics = &self.shared.metrics;
        metrics.handled(&self.feed.mapping.id, &task.row, &self.followed(), Duration::ZERO, ended);
        tell_end(&task.span, &task.row, ended);
    }

    /// What is in flight is dropped, and handled again by whoever has it next.
    pub(super) fn tell_abandoned(&self) {
        for task in self.in_flight.values() {
            task.span.record("otel.status_code", "ERROR");
            task.span.record("error.type", "abandoned");
        }
    }

    /// What is being saved ends these traces.
    pub(super) fn saving(&mut self) -> Saving {
        if self.unsaved.0.is_empty() {
            return Saving::default();
        }
        let cursors: Vec<i64> = self.state.lanes.iter().map(|lane| lane.progress.cursor()).collect();
        let covered = self.unsaved.covered_by(&cursors).into_iter();
        let saving = |ended: Ended| {
            let saving = tracing::info_span!(
                parent: &ended.span,
                "save cursor",
                otel.status_code = Empty,
                "error.type" = Empty,
            );
            (ended, saving)
        };
        Saving(covered.map(saving).collect())
    }

    /// These cursors are saved already: what they cover has ended.
    pub(super) fn end_saved(&mut self) {
        if !self.unsaved.0.is_empty() {
            let cursors: Vec<i64> = self.state.lanes.iter().map(|lane| lane.progress.cursor()).collect();
            drop(self.unsaved.covered_by(&cursors));
        }
    }
}

/// Says in a row's trace how it ended.
pub(super) fn tell_end(span: &Span, row: &Row, ended: &Result<Done, Trouble>) {
    if span.is_disabled() {
        return;
    }
    span.record("swift_s3_sync.action", action(row, ended));
    let Err(trouble) = ended else { return };
    span.record("otel.status_code", "ERROR");
    span.record("error.type", reason(trouble).as_str());
    match trouble {
        Trouble::Row(failure) => span.record("otel.status_description", cut(&failure.message)),
        Trouble::Remote(error) => span.record("otel.status_description", cut(&error.to_string())),
    };
}

/// Messages repeat what remotes answer, which may be anything.
fn cut(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MOST_BYTES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(lane: Option<usize>, rowid: i64) -> Ended {
        Ended { lane, rowid, span: Span::none() }
    }

    #[test]
    fn a_trace_waits_for_the_cursor_of_its_own_lane() {
        let rows = [ended(Some(0), 5), ended(Some(1), 5), ended(None, 9), ended(Some(0), 7)];
        let mut unsaved = Unsaved(rows.into());
        assert_eq!(unsaved.covered_by(&[6, 4]).len(), 2, "row 5 of the first lane, and the one set aside");
        assert_eq!(unsaved.covered_by(&[6, 4]).len(), 0);
        assert_eq!(unsaved.covered_by(&[7, 5]).len(), 2);
        assert!(unsaved.0.is_empty());
    }

    #[test]
    fn a_trace_whose_cursor_could_not_be_saved_waits_for_the_next_save() {
        let mut unsaved = Unsaved(VecDeque::from([ended(Some(0), 5)]));
        let saving =
            Saving(unsaved.covered_by(&[5]).into_iter().map(|ended| (ended, Span::none())).collect());
        assert!(unsaved.0.is_empty());
        saving.failed(&mut unsaved);
        assert_eq!(unsaved.covered_by(&[5]).len(), 1);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = "\u{e4}".repeat(400);
        assert_eq!(cut(&format!("x{long}")).len(), MOST_BYTES - 1);
    }
}
