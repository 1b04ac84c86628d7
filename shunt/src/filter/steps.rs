//! What the filter asks, step by step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use swift_s3_policy::MergeFailure;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::channel::FilterChannel;
use super::protocol::{
    ANSWERS, ASK, LOCAL_STATUS, LOCAL_TIMESTAMP, OUTCOME, RESTORE, RESTORES, Step, TOKEN, WAITS, is_same,
    remove_own,
};
use super::{DOOR, Filter};
use crate::body::{Body, BoxError, Response, boxed, client_gone, collect, empty, text};
use crate::copy::ClientSwift;
use crate::exchange::{Asked, Exchange, done, done_by_others, step_done};
use crate::glacier;
use crate::listing::{self, Format, LocalPage, Params};
use crate::policy::{Found, Route};
use crate::read::{self, Miss};
use crate::remote;
use crate::request::Target;
use crate::restore::SwiftWriter;
use crate::write;

/// A listing of 10,000 names of 1,024 bytes each, every byte of them escaped in JSON.
const MAX_PAGE_BYTES: usize = 96 * 1024 * 1024;
/// Swift may take this long for its page; the filter begins the request before it asks Swift.
const PAGE_LIMIT: Duration = Duration::from_secs(120);
/// What a report may bring of an answer's content.
const MAX_REPORT_BYTES: usize = 1024 * 1024;
/// Reports are short, and on this machine.
const REPORT_LIMIT: Duration = Duration::from_secs(30);

const CONTAINERS: &str = "/shunt/v1/containers";
const RESTORE_PREFIX: &str = "/shunt/v1/restore/";

impl Filter {
    /// Answers one request of the filter.
    pub(super) async fn handle(&self, request: Request<Incoming>) -> Response {
        if !self.is_trusted(request.headers()) {
            return text(StatusCode::UNAUTHORIZED, "the token is missing or wrong\n");
        }
        let path = request.uri().path();
        if path == CONTAINERS && request.method() == Method::GET {
            return self.containers.answer(&self.context.policies, request.headers());
        }
        if let (Some(job), &Method::POST) = (path.strip_prefix(RESTORE_PREFIX), request.method()) {
            let job = job.to_owned();
            return self.next_of(&job, request).await;
        }
        let Some(step) = Step::of(request.headers()) else {
            return text(StatusCode::BAD_REQUEST, "unknown step\n");
        };
        let target = Target::of(path);
        let Some((account, container)) = target.container() else {
            return text(StatusCode::BAD_REQUEST, "neither a container nor an object\n");
        };
        let found = self.context.policies.find(account, container);
        let asked = Asked {
            door: DOOR,
            // A listing is a POST here, as it brings Swift's page.
            method: if step == Step::Listing { &Method::GET } else { request.method() },
            path,
            headers: request.headers(),
            mapping: match &found {
                Found::Merged(route) => Some(&*route.id),
                Found::Broken(broken) => broken.mapping(),
                Found::Nothing => None,
            },
            is_passed: false,
        };
        let exchange = Exchange::begin(&self.context, asked);
        exchange.in_transaction(request.headers());
        let answering = self.answer(request, step, target, found);
        let answer = answering.instrument(exchange.span().clone()).await;
        exchange.answered(answer)
    }

    async fn answer(&self, request: Request<Incoming>, step: Step, target: Target, found: Found) -> Response {
        let route = match found {
            Found::Merged(route) => route,
            // The filter's list is a few seconds old.
            Found::Nothing => {
                let status = of_swift(step, request.headers());
                return drained(request, stands(status)).await;
            }
            Found::Broken(broken) => {
                tracing::warn!(reason = &*broken.reason, "the remote of a merged container cannot be used");
                if step == Step::Listing && broken.merge.failure == MergeFailure::Local {
                    let status = of_swift(step, request.headers());
                    return drained(request, listing::partial(stands(status))).await;
                }
                return drained(request, answer(done(remote::unusable(), "broken"))).await;
            }
        };
        let method = request.method().clone();
        match (step, target, method) {
            (Step::Miss, Target::Object { object, .. }, Method::GET | Method::HEAD) => {
                self.miss(route, object, request).await
            }
            (Step::Listing, Target::Container { .. }, Method::POST) => self.listing(route, request).await,
            (Step::Before, Target::Object { object, .. }, Method::DELETE) => {
                self.before(&route, &object).await
            }
            (Step::After, Target::Object { object, .. }, Method::DELETE) => {
                self.delete_after(&route, &object, request.headers()).await
            }
            (Step::After, Target::Object { object, .. }, Method::POST) => {
                self.post(&route, &object, request).await
            }
            _ => text(StatusCode::BAD_REQUEST, "this step is not for that\n"),
        }
    }

    fn is_trusted(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        shown.strip_prefix(b"Bearer ").is_some_and(|shown| is_same(shown, token.expose().as_bytes()))
    }

    async fn miss(&self, route: Arc<Route>, object: String, request: Request<Incoming>) -> Response {
        let (mut parts, _) = request.into_parts();
        let is_whole = parts.method == Method::GET && !parts.headers.contains_key(header::RANGE);
        let can_restore = parts.headers.contains_key(RESTORES) && is_whole && route.merge().restores;
        let channel = if can_restore { self.jobs.begin() } else { None };
        let mut local_headers = HeaderMap::new();
        if let Some(timestamp) = parts.headers.get(LOCAL_TIMESTAMP) {
            local_headers.insert("x-backend-timestamp", timestamp.clone());
        }
        let answers = match Answers::of(&parts.headers) {
            Ok(answers) => answers,
            Err(()) => return text(StatusCode::BAD_REQUEST, "the answers of Swift cannot be read\n"),
        };
        remove_own(&mut parts.headers);
        let writer = channel.as_ref().map(|channel| Arc::clone(channel) as Arc<dyn SwiftWriter>);
        let miss = Miss { route, object, request: parts, local_headers, writer, swift: &answers };
        let found = read::answer(&self.context, miss).await;
        if let Some(asked) = answers.missing() {
            return step_done(ask(&asked), "rights");
        }
        let mut response = told("read", found, Some(StatusCode::NOT_FOUND));
        announce(channel.as_ref(), &mut response);
        response
    }

    async fn listing(&self, route: Arc<Route>, request: Request<Incoming>) -> Response {
        let (parts, content) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let params = Params::parse(query).zip(Format::negotiate(query, &parts.headers));
        let page = async move {
            timeout(PAGE_LIMIT, collect(boxed(content), MAX_PAGE_BYTES)).await.map_err(BoxError::from)?
        };
        let Some((params, format)) = params else {
            let _ = page.await;
            return told("listing", None, Some(StatusCode::OK));
        };
        let mut params = params.with_default_limit(self.context.listings.default_limit());
        params.waits_for_swift = parts.headers.contains_key(WAITS);
        let local = async move {
            let body: Bytes = page.await.map_err(|error| {
                if error.is::<hyper::Error>() {
                    // The filter has left: Swift refused, or its client has gone.
                    return text(client_gone(), "the page broke off\n");
                }
                tracing::warn!(%error, "Swift's listing broke off");
                text(StatusCode::BAD_GATEWAY, "Swift's listing broke off\n")
            })?;
            Ok(LocalPage { status: StatusCode::OK, headers: HeaderMap::new(), body })
        };
        let merged = listing::answer(&self.context, route, params, format, local).await;
        told("listing", Some(merged), None)
    }

    async fn before(&self, route: &Arc<Route>, object: &str) -> Response {
        match write::before(&self.context, route, object, &Method::DELETE).await {
            Err(refused) => told("delete", Some(refused), None),
            // Swift is asked after this.
            Ok(None) => told("delete", None, None),
            Ok(Some(token)) => {
                let Ok(token) = HeaderValue::from_str(&token.to_string()) else {
                    return text(StatusCode::INTERNAL_SERVER_ERROR, "the token is no header\n");
                };
                let mut response = step_done(pass(), "before_delete");
                response.headers_mut().insert(TOKEN, token);
                response
            }
        }
    }

    async fn delete_after(&self, route: &Arc<Route>, object: &str, headers: &HeaderMap) -> Response {
        let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let token = word(TOKEN.as_str()).and_then(|token| token.parse::<write::Token>().ok());
        let (Some(token), Some(status)) = (token, of_swift(Step::After, headers)) else {
            return text(StatusCode::BAD_REQUEST, "the token or Swift's status is missing or wrong\n");
        };
        let found = write::delete_after(&self.context, route, object, Some(&token), status).await;
        told("delete", found, Some(status))
    }

    async fn post(&self, route: &Arc<Route>, object: &str, request: Request<Incoming>) -> Response {
        let (mut parts, _) = request.into_parts();
        remove_own(&mut parts.headers);
        if glacier::is_wish(&parts.method, &parts.headers) {
            let answer = glacier::answer(&self.context, &Gone, route, object, &parts).await;
            return told("post", Some(answer), None);
        }
        let found = write::post(&self.context, route, object, &parts.headers).await;
        told("post", found, Some(StatusCode::NOT_FOUND))
    }

    async fn next_of(&self, job: &str, request: Request<Incoming>) -> Response {
        let (parts, content) = request.into_parts();
        match timeout(REPORT_LIMIT, collect(boxed(content), MAX_REPORT_BYTES)).await {
            Ok(Ok(content)) => self.jobs.next(job, &parts.headers, content).await,
            _ => text(StatusCode::BAD_REQUEST, "the report broke off or is too long\n"),
        }
    }
}

/// What the client is told: the answer, or Swift's own, with this status if it is known.
fn told(operation: &'static str, found: Option<Response>, of_swift: Option<StatusCode>) -> Response {
    match found {
        Some(response) => answer(done(response, operation)),
        None => stands(of_swift),
    }
}

/// Swift's own answer stands.
fn stands(status: Option<StatusCode>) -> Response {
    done_by_others(pass(), "pass", status)
}

/// What Swift has answered when the filter comes with this step; `None`: it was not asked yet, or the filter does not tell.
fn of_swift(step: Step, headers: &HeaderMap) -> Option<StatusCode> {
    match step {
        Step::Miss => Some(StatusCode::NOT_FOUND),
        Step::Listing => Some(StatusCode::OK),
        Step::Before => None,
        Step::After => headers.get(LOCAL_STATUS)?.to_str().ok()?.parse().ok(),
    }
}

/// What Swift told the filter, in the client's name, about what the shunt wants to know. What is missing there is asked for in a second round.
struct Answers {
    told: HashMap<String, StatusCode>,
    missing: Mutex<Vec<String>>,
}

impl Answers {
    /// From `X-Shunt-Answers`: a JSON object of `"METHOD path"` and status.
    fn of(headers: &HeaderMap) -> Result<Self, ()> {
        let told = match headers.get(ANSWERS) {
            None => HashMap::new(),
            Some(value) => {
                let told: HashMap<String, u16> = serde_json::from_slice(value.as_bytes()).map_err(drop)?;
                let told = told.into_iter().map(|(asked, status)| {
                    StatusCode::from_u16(status).map(|status| (asked, status)).map_err(drop)
                });
                told.collect::<Result<_, ()>>()?
            }
        };
        Ok(Self { told, missing: Mutex::default() })
    }

    fn missing(&self) -> Option<Vec<String>> {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        (!missing.is_empty()).then(|| std::mem::take(&mut *missing))
    }
}

#[async_trait]
impl ClientSwift for Answers {
    async fn send(&self, request: Request<Body>) -> Result<Response, BoxError> {
        let asked = format!("{} {}", request.method(), request.uri());
        if let Some(status) = self.told.get(&asked) {
            return Ok(text(*status, String::new()));
        }
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        Err("the filter is to ask Swift first".into())
    }
}

/// Tells the filter what to ask Swift for, in the client's name.
fn ask(asked: &[String]) -> Response {
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    headers.insert(OUTCOME, HeaderValue::from_static("ask"));
    // Paths are percent-encoded: it is ASCII. A HEAD's answer has no body.
    if let Ok(asked) = HeaderValue::from_str(&serde_json::json!(asked).to_string()) {
        headers.insert(ASK, asked);
    }
    response
}

/// Swift as the filter has found it just before: the object is not there, and the client may write it.
struct Gone;

#[async_trait]
impl ClientSwift for Gone {
    async fn send(&self, _request: Request<Body>) -> Result<Response, BoxError> {
        Ok(text(StatusCode::NOT_FOUND, "Not Found\n"))
    }
}

/// An answer that needs nothing of the request's body, which is read so that the connection stays usable.
async fn drained(request: Request<Incoming>, response: Response) -> Response {
    let mut content = boxed(request.into_body());
    let all = async { while let Some(Ok(_)) = content.frame().await {} };
    let _ = timeout(PAGE_LIMIT, all).await;
    response
}

fn pass() -> Response {
    let mut response = Response::new(empty());
    response.headers_mut().insert(OUTCOME, HeaderValue::from_static("pass"));
    response
}

fn answer(mut response: Response) -> Response {
    response.headers_mut().insert(OUTCOME, HeaderValue::from_static("answer"));
    response
}

/// Names the job in the answer if a restore began: then somebody else holds the channel, too.
fn announce(channel: Option<&Arc<FilterChannel>>, response: &mut Response) {
    let Some(channel) = channel else { return };
    if Arc::strong_count(channel) > 1
        && let Ok(name) = HeaderValue::from_str(channel.name())
    {
        response.headers_mut().insert(RESTORE, name);
    }
}
