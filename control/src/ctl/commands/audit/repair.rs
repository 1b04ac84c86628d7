//! The repair after a comparison: shows what it would do, asks, and has it done in portions.

use std::collections::BTreeMap;

use serde_json::json;
use swift_s3_proto::v1::{RepairAction, RepairObjectsRequest, RepairOutcome, RepairResult};

use super::retrying;
use super::state::{Counts, Names, State, ToRepair};
use crate::ctl::arguments::AuditArguments;
use crate::ctl::commands::config::{ask, can_ask};
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::{Output, tell};
use crate::ctl::text::harmless;
use crate::ctl::units::{bytes, count};

/// Names in one request.
const PORTION: usize = 200;

pub(super) async fn run(
    server: &Connection,
    arguments: &AuditArguments,
    state: &State,
    names: &mut Names,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let counts = state.counts();
    let copies = counts.missing + counts.different;
    let deletes = if arguments.delete_extra { counts.extra } else { 0 };
    if copies + deletes == 0 {
        tell("nothing to repair");
        return Ok(counts.exit(counts.errors()));
    }
    tell(&format!(
        "repair: {} handled again ({}), {} removed from the remote; about {} to the remote",
        count(copies, "name"),
        bytes(counts.bytes_to_repair),
        count(deletes, "name"),
        // A HEAD and a PUT; a HEAD and two DELETEs, the companion's among them.
        count(2 * copies + 3 * deletes, "request"),
    ));
    if counts.extra > deletes {
        tell(&format!(
            "{} stay: --delete-extra --never-archived removes what only the remote has",
            count(counts.extra, "extra name")
        ));
    }
    if arguments.dry_run {
        tell("nothing was changed");
        return Ok(Exit::Refused);
    }
    if !arguments.yes {
        if !can_ask(None) {
            return Err(Failure::usage("nobody can be asked here: expected --yes, or --dry-run"));
        }
        if !ask("repair now?").await? {
            tell("nothing was changed");
            return Ok(Exit::Failed);
        }
    }
    let deletes_by_container = if deletes > 0 { extras(names)? } else { BTreeMap::new() };
    let mut work = Work { server, arguments, state, deletes: deletes_by_container, tally: Tally::default() };
    let mut portion: Vec<ToRepair> = Vec::new();
    for name in names.read()? {
        let name = name?;
        if name.is_extra && !arguments.delete_extra {
            continue;
        }
        let is_other = portion
            .first()
            .is_some_and(|first| first.container != name.container || first.is_extra != name.is_extra);
        if is_other || portion.len() >= PORTION {
            work.send(std::mem::take(&mut portion), output).await?;
        }
        portion.push(name);
    }
    if !portion.is_empty() {
        work.send(portion, output).await?;
    }
    work.tally.show(counts, arguments.delete_extra, output)
}

/// How many names each container has only in the remote: the delete limit is about that number.
fn extras(names: &mut Names) -> Result<BTreeMap<String, u64>, Failure> {
    let mut found = BTreeMap::new();
    for name in names.read()? {
        let name = name?;
        if name.is_extra {
            *found.entry(name.container).or_default() += 1;
        }
    }
    Ok(found)
}

struct Work<'a> {
    server: &'a Connection,
    arguments: &'a AuditArguments,
    state: &'a State,
    deletes: BTreeMap<String, u64>,
    tally: Tally,
}

impl Work<'_> {
    async fn send(&mut self, names: Vec<ToRepair>, output: &mut Output) -> Result<(), Failure> {
        let Some(first) = names.first() else { return Ok(()) };
        let place = self.state.place();
        let is_delete = first.is_extra;
        let (container, planned) =
            (first.container.clone(), self.deletes.get(&first.container).copied().unwrap_or_default());
        let action = if is_delete { RepairAction::DeleteExtra } else { RepairAction::Copy };
        let request = RepairObjectsRequest {
            mapping_id: place.mapping_id.clone(),
            account: place.account.clone(),
            container: container.clone(),
            objects: names.into_iter().map(|name| name.object).collect(),
            action: action.into(),
            planned_deletes: if is_delete { planned } else { 0 },
            // One container: what it has. Several: too few is the careful side.
            remote_objects: if place.only.is_some() { self.state.counts().compared } else { planned },
            ignore_delete_limit: self.arguments.force,
            never_archived: is_delete && self.arguments.never_archived,
            ..RepairObjectsRequest::default()
        };
        let answer = retrying(async || {
            self.server.call("repair", self.server.audit().repair_objects(request.clone())).await
        })
        .await?;
        for result in &answer.results {
            self.tally.add(result);
            if is_fine(result.outcome()) && output.is_table() {
                continue;
            }
            show(&container, result, output)?;
        }
        Ok(())
    }
}

/// True if nothing is left to do about the name.
fn is_fine(outcome: RepairOutcome) -> bool {
    matches!(
        outcome,
        RepairOutcome::Copied
            | RepairOutcome::Updated
            | RepairOutcome::Equal
            | RepairOutcome::Deleted
            | RepairOutcome::NotWanted
            | RepairOutcome::Superseded
    )
}

fn show(container: &str, result: &RepairResult, output: &mut Output) -> Result<(), Failure> {
    if output.is_table() {
        let word = word(result.outcome());
        let name = format!("{container}/{}", result.object);
        return output.raw(&format!("{word:<10}  {}: {}\n", harmless(&name), harmless(&result.detail)));
    }
    if output.is_csv() {
        // The table of differences has other columns.
        return Ok(());
    }
    let mut value = json::value(result)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("container".to_owned(), container.into());
    }
    output.json_line(&value)
}

fn word(outcome: RepairOutcome) -> &'static str {
    match outcome {
        RepairOutcome::Copied => "copied",
        RepairOutcome::Updated => "updated",
        RepairOutcome::Equal => "equal",
        RepairOutcome::Deleted => "deleted",
        RepairOutcome::NotWanted => "not wanted",
        RepairOutcome::Superseded => "superseded",
        RepairOutcome::Failed => "failed",
        RepairOutcome::Unfinished => "unfinished",
        RepairOutcome::Refused => "refused",
        RepairOutcome::NoRow => "no row",
        RepairOutcome::OtherNode | RepairOutcome::Unspecified => "unknown",
    }
}

#[derive(Debug, Default)]
struct Tally {
    by_outcome: BTreeMap<&'static str, u64>,
    fine: u64,
    left: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, result: &RepairResult) {
        *self.by_outcome.entry(word(result.outcome())).or_default() += 1;
        self.bytes = self.bytes.saturating_add(result.bytes);
        if is_fine(result.outcome()) { self.fine += 1 } else { self.left += 1 }
    }

    fn show(&self, counts: &Counts, deletes_extra: bool, output: &mut Output) -> Result<Exit, Failure> {
        let left = self.left + if deletes_extra { 0 } else { counts.extra };
        if output.is_table() {
            let outcomes: Vec<String> =
                self.by_outcome.iter().map(|(word, number)| format!("{number} {word}")).collect();
            output.line(&format!(
                "repaired: {}; {} sent; {} left",
                outcomes.join(", "),
                bytes(self.bytes),
                count(left, "difference")
            ))?;
        } else if !output.is_csv() {
            output.json_line(&json!({
                "repair": { "outcomes": self.by_outcome, "bytes": self.bytes, "left": left }
            }))?;
        }
        Ok(counts.exit(left))
    }
}
