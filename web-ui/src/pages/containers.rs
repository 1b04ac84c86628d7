//! Containers: search, filter, pages.

use axum::extract::Query;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{ContainerOrder, ContainerStatus, ListContainersRequest};

use super::{Behind, encoded};
use crate::api::{Api, call};
use crate::failure::Failure;
use crate::page;
use crate::units;
use crate::visit::Visit;

/// Containers on a page.
const PAGE: u32 = 100;
/// Names are shorter, so that nothing longer is looked for.
const MAX_SEARCH_BYTES: usize = 256;

/// Which containers.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    search: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    mapping: String,
    #[serde(default)]
    behind: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    after: String,
}

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct Containers {
    /// Only those with this in their name.
    pub search: String,
    /// Only of this account.
    pub account: String,
    /// Only of this mapping.
    pub mapping: String,
    /// Only those that are behind, failing or unknown.
    pub only_behind: bool,
    /// Furthest behind first, which has one page only.
    pub by_lag: bool,
    /// On this page.
    pub containers: Vec<Container>,
    /// The address of the next page. Empty: there is none.
    pub next: String,
    /// The address of the first page. Empty: this is it.
    pub first: String,
}

/// One container of one mapping.
#[derive(Debug, Serialize)]
pub struct Container {
    /// The mapping.
    pub mapping_id: String,
    /// The account.
    pub account: String,
    /// The container.
    pub container: String,
    /// Its failures.
    pub failures_path: String,
    /// How far.
    pub behind: Behind,
    /// Nodes that follow it.
    pub nodes: Vec<String>,
    /// Rows set aside after failures.
    pub failures: u64,
    /// Why deletes are held, and since when. Empty: they are not.
    pub deletes_held: String,
    /// Why it does not go on. Empty: it does.
    pub trouble: String,
}

impl Container {
    /// From the contract.
    #[must_use]
    pub fn new(status: &ContainerStatus) -> Self {
        let held = status.deletes_held_at.as_ref();
        Self {
            mapping_id: status.mapping_id.clone(),
            account: status.account.clone(),
            container: status.container.clone(),
            failures_path: format!(
                "/failures?account={}&container={}",
                encoded(&status.account),
                encoded(&status.container)
            ),
            behind: Behind::new(status.lag.as_ref(), status.is_complete),
            nodes: status.node_ids.clone(),
            failures: status.failures,
            deletes_held: held.map_or_else(String::new, |at| {
                format!("since {}: {}", units::date(Some(at)), status.deletes_held_because)
            }),
            trouble: status.trouble.clone(),
        }
    }
}

/// `GET /containers`
pub async fn list(visit: Visit, Query(filter): Query<Filter>) -> Response {
    page::show(visit, "/containers", Box::new(move |api| Box::pin(load(api, filter.clone())))).await
}

async fn load(api: Api, filter: Filter) -> Result<Containers, Failure> {
    if filter.search.len() > MAX_SEARCH_BYTES {
        return Err(Failure::bad_request(format!("the search is longer than {MAX_SEARCH_BYTES} bytes")));
    }
    let (only_behind, by_lag) = (filter.behind == "1", filter.sort == "lag");
    let request = ListContainersRequest {
        page_size: PAGE,
        page_token: filter.after.clone(),
        mapping_id: filter.mapping.clone(),
        account: filter.account.clone(),
        only_behind,
        container_contains: filter.search.clone(),
        order: if by_lag { ContainerOrder::Lag } else { ContainerOrder::Unspecified }.into(),
        ..ListContainersRequest::default()
    };
    let answer = call(api.status().list_containers(request)).await?;
    let first = format!(
        "/containers?search={}&account={}&mapping={}&behind={}&sort={}",
        encoded(&filter.search),
        encoded(&filter.account),
        encoded(&filter.mapping),
        encoded(&filter.behind),
        encoded(&filter.sort)
    );
    let next = match answer.next_page_token.as_str() {
        "" => String::new(),
        token => format!("{first}&after={}", encoded(token)),
    };
    Ok(Containers {
        containers: answer.containers.iter().map(Container::new).collect(),
        next,
        first: if filter.after.is_empty() { String::new() } else { first },
        search: filter.search.clone(),
        account: filter.account.clone(),
        mapping: filter.mapping.clone(),
        only_behind,
        by_lag,
    })
}

crate::templates!(Containers, "containers.html", |_| "Containers".to_owned());
