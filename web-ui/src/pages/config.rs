//! The configuration: what is in force and where, its history, and changing it.

use axum::extract::{Form, Path, Query};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{
    ApplyConfigRequest, Change, ChangeKind, DiffConfigRequest, GetConfigRequest, GetStatusRequest,
    ListRevisionsRequest, NodeState, Problem, Revision, RollbackConfigRequest, ValidateConfigRequest,
};

use super::lines::line_of;
use super::mappings::pretty;
use super::{Word, encoded, node_state};
use crate::api::{Api, call};
use crate::failure::{Failure, Place};
use crate::page;
use crate::units;
use crate::visit::{self, Visit};

/// Revisions on a page.
const PAGE: u32 = 20;
/// Nodes that are not there yet, on the page.
const LATE: u32 = 20;

/// What the first page shows.
#[derive(Debug, Serialize)]
pub struct Config {
    /// The revision in force; 0: none.
    pub revision: i64,
    /// How far it has come.
    pub convergence: Convergence,
    /// Revisions, newest first.
    pub revisions: Vec<OneRevision>,
    /// The address of the next page of revisions. Empty: there is none.
    pub next: String,
}

/// How far the revision in force has come.
#[derive(Debug, Serialize)]
pub struct Convergence {
    /// Nodes where all of it is in force.
    pub synced: u32,
    /// Nodes that are connected.
    pub connected: u32,
    /// Nodes that are silent.
    pub silent: u32,
    /// In a sentence.
    pub sentence: String,
    /// Nodes that are connected, and not there yet.
    pub late: Vec<Late>,
}

/// A node that is not there yet.
#[derive(Debug, Serialize)]
pub struct Late {
    /// Its id.
    pub node_id: String,
    /// How it stands.
    pub state: Word,
    /// The revision in force there.
    pub revision: i64,
    /// Why it refused (part of) it.
    pub problems: Vec<Place>,
}

/// About one revision.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OneRevision {
    /// Counts from 1.
    pub revision: i64,
    /// RFC 3339.
    pub applied_at: String,
    /// How long ago.
    pub age: String,
    /// Who. Empty: access control was off.
    pub author: String,
    /// Why.
    pub comment: String,
    /// How many mappings it has.
    pub mappings: u32,
    /// The revision it repeats; 0: none.
    pub rolled_back_to: i64,
}

impl OneRevision {
    fn new(told: &Revision, now: Timestamp) -> Self {
        Self {
            revision: told.revision,
            applied_at: units::date(told.applied_at.as_ref()),
            age: units::age(told.applied_at.as_ref(), now),
            author: told.author.clone(),
            comment: told.comment.clone(),
            mappings: told.mappings,
            rolled_back_to: told.rolled_back_to,
        }
    }
}

/// What a revision's page shows.
#[derive(Debug, Serialize)]
pub struct Past {
    /// About it.
    pub about: OneRevision,
    /// JSON without secrets.
    pub document: String,
    /// The revision in force.
    pub current: i64,
    /// What rolling back to it would change.
    pub changes: Vec<Difference>,
}

/// One difference between two documents.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// What kind.
    pub kind: &'static str,
    /// JSON path.
    pub path: String,
    /// Account and container of its mapping. Empty: none.
    pub mapping: String,
    /// JSON. Empty: there was nothing.
    pub before: String,
    /// JSON. Empty: there is nothing.
    pub after: String,
}

impl Difference {
    fn new(change: &Change) -> Self {
        Self {
            kind: match change.kind() {
                ChangeKind::Unspecified => "",
                ChangeKind::Added => "added",
                ChangeKind::Removed => "removed",
                ChangeKind::Changed => "changed",
            },
            path: change.path.clone(),
            mapping: change.mapping.clone(),
            before: if change.before.is_empty() { String::new() } else { pretty(&change.before) },
            after: if change.after.is_empty() { String::new() } else { pretty(&change.after) },
        }
    }
}

/// A document that is being written.
#[derive(Debug, Default, Serialize)]
pub struct Draft {
    /// As it was typed.
    pub document: String,
    /// The revision that it is to replace.
    pub expected_revision: i64,
    /// The revision in force now, which the next check is against.
    pub in_force: i64,
    /// Why it would be refused.
    pub problems: Vec<Spot>,
    /// What works but deserves a look.
    pub warnings: Vec<Spot>,
    /// What it would change.
    pub changes: Vec<Difference>,
    /// How many mappings it has.
    pub mappings: u32,
    /// Why, as typed.
    pub comment: String,
    /// Another revision came in force meanwhile. Empty: none did.
    pub conflict: String,
    /// It was looked at.
    pub is_checked: bool,
}

/// A place in a document, and what is wrong there.
#[derive(Debug, Serialize)]
pub struct Spot {
    /// JSON path. Empty: the document as a whole.
    pub path: String,
    /// The line it is in, from 1; 0: cannot be told.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl Draft {
    fn can_be_applied(&self) -> bool {
        self.is_checked && self.problems.is_empty() && !self.changes.is_empty() && self.conflict.is_empty()
    }
}

/// Which page of revisions.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct From {
    #[serde(default)]
    after: String,
}

/// `GET /config`
pub async fn show(visit: Visit, Query(from): Query<From>) -> Response {
    page::show(visit, "/config", Box::new(move |api| Box::pin(load(api, from.clone())))).await
}

async fn load(api: Api, from: From) -> Result<Config, Failure> {
    let (mut status, mut config) = (api.status(), api.config());
    let (told, revisions, refusing, stale) = tokio::join!(
        call(status.get_status(GetStatusRequest {})),
        call(config.list_revisions(ListRevisionsRequest { page_size: PAGE, page_token: from.after })),
        api.nodes_in(NodeState::Rejected, LATE),
        api.nodes_in(NodeState::Stale, LATE)
    );
    let (told, revisions) = (told?, revisions?);
    let in_state = |state: NodeState| {
        told.nodes.iter().filter(|nodes| nodes.state() == state).map(|nodes| nodes.count).sum::<u32>()
    };
    let synced = in_state(NodeState::Synced);
    let silent = in_state(NodeState::NotSeen);
    let connected = synced + in_state(NodeState::Stale) + in_state(NodeState::Rejected);
    let late = [refusing?, stale?].concat();
    let now = Timestamp::now();
    Ok(Config {
        revision: told.revision,
        convergence: Convergence {
            synced,
            connected,
            silent,
            sentence: convergence(told.revision, synced, connected, in_state(NodeState::Rejected), silent),
            late: late
                .iter()
                .take(usize::try_from(LATE).unwrap_or(usize::MAX))
                .map(|node| Late {
                    node_id: node.node_id.clone(),
                    state: node_state(node.state()),
                    revision: node.revision,
                    problems: node.problems.iter().map(super::place).collect(),
                })
                .collect(),
        },
        revisions: revisions.revisions.iter().map(|revision| OneRevision::new(revision, now)).collect(),
        next: match revisions.next_page_token.as_str() {
            "" => String::new(),
            token => format!("/config?after={}", encoded(token)),
        },
    })
}

/// How far a revision has come, in a sentence.
fn convergence(revision: i64, synced: u32, connected: u32, rejected: u32, silent: u32) -> String {
    let nodes = |count: u32| units::count(count.into(), "node");
    let silent = match silent {
        0 => String::new(),
        silent => format!(
            " {} silent, and will get it when back.",
            if silent == 1 { "1 node is".to_owned() } else { format!("{silent} nodes are") }
        ),
    };
    let sentence = match (revision, connected) {
        (0, _) => return "Nothing was applied yet.".to_owned(),
        (_, 0) => format!("Revision {revision} is stored; no node is connected."),
        (_, connected) if synced == connected => {
            format!("Revision {revision} is in force on every connected node ({connected}).")
        }
        (_, connected) if rejected > 0 => {
            format!(
                "Revision {revision} is in force on {synced} of {}; {rejected} refused some or all of it.",
                nodes(connected)
            )
        }
        (_, connected) => format!("Revision {revision} is in force on {synced} of {}.", nodes(connected)),
    };
    sentence + &silent
}

/// `GET /config/revisions/{revision}`
pub async fn past(visit: Visit, Path(revision): Path<i64>) -> Response {
    page::show(visit, "/config", Box::new(move |api| Box::pin(load_past(api, revision)))).await
}

async fn load_past(api: Api, revision: i64) -> Result<Past, Failure> {
    let mut config = api.config();
    let told = call(config.get_config(GetConfigRequest { revision })).await?;
    let current = current(&api).await?;
    let request = DiffConfigRequest { from_revision: 0, to_revision: revision, document: String::new() };
    let changes = call(config.diff_config(request)).await?.changes;
    Ok(Past {
        about: OneRevision::new(&told.revision.unwrap_or_default(), Timestamp::now()),
        document: pretty(&told.document),
        current,
        changes: changes.iter().map(Difference::new).collect(),
    })
}

/// The revision in force; 0: none.
async fn current(api: &Api) -> Result<i64, Failure> {
    match call(api.config().get_config(GetConfigRequest { revision: 0 })).await {
        Ok(answer) => Ok(answer.revision.unwrap_or_default().revision),
        Err(failure) if failure.status == StatusCode::NOT_FOUND => Ok(0),
        Err(failure) => Err(failure),
    }
}

/// `GET /config/edit`
pub async fn edit(visit: Visit) -> Response {
    page::show(visit, "/config", Box::new(|api| Box::pin(load_draft(api)))).await
}

async fn load_draft(api: Api) -> Result<Draft, Failure> {
    let (document, expected_revision) =
        match call(api.config().get_config(GetConfigRequest { revision: 0 })).await {
            Ok(answer) => (pretty(&answer.document), answer.revision.unwrap_or_default().revision),
            Err(failure) if failure.status == StatusCode::NOT_FOUND => {
                ("{\n  \"containers\": []\n}".to_owned(), 0)
            }
            Err(failure) => return Err(failure),
        };
    Ok(Draft { document, expected_revision, in_force: expected_revision, ..Draft::default() })
}

/// What was typed.
#[derive(Debug, Deserialize)]
pub struct Typed {
    #[serde(default)]
    form_token: String,
    #[serde(default)]
    document: String,
    #[serde(default)]
    expected_revision: i64,
    #[serde(default)]
    comment: String,
    /// Empty: only look. `apply`: put it in force. `edit`: go back.
    #[serde(default)]
    act: String,
}

/// `POST /config/edit`: looks at what was typed, or puts it in force.
pub async fn typed(visit: Visit, Form(typed): Form<Typed>) -> Response {
    if !visit.is_own_form(&typed.form_token) {
        return page::failed(visit, "/config", Failure::forged()).await;
    }
    if typed.act == "apply" {
        return apply(visit, typed).await;
    }
    let looks_again = typed.act == "edit";
    match check(&visit.api, typed).await {
        Ok(mut draft) => {
            if looks_again {
                draft.is_checked = false;
            }
            if visit.form == visit::Form::Json {
                // Whoever sent it has it.
                draft.document.clear();
            }
            page::show_again(visit, "/config", StatusCode::OK, draft).await
        }
        Err(failure) => page::failed(visit, "/config", failure).await,
    }
}

async fn check(api: &Api, typed: Typed) -> Result<Draft, Failure> {
    let request = ValidateConfigRequest { document: typed.document.clone() };
    let (answer, in_force) =
        tokio::join!(async { call(api.config().validate_config(request)).await }, current(api));
    let (answer, in_force) = (answer?, in_force?);
    let spots = |problems: &[Problem]| {
        problems
            .iter()
            .map(|problem| Spot {
                path: problem.path.clone(),
                line: line_of(&typed.document, &problem.path),
                problem: super::problem(problem),
            })
            .collect()
    };
    let conflict = match in_force == typed.expected_revision {
        true => String::new(),
        false => format!(
            "Revision {in_force} came in force while you edited revision {}. Look at it, and take over what you want to keep.",
            typed.expected_revision
        ),
    };
    Ok(Draft {
        problems: spots(&answer.problems),
        warnings: spots(&answer.warnings),
        changes: answer.changes.iter().map(Difference::new).collect(),
        mappings: answer.mappings,
        expected_revision: typed.expected_revision,
        in_force,
        comment: typed.comment,
        document: typed.document,
        conflict,
        is_checked: true,
    })
}

async fn apply(visit: Visit, typed: Typed) -> Response {
    let request = ApplyConfigRequest {
        document: typed.document.clone(),
        expected_revision: typed.expected_revision,
        dry_run: false,
        comment: typed.comment.clone(),
    };
    match call(visit.api.config().apply_config(request)).await {
        Ok(answer) => {
            let revision = answer.revision.unwrap_or_default().revision;
            let notice = match answer.changes.is_empty() {
                true => format!("Nothing differs from revision {revision}, which stays in force."),
                false => format!("Revision {revision} is stored and on its way to every node."),
            };
            page::done(visit, "/config", &notice)
        }
        Err(failure) if matches!(failure.status, StatusCode::CONFLICT | StatusCode::BAD_REQUEST) => {
            let status = failure.status;
            match check(&visit.api, typed).await {
                Ok(mut draft) => {
                    if draft.problems.is_empty() && draft.conflict.is_empty() {
                        draft.conflict = failure.message.clone();
                    }
                    page::show_again(visit, "/config", status, draft).await
                }
                Err(failure) => page::failed(visit, "/config", failure).await,
            }
        }
        Err(failure) => page::failed(visit, "/config", failure).await,
    }
}

/// What rolls back.
#[derive(Debug, Deserialize)]
pub struct Back {
    #[serde(default)]
    form_token: String,
    #[serde(default)]
    expected_revision: i64,
    #[serde(default)]
    comment: String,
}

/// `POST /config/revisions/{revision}/roll-back`
pub async fn roll_back(visit: Visit, Path(revision): Path<i64>, Form(back): Form<Back>) -> Response {
    if !visit.is_own_form(&back.form_token) {
        return page::failed(visit, "/config", Failure::forged()).await;
    }
    let Back { expected_revision, comment, .. } = back;
    let request = RollbackConfigRequest { revision, expected_revision, comment };
    match call(visit.api.config().rollback_config(request)).await {
        Ok(answer) => {
            let new = answer.revision.unwrap_or_default().revision;
            let notice =
                format!("Revision {new} repeats revision {revision}, and is on its way to every node.");
            page::done(visit, "/config", &notice)
        }
        Err(failure) => page::failed(visit, "/config", failure).await,
    }
}

crate::templates!(Config, "config.html", |_| "Configuration".to_owned());
crate::templates!(Past, "revision.html", false, |view| format!("Revision {}", view.about.revision));
crate::templates!(Draft, "edit.html", false, |_| "Edit the configuration".to_owned());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convergence_is_told_in_a_sentence() {
        for (numbers, expected) in [
            ((0, 0, 0, 0, 0), "Nothing was applied yet."),
            ((3, 0, 0, 0, 0), "Revision 3 is stored; no node is connected."),
            ((3, 2, 2, 0, 0), "Revision 3 is in force on every connected node (2)."),
            (
                (3, 1, 2, 0, 1),
                "Revision 3 is in force on 1 of 2 nodes. 1 node is silent, and will get it when back.",
            ),
            ((3, 1, 2, 1, 0), "Revision 3 is in force on 1 of 2 nodes; 1 refused some or all of it."),
            (
                (3, 2, 2, 0, 2),
                "Revision 3 is in force on every connected node (2). 2 nodes are silent, and will get it when back.",
            ),
        ] {
            let (revision, synced, connected, rejected, silent) = numbers;
            assert_eq!(convergence(revision, synced, connected, rejected, silent), expected);
        }
    }
}
