//! The gate in front of all services: asks [`crate::access`] about each call before any service sees it, and again about calls
//! under way when the access file changes. A stream may be open for months; who was taken off the file must not go on with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use crate::access::{Access, Caller, Need, Refusal, need};
use crate::cluster::{Board, Relayed};
use crate::metrics::Metrics;
use crate::observed::CallSpan;
use crate::server::Doors;
use crate::transport::Peer;

/// Wraps all services.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    inner: S,
    access: Arc<watch::Sender<Arc<Access>>>,
    metrics: Metrics,
    /// `None` where this is the only control process.
    board: Option<Board>,
}

impl<S> Gate<S> {
    /// A gate in front of `inner`. With a board, calls that another control process hands on are let through, if it proves
    /// that it is one.
    pub fn new(inner: S, doors: &Doors, board: Option<Board>) -> Self {
        Self { inner, access: Arc::clone(&doors.access), metrics: doors.metrics.clone(), board }
    }

    /// What is to become of a call that says that it was handed on; `None`: it is a client's own.
    fn relayed(&self, path: &str, relayed: Option<Relayed>) -> Option<Result<Relayed, Status>> {
        let (board, relayed) = (self.board.as_ref()?, relayed?);
        if !board.knows(&relayed) {
            // Most likely for a term that is over.
            return Some(Err(Status::unavailable(
                "this call was handed on to a control process that does not lead",
            )));
        }
        match relayed.caller.role {
            Some(role) if !role.covers(need(path)) => Some(Err(Status::permission_denied(format!(
                "the role {} does not cover this call",
                role.as_str()
            )))),
            _ => Some(Ok(relayed)),
        }
    }
}

impl<S> Service<http::Request<Body>> for Gate<S>
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

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let told = Relayed::take(request.headers_mut());
        match self.relayed(request.uri().path(), told) {
            None => {}
            // Whoever handed it on ends it when it is not allowed any more.
            Some(Ok(relayed)) => {
                request.extensions_mut().insert(relayed.caller.clone());
                request.extensions_mut().insert(relayed);
                let span = CallSpan::take(&mut request, true);
                return Box::pin(span.in_scope(|| self.inner.call(request)));
            }
            Some(Err(status)) => {
                drop(CallSpan::take(&mut request, false));
                return Box::pin(std::future::ready(Ok(status.into_http())));
            }
        }
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let call = Call {
            need: need(request.uri().path()),
            authorization: request.headers().get(http::header::AUTHORIZATION).cloned(),
            certificate_name: peer.certificate_name.clone(),
        };
        // Before the decision, so that no change is missed after it.
        let changes = self.access.subscribe();
        let access = Arc::clone(&changes.borrow());
        match call.decide(&access) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                // What everybody may call says nothing about who calls.
                let span = CallSpan::take(&mut request, call.need != Need::Nothing);
                let response = span.in_scope(|| self.inner.call(request));
                if call.need == Need::Nothing {
                    return Box::pin(response);
                }
                Box::pin(async move {
                    let revocation = WatchStream::from_changes(changes)
                        .filter(move |access| std::future::ready(call.decide(access).is_err()))
                        .boxed();
                    Ok(response.await?.map(|body| Body::new(Revocable { body: Some(body), revocation })))
                })
            }
            Err(refusal) => {
                let path = request.uri().path().to_owned();
                let (reason, status) = match refusal {
                    Refusal::Unauthenticated(why) => ("unauthenticated", Status::unauthenticated(why)),
                    Refusal::Denied(why) => ("denied", Status::permission_denied(why)),
                };
                self.metrics.refused(reason);
                let _entered = CallSpan::take(&mut request, false).entered();
                tracing::warn!(path, address = ?peer.address, reason = status.message(), "refused a call");
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

/// What a call is decided by.
struct Call {
    need: Need,
    authorization: Option<http::HeaderValue>,
    certificate_name: Option<Arc<str>>,
}

impl Call {
    fn decide(&self, access: &Access) -> Result<Caller, Refusal> {
        let authorization = self.authorization.as_ref().map(http::HeaderValue::as_bytes);
        access.decide(self.need, authorization, self.certificate_name.as_deref())
    }
}

/// An answer that ends when its caller is not allowed it any more.
struct Revocable {
    /// `None` once it ended.
    body: Option<Body>,
    /// Has an item when the call would be refused now.
    revocation: BoxStream<'static, Arc<Access>>,
}

impl http_body::Body for Revocable {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.body.is_some()
            && let Poll::Ready(Some(_)) = self.revocation.poll_next_unpin(context)
        {
            // Dropped, so that the service behind it ends too.
            self.body = None;
            let status = Status::unauthenticated("the access file does not allow this call any more");
            let mut trailers = http::HeaderMap::new();
            status.add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
