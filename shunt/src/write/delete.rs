//! DELETE: the remote copy goes after the local object, unless somebody wrote it anew.

use http::{Method, StatusCode};
use swift_s3_policy::large_object::{Entry, Manifest};
use swift_s3_policy::swift_layout::{COMBINED_ETAG_MARKER, is_derived_name};
use swift_s3_store::{RemoteObject, StoreError};

use super::token::Token;
use super::{head, unavailable};
use crate::Response;
use crate::body::empty;
use crate::context::Context;
use crate::policy::Route;
use crate::remote::{Failure, ask};
use crate::restore::headers::{Shape, shape_of};

/// The largest manifest that Swift takes. Source: `max_manifest_size` in `slo.py` of Swift 2.30.1.
const MAX_MANIFEST_BYTES: usize = 8 * 1024 * 1024;

/// What the remote has under an object's name, before a client's DELETE goes to Swift; `None` when there is nothing to see to.
///
/// # Errors
/// The answer for the client when the remote cannot be asked: then nothing must be deleted at all, or the half that stays would come back.
pub async fn before(
    context: &Context,
    route: &Route,
    object: &str,
    method: &Method,
) -> Result<Option<Token>, Response> {
    if !route.merge().writes || *method != Method::DELETE {
        return Ok(None);
    }
    const LEFT: &str = "nothing was deleted";
    match head(context, route, object).await {
        Ok(found) => Ok(found.map(|found| token_of(route, &found))),
        Err(error) => Err(unavailable(route, &error, LEFT)),
    }
}

/// Removes what [`before`] saw, after Swift answered `local` to the client's DELETE. `None`: Swift's own answer stands.
///
/// A remote that fails is told as 503, never as a success: the client's next DELETE finishes it.
pub async fn delete_after(
    context: &Context,
    route: &Route,
    object: &str,
    token: Option<&Token>,
    local: StatusCode,
) -> Option<Response> {
    let is_settled = matches!(local, StatusCode::NO_CONTENT | StatusCode::NOT_FOUND);
    let token = token.filter(|_| is_settled && route.merge().writes)?;
    match remove(context, route, object, token).await {
        Ok(()) => {
            let mut answer = http::Response::new(empty());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            Some(answer)
        }
        Err(error) => {
            Some(unavailable(route, &error, "the remote copy is still there, delete the object again"))
        }
    }
}

async fn remove(context: &Context, route: &Route, object: &str, token: &Token) -> Result<(), Failure> {
    let Some(found) = head(context, route, object).await? else { return Ok(()) };
    if token_of(route, &found) != *token {
        tracing::debug!(account = route.account(), container = %route.container, object,
            "the remote copy is newer than the delete; it stays");
        return Ok(());
    }
    // While the object is there, the delete is known to be owed: what belongs to it goes first.
    if token.has_companion()
        && let Some(companion) = route.keys.manifest_key(object)
    {
        delete(context, route, &companion).await?;
    }
    let joined = joined_segments(route, object, &found);
    for key in ask(&context.metrics, &route.remote, "get", joined).await? {
        delete(context, route, &key).await?;
    }
    delete(context, route, &route.keys.object_key(object)).await?;
    tracing::debug!(account = route.account(), container = %route.container, object, "deleted from the remote");
    Ok(())
}

async fn delete(context: &Context, route: &Route, key: &str) -> Result<(), Failure> {
    ask(&context.metrics, &route.remote, "delete", route.store().delete(key)).await
}

fn token_of(route: &Route, found: &RemoteObject) -> Token {
    let on_swift = route.mapping.remote.swift().is_some();
    Token::of(found, !on_swift && shape_of(found, false) != Shape::Plain)
}

/// Segments on a Swift remote that were joined for this object and belong to nobody else. All others may be needed by another manifest, and
/// stay: see `docs/decisions/0002-segments-on-swift-remotes.md`.
async fn joined_segments(
    route: &Route,
    object: &str,
    found: &RemoteObject,
) -> Result<Vec<String>, StoreError> {
    let Some(swift) = route.store().swift() else { return Ok(Vec::new()) };
    if shape_of(found, true) != Shape::Static {
        return Ok(Vec::new());
    }
    let key = route.keys.object_key(object);
    let json = swift.slo_manifest(&key, MAX_MANIFEST_BYTES).await?.unwrap_or_default();
    let Ok(manifest) = Manifest::parse(&json) else { return Ok(Vec::new()) };
    let mut joined = Vec::new();
    for entry in &manifest.entries {
        let Entry::Object(entry) = entry else { continue };
        if !is_derived_name(object, &entry.object) {
            continue;
        }
        let key = format!("{}/{}", entry.container, entry.object);
        // Users may give such names too.
        let segment = route.store().head(&key).await?;
        if segment.is_some_and(|segment| segment.metadata.user.contains_key(COMBINED_ETAG_MARKER)) {
            joined.push(key);
        }
    }
    Ok(joined)
}
