//! Names that an operator wants handled again.

use tokio::sync::oneshot;

use super::*;
use crate::feed::again::{Again, AgainEnd, AgainWhat};

/// Deletes of what was written or deleted later than this are not asked for: it may not be everywhere yet.
const SETTLED: Duration = Duration::from_secs(60);

/// Who waits for the end of which row, by name.
pub(super) type Asked = HashMap<String, (i64, oneshot::Sender<AgainEnd>)>;

impl Pass<'_> {
    /// Looks up names that are to be handled again.
    pub(super) async fn load_again(&mut self) {
        let wishes = self.feed.take_again();
        if wishes.is_empty() {
            return;
        }
        let names: Vec<String> = wishes.iter().map(|wish| wish.object.clone()).collect();
        let found = self
            .feed
            .read(move |database| {
                let row = |name: &String| Ok(database.row_by_name(name)?.and_then(Result::ok));
                names.iter().map(row).collect::<Result<Vec<Option<Row>>, DbError>>()
            })
            .await;
        match found {
            Ok(rows) => {
                for (wish, row) in wishes.into_iter().zip(rows) {
                    self.take_wish(wish, row);
                }
            }
            Err(error) => {
                for wish in wishes {
                    drop(wish.ended.send(AgainEnd::Failed(format!("could not read the database: {error}"))));
                }
            }
        }
    }

    fn take_wish(&mut self, wish: Again, row: Option<Row>) {
        let is_delete = matches!(wish.what, AgainWhat::Delete { .. });
        // Whoever asked was told that it was not done in time.
        if is_delete && wish.ended.is_closed() {
            return;
        }
        let is_own = self.feed.source.own.contains(&owner_index(&wish.object, self.state.nodes));
        let decided = match (wish.what, row) {
            (AgainWhat::Row, None) => Err(AgainEnd::NoRow),
            (AgainWhat::Row, Some(_)) if !is_own && !wish.any_share => Err(AgainEnd::OtherNode),
            (AgainWhat::Row, Some(row)) => self.due(row),
            (AgainWhat::Delete { .. }, Some(row)) if !row.deleted => {
                Err(AgainEnd::Refused("the name has a live row".to_owned()))
            }
            (AgainWhat::Delete { .. }, Some(row)) => Ok(row),
            (AgainWhat::Delete { policy_index }, None) => Ok(tombstone(&wish.object, policy_index)),
        };
        match decided {
            Ok(row) => {
                let share = if is_own { Share::Own } else { Share::Others };
                self.asked.insert(wish.object, (row.rowid, wish.ended));
                let hint = if is_delete { Hint::AskedDelete } else { Hint::Unknown };
                self.retries.push_back(Task { row, hint, share, lane: None, span: Span::none() });
            }
            // Whoever asked may have given up.
            Err(end) => drop(wish.ended.send(end)),
        }
    }

    /// Rows that wait for their age go on waiting, and held deletes stay held.
    fn due(&self, row: Row) -> Result<Row, AgainEnd> {
        if row.deleted && self.state.valve.held().is_some() {
            return Err(AgainEnd::Refused("the delete limit holds it".to_owned()));
        }
        let due = row.timestamps.metadata.plus(self.feed.route.mapping.copy_after);
        if !row.deleted && due > now() {
            return Err(AgainEnd::Refused("its row is younger than copy_after".to_owned()));
        }
        Ok(row)
    }

    /// True for a delete that nobody waits for any more: it must not outlive its answer.
    pub(super) fn is_given_up(&self, task: &Task) -> bool {
        task.hint == Hint::AskedDelete
            && self.asked.get(&task.row.name).is_none_or(|(_, ended)| ended.is_closed())
    }

    /// Tells whoever waits for the name how it ended.
    pub(super) fn tell_asked(&mut self, task: &Task, end: impl FnOnce() -> AgainEnd) {
        let is_it = self.asked.get(&task.row.name).is_some_and(|(rowid, _)| task.row.rowid >= *rowid);
        if is_it && let Some((_, ended)) = self.asked.remove(&task.row.name) {
            drop(ended.send(end()));
        }
    }
}

/// How the end of a row is told.
pub(super) fn end_of(result: &Result<Done, Trouble>) -> AgainEnd {
    match result {
        Ok(Done { outcome: Outcome::Restored(_), .. }) => {
            AgainEnd::Refused("it was restored from the remote less than copy_after ago".to_owned())
        }
        Ok(done) => AgainEnd::Done(done.clone()),
        Err(Trouble::Row(failure)) => {
            AgainEnd::Failed(format!("{}: {}", failure.reason.as_str(), failure.message))
        }
        Err(Trouble::Remote(error)) => AgainEnd::Failed(error.to_string()),
    }
}

/// The delete of a name whose tombstone Swift has forgotten. Its time lies back so far that whatever was written since wins over it.
fn tombstone(name: &str, policy_index: u32) -> Row {
    let now = now();
    let at = Timestamp::from_units(now.units().saturating_sub(SETTLED.as_secs() * 100_000));
    Row {
        rowid: 0,
        name: name.to_owned(),
        timestamps: swift_s3_policy::RowTimestamps { data: at, content_type: at, metadata: at },
        size: 0,
        content_type: String::new(),
        etag: String::new(),
        deleted: true,
        policy_index,
    }
}
