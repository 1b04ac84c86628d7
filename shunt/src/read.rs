//! GET and HEAD of archived objects.

use std::sync::Arc;

use http::HeaderMap;

use crate::Response;
use crate::context::Context;
use crate::policy::Route;
use crate::restore::SwiftWriter;

/// An object that Swift does not have.
#[derive(Debug)]
pub struct Miss {
    /// Where it may be.
    pub route: Arc<Route>,
    /// Its name.
    pub object: String,
    /// The client's request: GET or HEAD.
    pub request: http::request::Parts,
    /// The headers of Swift's 404.
    pub local_headers: HeaderMap,
    /// The way into Swift for what is written back, if there is one.
    pub writer: Option<Arc<dyn SwiftWriter>>,
}

/// Answers from the remote; `None` when that has nothing either, and Swift's own answer stands.
pub async fn answer(_context: &Arc<Context>, _miss: Miss) -> Option<Response> {
    None
}
