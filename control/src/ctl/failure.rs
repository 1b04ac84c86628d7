//! What went wrong, what to try, and the exit code.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use swift_s3_proto::v1::Problem;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::text::harmless;
use super::units::count;

/// What to try when no answer comes.
pub const UNREACHABLE: &str =
    "check that swift-s3-control runs there and whether it wants https://, or name another with --control";

/// How a command ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The server answered with an error, or could not be reached.
    Failed = 1,
    /// Wrong usage, or a local file that cannot be used.
    Usage = 2,
    /// The configuration was refused; or a comparison found differences.
    Refused = 3,
    /// Something needs a person.
    NeedsPerson = 4,
    /// A comparison found no difference, and could not tell of everything.
    Unproven = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    details: Vec<String>,
    hint: Option<String>,
    code: Option<Code>,
    is_closed_pipe: bool,
}

impl Failure {
    fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), details: Vec::new(), hint: None, code: None, is_closed_pipe: false }
    }

    /// Wrong usage, or a local file that cannot be used.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// The server cannot be reached, or did not do it.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// The configuration was refused for `problems`.
    #[must_use]
    pub fn refused(problems: &[Problem]) -> Self {
        let mut failure = Self::new(
            Exit::Refused,
            format!("the configuration is refused: {}", count(problems.len() as u64, "problem")),
        );
        failure.details = problems.iter().map(problem).collect();
        failure
    }

    /// The answer `status` to an attempt to `do_what`.
    #[must_use]
    pub fn answered(do_what: &str, url: &str, status: &Status) -> Self {
        let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        let mut failure = Self::new(
            Exit::Failed,
            format!("cannot {do_what}: {} ({}, from {url})", reason(status), word(status.code())),
        );
        failure.details = violations
            .iter()
            .map(|violation| match violation.field.as_str() {
                "" => violation.description.clone(),
                field => format!("{field}: {}", violation.description),
            })
            .collect();
        // What has a cause on this side was not said by the server.
        let is_broken = std::error::Error::source(status).is_some();
        failure.hint = if is_broken { Some(UNREACHABLE) } else { hint(status.code()) }.map(str::to_owned);
        failure.code = Some(status.code());
        failure
    }

    /// The same, where a document was sent: INVALID_ARGUMENT then speaks of the document.
    #[must_use]
    pub fn of_document(mut self) -> Self {
        if self.code == Some(Code::InvalidArgument) {
            self.exit = Exit::Refused;
        }
        self
    }

    /// The same, where a change was asked for: without an answer, it may have happened.
    #[must_use]
    pub fn of_change(self, look: &str) -> Self {
        match self.code {
            Some(Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled) => {
                self.hint(format!("it may have happened all the same: see {look}, and then try again"))
            }
            _ => self,
        }
    }

    /// Adds what to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The server's code, if a server answered.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// True if whoever read the output has enough of it, as `head` has.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        self.is_closed_pipe
    }

    /// What went wrong, on one line.
    #[must_use]
    pub fn what(&self) -> String {
        harmless(&self.what).into_owned()
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// If `to` cannot be written.
    pub fn write(&self, to: &mut dyn Write, colours: bool) -> io::Result<()> {
        let (red, off) = if colours { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let mut text = format!("{red}swift-s3ctl:{off} {}\n", self.what());
        for detail in &self.details {
            let _ = writeln!(text, "  {}", harmless(detail));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  try: {}", harmless(hint));
        }
        to.write_all(text.as_bytes())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let mut failure = Self::failed(format!("the output cannot be written: {error}"));
        failure.is_closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        failure
    }
}

/// `path: found …; expected …`
#[must_use]
pub fn problem(problem: &Problem) -> String {
    let mut words = format!("found {}", problem.found);
    if !problem.allowed.is_empty() {
        let _ = write!(words, "; expected {}", problem.allowed);
    }
    if problem.path.is_empty() { words } else { format!("{}: {words}", problem.path) }
}

/// An error and its causes, each said once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    with_causes(error.to_string(), error)
}

fn with_causes(mut words: String, error: &dyn std::error::Error) -> String {
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !words.contains(&text) {
            let _ = write!(words, ": {text}");
        }
        source = cause.source();
    }
    words
}

fn reason(status: &Status) -> String {
    let message = if status.message().is_empty() { "no reason given" } else { status.message() };
    with_causes(message.to_owned(), status)
}

fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn hint(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Unauthenticated => {
            "name a token that control knows, with --token-file or in SWIFT_S3_TOKEN, or a certificate with \
             --client-cert and --client-key"
        }
        Code::PermissionDenied => {
            "changes need the role operator, reading needs viewer: see control's access file"
        }
        Code::Aborted => {
            "see what others changed with `swift-s3ctl config history` and `config diff`, then apply again"
        }
        Code::Unavailable => UNREACHABLE,
        Code::DeadlineExceeded | Code::Cancelled => "wait longer with --timeout",
        Code::Unimplemented => "upgrade swift-s3-control: it is older than this swift-s3ctl",
        Code::Internal | Code::Unknown | Code::DataLoss | Code::ResourceExhausted => {
            "look into the log of swift-s3-control"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tonic_types::ErrorDetails;

    fn shown(failure: &Failure) -> String {
        let mut text = Vec::new();
        failure.write(&mut text, false).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_refusal_names_every_problem() {
        let problems = [
            Problem {
                path: "containers[3].aws_bucket".into(),
                found: "nothing".into(),
                allowed: "a name".into(),
                ..Problem::default()
            },
            Problem { found: "no JSON".into(), ..Problem::default() },
        ];
        let failure = Failure::refused(&problems);
        assert_eq!(failure.exit(), Exit::Refused);
        assert_eq!(
            shown(&failure),
            "swift-s3ctl: the configuration is refused: 2 problems\n  \
             containers[3].aws_bucket: found nothing; expected a name\n  found no JSON\n"
        );
    }

    #[test]
    fn an_answer_says_what_failed_and_what_to_try() {
        let status = Status::unauthenticated("no token\x1b[2J");
        let failure = Failure::answered("list nodes", "http://c:1", &status);
        assert_eq!((failure.exit(), failure.code()), (Exit::Failed, Some(Code::Unauthenticated)));
        let text = shown(&failure);
        let first =
            "swift-s3ctl: cannot list nodes: no token\\x1b[2J (UNAUTHENTICATED, from http://c:1)\n  try: ";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains("--token-file"), "{text}");
    }

    #[test]
    fn field_violations_of_a_configuration_are_a_refusal() {
        let details =
            ErrorDetails::with_bad_request_violation("containers[0]", "found 1; allowed: an object");
        let status = Status::with_error_details(Code::InvalidArgument, "1 problem", details);
        let failure = Failure::answered("apply the configuration", "http://c:1", &status);
        assert!(shown(&failure).contains("\n  containers[0]: found 1; allowed: an object\n"));
        assert_eq!(failure.exit(), Exit::Failed);
        assert_eq!(failure.of_document().exit(), Exit::Refused);
        let other = Failure::answered("list nodes", "http://c:1", &Status::not_found("none"));
        assert_eq!(other.of_document().exit(), Exit::Failed);
    }

    #[test]
    fn a_change_without_an_answer_may_have_happened() {
        let lost = Failure::answered("apply", "http://c:1", &Status::unavailable("gone"));
        assert!(
            shown(&lost.of_change("`config history`"))
                .contains("may have happened all the same: see `config")
        );
        let refused = Failure::answered("apply", "http://c:1", &Status::aborted("other"));
        assert!(!shown(&refused.of_change("x")).contains("may have happened"));
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_pipe());
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_closed_pipe());
    }
}
