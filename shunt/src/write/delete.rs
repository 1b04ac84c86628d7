//! DELETE: the remote copy goes after the local object, unless somebody wrote it anew.

use http::{Method, StatusCode};
use swift_s3_policy::large_object::{Entry, Manifest};
use swift_s3_policy::swift_layout::{COMBINED_ETAG_MARKER, is_derived_name};
use swift_s3_store::{ErrorKind, RemoteObject, StoreError};

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

/// While the object is there, the delete is known to be owed: what belongs to it goes first. Nothing is removed without a look right before
/// at what is there, because somebody may write the object anew at any moment, and the remote then has the only copy.
async fn remove(context: &Context, route: &Route, object: &str, token: &Token) -> Result<(), Failure> {
    let Some(found) = still(context, route, object, token).await? else { return Ok(()) };
    let joined = joined_segments(route, object, &found);
    let joined = ask(&context.metrics, &route.remote, "get", joined).await?;
    if token.has_companion()
        && let Some(companion) = route.keys.manifest_key(object)
    {
        let head = route.store().head(&companion);
        let companion_head = ask(&context.metrics, &route.remote, "head", head).await?;
        if still(context, route, object, token).await?.is_none() {
            return Ok(());
        }
        // Only what was there while the object was still the old one: a newer one's companion is stored right before it.
        if let Some(companion_head) = companion_head {
            delete_if(context, route, &companion, &companion_head.etag).await?;
        }
    }
    if !joined.is_empty() && still(context, route, object, token).await?.is_none() {
        return Ok(());
    }
    for key in joined {
        delete(context, route, &key).await?;
    }
    let is_plain = shape_of(&found, route.mapping.remote.swift().is_some()) == Shape::Plain;
    let now = if is_plain { Some(found) } else { still(context, route, object, token).await? };
    let Some(found) = now else { return Ok(()) };
    let was_deleted = delete_if(context, route, &route.keys.object_key(object), &found.etag).await?;
    if !was_deleted && still(context, route, object, token).await?.is_some() {
        return Err(Failure::Changing);
    }
    tracing::debug!(account = route.account(), container = %route.container, object, was_deleted, "deleted from the remote");
    Ok(())
}

/// What the remote has, if that is what the client's DELETE meant.
async fn still(
    context: &Context,
    route: &Route,
    object: &str,
    token: &Token,
) -> Result<Option<RemoteObject>, Failure> {
    let found = head(context, route, object).await?;
    if found.as_ref().is_some_and(|found| token_of(route, found) != *token) {
        tracing::debug!(account = route.account(), container = %route.container, object,
            "the remote copy is newer than the delete; it stays");
        return Ok(None);
    }
    Ok(found)
}

/// Removes what has this ETag; something else under the same name stays. False when the remote says that it is something else.
async fn delete_if(context: &Context, route: &Route, key: &str, etag: &str) -> Result<bool, Failure> {
    let request = async {
        match route.store().delete_if(key, etag).await {
            Err(error) if error.kind() == ErrorKind::Precondition => Ok(false),
            ended => ended.map(|()| true),
        }
    };
    ask(&context.metrics, &route.remote, "delete", request).await
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
