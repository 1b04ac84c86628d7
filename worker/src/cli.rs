//! The command line, and the life of the process from its first line to its exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use swift_s3_daemon::logging::{self, LogSettings};
use swift_s3_daemon::signals::Signals;
use swift_s3_daemon::statsd::Counters;
use swift_s3_policy::{ConfigProblem, LogLevel, SyncConfig};

use crate::discover::Discovery;
use crate::feed::Shared;
use crate::schedule::{Parts, Scheduler};
use crate::startup::{self, Ground};
use crate::swift::backend::Backend;
use crate::swift::container_server::ContainerServers;
use crate::swift::local_objects::LocalObjects;
use crate::transfer::Transfer;

/// Some row of a single round could not be carried.
const EXIT_ROWS_FAILED: u8 = 1;
/// The command line or the configuration is wrong, or what it names is not there.
const EXIT_CONFIGURATION: u8 = 2;

const AFTER_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  finish transfers for up to 10 s, save progress, exit 0; a second one exits at once
  SIGHUP           read the configuration again; a bad file is told in the log and changes nothing

Exit status:
  0  stopped as asked, or with --once: every row is carried or waits for its age
  1  with --once: some rows could not be carried, or a remote or database failed
  2  wrong usage or configuration; every problem of the file is printed with its JSON path

See docs/configuration.md for every key of the file.";

/// Carries every change of mapped Swift containers to S3, from the container databases of this node.
#[derive(Debug, Parser)]
#[command(name = "swift-s3-sync", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// The configuration file, sync.json
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SYNC_CONFIG")]
    pub config: PathBuf,
    /// Handle every row that is there now, then exit
    #[arg(long)]
    pub once: bool,
    /// Log lines of at least this importance; overrides log_level of the file
    #[arg(long, value_name = "LEVEL", env = "SWIFT_S3_SYNC_LOG_LEVEL")]
    pub log_level: Option<Level>,
    /// Log to standard error too; without it the file must name a log_file
    #[arg(long)]
    pub console: bool,
    /// Check the configuration and what it names on this machine, then exit without touching anything
    #[arg(long)]
    pub check_config: bool,
}

/// Log levels by their names in Python, which operators of the original know.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Level {
    /// A human must look.
    Error,
    /// Unexpected, but work goes on.
    Warning,
    /// Changes of state.
    Info,
    /// Every object.
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

/// Runs the program.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let (config, warnings) = match startup::load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(arguments, &problems),
    };
    let mut problems = Vec::new();
    if config.log_file.is_none() && !arguments.console && !arguments.check_config {
        problems.push(ConfigProblem {
            path: "log_file".into(),
            found: "nothing".into(),
            allowed: "the path of a log file, or start with --console".into(),
        });
    }
    if arguments.check_config {
        return check(arguments, &config, &warnings);
    }
    let ground = match Ground::prepare(&config) {
        Ok(ground) if problems.is_empty() => ground,
        Ok(_) => return refuse(arguments, &problems),
        Err(more) => {
            problems.extend(more);
            return refuse(arguments, &problems);
        }
    };
    let log = LogSettings {
        level: arguments.log_level.map_or(config.log_level, LogLevel::from),
        format: config.log_format,
        console: arguments.console,
        file: config.log_file.clone(),
        syslog: config.syslog.clone(),
    };
    if let Err(error) = logging::init(&log) {
        eprintln!("swift-s3-sync: {error}");
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    for warning in &warnings {
        tracing::warn!("{}: {warning}", arguments.config.display());
    }
    if config.mappings.is_empty() {
        tracing::warn!("the configuration has no containers; nothing to do");
        return ExitCode::SUCCESS;
    }
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(serve(arguments, Arc::new(config), ground));
            // A DNS lookup or a database read may hang in a blocking thread; everything that matters is saved by now.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            tracing::error!(%error, "could not start the runtime");
            ExitCode::FAILURE
        }
    }
}

fn check(arguments: &Arguments, config: &SyncConfig, warnings: &[ConfigProblem]) -> ExitCode {
    if let Err(problems) = Ground::check(config) {
        return refuse(arguments, &problems);
    }
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    println!("{}: ok, {} mappings", arguments.config.display(), config.mappings.len());
    ExitCode::SUCCESS
}

fn refuse(arguments: &Arguments, problems: &[ConfigProblem]) -> ExitCode {
    eprintln!("swift-s3-sync: {}: {} problem(s)", arguments.config.display(), problems.len());
    for problem in problems {
        eprintln!("  {problem}");
    }
    ExitCode::from(EXIT_CONFIGURATION)
}

async fn serve(arguments: &Arguments, config: Arc<SyncConfig>, ground: Ground) -> ExitCode {
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "could not install signal handlers");
            return ExitCode::FAILURE;
        }
    };
    let Ground { topology, status, internal_url, lock } = ground;
    let counters = Counters::new(config.statsd.as_ref());
    let backend = Backend::default();
    let servers = ContainerServers::new(topology.clone(), backend.clone());
    let local = LocalObjects::new(topology.clone(), backend, internal_url);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), config = %arguments.config.display(), mappings = config.mappings.len(),
        devices = %config.devices.display(), once = arguments.once, "started"
    );
    let scheduler = Scheduler::new(Parts {
        shared: Shared {
            transfer: Transfer::new(local, topology.clone(), counters.clone()),
            container_servers: servers.clone(),
            waiting: std::sync::atomic::AtomicUsize::new(0),
        },
        discovery: Discovery::new(&config.devices, topology, servers),
        counters,
        status,
        config: Arc::clone(&config),
        once: arguments.once,
    });
    let code = if arguments.once {
        let succeeded = scheduler.run_once(signals).await;
        if succeeded { ExitCode::SUCCESS } else { ExitCode::from(EXIT_ROWS_FAILED) }
    } else {
        let path = arguments.config.clone();
        let running = std::sync::Mutex::new(config);
        scheduler.run(signals, Box::new(move || startup::reload(&path, &running))).await;
        ExitCode::SUCCESS
    };
    drop(lock);
    code
}
