//! `/live`, `/ready` and `/metrics`, on an address of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::body::{Response, text};
use crate::context::Context;

/// Whether the shunt may be sent requests.
#[derive(Debug, Default)]
pub struct Readiness {
    has_policy: watch::Sender<bool>,
    is_stopping: AtomicBool,
}

impl Readiness {
    /// A policy is in force.
    pub fn policy_in_force(&self) {
        self.has_policy.send_replace(true);
    }

    /// Waits for a policy.
    pub async fn has_policy(&self) {
        // The sender is part of this.
        let _ = self.has_policy.subscribe().wait_for(|has_policy| *has_policy).await;
    }

    /// No new requests, please.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// A policy is in force, and the process is not about to end.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.has_policy.borrow() && !self.is_stopping.load(Ordering::Relaxed)
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, context: Arc<Context>, readiness: Arc<Readiness>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (context, readiness) = (Arc::clone(&context), Arc::clone(&readiness));
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&request, &context, &readiness);
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

fn answer(request: &Request<Incoming>, context: &Context, readiness: &Readiness) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    }
    match request.uri().path() {
        "/live" => text(StatusCode::OK, "live\n"),
        "/ready" if readiness.is_ready() => text(StatusCode::OK, "ready\n"),
        "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: no policy yet, or stopping\n"),
        "/metrics" => text(StatusCode::OK, context.metrics.render()),
        _ => text(StatusCode::NOT_FOUND, "/live, /ready and /metrics are here\n"),
    }
}
