//! Archived objects that are written back while they are read.

use std::fmt::Debug;

use async_trait::async_trait;
use http::{Request, Response};

use crate::body::{Body, BoxError};

/// A way into Swift below authentication.
#[async_trait]
pub trait SwiftWriter: Send + Sync + Debug {
    /// Sends a request with the path `/v1/account/container/object`.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError>;
}

/// What is being written back.
#[derive(Debug, Default)]
pub struct Restores {}
