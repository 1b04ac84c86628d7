//! How a request to a remote store failed.

use std::fmt;
use std::time::Duration;

use crate::body::BoxError;
use crate::metering::Operation;

/// Longest remote message kept, in characters; remotes may answer with whole pages of HTML.
const MAX_MESSAGE_CHARS: usize = 200;
/// Longest remote code and request id kept, in characters.
const MAX_TOKEN_CHARS: usize = 128;
/// The longest pause that a remote may ask for and get.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What a failure means for the caller. Chosen from the remote's error code first, from the HTTP status otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The key is not there, where it had to be.
    NotFound,
    /// The bucket is not there.
    BucketMissing,
    /// Credentials are unknown, expired or not allowed to do this.
    Denied,
    /// The remote asks for fewer requests.
    Throttled,
    /// The remote could not be reached, gave up, or took too long.
    Unavailable,
    /// The content that arrived is not the content that was announced.
    BadDigest,
    /// The object is no longer what the request was conditional on.
    Precondition,
    /// The remote will never take this object under this key.
    Invalid,
    /// The object is larger than one request may carry.
    TooLarge,
    /// Our own source stream failed, or gave another number of bytes than announced.
    Body,
    /// The remote does not know the operation.
    Unsupported,
    /// Nothing was sent, or not to its end: the permission to send was withdrawn.
    Withdrawn,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// Whether other objects of the bucket are likely to fail in the same way, so that trying them is a waste.
    pub fn is_remote_wide(self) -> bool {
        matches!(self, Self::BucketMissing | Self::Denied | Self::Throttled | Self::Unavailable)
    }

    /// A fixed word for metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::BucketMissing => "bucket_missing",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::BadDigest => "bad_digest",
            Self::Precondition => "precondition",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Body => "body",
            Self::Unsupported => "unsupported",
            Self::Withdrawn => "withdrawn",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A failed request: what was asked, how the remote or the network answered. Never holds a secret.
#[derive(Debug)]
pub struct StoreError(Box<Details>);

#[derive(Debug)]
struct Details {
    kind: ErrorKind,
    operation: &'static str,
    key: Option<String>,
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
}

impl StoreError {
    pub(crate) fn new(kind: ErrorKind, operation: Operation) -> Self {
        Self::named(kind, operation.as_str())
    }

    /// An error outside of any request to the remote, `operation` being a word such as `open`.
    pub(crate) fn named(kind: ErrorKind, operation: &'static str) -> Self {
        Self(Box::new(Details {
            kind,
            operation,
            key: None,
            status: None,
            code: None,
            message: None,
            request_id: None,
            retry_after: None,
            source: None,
        }))
    }

    /// A request that was not sent, because the remote cannot do it.
    pub fn unsupported(operation: &'static str, key: &str) -> Self {
        Self::named(ErrorKind::Unsupported, operation).with_key(key)
    }

    pub(crate) fn into_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.0.key = Some(key.to_owned());
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_code(mut self, code: Option<&str>) -> Self {
        self.0.code = code.map(|code| shorten(code, MAX_TOKEN_CHARS));
        self
    }

    pub(crate) fn with_message(mut self, message: Option<&str>) -> Self {
        self.0.message = message.map(|message| shorten(message, MAX_MESSAGE_CHARS));
        self
    }

    pub(crate) fn with_request_id(mut self, request_id: Option<&str>) -> Self {
        self.0.request_id = request_id.map(|request_id| shorten(request_id, MAX_TOKEN_CHARS));
        self
    }

    pub(crate) fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after.map(|pause| pause.min(MAX_RETRY_AFTER));
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the failure means.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was asked of the remote: `put`, `head`, …
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key it was about, if it was about one.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The remote's HTTP status; `None` when there was no answer.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The remote's error code, such as `AccessDenied`.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The remote's words, shortened, or what the network said.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// How long the remote asked to be left alone, an hour at most.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The remote's id of the request, to quote to its operators.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &*self.0;
        write!(formatter, "{} failed", details.operation)?;
        if let Some(key) = &details.key {
            write!(formatter, " for {key:?}")?;
        }
        write!(formatter, " ({})", details.kind)?;
        let mut separator = ": ";
        for part in [&details.code, &details.message].into_iter().flatten() {
            write!(formatter, "{separator}{part}")?;
            separator = ", ";
        }
        if let Some(status) = details.status {
            write!(formatter, "{separator}HTTP status {status}")?;
            separator = ", ";
        }
        if let Some(request_id) = &details.request_id {
            write!(formatter, "{separator}request id {request_id}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source: &(dyn std::error::Error + 'static) = self.0.source.as_deref()?;
        Some(source)
    }
}

/// Cuts `text` to `max_chars` and makes control characters harmless: it goes to logs and terminals.
fn shorten(text: &str, max_chars: usize) -> String {
    let mut short: String =
        text.trim().chars().take(max_chars).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().chars().nth(max_chars).is_some() {
        short.push('…');
    }
    short
}
