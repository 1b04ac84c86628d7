//! What went wrong, as visitors are told it.

use http::StatusCode;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Something did not work.
#[derive(Clone, Debug, Serialize, thiserror::Error, PartialEq, Eq)]
#[error("{title}: {message}")]
pub struct Failure {
    /// Of HTTP.
    #[serde(serialize_with = "number")]
    pub status: StatusCode,
    /// In a few words.
    pub title: &'static str,
    /// In a sentence.
    pub message: String,
    /// What exactly, each with its place in the document.
    pub problems: Vec<Place>,
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Place {
    /// A JSON path such as `containers[3].aws_bucket`. Empty: the document as a whole.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Failure {
    /// With a sentence about it.
    #[must_use]
    pub fn new(status: StatusCode, title: &'static str, message: impl Into<String>) -> Self {
        Self { status, title, message: message.into(), problems: Vec::new() }
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", message)
    }

    /// The request cannot be understood.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "That is not right", message)
    }

    /// Something is wrong with this program.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "This page is broken", message)
    }

    /// A form that no page of ours made for this visitor.
    #[must_use]
    pub fn forged() -> Self {
        let message =
            "the form was out of date, or not made for you; go back, load the page again and repeat";
        Self::new(StatusCode::FORBIDDEN, "Please try again", message)
    }

    /// Nobody is signed in.
    #[must_use]
    pub fn stranger() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Sign in first",
            "this takes the token of a viewer or an operator",
        )
    }

    /// True if signing in may help.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let (http, title) = match status.code() {
            Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "Sign in first"),
            Code::PermissionDenied => (StatusCode::FORBIDDEN, "You may not do that"),
            Code::NotFound => (StatusCode::NOT_FOUND, "Not found"),
            Code::InvalidArgument | Code::OutOfRange => (StatusCode::BAD_REQUEST, "That is not right"),
            Code::Aborted | Code::AlreadyExists => {
                (StatusCode::CONFLICT, "Somebody else changed it meanwhile")
            }
            Code::FailedPrecondition => (StatusCode::CONFLICT, "That cannot be done now"),
            Code::ResourceExhausted => (StatusCode::SERVICE_UNAVAILABLE, "There is no room for that"),
            Code::DeadlineExceeded => {
                (StatusCode::GATEWAY_TIMEOUT, "The control plane did not answer in time")
            }
            Code::Unavailable | Code::Cancelled => {
                (StatusCode::SERVICE_UNAVAILABLE, "The control plane does not answer")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "The control plane failed"),
        };
        let violations = status.get_details_bad_request().map(|told| told.field_violations);
        let problems = violations
            .unwrap_or_default()
            .into_iter()
            .map(|violation| Place { path: violation.field, problem: violation.description })
            .collect();
        Self { status: http, title, message: status.message().to_owned(), problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_their_meaning() {
        for (code, http) in [
            (Code::Unauthenticated, 401),
            (Code::PermissionDenied, 403),
            (Code::NotFound, 404),
            (Code::InvalidArgument, 400),
            (Code::Aborted, 409),
            (Code::FailedPrecondition, 409),
            (Code::Unavailable, 503),
            (Code::DeadlineExceeded, 504),
            (Code::Unknown, 500),
        ] {
            let failure = Failure::from(Status::new(code, "why"));
            assert_eq!((failure.status.as_u16(), failure.message.as_str()), (http, "why"), "{code:?}");
        }
    }
}
