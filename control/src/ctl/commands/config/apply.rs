//! `config apply` and `config rollback`: show what changes, ask, put it in force, watch it arrive.

use serde_json::{Value, json};
use swift_s3_proto::v1::{
    ApplyConfigRequest, ApplyConfigResponse, Change, DiffConfigRequest, RollbackConfigRequest,
};

use super::super::changes;
use super::converge::{Arrival, wait_for_nodes};
use super::{LocalDocument, ask, can_ask, check, revision_in_force, warn};
use crate::ctl::arguments::ChangeArguments;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::{Output, tell};
use crate::ctl::units::count;

/// The longest comment that the contract knows.
const MAX_COMMENT_BYTES: usize = 1000;
/// Where to look after a change without an answer.
const HISTORY: &str = "`swift-s3ctl config history`";

pub(super) async fn apply(
    server: &Connection,
    document: LocalDocument,
    dry_run: bool,
    change: &ChangeArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    check_comment(&change.comment)?;
    let in_force = revision_in_force(server).await?;
    let expected = change.expected_revision.or(document.revision).unwrap_or(in_force);
    let checked = check(server, &document.text).await?;
    warn(&checked.warnings);
    if !checked.problems.is_empty() {
        return Err(Failure::refused(&checked.problems));
    }
    check_expected(expected, in_force)?;
    let can_ask = can_ask(Some(&document));
    if !dry_run
        && !agree(&checked.changes, change.yes, can_ask, output, "put this in force on all nodes?").await?
    {
        return Ok(Exit::Failed);
    }
    let request = ApplyConfigRequest {
        document: document.text,
        expected_revision: expected,
        dry_run,
        comment: change.comment.clone(),
    };
    let answer = server
        .call("apply the configuration", server.config().apply_config(request))
        .await
        .map_err(|failure| failure.of_document().of_change(HISTORY))?;
    if dry_run {
        return show_dry_run(&answer, output);
    }
    finish(server, &answer, in_force, change, output).await
}

pub(super) async fn rollback(
    server: &Connection,
    revision: i64,
    change: &ChangeArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    check_comment(&change.comment)?;
    let in_force = revision_in_force(server).await?;
    let expected = change.expected_revision.unwrap_or(in_force);
    check_expected(expected, in_force)?;
    let request = DiffConfigRequest { to_revision: revision, ..DiffConfigRequest::default() };
    let diff = server.call("compare the configuration", server.config().diff_config(request)).await?;
    let question = format!("put revision {revision} in force again on all nodes?");
    if !agree(&diff.changes, change.yes, can_ask(None), output, &question).await? {
        return Ok(Exit::Failed);
    }
    let request =
        RollbackConfigRequest { revision, expected_revision: expected, comment: change.comment.clone() };
    let answer = server
        .call("roll back the configuration", server.config().rollback_config(request))
        .await
        .map_err(|failure| failure.of_document().of_change(HISTORY))?;
    warn(&answer.warnings);
    finish(server, &answer, in_force, change, output).await
}

fn check_comment(comment: &str) -> Result<(), Failure> {
    if comment.len() <= MAX_COMMENT_BYTES {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "found a comment of {} bytes, expected at most {MAX_COMMENT_BYTES}",
        comment.len()
    )))
}

/// Says early, before anybody is asked, what the server would refuse.
fn check_expected(expected: i64, in_force: i64) -> Result<(), Failure> {
    if expected == in_force {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "revision {in_force} is in force, but the change was made for revision {expected}"
    ))
    .hint(format!(
        "see what others changed with `swift-s3ctl config diff --from {expected} --to {in_force}`, get the \
             configuration again and repeat the change"
    )))
}

/// Shows the changes and asks. On standard output for people, else only where somebody is asked.
async fn agree(
    changes: &[Change],
    is_agreed: bool,
    can_ask: bool,
    output: &mut Output,
    question: &str,
) -> Result<bool, Failure> {
    let must_ask = can_ask && !is_agreed && !changes.is_empty();
    if output.is_table() {
        output.raw(&changes::render(changes, output.colours()))?;
        tell(&changes::summary(changes));
    } else if must_ask {
        changes::render(changes, false).lines().for_each(tell);
    }
    if !must_ask || ask(question).await? {
        return Ok(true);
    }
    tell("nothing was changed");
    Ok(false)
}

fn show_dry_run(answer: &ApplyConfigResponse, output: &mut Output) -> Result<Exit, Failure> {
    if output.is_table() {
        output.raw(&changes::render(&answer.changes, output.colours()))?;
        output.line(&format!("right: {}; nothing was changed", changes::summary(&answer.changes)))?;
    } else {
        output.json(&answer_json(answer, true, None)?)?;
    }
    Ok(Exit::Done)
}

fn answer_json(
    answer: &ApplyConfigResponse,
    dry_run: bool,
    arrival: Option<&Arrival>,
) -> Result<Value, Failure> {
    Ok(json!({
        "revision": answer.revision.as_ref().map(json::value).transpose()?,
        "warnings": json::values(&answer.warnings)?,
        "changes": json::values(&answer.changes)?,
        "dry_run": dry_run,
        "has_converged": arrival.map(Arrival::has_converged),
        "nodes": arrival.map(|arrival| json::values(&arrival.nodes)).transpose()?,
    }))
}

/// Tells the new revision, and how the nodes take it if that was asked for.
async fn finish(
    server: &Connection,
    answer: &ApplyConfigResponse,
    before: i64,
    change: &ChangeArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let revision = answer.revision.clone().unwrap_or_default();
    if output.is_table() {
        let number = revision.revision;
        output.line(&if number == before {
            format!("nothing differs; revision {number} stays in force")
        } else {
            format!("revision {number} is in force, {}", count(u64::from(revision.mappings), "mapping"))
        })?;
    }
    let arrival = match change.wait {
        Some(limit) => Some(wait_for_nodes(server, revision.revision, limit, output).await?),
        None => None,
    };
    if !output.is_table() {
        output.json(&answer_json(answer, false, arrival.as_ref())?)?;
    }
    arrival.as_ref().map_or(Ok(Exit::Done), Arrival::exit)
}
