//! Structured logs: text or JSON lines, to standard error, to a rotating file and to syslog. The level can be changed while the
//! process runs; an event is one line, with the trace that it belongs to.

mod line;
mod repeats;
mod sinks;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use swift_s3_policy::{LogFormat, LogLevel, Syslog};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::{EnvFilter, reload};

use line::{Lines, NoFields};
use sinks::Writers;

/// Where log lines go and what they look like.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Lines less important than this are dropped.
    pub level: LogLevel,
    /// Text for people, JSON for machines.
    pub format: LogFormat,
    /// Write to standard error.
    pub console: bool,
    /// Write to this file, rotated by size.
    pub file: Option<PathBuf>,
    /// Send each line to this syslog host too.
    pub syslog: Option<Syslog>,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file or its folder cannot be written.
    #[error("could not open log file {path}: {source}")]
    File {
        /// The configured path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another subscriber is already installed in this process.
    #[error("logging is already set up: {0}")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Log levels by their names in Python, which operators of the original know; as a flag and as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// A human must look.
    Error,
    /// Unexpected, but work goes on.
    Warning,
    /// Changes of state.
    Info,
    /// Single objects, requests and messages.
    Debug,
    /// Everything, libraries included.
    Trace,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warning => Self::Warning,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warning => Self::Warning,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        formatter.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Forms of a log, as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// A JSON object on each line.
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

/// Lines that were written, by level, and those that were left out because many of their kind came.
#[derive(Debug, Default)]
pub struct LogCounts {
    errors: AtomicU64,
    warnings: AtomicU64,
    others: AtomicU64,
    left_out: AtomicU64,
}

impl LogCounts {
    /// Lines written at a level: `error`, `warning`, or `info` for all that are less important.
    #[must_use]
    pub fn lines(&self) -> [(&'static str, u64); 3] {
        [("error", &self.errors), ("warning", &self.warnings), ("info", &self.others)]
            .map(|(level, count)| (level, count.load(Ordering::Relaxed)))
    }

    /// Lines left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    fn count(&self, level: tracing::Level) {
        let counter = match level {
            tracing::Level::ERROR => &self.errors,
            tracing::Level::WARN => &self.warnings,
            _ => &self.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Changes how much is logged while the process runs.
#[derive(Clone)]
pub struct LevelSwitch {
    current: Arc<Mutex<LogLevel>>,
    filter: reload::Handle<EnvFilter, Registry>,
}

impl fmt::Debug for LevelSwitch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LevelSwitch").field("current", &self.level()).finish_non_exhaustive()
    }
}

impl LevelSwitch {
    /// The level in force.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, lines less important than `level` are dropped.
    pub fn set(&self, level: LogLevel) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == level {
            return;
        }
        // Told while warnings are still told, and once more when they are told again.
        let (from, to) = (Level::from(*current), Level::from(level));
        tracing::warn!(%from, %to, "the log level changes");
        // Fails only when the subscriber is gone, and then nobody logs.
        if self.filter.reload(filter(level)).is_ok() {
            *current = level;
            drop(current);
            tracing::info!(%from, %to, "the log level has changed");
        }
    }
}

/// Says on standard error why a program does not start or go on, where there is no log yet or nobody would look into it. In the
/// journal it is an error.
pub fn complain(message: &str) {
    sinks::to_standard_error(tracing::Level::ERROR, format!("{message}\n").as_bytes(), sinks::is_journal());
}

/// The layer that writes lines.
pub(crate) struct LogLayer {
    pub(crate) layer: Box<dyn Layer<Registry> + Send + Sync>,
    pub(crate) level: LevelSwitch,
    pub(crate) counts: Arc<LogCounts>,
}

/// Opens what lines go to.
pub(crate) fn layer(settings: &LogSettings) -> Result<LogLayer, LogError> {
    let writers = Writers::open(settings)?;
    let counts = Arc::<LogCounts>::default();
    let lines = Lines::new(settings.format, Arc::clone(&counts));
    let (filter, handle) = reload::Layer::new(filter(settings.level));
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .fmt_fields(NoFields)
        .event_format(lines)
        .with_writer(writers)
        .with_filter(filter);
    let level = LevelSwitch { current: Arc::new(Mutex::new(settings.level)), filter: handle };
    Ok(LogLayer { layer: Box::new(layer), level, counts })
}

/// Our own level, and warnings only from the libraries below us: at `debug` an operator wants this program's story.
fn filter(level: LogLevel) -> EnvFilter {
    let own = match level {
        LogLevel::Error => "error",
        LogLevel::Warning => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let libraries = match level {
        LogLevel::Error => "error",
        LogLevel::Trace => "debug",
        _ => "warn",
    };
    // A prefix: all crates of the product begin so.
    EnvFilter::new(format!("{libraries},swift_s3={own}"))
}
