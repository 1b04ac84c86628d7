//! Where lines go: standard error, a rotating file, a syslog host. A sink that fails (full disk, dead syslog) is skipped: losing a
//! log line is better than losing the daemon.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use file_rotate::{ContentLimit, FileRotate, compression::Compression, suffix::AppendCount};
use swift_s3_policy::{Syslog, SyslogProtocol};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::line::told_as;
use super::{LogError, LogSettings};
use crate::statsd::udp_socket_for;

/// The file is rotated at this size, and [`KEPT_FILES`] old ones are kept, as operators of the Python daemon are used to.
const ROTATE_BYTES: usize = 100 * 1024 * 1024;
const KEPT_FILES: usize = 5;
/// A syslog host that does not answer must not hold the daemon.
const SYSLOG_TIMEOUT: Duration = Duration::from_secs(2);
/// Facility `daemon` (3), severity `info` (6): the line itself carries the level. Source: RFC 3164, section 4.1.1.
const SYSLOG_PRIORITY: u8 = 3 * 8 + 6;

/// Where systemd tells a service that its standard error is the journal's, as `device:inode`. Source: systemd.exec(5).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

enum Sink {
    /// Standard error, and whether the journal reads it.
    Console {
        is_journal: bool,
    },
    File(Mutex<FileRotate<AppendCount>>),
    Syslog(SyslogSink),
}

/// All sinks of a process.
#[derive(Clone)]
pub(super) struct Writers(Arc<Vec<Sink>>);

impl Writers {
    pub(super) fn open(settings: &LogSettings) -> Result<Self, LogError> {
        let mut sinks = Vec::new();
        if settings.console {
            sinks.push(Sink::Console { is_journal: is_journal() });
        }
        if let Some(path) = &settings.file {
            // FileRotate panics on a file that it cannot open, so the permission is tried first.
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|source| LogError::File { path: path.clone(), source })?;
            sinks.push(Sink::File(Mutex::new(FileRotate::new(
                path,
                AppendCount::new(KEPT_FILES),
                ContentLimit::BytesSurpassed(ROTATE_BYTES),
                Compression::None,
                None,
            ))));
        }
        if let Some(syslog) = &settings.syslog {
            sinks.push(Sink::Syslog(SyslogSink::new(syslog.clone())));
        }
        Ok(Self(Arc::new(sinks)))
    }
}

impl<'a> MakeWriter<'a> for Writers {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sinks: &self.0, level: Level::INFO }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        Line { sinks: &self.0, level: told_as(event.target(), *event.level()) }
    }
}

/// Whether standard error is the stream that the journal reads. A variable alone does not say so: whatever a service starts has it
/// too, and may have its standard error elsewhere.
pub(super) fn is_journal() -> bool {
    let Ok(told) = std::env::var(JOURNAL_STREAM) else { return false };
    let file = io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|own| names_stream(&told, own.dev(), own.ino()))
}

/// Whether `device:inode` of the variable are these.
fn names_stream(told: &str, device: u64, inode: u64) -> bool {
    told.split_once(':').is_some_and(|(first, second)| {
        first.parse::<u64>() == Ok(device) && second.parse::<u64>() == Ok(inode)
    })
}

/// What the journal takes from the head of a line, and does not show: the priority by which `journalctl -p` chooses.
/// Source: sd-daemon(3).
fn journal_prefix(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        _ => b"<7>",
    }
}

/// Writes a line. Nobody is told when that fails: there is nowhere else to tell it.
pub(super) fn to_standard_error(level: Level, line: &[u8], is_journal: bool) {
    if is_journal {
        // In one piece, so that no other line gets between.
        drop(io::stderr().write_all(&[journal_prefix(level), line].concat()));
    } else {
        drop(io::stderr().write_all(line));
    }
}

/// Writes one formatted line to every sink.
pub(super) struct Line<'a> {
    sinks: &'a [Sink],
    level: Level,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shown = on_one_line(line);
        for sink in self.sinks {
            match sink {
                Sink::Console { is_journal } => to_standard_error(self.level, &shown, *is_journal),
                Sink::File(file) => {
                    drop(file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&shown))
                }
                Sink::Syslog(syslog) => syslog.send(&shown),
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event's text without control characters but the newline at its end. Object names and answers of servers may hold any
/// character, and must not look like lines of their own nor steer a terminal.
fn on_one_line(line: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(line) else { return Cow::Borrowed(line) };
    let text = text.strip_suffix('\n').unwrap_or(text);
    if !text.contains(char::is_control) {
        return Cow::Borrowed(line);
    }
    let mut shown = String::with_capacity(line.len() + 16);
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown.push('\n');
    Cow::Owned(shown.into_bytes())
}

/// Lines wait for a syslog host in a queue of this length; when it is full, lines are dropped rather than work held.
const SYSLOG_QUEUE: usize = 1_024;

/// Sends lines to a syslog host from a thread of its own.
struct SyslogSink {
    queue: std::sync::mpsc::SyncSender<Vec<u8>>,
}

impl SyslogSink {
    fn new(settings: Syslog) -> Self {
        let (queue, lines) = std::sync::mpsc::sync_channel::<Vec<u8>>(SYSLOG_QUEUE);
        std::thread::spawn(move || {
            let mut connection = None;
            for line in lines {
                if connection.is_none() {
                    connection = SyslogConnection::open(&settings).ok();
                }
                if let Some(open) = &mut connection
                    && open.send(&line).is_err()
                {
                    connection = None;
                }
            }
        });
        Self { queue }
    }

    fn send(&self, line: &[u8]) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let mut packet = format!("<{SYSLOG_PRIORITY}>swift-s3-sync: ").into_bytes();
        packet.extend_from_slice(text);
        drop(self.queue.try_send(packet));
    }
}

enum SyslogConnection {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl SyslogConnection {
    fn open(settings: &Syslog) -> io::Result<Self> {
        let address = (settings.host.as_str(), settings.port);
        match settings.protocol {
            SyslogProtocol::Udp => {
                let (socket, address) = udp_socket_for(&settings.host, settings.port)?;
                socket.connect(address)?;
                Ok(Self::Udp(socket))
            }
            SyslogProtocol::Tcp => {
                let stream = TcpStream::connect(address)?;
                stream.set_write_timeout(Some(SYSLOG_TIMEOUT))?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(packet).map(drop),
            Self::Tcp(stream) => stream.write_all(packet).and_then(|()| stream.write_all(b"\n")),
        }
    }
}

impl fmt::Debug for Writers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Writers({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_told_how_bad_a_line_is() {
        for (target, level, prefix) in [
            ("swift_s3_sync", Level::ERROR, b"<3>"),
            ("swift_s3_sync", Level::WARN, b"<4>"),
            ("swift_s3_sync", Level::INFO, b"<6>"),
            ("swift_s3_sync", Level::DEBUG, b"<7>"),
            ("swift_s3_sync", Level::TRACE, b"<7>"),
            // As the line says.
            ("opentelemetry_sdk", Level::ERROR, b"<4>"),
            ("opentelemetry_sdk", Level::INFO, b"<6>"),
        ] {
            assert_eq!(journal_prefix(told_as(target, level)), prefix, "{target} {level}");
        }
    }

    #[test]
    fn only_the_stream_that_the_variable_names_is_the_journal() {
        for (told, is_named) in [
            ("9:4711", true),
            ("9:4712", false),
            ("8:4711", false),
            ("4711:9", false),
            ("9", false),
            ("9:", false),
            (":4711", false),
            ("9:4711:1", false),
            ("-9:4711", false),
            ("", false),
        ] {
            assert_eq!(names_stream(told, 9, 4711), is_named, "{told:?}");
        }
    }

    #[test]
    fn a_name_with_a_newline_stays_on_its_line() {
        for (event, shown) in [
            ("plain ü\n", "plain ü\n"),
            ("object=x\n2026 ERROR forged\n", "object=x\\n2026 ERROR forged\n"),
            ("steers \u{1b}[2J\u{9b}\r\n", "steers \\u{1b}[2J\\u{9b}\\r\n"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&on_one_line(event.as_bytes())), shown);
        }
        assert_eq!(on_one_line(b"\xff\n").as_ref(), b"\xff\n");
    }
}
