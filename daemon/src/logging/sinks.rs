//! Where lines go: standard error, a rotating file, a syslog host. A sink that fails (full disk, dead syslog) is skipped: losing a
//! log line is better than losing the daemon.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use file_rotate::{ContentLimit, FileRotate, compression::Compression, suffix::AppendCount};
use swift_s3_policy::{Syslog, SyslogProtocol};
use tracing_subscriber::fmt::MakeWriter;

use super::{LogError, LogSettings};
use crate::statsd::udp_socket_for;

/// The file is rotated at this size, and [`KEPT_FILES`] old ones are kept, as operators of the Python daemon are used to.
const ROTATE_BYTES: usize = 100 * 1024 * 1024;
const KEPT_FILES: usize = 5;
/// A syslog host that does not answer must not hold the daemon.
const SYSLOG_TIMEOUT: Duration = Duration::from_secs(2);
/// Facility `daemon` (3), severity `info` (6): the line itself carries the level. Source: RFC 3164, section 4.1.1.
const SYSLOG_PRIORITY: u8 = 3 * 8 + 6;

enum Sink {
    Console,
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
            sinks.push(Sink::Console);
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
        Line(&self.0)
    }
}

/// Writes one formatted line to every sink.
pub(super) struct Line<'a>(&'a [Sink]);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shown = on_one_line(line);
        for sink in self.0 {
            match sink {
                Sink::Console => drop(io::stderr().write_all(&shown)),
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
