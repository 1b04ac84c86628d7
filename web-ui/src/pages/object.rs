//! "Why is this object not there?"

use axum::extract::Query;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{ExplainObjectRequest, ObjectFindings, ObjectState};

use super::{Tone, Word, encoded};
use crate::api::{Api, call};
use crate::failure::Failure;
use crate::page;
use crate::units;
use crate::visit::Visit;

/// Which object.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    account: String,
    #[serde(default)]
    container: String,
    #[serde(default)]
    object: String,
}

/// The address of an object's page.
#[must_use]
pub fn path(account: &str, container: &str, object: &str) -> String {
    format!(
        "/object?account={}&container={}&object={}",
        encoded(account),
        encoded(container),
        encoded(object)
    )
}

/// What the page shows.
#[derive(Debug, Default, Serialize)]
pub struct Object {
    /// The account.
    pub account: String,
    /// The container.
    pub container: String,
    /// The object.
    pub object: String,
    /// Where it stands, in words. Empty: nothing was asked.
    pub verdict: String,
    /// Of each node that answered.
    pub findings: Vec<Finding>,
    /// Nodes that follow the container and did not answer.
    pub silent_nodes: Vec<String>,
    /// Mappings of the container. Empty: it is not mapped.
    pub mapping_ids: Vec<String>,
    /// It is set aside, and can be tried again now.
    pub can_retry: bool,
}

/// What one node knows.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The node.
    pub node_id: String,
    /// The mapping.
    pub mapping_id: String,
    /// Where it stands there.
    pub state: Word,
    /// The same in words.
    pub explanation: String,
    /// The node handles this name first.
    pub is_owner: bool,
    /// The row in its database, in words. Empty: there is none.
    pub row: String,
    /// The cursor against the row. Empty: there is no row.
    pub cursor: String,
    /// The last failure, in words. Empty: it is not set aside.
    pub failure: String,
    /// The remote key. Empty: none.
    pub remote_key: String,
    /// What the remote holds under it, in words.
    pub remote: String,
}

/// `GET /object`
pub async fn show(visit: Visit, Query(asked): Query<Asked>) -> Response {
    page::show(visit, "/object", Box::new(move |api| Box::pin(load(api, asked.clone())))).await
}

async fn load(api: Api, asked: Asked) -> Result<Object, Failure> {
    let mut object = Object {
        account: asked.account.clone(),
        container: asked.container.clone(),
        object: asked.object.clone(),
        ..Object::default()
    };
    let Asked { account, container, object: name } = asked;
    if account.is_empty() || container.is_empty() || name.is_empty() {
        return Ok(object);
    }
    let request = ExplainObjectRequest { account, container, object: name };
    let answer = call(api.status().explain_object(request)).await?;
    let now = Timestamp::now();
    object.verdict = answer.verdict.clone();
    object.can_retry = answer.findings.iter().any(|finding| finding.parked.is_some());
    object.findings = answer.findings.iter().map(|finding| shown(finding, now)).collect();
    object.silent_nodes = answer.silent_nodes;
    object.mapping_ids = answer.mapping_ids;
    Ok(object)
}

fn state(state: ObjectState) -> Word {
    let (text, tone) = match state {
        ObjectState::Unspecified => (units::UNKNOWN, Tone::Odd),
        ObjectState::NoRow => ("no row", Tone::Plain),
        ObjectState::NotWanted => ("not wanted", Tone::Plain),
        ObjectState::WaitingForAge => ("waits for its age", Tone::Plain),
        ObjectState::Queued => ("in line", Tone::Plain),
        ObjectState::Parked => ("failed, tried again", Tone::Bad),
        ObjectState::Done => ("done", Tone::Good),
        ObjectState::Paused => ("paused", Tone::Odd),
        ObjectState::DeleteHeld => ("delete held", Tone::Odd),
        ObjectState::OwnedElsewhere => ("another node's", Tone::Plain),
    };
    Word { text, tone }
}

fn shown(finding: &ObjectFindings, now: Timestamp) -> Finding {
    let row = finding.row.as_ref();
    Finding {
        node_id: finding.node_id.clone(),
        mapping_id: finding.mapping_id.clone(),
        state: state(finding.state()),
        explanation: finding.explanation.clone(),
        is_owner: finding.is_owner,
        row: row.map_or_else(String::new, |row| {
            let what = if row.deleted { "delete".to_owned() } else { units::bytes(row.size) };
            format!("{what}, timestamp {}, ETag {}, {}", row.timestamp, row.etag, row.content_type)
        }),
        cursor: row.map_or_else(String::new, |row| format!("cursor {} of row {}", finding.cursor, row.rowid)),
        failure: finding.parked.as_ref().map_or_else(String::new, |parked| {
            format!(
                "{}: {} ({}, next try {})",
                parked.reason,
                parked.message,
                units::count(parked.attempts.into(), "attempt"),
                units::until(parked.next_try, now)
            )
        }),
        remote_key: finding.remote_key.clone(),
        remote: match &finding.remote {
            None if finding.remote_trouble.is_empty() => "not asked".to_owned(),
            None => format!("could not be asked: {}", finding.remote_trouble),
            Some(remote) if remote.exists => format!(
                "{}, ETag {}, stored {}",
                units::bytes(remote.size),
                remote.etag,
                units::date(remote.last_modified.as_ref())
            ),
            Some(_) => "no such key".to_owned(),
        },
    }
}

crate::templates!(Object, "object.html", false, |view| match view.object.as_str() {
    "" => "Object".to_owned(),
    name => format!("Object {name}"),
});
