//! One page of a container, counted; and an account's containers. Neither needs a mapping.

use std::time::Duration;

use swift_s3_policy::ExcludePattern;
use swift_s3_proto::v1::{
    CountContainerRequest, CountContainerResponse, ListAccountRequest, ListAccountResponse,
};
use tokio::time::Instant;

use super::Refusal;
use super::sizes::Sizes;
use crate::swift::container_server::ContainerServers;
use crate::swift::container_server::objects::ObjectRows;

/// Names of one page, unless the question says otherwise.
const PAGE: u32 = 100_000;
/// Never more.
const LARGEST_PAGE: u32 = 1_000_000;
/// An answer comes after about this time, so that whoever waits sees progress.
const SLICE: Duration = Duration::from_secs(3);
/// Containers in one answer.
const CONTAINERS: u32 = 10_000;

/// Counts one page.
///
/// # Errors
/// [`Refusal::NoContainer`]; or when too few container servers answer.
pub(super) async fn count(
    servers: &ContainerServers,
    request: CountContainerRequest,
) -> Result<CountContainerResponse, Refusal> {
    let exclude = ExcludePattern::parse(&request.exclude_pattern)
        .map_err(|problem| Refusal::Forbidden(format!("exclude_pattern: {problem}")))?;
    let opened =
        ObjectRows::open(servers, &request.account, &request.container, &request.start_after).await?;
    let (mut rows, outline) = opened.ok_or(Refusal::NoContainer)?;
    let most = if request.max_names == 0 { PAGE } else { request.max_names.min(LARGEST_PAGE) };
    let started = Instant::now();
    let (mut sizes, mut excluded, mut seen) = (Sizes::default(), 0, 0);
    let mut position = request.start_after;
    let mut is_done = false;
    while seen < most && (seen == 0 || started.elapsed() < SLICE) {
        let page = rows.next_page().await?;
        let Some(last) = page.last() else {
            is_done = true;
            break;
        };
        position.clone_from(&last.name);
        seen = seen.saturating_add(u32::try_from(page.len()).unwrap_or(u32::MAX));
        for row in &page {
            if exclude.as_ref().is_some_and(|pattern| pattern.excludes(&row.name)) {
                excluded += 1;
            } else {
                sizes.add(row.bytes, row.etag.contains("slo_etag="));
            }
        }
    }
    let (objects, bytes) = sizes.totals();
    Ok(CountContainerResponse {
        objects,
        bytes,
        excluded,
        sizes: sizes.classes(),
        next_start_after: position,
        is_done,
        object_count: outline.objects,
        node_id: String::new(),
        parts: sizes.parts,
        multipart_objects: sizes.multipart,
    })
}

/// Lists a page of an account.
///
/// # Errors
/// When too few account servers answer.
pub(super) async fn list(
    servers: &ContainerServers,
    request: &ListAccountRequest,
) -> Result<ListAccountResponse, Refusal> {
    let containers = servers.list_containers(&request.account, &request.start_after, CONTAINERS).await?;
    Ok(ListAccountResponse { is_done: containers.is_empty(), containers })
}
