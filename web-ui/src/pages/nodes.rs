//! Nodes, and one node.

use axum::extract::{Form, Path, Query};
use axum::response::Response;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{
    CursorStatus, ForgetNodeRequest, ListCursorsRequest, ListNodesRequest, NodeState, NodeStatus, Role,
};

use super::{Behind, Word, coordination_mode, encoded, node_state};
use crate::api::{Api, call};
use crate::failure::{Failure, Place};
use crate::page;
use crate::units;
use crate::visit::Visit;

/// Nodes on a page.
const PAGE: u32 = 100;

/// States to choose from, and their names.
pub const STATES: [(&str, &str); 5] = [
    ("", "any"),
    ("synced", "synced"),
    ("stale", "stale"),
    ("rejected", "rejected"),
    ("not-seen", "not seen"),
];

/// Which nodes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    state: String,
    #[serde(default)]
    after: String,
}

impl Filter {
    fn state(&self) -> NodeState {
        match self.state.as_str() {
            "synced" => NodeState::Synced,
            "stale" => NodeState::Stale,
            "rejected" => NodeState::Rejected,
            "not-seen" => NodeState::NotSeen,
            _ => NodeState::Unspecified,
        }
    }
}

/// What the list shows.
#[derive(Debug, Serialize)]
pub struct Nodes {
    /// Only of this state; empty: of any.
    pub state: String,
    /// By id.
    pub nodes: Vec<Node>,
    /// The address of the next page. Empty: there is none.
    pub next: String,
    /// This is not the first page.
    pub is_continued: bool,
}

/// One node.
#[derive(Debug, Serialize)]
pub struct Node {
    /// Its id.
    pub node_id: String,
    /// Its page.
    pub path: String,
    /// What it is.
    pub role: &'static str,
    /// How it stands to the revision in force.
    pub state: Word,
    /// Its version.
    pub version: String,
    /// The revision in force there; 0: none.
    pub revision: i64,
    /// Its host's name.
    pub host: String,
    /// Addresses by which Swift's ring knows it.
    pub addresses: Vec<String>,
    /// Connected since, RFC 3339; `-`: it is not.
    pub connected_at: String,
    /// The last sign of life, in words.
    pub seen: String,
    /// Its clock against that of the control plane, in words.
    pub clock: String,
    /// From push to answer, in words.
    pub push: String,
    /// How it shares the work.
    pub coordination: Option<Sharing>,
    /// Containers that it follows.
    pub containers: u64,
    /// Of its own rows.
    pub behind: Behind,
    /// Why it refused (part of) the revision in force.
    pub problems: Vec<Place>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// What it takes of its machine.
    pub load: Option<Load>,
    /// It is connected.
    pub is_connected: bool,
}

/// How a worker shares the work.
#[derive(Debug, Serialize)]
pub struct Sharing {
    /// In which way.
    pub mode: Word,
    /// Shares that it owns.
    pub shares: u64,
    /// Of these, shares of workers that are gone.
    pub shares_taken: u64,
    /// Why etcd cannot be used. Empty: it can.
    pub trouble: String,
}

/// What a process takes of its machine, in words.
#[derive(Debug, Serialize)]
pub struct Load {
    /// Part of one processor, over its life.
    pub processor: String,
    /// In use.
    pub memory: String,
    /// Open files of those it may open.
    pub files: String,
    /// Objects under way of those it may carry at a time.
    pub transfers: String,
    /// Since it started.
    pub uptime: String,
}

/// What a node's page shows.
#[derive(Debug, Serialize)]
pub struct OneNode {
    /// The node.
    pub node: Node,
    /// How far its databases are done, as it reported last.
    pub cursors: Vec<Cursor>,
    /// The address of the next page of them. Empty: there is none.
    pub next: String,
}

/// How far one container database is done for one mapping.
#[derive(Debug, Serialize)]
pub struct Cursor {
    /// The account.
    pub account: String,
    /// The container.
    pub container: String,
    /// The mapping.
    pub mapping_id: String,
    /// The id of the database.
    pub database_id: String,
    /// Lanes and their cursors, such as `others 12, own 40`.
    pub cursors: String,
    /// Rows set aside after failures.
    pub failures: u64,
    /// When it was reported, in words.
    pub reported: String,
}

/// `GET /nodes`
pub async fn list(visit: Visit, Query(filter): Query<Filter>) -> Response {
    page::show(visit, "/nodes", Box::new(move |api| Box::pin(load_list(api, filter.clone())))).await
}

async fn load_list(api: Api, filter: Filter) -> Result<Nodes, Failure> {
    let request =
        ListNodesRequest { page_size: PAGE, page_token: filter.after.clone(), state: filter.state().into() };
    let answer = call(api.status().list_nodes(request)).await?;
    let now = Timestamp::now();
    let next = match answer.next_page_token.as_str() {
        "" => String::new(),
        token => format!("/nodes?state={}&after={}", encoded(&filter.state), encoded(token)),
    };
    Ok(Nodes {
        nodes: answer.nodes.iter().map(|node| shown(node, now)).collect(),
        next,
        is_continued: !filter.after.is_empty(),
        state: filter.state,
    })
}

/// `GET /nodes/{id}`
pub async fn show(visit: Visit, Path(id): Path<String>, Query(filter): Query<Filter>) -> Response {
    let load =
        move |api| -> BoxFuture<'static, _> { Box::pin(load_one(api, id.clone(), filter.after.clone())) };
    page::show(visit, "/nodes", Box::new(load)).await
}

async fn load_one(api: Api, id: String, after: String) -> Result<OneNode, Failure> {
    let node = find(&api, &id).await?;
    let request = ListCursorsRequest {
        page_size: PAGE,
        page_token: after,
        node_id: id.clone(),
        ..ListCursorsRequest::default()
    };
    let answer = call(api.status().list_cursors(request)).await?;
    let now = Timestamp::now();
    Ok(OneNode {
        node,
        cursors: answer.cursors.iter().map(|cursor| reported(cursor, now)).collect(),
        next: match answer.next_page_token.as_str() {
            "" => String::new(),
            token => format!("/nodes/{}?after={}", encoded(&id), encoded(token)),
        },
    })
}

fn reported(cursor: &CursorStatus, now: Timestamp) -> Cursor {
    let mut lanes: Vec<String> = cursor.cursors.iter().map(|(lane, row)| format!("{lane} {row}")).collect();
    lanes.sort();
    Cursor {
        account: cursor.account.clone(),
        container: cursor.container.clone(),
        mapping_id: cursor.mapping_id.clone(),
        database_id: cursor.key.as_ref().map_or_else(String::new, |key| key.database_id.clone()),
        cursors: lanes.join(", "),
        failures: cursor.failures,
        reported: format!("{} ago", units::age(cursor.updated_at.as_ref(), now)),
    }
}

async fn find(api: &Api, id: &str) -> Result<Node, Failure> {
    // Nodes come in the order of their ids, and a page of all is not large.
    let mut page_token = String::new();
    loop {
        let request = ListNodesRequest { page_size: 1_000, page_token, ..ListNodesRequest::default() };
        let answer = call(api.status().list_nodes(request)).await?;
        if let Some(node) = answer.nodes.iter().find(|node| node.node_id == id) {
            return Ok(shown(node, Timestamp::now()));
        }
        if answer.next_page_token.is_empty() {
            return Err(Failure::not_found(format!("no node {id:?} is known")));
        }
        page_token = answer.next_page_token;
    }
}

fn shown(node: &NodeStatus, now: Timestamp) -> Node {
    Node {
        node_id: node.node_id.clone(),
        path: format!("/nodes/{}", encoded(&node.node_id)),
        role: match node.role() {
            Role::Unspecified => units::UNKNOWN,
            Role::Worker => "worker",
            Role::Shunt => "shunt",
        },
        state: node_state(node.state()),
        version: node.version.clone(),
        revision: node.revision,
        host: node.host.clone(),
        addresses: node.addresses.clone(),
        connected_at: units::date(node.connected_at.as_ref()),
        seen: match &node.last_seen_at {
            None => "never".to_owned(),
            Some(at) => format!("{} ago", units::age(Some(at), now)),
        },
        clock: node.clock_skew_seconds.map_or_else(|| units::UNKNOWN.to_owned(), clock),
        push: node.push_seconds.map_or_else(|| units::UNKNOWN.to_owned(), units::seconds),
        coordination: node.coordination.as_ref().map(|told| Sharing {
            mode: coordination_mode(told.mode()),
            shares: told.shares,
            shares_taken: told.shares_taken,
            trouble: told.trouble.clone(),
        }),
        containers: node.containers,
        behind: Behind::new(node.lag.as_ref(), true),
        problems: node.problems.iter().map(super::place).collect(),
        capabilities: node.capabilities.clone(),
        load: node.load.as_ref().map(|load| Load {
            processor: processor(load.cpu_seconds, load.uptime_seconds),
            memory: units::bytes(load.memory_bytes),
            files: format!("{} of {}", load.open_files, load.max_open_files),
            transfers: format!("{} of {}", load.transfers, load.max_transfers),
            uptime: units::seconds(load.uptime_seconds.round()),
        }),
        is_connected: node.connected_at.is_some(),
    }
}

fn processor(cpu_seconds: f64, uptime_seconds: f64) -> String {
    if uptime_seconds > 0.0 {
        format!("{:.0} %", cpu_seconds / uptime_seconds * 100.0)
    } else {
        units::UNKNOWN.to_owned()
    }
}

/// Half a second is within what the network may take.
fn clock(skew: f64) -> String {
    if skew.abs() < 0.5 {
        return "right".to_owned();
    }
    let side = if skew > 0.0 { "ahead" } else { "behind" };
    format!("{} {side}", units::seconds(skew.abs()))
}

/// A form without anything typed.
#[derive(Debug, Deserialize)]
pub struct Act {
    #[serde(default)]
    form_token: String,
}

/// `POST /nodes/{id}/forget`
pub async fn forget(visit: Visit, Path(id): Path<String>, Form(act): Form<Act>) -> Response {
    if !visit.is_own_form(&act.form_token) {
        return page::failed(visit, "/nodes", Failure::forged()).await;
    }
    match call(visit.api.status().forget_node(ForgetNodeRequest { node_id: id.clone() })).await {
        Ok(_) => page::done(visit, "/nodes", &format!("Node {id} is forgotten.")),
        Err(failure) => page::failed(visit, "/nodes", failure).await,
    }
}

crate::templates!(Nodes, "nodes.html", |_| "Nodes".to_owned());
crate::templates!(OneNode, "node.html", |view| format!("Node {}", view.node.node_id));
