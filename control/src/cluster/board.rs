//! Who leads, and what that means for a call that arrives here.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use swift_s3_etcd::Term;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_types::{ErrorDetails, StatusExt};
use tower_service::Service;

use super::relay::{Leader, Relayed};
use crate::store::Store;

/// Clients are told to come again after this time when nobody leads.
const RETRY: Duration = Duration::from_secs(1);

/// What this process is at the moment.
#[derive(Clone)]
pub enum Role {
    /// Nobody leads, as far as is known; why.
    Nobody(Arc<str>),
    /// It leads.
    Leading(Leading),
    /// Another one leads.
    Following(Arc<Leader>),
}

impl fmt::Debug for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(why) => formatter.debug_tuple("Nobody").field(why).finish(),
            Self::Leading(_) => formatter.write_str("Leading"),
            Self::Following(leader) => formatter.debug_tuple("Following").field(leader).finish(),
        }
    }
}

impl Role {
    /// Names the term of whoever leads, if somebody does.
    pub(crate) fn term(&self) -> Option<Arc<str>> {
        match self {
            Self::Nobody(_) => None,
            Self::Leading(leading) => Some(Arc::clone(&leading.secret)),
            Self::Following(leader) => Some(leader.term()),
        }
    }
}

/// What it takes to answer as the leader.
#[derive(Clone)]
pub struct Leading {
    /// All services.
    pub routes: Routes,
    /// The state.
    pub store: Store,
    /// Nothing is answered after its end.
    pub term: Term,
    /// Ends calls under way.
    pub ended: CancellationToken,
    /// Counts calls under way.
    pub calls: TaskTracker,
    /// What other processes prove themselves with.
    pub secret: Arc<str>,
}

/// Shows everybody who leads. Clones share it.
#[derive(Clone, Debug)]
pub struct Board(Arc<watch::Sender<Role>>);

impl Default for Board {
    fn default() -> Self {
        let role = Role::Nobody(Arc::from("this control process has just started"));
        Self(Arc::new(watch::Sender::new(role)))
    }
}

impl Board {
    /// What it is at the moment.
    #[must_use]
    pub fn role(&self) -> Role {
        self.0.borrow().clone()
    }

    /// Tells changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Role> {
        self.0.subscribe()
    }

    pub(super) fn set(&self, role: Role) {
        self.0.send_replace(role);
    }

    /// True if this process leads and this is what its peers know.
    pub(crate) fn knows(&self, relayed: &Relayed) -> bool {
        matches!(&*self.0.borrow(), Role::Leading(leading) if relayed.proves(&leading.secret))
    }
}

/// Stands in front of the services: answers as the leader, hands on to the leader, or says that there is none. What `inner`
/// is for, health, is answered by every process for itself.
#[derive(Clone, Debug)]
pub struct Switch<S> {
    inner: S,
    board: Board,
}

impl<S> Switch<S> {
    /// A switch in front of `inner`.
    pub fn new(inner: S, board: Board) -> Self {
        Self { inner, board }
    }
}

impl<S> Service<http::Request<Body>> for Switch<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.health.v1.Health/") {
            return Box::pin(self.inner.call(request));
        }
        match self.board.role() {
            Role::Leading(leading) => Box::pin(async move { Ok(leading.answer(request).await) }),
            Role::Following(_) if request.extensions().get::<Relayed>().is_some() => {
                Box::pin(std::future::ready(Ok(nobody("this control process leads no more").into_http())))
            }
            Role::Following(leader) => Box::pin(async move { Ok(leader.relay(request).await) }),
            Role::Nobody(why) => Box::pin(std::future::ready(Ok(nobody(&why).into_http()))),
        }
    }
}

/// Nobody leads now; soon somebody will.
pub(super) fn nobody(why: &str) -> Status {
    let message = format!("no control process leads at the moment ({why}); try again in a second");
    Status::with_error_details(tonic::Code::Unavailable, message, ErrorDetails::with_retry_info(Some(RETRY)))
}

impl Leading {
    async fn answer(mut self, request: http::Request<Body>) -> http::Response<Body> {
        let deposed = || nobody("this control process leads no more").into_http();
        if !self.term.is_valid() {
            return deposed();
        }
        let token = self.calls.token();
        let answered = tokio::select! {
            () = self.ended.cancelled() => return deposed(),
            answered = self.routes.call(request) => answered,
        };
        let response = match answered {
            Ok(response) => response,
            Err(never) => match never {},
        };
        // What was read may be out of date, if this process slept meanwhile.
        if !self.term.is_valid() {
            return deposed();
        }
        let ended = Box::pin(self.ended.cancelled_owned());
        let term = Some(self.term);
        response.map(|body| Body::new(Limited { body: Some(body), term, ended, _token: Some(token) }))
    }
}

/// An answer that ends with its sender's right to give it.
pub(super) struct Limited {
    /// `None` once it ended.
    pub(super) body: Option<Body>,
    /// Also ends when this is over.
    pub(super) term: Option<Term>,
    pub(super) ended: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(super) _token: Option<TaskTrackerToken>,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        let is_over = self.ended.as_mut().poll(context).is_ready()
            || self.term.as_ref().is_some_and(|term| !term.is_valid());
        let status = match frame {
            _ if is_over => nobody("the control process that answered leads no more"),
            // The connection to the leader broke.
            Poll::Ready(Some(Err(error))) => nobody(error.message()),
            frame => return frame,
        };
        // Dropped, so that what makes it ends too.
        self.body = None;
        let mut trailers = http::HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
