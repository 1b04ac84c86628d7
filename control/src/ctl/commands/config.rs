//! `config …`: the configuration of all nodes.

mod apply;
mod converge;

use std::io::{IsTerminal, Read};
use std::path::Path;

use serde_json::json;
use swift_s3_proto::v1::{
    DiffConfigRequest, GetConfigRequest, ListRevisionsRequest, Problem, Revision, ValidateConfigRequest,
    ValidateConfigResponse,
};

use super::document::{self, REVISION_KEY};
use super::{Listed, all_pages, changes, tell_if_cut};
use crate::ctl::arguments::ConfigCommand;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure, problem};
use crate::ctl::json;
use crate::ctl::output::{Output, tell};
use crate::ctl::settings::Settings;
use crate::ctl::table::Table;
use crate::ctl::text::{harmless, harmless_json};
use crate::ctl::units::{count, date};

/// A document longer than this is a mistake; the server takes 16 MiB.
const MAX_DOCUMENT_BYTES: u64 = 16 * 1024 * 1024;

/// A document from a file.
pub(super) struct LocalDocument {
    pub(super) text: String,
    /// The revision that it was read at, if it tells.
    revision: Option<i64>,
    is_from_terminal_input: bool,
}

pub(super) async fn run(
    command: &ConfigCommand,
    settings: &Settings,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Get { revision } => get(&Connection::open(settings).await?, *revision, output).await,
        ConfigCommand::Diff { file, from, to } => {
            let document = file.as_deref().map(read_document).transpose()?;
            diff(&Connection::open(settings).await?, document, *from, *to, output).await
        }
        ConfigCommand::Validate { file } => {
            let document = read_document(file)?;
            validate(&Connection::open(settings).await?, document, output).await
        }
        ConfigCommand::Apply { file, dry_run, change } => {
            let document = read_document(file)?;
            apply::apply(&Connection::open(settings).await?, document, *dry_run, change, output).await
        }
        ConfigCommand::History { limit } => {
            history(&Connection::open(settings).await?, limit.limit, output).await
        }
        ConfigCommand::Rollback { revision, change } => {
            apply::rollback(&Connection::open(settings).await?, *revision, change, output).await
        }
    }
}

pub(super) fn read_document(path: &Path) -> Result<LocalDocument, Failure> {
    let is_from_terminal_input = path == Path::new("-");
    let name = if is_from_terminal_input { "standard input".to_owned() } else { path.display().to_string() };
    let wrong = |found: &dyn std::fmt::Display| Failure::usage(format!("{name} cannot be used: {found}"));
    let mut text = String::new();
    let read = if is_from_terminal_input {
        std::io::stdin().take(MAX_DOCUMENT_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_DOCUMENT_BYTES + 1).read_to_string(&mut text))
    };
    read.map_err(|error| wrong(&error))?;
    if text.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(wrong(&"found more than 16 MiB, expected at most 16 MiB"));
    }
    if text.trim().is_empty() {
        return Err(wrong(&"found nothing, expected a configuration in JSON"));
    }
    let (text, revision) = document::without_revision(&text).map_err(|reason| wrong(&reason))?;
    Ok(LocalDocument { text, revision, is_from_terminal_input })
}

/// True if somebody sits there who can be asked.
pub(super) fn can_ask(document: Option<&LocalDocument>) -> bool {
    std::io::stdin().is_terminal() && !document.is_some_and(|document| document.is_from_terminal_input)
}

async fn get(server: &Connection, revision: Option<i64>, output: &mut Output) -> Result<Exit, Failure> {
    let request = GetConfigRequest { revision: revision.unwrap_or(0) };
    let answer = server.call("get the configuration", server.config().get_config(request)).await?;
    let number = answer.revision.map_or(0, |revision| revision.revision);
    let text = document::with_revision(&answer.document, number);
    // What is no JSON may hold anything, and then only its words matter.
    let is_json = text.contains(REVISION_KEY) && serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
    if is_json {
        output.raw(&harmless_json(&text))?
    } else {
        output.line(&text)?
    }
    Ok(Exit::Done)
}

async fn diff(
    server: &Connection,
    document: Option<LocalDocument>,
    from: Option<i64>,
    to: Option<i64>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let request = DiffConfigRequest {
        from_revision: from.unwrap_or(0),
        to_revision: to.unwrap_or(0),
        document: document.map(|document| document.text).unwrap_or_default(),
    };
    let answer = server
        .call("compare the configuration", server.config().diff_config(request))
        .await
        .map_err(Failure::of_document)?;
    if output.is_table() {
        output.raw(&changes::render(&answer.changes, output.colours()))?;
        tell(&changes::summary(&answer.changes));
    } else {
        output.json(&json!({ "changes": json::values(&answer.changes)? }))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn check(server: &Connection, text: &str) -> Result<ValidateConfigResponse, Failure> {
    let request = ValidateConfigRequest { document: text.to_owned() };
    server
        .call("check the configuration", server.config().validate_config(request))
        .await
        .map_err(Failure::of_document)
}

async fn validate(
    server: &Connection,
    document: LocalDocument,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let answer = check(server, &document.text).await?;
    if !output.is_table() {
        output.json(&json::value(&answer)?)?;
    }
    warn(&answer.warnings);
    if !answer.problems.is_empty() {
        return Err(Failure::refused(&answer.problems));
    }
    if output.is_table() {
        let mappings = count(u64::from(answer.mappings), "mapping");
        output.line(&format!("right: {mappings}; {}", changes::summary(&answer.changes)))?;
    }
    Ok(Exit::Done)
}

fn warn(warnings: &[Problem]) {
    for warning in warnings {
        tell(&format!("warning: {}", problem(warning)));
    }
}

async fn fetch_revisions(server: &Connection, limit: Option<u32>) -> Result<Listed<Revision>, Failure> {
    all_pages(limit, async |page_size, page_token| {
        let request = ListRevisionsRequest { page_size, page_token };
        let answer = server
            .call("list revisions of the configuration", server.config().list_revisions(request))
            .await?;
        Ok((answer.revisions, answer.next_page_token))
    })
    .await
}

/// The revision in force; 0: none.
async fn revision_in_force(server: &Connection) -> Result<i64, Failure> {
    let newest = fetch_revisions(server, Some(1)).await?;
    Ok(newest.items.first().map_or(0, |revision| revision.revision))
}

async fn history(server: &Connection, limit: Option<u32>, output: &mut Output) -> Result<Exit, Failure> {
    let listed = fetch_revisions(server, limit).await?;
    if !output.is_table() {
        let revisions = json::values(&listed.items)?;
        output.json(&json!({ "revisions": revisions, "is_cut": listed.is_cut }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["REVISION>", "APPLIED", "AUTHOR", "MAPPINGS>", "COMMENT"]);
    for revision in &listed.items {
        let comment = match (revision.rolled_back_to, revision.comment.as_str()) {
            (0, comment) => comment.to_owned(),
            (older, "") => format!("rolled back to {older}"),
            (older, comment) => format!("rolled back to {older}: {comment}"),
        };
        table.row(vec![
            revision.revision.to_string().into(),
            date(revision.applied_at.as_ref()).into(),
            revision.author.as_str().into(),
            revision.mappings.to_string().into(),
            comment.into(),
        ]);
    }
    output.table(&table, "no configuration was applied yet")?;
    tell_if_cut(&listed, None);
    Ok(Exit::Done)
}

/// Asks on standard error; anything but yes is no. The connection stays alive while somebody thinks.
pub(super) async fn ask(question: &str) -> Result<bool, Failure> {
    use std::io::Write;
    let mut error = std::io::stderr();
    write!(error, "{} [y/N] ", harmless(question))?;
    error.flush()?;
    let read = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = read.await.map_err(std::io::Error::other)??;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
