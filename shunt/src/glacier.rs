//! Objects in an archive of their remote (Glacier and the like): what clients are told, and how they ask to have one brought out.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use swift_s3_store::{AnswerNotes, RemoteObject};

use crate::body::{Response, text};

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
