//! Objects in an archive of their remote (Glacier and the like): what clients are told, and how they ask to have one brought out.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, request};
use swift_s3_store::{AnswerNotes, ErrorKind, RemoteObject, Thaw};

use crate::body::{Response, empty, text};
use crate::context::Context;
use crate::copy::ClientSwift;
use crate::policy::Route;
use crate::read::facts::{Facts, Side};
use crate::remote::{self, Failure};

/// The header of a POST that asks for an object to be brought out: `days=7; tier=Standard`, each of them may be left out.
pub const WISH: HeaderName = HeaderName::from_static("x-cloud-sync-restore-request");
const DEFAULT_DAYS: u32 = 7;
/// Each day costs money.
const MAX_DAYS: u32 = 365;
/// Source: `Tier` in the Amazon S3 API Reference, RestoreObject.
const TIERS: [&str; 3] = ["Standard", "Bulk", "Expedited"];

/// The state of an object that was asked for, as S3 tells it.
const X_AMZ_RESTORE: HeaderName = HeaderName::from_static("x-amz-restore");
/// Its storage class.
const X_AMZ_STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");
/// What clients that wait are told to wait, in seconds; bringing out takes hours.
const RETRY_AFTER_SECONDS: u32 = 3600;

/// Tells in the answer to HEAD in which archive an object is, and whether it is being brought out; nothing of one in no archive.
pub fn put_state(object: &RemoteObject, notes: &AnswerNotes, headers: &mut HeaderMap) {
    if !object.archived {
        return;
    }
    let values = [(X_AMZ_STORAGE_CLASS, &object.storage_class), (X_AMZ_RESTORE, &notes.restore)];
    for (name, value) in values {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
}

/// The answer to GET of an object that must be brought out first: 409, as 403 would speak of the client's rights.
#[must_use]
pub fn refuse(object: &RemoteObject, notes: &AnswerNotes) -> Response {
    let class = object.storage_class.as_deref().unwrap_or("an archive");
    let is_coming = notes.restore.as_deref().is_some_and(|state| state.contains("ongoing-request=\"true\""));
    let told = if is_coming {
        format!(
            "The object is in {class} and is being brought out. Try again when HEAD shows \
             X-Amz-Restore: ongoing-request=\"false\".\n"
        )
    } else {
        format!(
            "The object is in {class} and must be brought out before it can be read: POST to it with the header \
             X-Cloud-Sync-Restore-Request: days=7; tier=Standard (this needs write access to the container), wait \
             until HEAD shows X-Amz-Restore: ongoing-request=\"false\", and try again.\n"
        )
    };
    let mut response = text(StatusCode::CONFLICT, told);
    put_state(object, notes, response.headers_mut());
    if is_coming {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    response
}

/// For how long, and how quickly, an object is to be brought out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    days: u32,
    tier: Option<&'static str>,
}

impl Wish {
    fn parse(text: &str) -> Option<Self> {
        let mut wish = Self { days: DEFAULT_DAYS, tier: None };
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            match name.trim().to_ascii_lowercase().as_str() {
                "days" => {
                    wish.days = value.trim().parse().ok().filter(|days| (1..=MAX_DAYS).contains(days))?;
                }
                "tier" => {
                    let known = TIERS.into_iter().find(|tier| tier.eq_ignore_ascii_case(value.trim()));
                    wish.tier = Some(known?);
                }
                _ => return None,
            }
        }
        Some(wish)
    }
}

/// Whether a request asks for an object to be brought out.
#[must_use]
pub fn is_wish(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::POST && headers.contains_key(WISH)
}

/// Answers a POST that asks for an object to be brought out of its archive: 202 when the remote has taken that.
///
/// It costs money, so whoever asks must be allowed to write: Swift is sent a POST of the client's, which it answers with 404 after its access
/// control. Should the object be there by then, the POST gives it the metadata that it has.
pub async fn answer(
    context: &Context,
    swift: &dyn ClientSwift,
    route: &Arc<Route>,
    object: &str,
    client: &request::Parts,
) -> Response {
    let wish = client.headers.get(WISH).and_then(|value| value.to_str().ok()).and_then(Wish::parse);
    let Some(wish) = wish else {
        return text(
            StatusCode::BAD_REQUEST,
            "expected X-Cloud-Sync-Restore-Request: days=1 to 365; tier=Standard, Bulk or Expedited\n",
        );
    };
    let local = ask_swift(swift, Method::HEAD, client, &HeaderMap::new()).await;
    match local.status() {
        StatusCode::NOT_FOUND => {}
        status if status.is_success() => return not_archived(),
        _ => return local,
    }
    let key = route.keys.object_key(object);
    let store = &route.remote.store;
    let looked = remote::ask(&context.metrics, &route.remote, "head", store.look(&key)).await;
    let (found, notes) = match looked {
        Ok(Some(found)) => found,
        Ok(None) => return local,
        Err(failure) => return failed(route, &key, &failure),
    };
    let side = if store.swift().is_some() { Side::Swift } else { Side::S3 };
    let allowed = ask_swift(swift, Method::POST, client, &Facts::of(&found, side).headers).await;
    match allowed.status() {
        StatusCode::NOT_FOUND => {}
        status if status.is_success() => return not_archived(),
        _ => return allowed,
    }
    if !found.archived {
        return not_archived();
    }
    let thawing = store.thaw(&key, wish.days, wish.tier);
    let mut response = match remote::ask(&context.metrics, &route.remote, "thaw", thawing).await {
        Ok(Thaw::Accepted) => text(StatusCode::ACCEPTED, "The object is being brought out.\n"),
        Ok(Thaw::UnderWay) => text(StatusCode::ACCEPTED, "The object is being brought out already.\n"),
        Err(Failure::Store(error)) if error.kind() == ErrorKind::Invalid => {
            tracing::warn!(remote = route.remote.label, key, %error, "an archived object cannot be brought out");
            text(StatusCode::BAD_REQUEST, "The remote does not bring the object out in this way.\n")
        }
        Err(failure) => return failed(route, &key, &failure),
    };
    put_state(&found, &notes, response.headers_mut());
    response
}

fn failed(route: &Route, key: &str, failure: &Failure) -> Response {
    tracing::warn!(remote = route.remote.label, key, error = %failure, "an archived object cannot be brought out");
    failure.response()
}

/// The answer to such a request about an object that needs no bringing out.
#[must_use]
pub fn not_archived() -> Response {
    text(StatusCode::CONFLICT, "The object is in no archive: it can be read.\n")
}

/// A request of the client's about the object, with other metadata.
async fn ask_swift(
    swift: &dyn ClientSwift,
    method: Method,
    client: &request::Parts,
    metadata: &HeaderMap,
) -> Response {
    let unanswered = || text(StatusCode::BAD_GATEWAY, "Swift does not answer\n");
    let mut request = Request::new(empty());
    *request.method_mut() = method;
    *request.uri_mut() = client.uri.clone();
    *request.headers_mut() = client.headers.clone();
    let is_described = |name: &HeaderName| {
        name.as_str().starts_with("x-object-")
            || name.as_str().starts_with("x-delete-")
            || name.as_str().starts_with("content-")
            || *name == WISH
    };
    let dropped: Vec<HeaderName> = client.headers.keys().filter(|name| is_described(name)).cloned().collect();
    for name in dropped {
        request.headers_mut().remove(name);
    }
    let unset = ["x-static-large-object", "x-timestamp", "last-modified", "x-manifest-etag"];
    for (name, value) in metadata.iter().filter(|(name, _)| !unset.contains(&name.as_str())) {
        request.headers_mut().insert(name.clone(), value.clone());
    }
    request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    match swift.send(request).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%error, "no answer from Swift");
            unanswered()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_or_refused() {
        let wish = |days, tier| Some(Wish { days, tier });
        let table = [
            ("", wish(7, None)),
            ("days=3", wish(3, None)),
            ("days=1; tier=bulk", wish(1, Some("Bulk"))),
            ("Tier=Expedited;DAYS=365;", wish(365, Some("Expedited"))),
            ("days=0", None),
            ("days=366", None),
            ("days=-1", None),
            ("days", None),
            ("tier=fast", None),
            ("hours=1", None),
        ];
        for (text, expected) in table {
            assert_eq!(Wish::parse(text), expected, "{text}");
        }
    }
}
