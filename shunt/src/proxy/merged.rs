//! Requests about containers that are merged.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use swift_s3_policy::{Merge, MergeFailure};
use tokio::sync::Notify;

use super::readers::Reader;
use super::{Proxy, temp_url, unanswered};
use crate::body::{self, Body, BoxError, Response, boxed, collect, full, text};
use crate::copy::{self, ClientSwift, Copy};
use crate::exchange::done;
use crate::glacier;
use crate::listing::{self, Format, LocalPage, Params};
use crate::policy::{Found, Route};
use crate::read::{self, Miss};
use crate::remote;
use crate::request::{Target, is_temporary, query_value};
use crate::write;

/// Swift's errors are short.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// A listing of 10,000 names of 1,024 bytes each, every byte of them escaped in JSON.
const MAX_LISTING_BYTES: usize = 96 * 1024 * 1024;

impl Proxy {
    /// A request about a merged container.
    pub(super) async fn merged(
        &self,
        request: Request<Incoming>,
        target: Target,
        route: Arc<Route>,
    ) -> Response {
        match (target, request.method()) {
            (Target::Object { object, .. }, method) if glacier::is_wish(method, request.headers()) => {
                self.thaw(request, route, object).await
            }
            (Target::Object { object, .. }, &Method::GET | &Method::HEAD) => {
                self.read(request, route, object).await
            }
            (Target::Container { .. }, &Method::GET) => self.list(request, route).await,
            (Target::Object { object, .. }, method) if write::concerns(&route, method) => {
                self.write(request, route, object).await
            }
            _ => self.pass(request).await,
        }
    }

    /// A request that copies an object of a merged container.
    pub(super) async fn copy(&self, request: Request<Incoming>, route: Arc<Route>, copy: Copy) -> Response {
        let (parts, content) = request.into_parts();
        let local = match self.forward(Request::from_parts(parts.clone(), content)).await {
            Ok(local) => local,
            Err(error) => unanswered(&error),
        };
        if local.status() != StatusCode::NOT_FOUND || wants_only_swift(parts.uri.query()) {
            return local;
        }
        let local = in_memory(local).await;
        let answer = match copy::answer(&self.context, self, route, &copy, &parts).await {
            Some(mut answer) => {
                keep_local(local.headers(), answer.headers_mut());
                answer
            }
            None => local,
        };
        done(answer, "copy")
    }

    /// A request that copies an object of a merged container whose remote cannot be used: a source that Swift does not have is not known to be gone.
    pub(super) async fn copy_of_broken(
        &self,
        request: Request<Incoming>,
        copy: &Copy,
        reason: &str,
    ) -> Response {
        let (parts, content) = request.into_parts();
        let local = match self.forward(Request::from_parts(parts.clone(), content)).await {
            Ok(local) => local,
            Err(error) => unanswered(&error),
        };
        if local.status() != StatusCode::NOT_FOUND || wants_only_swift(parts.uri.query()) {
            return local;
        }
        let local = in_memory(local).await;
        // Where the source is there, it is the container of the copy that is not.
        if copy::is_source_missing(self, copy, &parts).await == Some(false) {
            return local;
        }
        tracing::warn!(reason, "the remote of a merged container cannot be used");
        unusable()
    }

    /// A wish to have an object brought out of its archive.
    async fn thaw(&self, request: Request<Incoming>, route: Arc<Route>, object: String) -> Response {
        let (parts, _) = request.into_parts();
        let answer = glacier::answer(&self.context, self, &route, &object, &parts).await;
        done(answer, "post")
    }

    /// A request about a merged container whose remote cannot be used: what Swift does not have is not known to be gone.
    pub(super) async fn broken(
        &self,
        request: Request<Incoming>,
        target: &Target,
        merge: Merge,
        reason: &str,
    ) -> Response {
        let is_object = matches!(target, Target::Object { .. });
        let method = request.method().clone();
        let is_write = is_object && merge.writes && matches!(method, Method::DELETE | Method::POST);
        let response = if is_write { unusable() } else { self.pass(request).await };
        let is_read = is_object && matches!(method, Method::GET | Method::HEAD);
        let is_listing = !is_object && method == Method::GET && response.status().is_success();
        if is_read && response.status() == StatusCode::NOT_FOUND {
            tracing::warn!(reason, "the remote of a merged container cannot be used");
            return unusable();
        }
        match merge.failure {
            MergeFailure::Error if is_listing => unusable(),
            MergeFailure::Local if is_listing => listing::partial(response),
            _ => response,
        }
    }

    async fn read(&self, request: Request<Incoming>, route: Arc<Route>, object: String) -> Response {
        let (parts, content) = request.into_parts();
        let mut asked = parts.clone();
        // To this condition Swift answers 412 where it has nothing, which would hide that it has nothing.
        let unconditional = read::wants_any(&parts.headers).then(|| {
            asked.headers.remove(header::IF_MATCH);
            parts.clone()
        });
        let local = self.forward(Request::from_parts(asked, content)).await;
        let local = match local {
            Ok(local) => local,
            Err(error) => unanswered(&error),
        };
        if local.status() != StatusCode::NOT_FOUND {
            return local;
        }
        let found = (!wants_only_swift(parts.uri.query()))
            .then(|| self.missed(local.headers(), route, object))
            .flatten();
        let Some((route, object)) = found else {
            return self.once_more(unconditional, local).await;
        };
        let is_head = parts.method == Method::HEAD;
        let query = parts.uri.query().map(str::to_owned);
        let local = if is_head { local } else { in_memory(local).await };
        let miss = Miss {
            route,
            object: object.clone(),
            request: parts,
            local_headers: local.headers().clone(),
            writer: self.context.policies.current().writer(),
            swift: self,
        };
        let Some(mut answer) = read::answer(&self.context, miss).await else {
            return self.once_more(unconditional, local).await;
        };
        keep_local(local.headers(), answer.headers_mut());
        if answer.status().is_success() && is_temporary(query.as_deref()) {
            temp_url::dress(answer.headers_mut(), query.as_deref(), &object);
        }
        done(answer, "read")
    }

    /// What Swift has missed: the object of the path, or where a symbolic link led to. Swift has asked for that with the client's rights.
    fn missed(&self, local: &HeaderMap, route: Arc<Route>, object: String) -> Option<(Arc<Route>, String)> {
        let Some(location) = local.get(header::CONTENT_LOCATION) else { return Some((route, object)) };
        let path = location.to_str().ok()?.split('?').next()?;
        let Target::Object { account, container, object } = Target::of(path) else { return None };
        match self.context.policies.find(&account, &container) {
            Found::Merged(route) => Some((route, object)),
            Found::Broken(..) | Found::Nothing => None,
        }
    }

    /// Swift's answer stands; where it was asked without a condition, it is that to the whole request.
    async fn once_more(&self, request: Option<request::Parts>, local: Response) -> Response {
        let answer = match request.map(|parts| Request::from_parts(parts, body::empty())) {
            None => local,
            Some(request) => match self.upstream.ask(request).await {
                Ok(answer) => self.received(answer),
                Err(error) => unanswered(&error),
            },
        };
        done(answer, "read")
    }

    async fn list(&self, request: Request<Incoming>, route: Arc<Route>) -> Response {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (Some(params), Some(format)) =
            (Params::parse(&query), Format::negotiate(&query, request.headers()))
        else {
            return self.pass(request).await;
        };
        let (parts, _) = request.into_parts();
        let mut params = params.with_default_limit(self.context.listings.default_limit());
        let reader = Reader::of(&parts.headers, route.account(), &route.container);
        let is_known = self.readers.knows(reader).await;
        self.context.metrics.looked_up("readers", is_known);
        params.waits_for_swift = !is_known;
        let mut answer = self.list_with(&parts, &route, &params, format).await;
        // The limit was ours, and is more than this cluster gives.
        if answer.status() == StatusCode::PRECONDITION_FAILED && !params.names_limit() {
            let (head, content) = answer.into_parts();
            let content = collect(content, MAX_ERROR_BYTES).await.unwrap_or_default();
            answer = match self.context.listings.learn_limit(&content).filter(|limit| *limit < params.limit) {
                Some(limit) => {
                    params = params.with_default_limit(limit);
                    self.list_with(&parts, &route, &params, format).await
                }
                None => Response::from_parts(head, full(content)),
            };
        }
        if answer.status().is_success() {
            self.readers.remember(reader).await;
        }
        done(answer, "listing")
    }

    async fn list_with(
        &self,
        parts: &request::Parts,
        route: &Arc<Route>,
        params: &Params,
        format: Format,
    ) -> Response {
        let local_query = params.local_query();
        let local = self.local_page(parts.clone(), &local_query);
        listing::answer(&self.context, Arc::clone(route), params.clone(), format, local).await
    }

    /// Swift's own listing, asked with the client's own headers.
    async fn local_page(&self, mut parts: request::Parts, query: &str) -> Result<LocalPage, Response> {
        let path = format!("{}?{query}", parts.uri.path());
        parts.uri =
            path.parse().map_err(|_| text(StatusCode::BAD_REQUEST, "the request cannot be passed on\n"))?;
        parts.headers.remove(header::ACCEPT);
        parts.headers.remove(header::CONTENT_LENGTH);
        let request = Request::from_parts(parts, body::empty());
        let answer = self.upstream.ask(request).await.map_err(|error| unanswered(&error))?;
        let answer = self.received(answer);
        if answer.status() != StatusCode::OK {
            return Err(answer);
        }
        let (parts, content) = answer.into_parts();
        let content = collect(content, MAX_LISTING_BYTES).await.map_err(|error| {
            tracing::warn!(%error, "Swift's listing broke off");
            text(StatusCode::BAD_GATEWAY, "Swift's listing broke off\n")
        })?;
        Ok(LocalPage { status: parts.status, headers: parts.headers, body: content })
    }
}

#[async_trait]
impl ClientSwift for Proxy {
    /// Of a request with a body the answer must come in time once that is sent.
    async fn send(&self, request: Request<Body>) -> Result<Response, BoxError> {
        let ended = Arc::new(Notify::new());
        let told = NotifyOnDrop(Arc::clone(&ended));
        let request = request.map(|body| {
            boxed(body.map_frame(move |frame| {
                let _held = &told;
                frame
            }))
        });
        let limit = self.upstream.answer_limit();
        let late = async {
            ended.notified().await;
            tokio::time::sleep(limit).await;
        };
        Ok(self.received(self.upstream.send(request, limit, late).await?))
    }
}

/// Tells when a body has been sent, or dropped.
struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn unusable() -> Response {
    done(remote::unusable(), "broken")
}

/// What asks for something that only Swift has: a version of its own, or the link itself.
pub(super) fn wants_only_swift(query: Option<&str>) -> bool {
    query_value(query, "version-id").is_some() || query_value(query, "symlink").as_deref() == Some("get")
}

/// An answer with its content in memory, so that its connection is free while the remote is asked.
pub(super) async fn in_memory(answer: Response) -> Response {
    let (parts, content) = answer.into_parts();
    match collect(content, MAX_ERROR_BYTES).await {
        Ok(content) => Response::from_parts(parts, full(content)),
        Err(_) => text(StatusCode::NOT_FOUND, "Not Found\n"),
    }
}

/// What Swift's 404 says of the request and not of the object: transaction ids, and what browsers want to know.
pub(super) fn keep_local(local: &HeaderMap, answer: &mut HeaderMap) {
    for (name, value) in local {
        let is_kept = matches!(name.as_str(), "x-trans-id" | "x-openstack-request-id")
            || name.as_str().starts_with("access-control-");
        if is_kept && !answer.contains_key(name) {
            answer.insert(name.clone(), HeaderValue::clone(value));
        }
    }
}
