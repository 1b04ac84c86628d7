//! What goes wrong, and with which requests.

use std::fmt;
use std::time::Duration;

use super::gate::Gate;
use crate::operation::Operation;

/// One request that reached the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// HTTP method.
    pub method: String,
    /// Path and query exactly as sent.
    pub target: String,
    /// What it means to S3.
    pub operation: Operation,
    /// The decoded key, if it is about an object.
    pub key: String,
    /// The headers that matter to tests: `x-amz-…`, `content-…`, `if-…`, `x-backend-…`, `x-timestamp`,
    /// `traceparent`; lower case.
    pub headers: Vec<(String, String)>,
    /// The status that the caller got; nothing while it is under way or when the connection was cut.
    pub status: Option<u16>,
    /// Nothing more comes of it: it was answered, or its connection is gone.
    pub over: bool,
    /// The fault that was done to it, if any.
    pub fault: Option<String>,
}

impl Seen {
    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers an S3 error without asking the server; the request's body is read and dropped.
    Error {
        /// HTTP status.
        status: u16,
        /// S3's error code, such as `SlowDown`.
        code: String,
    },
    /// Cuts the connection before the server hears of the request.
    Reset,
    /// Lets the server do it, and cuts the connection instead of answering: the caller cannot know.
    LoseAnswer,
    /// Never answers, and the server never hears of it.
    Stall,
    /// Passes it on after a while.
    Delay(Duration),
    /// Passes it on when the gate is open. For what must happen meanwhile; [`Fault::Delay`] only hopes that it does.
    Hold(Gate),
    /// Cuts the connection when so many bytes of the answer's body have been passed on.
    TruncateAnswer(u64),
    /// Stops sending when so many bytes of the answer's body have been passed on, and keeps the connection.
    StallAnswer(u64),
    /// Changes the byte at this offset of the answer's body.
    CorruptAnswer(u64),
    /// Cuts both connections when so many bytes of the request's body have been passed on.
    TruncateRequest(u64),
    /// Changes the byte at this offset of the request's body.
    CorruptRequest(u64),
    /// Passes the answer's body on at so many bytes per second.
    SlowAnswer(u64),
    /// Reads the request's body at so many bytes per second.
    SlowRequest(u64),
    /// Passes so many bytes of the request's body on, and the rest when the gate is open.
    HoldRequest(u64, Gate),
    /// Replaces a header of the answer, for example `etag`.
    AnswerHeader(String, String),
}

impl Fault {
    /// 503 `SlowDown`, as S3 answers to too many requests.
    pub fn slow_down() -> Self {
        Self::error(503, "SlowDown")
    }

    /// 403 `AccessDenied`.
    pub fn denied() -> Self {
        Self::error(403, "AccessDenied")
    }

    /// Any S3 error.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Error { status, code: code.to_owned() }
    }

    /// Answers with another ETag.
    pub fn wrong_etag() -> Self {
        Self::AnswerHeader("etag".to_owned(), "\"00000000000000000000000000000000\"".to_owned())
    }
}

type Condition = Box<dyn Fn(&Seen) -> bool + Send + Sync>;

/// A fault and the requests that meet it: all of them until told otherwise.
pub struct Rule {
    pub(super) fault: Fault,
    conditions: Vec<Condition>,
    skip: u64,
    left: Option<u64>,
}

impl Rule {
    /// For every request.
    pub fn new(fault: Fault) -> Self {
        Self { fault, conditions: Vec::new(), skip: 0, left: None }
    }

    /// Only for one operation.
    #[must_use]
    pub fn on(self, operation: Operation) -> Self {
        self.when(move |seen| seen.operation == operation)
    }

    /// Only for one HTTP method.
    #[must_use]
    pub fn method(self, method: &'static str) -> Self {
        self.when(move |seen| seen.method == method)
    }

    /// Only for keys (for Swift servers: paths) that contain `part`.
    #[must_use]
    pub fn key_containing(self, part: impl Into<String>) -> Self {
        let part = part.into();
        self.when(move |seen| seen.key.contains(&part))
    }

    /// Only for requests that `condition` accepts.
    #[must_use]
    pub fn when(mut self, condition: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Box::new(condition));
        self
    }

    /// Only for the first so many of its requests.
    #[must_use]
    pub fn times(mut self, number: u64) -> Self {
        self.left = Some(number);
        self
    }

    /// Lets the first so many of its requests pass.
    #[must_use]
    pub fn after(mut self, number: u64) -> Self {
        self.skip = number;
        self
    }

    /// True when the request meets the fault; counts it then.
    pub(super) fn strikes(&mut self, seen: &Seen) -> bool {
        if self.left == Some(0) || !self.conditions.iter().all(|accepts| accepts(seen)) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        true
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Rule")
            .field("fault", &self.fault)
            .field("conditions", &self.conditions.len())
            .field("skip", &self.skip)
            .field("left", &self.left)
            .finish()
    }
}
