//! DELETE and POST of archived objects, for mappings with `merge_writes`.
//!
//! Swift decides who may write: nothing happens on the remote unless Swift has taken the client's own request (204), or has answered 404 to it,
//! which it does only after its access control. Both doors use the same steps:
//!
//! | verb | before the client's request goes to Swift | after it |
//! |---|---|---|
//! | DELETE | [`before`]: what the remote has now | [`delete_after`]: that, and nothing newer, is removed there |
//! | POST | | [`post`], after a 404: the remote copy gets the metadata |
//!
//! # Who wins
//! * Swift dates the client's DELETE, also when there was nothing to delete: a restore that is under way is older and loses.
//! * What was written after the DELETE and carried meanwhile has another ETag or another date on the remote; it is left alone.
//! * A restore that read the remote copy before a POST changed it takes the restored object away again.

mod delete;
mod metadata;
mod post;
mod token;

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use swift_s3_store::RemoteObject;

use crate::Response;
use crate::body::text;
use crate::context::Context;
use crate::policy::Route;
use crate::remote::{Failure, ask};

pub use delete::{before, delete_after};
pub use post::post;
pub use token::{Token, TokenError};

/// What clients are told to wait when the remote does not say how long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Whether requests with this method concern the remote copies of a container's objects.
#[must_use]
pub fn concerns(route: &Route, method: &Method) -> bool {
    route.merge().writes && matches!(*method, Method::DELETE | Method::POST)
}

/// An answer that says that the remote could not be asked; `left` is what has not been done.
fn unavailable(route: &Route, failure: &Failure, left: &str) -> Response {
    tracing::warn!(account = route.account(), container = %route.container, remote = %route.remote.label, error = %failure,
        left, "a write could not be carried to the remote");
    let after = match failure {
        Failure::Resting(pause) => *pause,
        Failure::Store(error) => error.retry_after().unwrap_or(RETRY_AFTER),
        Failure::TimedOut | Failure::NoPlace | Failure::Changing | Failure::Swift(_) => RETRY_AFTER,
    };
    let message = format!("the remote store of this container cannot be used at the moment; {left}\n");
    let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, message);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    answer
}

/// What the remote has under an object's name.
async fn head(context: &Context, route: &Route, object: &str) -> Result<Option<RemoteObject>, Failure> {
    let key = route.keys.object_key(object);
    ask(&context.metrics, &route.remote, "head", route.store().head(&key)).await
}
