//! What can go wrong with a request to etcd, by what the caller can do about it.

use std::fmt;

use tonic::Code;

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No member answers, or they have no leader: try again later.
    Unavailable,
    /// User, password, certificate or rights are wrong.
    Denied,
    /// The revision asked for is gone: take a new snapshot.
    Compacted,
    /// etcd has no room: its operator must compact, defragment or raise the quota.
    Full,
    /// The lease has ended.
    LeaseGone,
    /// Anything else: a bug, or an etcd that is too old.
    Other,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdError {
    kind: ErrorKind,
    what: &'static str,
    message: String,
    outcome_unknown: bool,
}

impl EtcdError {
    pub(crate) fn new(kind: ErrorKind, what: &'static str, message: impl Into<String>) -> Self {
        Self { kind, what, message: message.into(), outcome_unknown: false }
    }

    pub(crate) fn of(what: &'static str, error: &etcd_client::Error) -> Self {
        Self { outcome_unknown: may_have_happened(error), ..Self::new(kind_of(error), what, text(error)) }
    }

    pub(crate) fn timed_out(what: &'static str) -> Self {
        Self { outcome_unknown: true, ..Self::new(ErrorKind::Unavailable, what, "no answer in time") }
    }

    pub(crate) fn or_unknown(self, outcome_unknown: bool) -> Self {
        Self { outcome_unknown: self.outcome_unknown || outcome_unknown, ..self }
    }

    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// True when the request may have been carried out all the same.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        self.outcome_unknown
    }
}

impl fmt::Display for EtcdError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "etcd: {}: {}", self.what, self.message)
    }
}

impl std::error::Error for EtcdError {}

/// Errors of the transport come before or after the request has left; who cannot tell must expect both.
fn may_have_happened(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled | Code::Internal
            )
        }
        etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_) => true,
        _ => false,
    }
}

/// Source of the texts: `api/v3rpc/rpctypes/error.go` of etcd 3.4 and 3.5.
fn kind_of(error: &etcd_client::Error) -> ErrorKind {
    match error {
        etcd_client::Error::GRpcStatus(status) => match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Denied,
            Code::InvalidArgument if status.message().contains("authentication") => ErrorKind::Denied,
            Code::FailedPrecondition if status.message().contains("authentication") => ErrorKind::Denied,
            Code::OutOfRange if status.message().contains("compacted") => ErrorKind::Compacted,
            Code::ResourceExhausted if status.message().contains("space") => ErrorKind::Full,
            Code::NotFound if status.message().contains("lease") => ErrorKind::LeaseGone,
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::ResourceExhausted => ErrorKind::Unavailable,
            _ => ErrorKind::Other,
        },
        etcd_client::Error::TransportError(_)
        | etcd_client::Error::IoError(_)
        | etcd_client::Error::EndpointError(_)
        | etcd_client::Error::Internal(_) => ErrorKind::Unavailable,
        etcd_client::Error::WatchError(_) => ErrorKind::Unavailable,
        // "lease not found" is what the client makes of a time to live of 0.
        etcd_client::Error::LeaseKeepAliveError(message) if message.contains("not found") => {
            ErrorKind::LeaseGone
        }
        etcd_client::Error::LeaseKeepAliveError(_) => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

fn text(error: &etcd_client::Error) -> String {
    match error {
        etcd_client::Error::GRpcStatus(status) => status.message().to_owned(),
        error => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    #[test]
    fn kinds_follow_codes_and_texts() {
        for (status, kind, unknown) in [
            (Status::unavailable("etcdserver: no leader"), ErrorKind::Unavailable, true),
            (Status::deadline_exceeded("x"), ErrorKind::Unavailable, true),
            (Status::permission_denied("etcdserver: permission denied"), ErrorKind::Denied, false),
            (
                Status::invalid_argument("etcdserver: authentication failed, invalid user ID or password"),
                ErrorKind::Denied,
                false,
            ),
            (
                Status::out_of_range("etcdserver: mvcc: required revision has been compacted"),
                ErrorKind::Compacted,
                false,
            ),
            (Status::resource_exhausted("etcdserver: mvcc: database space exceeded"), ErrorKind::Full, false),
            (Status::not_found("etcdserver: requested lease not found"), ErrorKind::LeaseGone, false),
            (Status::unimplemented("x"), ErrorKind::Other, false),
        ] {
            let error = EtcdError::of("asking", &etcd_client::Error::GRpcStatus(status.clone()));
            assert_eq!((error.kind(), error.outcome_unknown()), (kind, unknown), "{status}");
        }
        let gone = etcd_client::Error::LeaseKeepAliveError("lease not found".into());
        assert_eq!(EtcdError::of("keeping", &gone).kind(), ErrorKind::LeaseGone);
    }
}
