//! POST: an archived object's metadata are those of its remote copy.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use swift_s3_policy::RemoteMetadata;
use swift_s3_policy::large_object::{Manifest, Part, classic_parts, cut, flatten};
use swift_s3_store::multipart::copy_by_parts;
use swift_s3_store::{ErrorKind, RemoteObject, StoreError};

use super::metadata::after_post;
use super::{head, unavailable};
use crate::Response;
use crate::body::{full, text};
use crate::context::Context;
use crate::policy::Route;
use crate::remote::Failure;
use crate::restore::headers::shape_of;

const LEFT: &str = "nothing was changed";
/// What Swift answers to a POST. Source: `HTTPAccepted` in `swift/common/swob.py`.
const ACCEPTED: &str = "<html><h1>Accepted</h1><p>The request is accepted for processing.</p></html>";
/// Companions are read up to this length; larger ones are those of manifests that Swift would not take.
const MAX_COMPANION_BYTES: usize = 8 * 1024 * 1024;
/// The object is replaced while its metadata are changed: another try sees the new one.
const TRIES: usize = 3;

/// Gives an archived object's remote copy the metadata of a client's POST, to which Swift answered 404. `None` when the remote has no such
/// object either: Swift's own answer stands.
///
/// A restore that ended meanwhile has made the object local again, with the metadata of before: whoever calls this sends the client's POST to
/// Swift once more after a 202, and does not mind a 404.
pub async fn post(context: &Context, route: &Route, object: &str, headers: &HeaderMap) -> Option<Response> {
    if !route.merge().writes {
        return None;
    }
    for _ in 0..TRIES {
        match try_once(context, route, object, headers).await {
            Ok(None) => return None,
            Ok(Some(answer)) => return Some(answer),
            Err(Failure::Store(error)) if error.kind() == ErrorKind::Precondition => {}
            Err(failure) => return Some(refusal(route, &failure)),
        }
    }
    Some(text(StatusCode::CONFLICT, "the object is being written at the same time\n"))
}

async fn try_once(
    context: &Context,
    route: &Route,
    object: &str,
    headers: &HeaderMap,
) -> Result<Option<Response>, Failure> {
    let key = route.keys.object_key(object);
    let on_swift = route.mapping.remote.swift().is_some();
    let Some(found) = head(context, route, object).await? else { return Ok(None) };
    if found.archived {
        return Ok(Some(text(
            StatusCode::CONFLICT,
            "the object is in an archive class of the remote store, where its metadata cannot be changed; \
             ask for it to be readable first\n",
        )));
    }
    let shape = shape_of(&found, on_swift);
    let new = match after_post(headers, &found.metadata, &shape, &route.mapping, seconds_now()) {
        Ok(new) => new,
        Err(unfit) => return Ok(Some(text(StatusCode::BAD_REQUEST, format!("{unfit}\n")))),
    };
    // Without a limit of time: the remote copies the content, which takes as long as it takes.
    let changed = replace(route, object, &key, &found, &new).await;
    let outcome = changed.as_ref().map_or_else(|error| error.kind().as_str(), |()| "ok");
    context.metrics.asked_remote("post", outcome);
    changed?;
    tracing::debug!(account = route.account(), container = %route.container, object, "metadata of the remote copy replaced");
    Ok(Some(accepted()))
}

async fn replace(
    route: &Route,
    object: &str,
    key: &str,
    found: &RemoteObject,
    new: &RemoteMetadata,
) -> Result<(), StoreError> {
    // The ETag of an object of parts would not survive a copy in one piece, and the worker would take the content for another one.
    if found.etag.contains('-')
        && let Some(multipart) = route.store().multipart()
    {
        let Some(parts) = parts_of(route, object, found).await? else {
            return Err(StoreError::unsupported("copy parts", key));
        };
        return copy_by_parts(multipart, key, &parts, found, new).await;
    }
    route.store().replace_metadata(key, &found.etag, new, found.storage_class.as_deref()).await
}

/// The parts that the object was uploaded in, if its companion tells.
async fn parts_of(
    route: &Route,
    object: &str,
    found: &RemoteObject,
) -> Result<Option<Vec<Part>>, StoreError> {
    let Some(companion) = route.keys.manifest_key(object) else { return Ok(None) };
    let Some(companion) = route.store().get(&companion, None).await? else { return Ok(None) };
    let mut json = Vec::new();
    let mut body = companion.body;
    while let Some(Ok(frame)) = body.frame().await {
        json.extend_from_slice(&frame.into_data().unwrap_or_default());
        if json.len() > MAX_COMPANION_BYTES {
            return Ok(None);
        }
    }
    let Ok(manifest) = Manifest::parse(&json) else { return Ok(None) };
    let fits = |parts: &Vec<Part>| {
        let length = parts.iter().map(|part| part.length).sum::<u64>();
        length == found.length && found.etag.ends_with(&format!("-{}", parts.len()))
    };
    if let Some(parts) = classic_parts(&manifest).filter(fits) {
        return Ok(Some(parts));
    }
    let cut = flatten(&manifest).and_then(|pieces| cut(&pieces));
    Ok(cut.ok().filter(fits))
}

fn refusal(route: &Route, failure: &Failure) -> Response {
    let Failure::Store(error) = failure else { return unavailable(route, failure, LEFT) };
    match error.kind() {
        ErrorKind::NotFound => text(StatusCode::CONFLICT, "the object is being written at the same time\n"),
        ErrorKind::Unsupported | ErrorKind::TooLarge => text(
            StatusCode::NOT_IMPLEMENTED,
            "the remote store cannot change the metadata of this object without its content; \
             download it and upload it again\n",
        ),
        ErrorKind::Invalid => text(StatusCode::BAD_REQUEST, "the remote store does not take this metadata\n"),
        _ => unavailable(route, failure, LEFT),
    }
}

fn accepted() -> Response {
    let mut answer = http::Response::new(full(ACCEPTED));
    *answer.status_mut() = StatusCode::ACCEPTED;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(ACCEPTED.len()));
    answer
}

fn seconds_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
