//! The door for the filter in Swift's own pipeline (`shunt/wsgi`).
//!
//! The filter asks Swift first, and comes here with what Swift did not have, over a unix socket that only Swift's group may use, or over a
//! loopback port with a token. It is HTTP/1.1 throughout:
//!
//! | request | step | answer |
//! |---|---|---|
//! | `GET /shunt/v1/containers` | | the merged containers as JSON, with an ETag |
//! | GET, HEAD of an object | `X-Shunt-Step: miss`, after Swift's 404 | the object |
//! | POST of a container | `listing`; begun before Swift answers, the body is Swift's page | the merged page |
//! | DELETE of an object | `before`, then `after` with the token and Swift's status | what the client is told |
//! | POST of an object | `after`, after Swift's 404 | what the client is told |
//! | `POST /shunt/v1/restore/<job>` | | the next request to run below the authentication; 202: none yet; 204: no more |
//!
//! `X-Shunt-Outcome: answer` marks what the client is to get, `pass` that Swift's own answer stands. Anything else is not for clients.

mod address;
mod channel;
mod connection;
mod containers;
mod listener;
mod protocol;
mod steps;

use std::sync::Arc;

pub use address::FilterAddress;
pub use channel::FilterChannel;
pub use connection::serve;
pub use listener::{FilterListener, OpenError};

use crate::context::Context;

/// For metrics.
const DOOR: &str = "filter";

/// The door: what all its connections share.
#[derive(Debug)]
pub struct Filter {
    context: Arc<Context>,
    token: Option<swift_s3_policy::Secret>,
    containers: containers::Containers,
    jobs: Arc<channel::Jobs>,
}

impl Filter {
    /// `token` is what the filter shows; without one, whoever can open the socket is trusted.
    #[must_use]
    pub fn new(context: Arc<Context>, token: Option<swift_s3_policy::Secret>) -> Self {
        Self { context, token, containers: containers::Containers::default(), jobs: Arc::default() }
    }
}
