//! Listings of local and archived names together.
//!
//! What a client gets is what Swift would give if all names lay in one container: same order, same page length, same folders. Swift's page
//! and the remote's names are fetched at the same time; a pure function makes one page of both, and it is written as Swift
//! writes it. Nothing is sent before the page is whole, so a remote that fails midway shows in the answer's status or in a header.

mod format;
mod gather;
mod merge;
#[cfg(test)]
mod model;
#[cfg(test)]
mod original;
mod page_body;
mod params;
mod remote;
mod render;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Body as _;
use swift_s3_policy::{CredentialSource, MergeFailure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::body::{boxed, full, text};
use crate::context::Context;
use crate::policy::Route;
use crate::{Body, Response};

pub use format::Format;
pub use merge::{Line, is_enough, merge};
pub use params::{DEFAULT_LIMIT, Level, Params, Place};
pub use render::render;
pub use rows::{LocalRow, NotAListing, RemoteRow, read_page};

use gather::gather;
use page_body::PageBody;

/// Tells that a listing lacks the remote's names.
pub const PARTIAL: HeaderName = HeaderName::from_static("x-cloud-sync-listing");

/// Lines that all listings together may hold in memory. A line takes about 1 KiB on its way: parsed, as it came, and as it goes.
pub const MAX_LINES: usize = 40_000;

/// What the listings of one remote may hold of that while they are made: a slow one leaves room to the others.
const MAX_LINES_OF_REMOTE: usize = MAX_LINES / 2;

/// How long a listing waits for its place. Its client then knows more than if it hung.
const PLACE_LIMIT: Duration = Duration::from_secs(30);

/// What a client is told to wait that found no place.
const PAUSE_WITHOUT_PLACE: u64 = 5;

/// What a line takes of that once the page is written and only waits for its client.
const SHARE_WHEN_WRITTEN: usize = 4;

/// What a cluster says that gives fewer entries at once than were asked for. Source: swift/common/request_helpers.py,
/// `constrain_req_limit`.
const LIMIT_MESSAGE: &[u8] = b"Maximum limit is ";

/// What listings share, once per process.
#[derive(Debug)]
pub struct Listings {
    places: Arc<Semaphore>,
    /// Of each remote, by its label.
    shares: Mutex<HashMap<String, Arc<Semaphore>>>,
    default_limit: AtomicUsize,
    remote_limit: Duration,
}

impl Listings {
    /// `remote_limit` is how long a remote may take to list what a page needs.
    #[must_use]
    pub fn new(remote_limit: Duration) -> Self {
        let default_limit = AtomicUsize::new(DEFAULT_LIMIT);
        let places = Arc::new(Semaphore::new(MAX_LINES));
        Self { places, shares: Mutex::default(), default_limit, remote_limit }
    }

    /// Entries of a page whose limit the client does not name.
    #[must_use]
    pub fn default_limit(&self) -> usize {
        self.default_limit.load(Ordering::Relaxed)
    }

    /// Reads what Swift said when it refused a limit that was not the client's. Gives the limit that the cluster has, and that holds
    /// from now on.
    pub fn learn_limit(&self, refusal: &[u8]) -> Option<usize> {
        let limit = allowed_limit(refusal)?;
        self.default_limit.store(limit, Ordering::Relaxed);
        Some(limit)
    }

    /// Lines for which room is taken.
    #[must_use]
    pub fn lines(&self) -> usize {
        MAX_LINES.saturating_sub(self.places.available_permits())
    }

    /// How many places a page takes.
    fn weight(limit: usize) -> u32 {
        u32::try_from(limit.clamp(1, MAX_LINES_OF_REMOTE)).unwrap_or(u32::MAX)
    }

    /// Waits for the places of a page of `limit` lines; `None` when there are none in time.
    async fn place(&self, remote: &str, limit: usize) -> Option<Held> {
        let weight = Self::weight(limit);
        let share = self.share(remote);
        let taking = async {
            // In this order: who waits for the remote's share keeps nothing from others.
            let share = share.acquire_many_owned(weight).await.ok()?;
            let all = Arc::clone(&self.places).acquire_many_owned(weight).await.ok()?;
            Some(Held { all, _share: share })
        };
        tokio::time::timeout(PLACE_LIMIT, taking).await.ok().flatten()
    }

    fn share(&self, remote: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(remote) {
            return Arc::clone(share);
        }
        // Those of remotes that nobody lists.
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        let share = Arc::new(Semaphore::new(MAX_LINES_OF_REMOTE));
        shares.insert(remote.to_owned(), Arc::clone(&share));
        share
    }
}

/// What a listing holds while it is made.
#[derive(Debug)]
struct Held {
    all: OwnedSemaphorePermit,
    /// Given back as soon as the remote has done its part.
    _share: OwnedSemaphorePermit,
}

impl Held {
    /// What it takes from now on: the page is made of `lines`, and only waits for its client.
    fn written(mut self, lines: usize) -> Option<OwnedSemaphorePermit> {
        let most = self.all.num_permits();
        self.all.split((lines / SHARE_WHEN_WRITTEN).clamp(1, most.max(1)))
    }
}

fn allowed_limit(refusal: &[u8]) -> Option<usize> {
    let at = refusal.windows(LIMIT_MESSAGE.len()).position(|window| window == LIMIT_MESSAGE)?;
    let digits = refusal.get(at + LIMIT_MESSAGE.len()..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let limit = std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()?;
    (1..=DEFAULT_LIMIT).contains(&limit).then_some(limit)
}

/// Swift's own listing, as JSON.
#[derive(Debug)]
pub struct LocalPage {
    /// 200.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its content, whole.
    pub body: Bytes,
}

/// Marks a listing that lacks the names of the remote.
#[must_use]
pub fn partial(mut listing: Response) -> Response {
    listing.headers_mut().insert(PARTIAL, HeaderValue::from_static("partial"));
    listing
}

/// The merged listing. `local` is Swift's own; an answer of Swift's that is no listing comes as its error and stands as it is. The remote is
/// asked at the same time, unless [`Params::waits_for_swift`].
///
/// # Cancel safety
/// Dropping it ends the requests to the remote.
pub async fn answer(
    context: &Arc<Context>,
    route: Arc<Route>,
    params: Params,
    format: Format,
    local: impl Future<Output = Result<LocalPage, Response>> + Send,
) -> Response {
    let span = tracing::info_span!(
        "listing",
        swift_s3_sync.listing.local_rows = Empty,
        swift_s3_sync.listing.remote_rows = Empty,
        "error.type" = Empty,
    );
    merged(context, route, params, format, local).instrument(span).await
}

async fn merged(
    context: &Arc<Context>,
    route: Arc<Route>,
    params: Params,
    format: Format,
    local: impl Future<Output = Result<LocalPage, Response>> + Send,
) -> Response {
    let Some(held) = context.listings.place(&route.remote.label, params.limit).await else {
        context.metrics.asked_remote("list", "crowded");
        return crowded();
    };
    let (page, remote) = match gather(&route, &params, context.listings.remote_limit, local).await {
        Ok(both) => both,
        Err(response) => return response,
    };
    let Ok(local) = read_page(&page.body) else { return untouched(page) };
    let remote = remote.complete(&local, &params).await;
    let (remote, is_partial) = match (remote, route.merge().failure) {
        (Ok(rows), _) => {
            context.metrics.asked_remote("list", "ok");
            (rows, false)
        }
        (Err(failure), policy) => {
            context.metrics.asked_remote("list", failure.outcome());
            Span::current().record("error.type", failure.outcome());
            tracing::warn!(
                account = route.account(),
                container = route.container,
                remote = route.remote.label,
                error = %failure,
                "the remote of a merged container could not be listed"
            );
            if policy == MergeFailure::Error {
                return failed(&page.headers, &failure);
            }
            context.metrics.partial_listings.add(1, &[]);
            (Vec::new(), true)
        }
    };
    context.metrics.listed(local.len(), remote.len());
    let span = Span::current();
    span.record("swift_s3_sync.listing.local_rows", i64::try_from(local.len()).unwrap_or(i64::MAX));
    span.record("swift_s3_sync.listing.remote_rows", i64::try_from(remote.len()).unwrap_or(i64::MAX));
    let lines = merge(&local, &remote, params.limit, params.reverse);
    let location = if format == Format::Json { location(&route) } else { String::new() };
    match render(format, &lines, &route.container, &location) {
        Ok(content) => {
            let body = boxed(PageBody::new(content, held.written(lines.len())));
            finished(page.headers, &params, format, body, is_partial)
        }
        Err(NotAListing) => untouched(page),
    }
}

/// So many listings are under way that there is no memory for one more.
fn crowded() -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "too many listings are under way\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(PAUSE_WITHOUT_PLACE));
    response
}

/// What `content_location` calls the remote.
fn location(route: &Route) -> String {
    let identity = match route.mapping.remote.credentials() {
        CredentialSource::DefaultChain => String::new(),
        CredentialSource::Static { identity, .. } => {
            swift_s3_store::secrets::resolve(identity).unwrap_or_default()
        }
    };
    route.mapping.remote.content_location(&identity, route.keys.key_prefix())
}

/// An answer of Swift's as it came: it is no listing as Swift writes them.
fn untouched(page: LocalPage) -> Response {
    let mut response = Response::new(full(page.body));
    *response.status_mut() = page.status;
    *response.headers_mut() = page.headers;
    response
}

fn finished(
    mut headers: HeaderMap,
    params: &Params,
    format: Format,
    content: Body,
    is_partial: bool,
) -> Response {
    let length = content.size_hint().exact().unwrap_or_default();
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if params.format.is_none() {
        vary_by_accept(&mut headers);
    }
    if is_partial {
        headers.insert(PARTIAL, HeaderValue::from_static("partial"));
    }
    let status = if length == 0 { StatusCode::NO_CONTENT } else { StatusCode::OK };
    let mut response = Response::new(content);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Says to caches that the header `Accept` decided.
fn vary_by_accept(headers: &mut HeaderMap) {
    let values: Vec<&str> =
        headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut words = values.iter().flat_map(|value| value.split(','));
    if words.any(|word| word.trim().eq_ignore_ascii_case("accept")) {
        return;
    }
    let value =
        if values.is_empty() { "Accept".to_owned() } else { format!("{}, Accept", values.join(", ")) };
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(header::VARY, value);
    }
}

/// The remote failed, and a page without its names would be taken for the whole truth.
fn failed(local: &HeaderMap, failure: &gather::Failure) -> Response {
    let mut response = match failure {
        // Another try would cost the same.
        gather::Failure::Costly => text(
            StatusCode::BAD_REQUEST,
            "the remote store would have to list too much for this page: ask with a longer prefix, closer markers, or without reverse or path\n",
        ),
        _ => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the remote store of this container cannot be listed at the moment, and without it the listing is not complete\n",
        ),
    };
    let headers = response.headers_mut();
    for (name, value) in local {
        let is_kept = matches!(name.as_str(), "x-trans-id" | "x-openstack-request-id")
            || name.as_str().starts_with("access-control-");
        if is_kept {
            headers.insert(name.clone(), value.clone());
        }
    }
    if let Some(pause) = failure.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)));
    }
    response
}
