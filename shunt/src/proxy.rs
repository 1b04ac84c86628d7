//! The door for clients: a streaming HTTP/1.1 proxy in front of Swift.
//!
//! What no mapping concerns passes through as it is. Nothing is decided here but which module answers.

mod bodies;
mod connection;
mod headers;
mod merged;
mod readers;
mod temp_url;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};

pub use connection::{Limits, serve};
use tracing::Instrument as _;

use crate::body::{self, Body, Response, boxed, client_gone, text};
use crate::context::Context;
use crate::copy::Copy;
use crate::exchange::{Asked, Exchange, done};
use crate::glacier;
use crate::metrics::Direction;
use crate::policy::{Broken, Found, Route};
use crate::request::{BYPASS, Target, is_s3};
use crate::upstream::{Upstream, UpstreamError};
use bodies::{AnswerBody, ClientBody, Continue};
use readers::Readers;

/// For metrics.
const DOOR: &str = "proxy";
/// Swift that does not say "100 Continue" within this time is sent the body all the same.
const CONTINUE_LIMIT: Duration = Duration::from_secs(5);
/// For answers that come after work on Swift's side. A client that leaves ends the wait.
const LONG_ANSWER_LIMIT: Duration = Duration::from_secs(3600);

/// Who answers a request.
enum Way {
    /// Swift alone.
    Pass,
    /// It copies an object of a merged container.
    Copy(Arc<Route>, Copy),
    /// It copies an object of a container whose remote cannot be used.
    BrokenCopy(Copy, Broken),
    /// It is about a merged container.
    Merged(Arc<Route>, Target),
    /// It wants what is in no archive to be brought out of one.
    NotArchived,
    /// It is about a container whose remote cannot be used.
    Broken(Target, Broken),
}

impl Way {
    fn mapping(&self) -> Option<&str> {
        match self {
            Self::Copy(route, _) | Self::Merged(route, _) => Some(&route.id),
            Self::BrokenCopy(_, broken) | Self::Broken(_, broken) => broken.mapping(),
            Self::Pass | Self::NotArchived => None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Proxy {
    context: Arc<Context>,
    upstream: Upstream,
    idle: Duration,
    readers: Readers,
}

impl Proxy {
    /// In front of `upstream`. `idle` is how long either side may take for a header block or the next piece of a body, and a client to take
    /// what is sent to it.
    #[must_use]
    pub fn new(context: Arc<Context>, upstream: Upstream, idle: Duration) -> Self {
        Self { context, upstream, idle, readers: Readers::default() }
    }

    /// Answers one request.
    pub async fn handle(&self, mut request: Request<Incoming>) -> Response {
        let way = headers::accept(&mut request).then(|| self.way(&request));
        let asked = Asked {
            door: DOOR,
            method: request.method(),
            path: request.uri().path(),
            headers: request.headers(),
            mapping: way.as_ref().and_then(Way::mapping),
            is_passed: matches!(way, Some(Way::Pass)),
        };
        let exchange = Exchange::begin(&self.context, asked);
        let answering = async {
            match way {
                Some(way) => self.answer(request, way).await,
                None => done(text(StatusCode::BAD_REQUEST, "the request cannot be passed on\n"), "refuse"),
            }
        };
        let answer = answering.instrument(exchange.span().clone()).await;
        exchange.answered(answer)
    }

    /// Which module answers.
    fn way<B>(&self, request: &Request<B>) -> Way {
        let is_bypassed = request.headers().get(BYPASS).is_some_and(|value| !value.is_empty());
        // What is signed for s3api names something else by its path than it does to Swift.
        let is_for_swift = !is_bypassed && !is_s3(request.uri().query(), request.headers());
        if !is_for_swift || self.context.policies.current().is_empty() {
            return Way::Pass;
        }
        if let Some(copy) = Copy::of(request.method(), request.uri(), request.headers()) {
            match self.context.policies.find(&copy.account, &copy.container) {
                Found::Merged(route) => return Way::Copy(route, copy),
                Found::Broken(broken) => return Way::BrokenCopy(copy, broken),
                Found::Nothing => {}
            }
        }
        let target = Target::of(request.uri().path());
        let Some((account, container)) = target.container() else { return Way::Pass };
        match self.context.policies.find(account, container) {
            Found::Merged(route) => Way::Merged(route, target),
            // To Swift it would be a POST without metadata, which removes what there is.
            _ if glacier::is_wish(request.method(), request.headers()) => Way::NotArchived,
            Found::Broken(broken) => Way::Broken(target, broken),
            Found::Nothing => Way::Pass,
        }
    }

    async fn answer(&self, request: Request<Incoming>, way: Way) -> Response {
        match way {
            Way::Pass => self.pass(request).await,
            Way::Copy(route, copy) => self.copy(self.at_home(request), route, copy).await,
            Way::BrokenCopy(copy, broken) => {
                self.copy_of_broken(self.at_home(request), &copy, &broken.reason).await
            }
            Way::Merged(route, target) => self.merged(self.at_home(request), target, route).await,
            Way::NotArchived => done(glacier::not_archived(), "post"),
            Way::Broken(target, broken) => self.broken(request, &target, broken.merge, &broken.reason).await,
        }
    }

    /// The request with Swift's own name as the host. Pipelines with `domain_remap`, `cname_lookup` or s3api's `storage_domain` take another
    /// object than the path's for a name of theirs, and an answer about that says nothing about who may see the one that the path names.
    fn at_home<B>(&self, mut request: Request<B>) -> Request<B> {
        request.headers_mut().insert(header::HOST, self.upstream.host().clone());
        request
    }

    /// Passes a request and its answer on.
    async fn pass(&self, request: Request<Incoming>) -> Response {
        match self.forward(request).await {
            Ok(response) => response,
            Err(error) => unanswered(&error),
        }
    }

    /// Sends a request to Swift, its body as it comes, and gives the answer as it comes.
    async fn forward(&self, request: Request<Incoming>) -> Result<Response, UpstreamError> {
        let (parts, content) = request.into_parts();
        if content.is_end_stream() {
            let request = Request::from_parts(parts, body::empty());
            // A copy on the server's side, or a DELETE of a thousand segments, says nothing until it is done.
            let is_quick = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
            let limit = if is_quick { self.upstream.answer_limit() } else { LONG_ANSWER_LIMIT };
            return self.upstream.ask_for(request, limit).await.map(|answer| self.received(answer));
        }
        let (content, sent) =
            ClientBody::new(content, self.idle, self.context.metrics.transfer(DOOR, Direction::Receive));
        let expects = parts.headers.contains_key(header::EXPECT);
        let mut request = Request::from_parts(parts, ());
        let content: Body = if expects {
            let (gate, opener) = Continue::new(content, CONTINUE_LIMIT);
            hyper::ext::on_informational(&mut request, move |_| opener.open());
            boxed(gate)
        } else {
            boxed(content)
        };
        let request = request.map(|()| content);
        let limit = self.upstream.answer_limit();
        let late = sent.late(limit);
        self.upstream.send(request, limit, late).await.map(|answer| self.received(answer))
    }

    /// Swift's answer, fit to be passed on.
    fn received(&self, response: http::Response<Incoming>) -> Response {
        let (mut parts, content) = response.into_parts();
        headers::remove_hop_by_hop(&mut parts.headers);
        let content =
            if content.is_end_stream() { body::empty() } else { boxed(AnswerBody::new(content, self.idle)) };
        Response::from_parts(parts, content)
    }
}

/// Swift is away.
fn unanswered(error: &UpstreamError) -> Response {
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!("{cause:?}"));
    match error {
        UpstreamError::ClientGone(_) => {
            tracing::debug!(%error, cause, "a client did not send what it announced")
        }
        _ => tracing::warn!(%error, cause, "no answer from Swift"),
    }
    match error {
        UpstreamError::ClientGone(failed) if bodies::has_stalled(failed) => {
            text(StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come in time\n")
        }
        UpstreamError::ClientGone(_) => text(client_gone(), "the request broke off\n"),
        UpstreamError::TimedOut(_) => text(StatusCode::GATEWAY_TIMEOUT, "Swift did not answer in time\n"),
        UpstreamError::Failed(_) => text(StatusCode::BAD_GATEWAY, "Swift does not answer\n"),
        UpstreamError::Request(_) => text(StatusCode::BAD_REQUEST, "the request cannot be passed on\n"),
    }
}
