//! The command line, and the life of the process from its first line to its exit code.

mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use http::Uri;
use swift_s3_daemon::logging::{Format, Level};
use swift_s3_daemon::telemetry::TelemetryArguments;

use crate::exchange::TraceContext;

const AFTER_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  take no more connections, finish what is under way for up to --drain seconds, exit 0;
                   a second one exits at once
  SIGHUP           read the configuration file again now (it is looked at every 2 s anyway)

Exit status:
  0  stopped as asked
  1  an address is taken, or the runtime failed
  2  wrong usage or configuration; every problem of the file is printed with its JSON path

Merged are the containers of mappings with merge_namespaces. See docs/shunt.md.";

/// Keeps archived objects readable, listable and restorable: a streaming proxy in front of Swift, and the other end of the filter
/// in Swift's pipeline.
#[derive(Debug, Parser)]
#[command(name = "swift-s3-shunt", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Take clients' requests here, HOST:PORT
    #[arg(long, value_name = "ADDRESS", env = "SWIFT_S3_SHUNT_LISTEN", requires = "swift")]
    pub listen: Option<SocketAddr>,
    /// The Swift proxy behind --listen: http://HOST:PORT
    #[arg(long, value_name = "URL", env = "SWIFT_S3_SHUNT_SWIFT", value_parser = swift_url)]
    pub swift: Option<Uri>,
    /// Serve the filter in Swift's pipeline here: unix:///PATH, or 127.0.0.1:PORT together with --filter-token-file
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "SWIFT_S3_SHUNT_FILTER_LISTEN",
        required_unless_present = "listen"
    )]
    pub filter_listen: Option<String>,
    /// A file with the token that the filter shows; needed where the filter comes by TCP
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SHUNT_FILTER_TOKEN_FILE", requires = "filter_listen")]
    pub filter_token_file: Option<PathBuf>,
    /// Serve /live, /ready, /metrics and /log-level here
    #[arg(long, value_name = "ADDRESS", env = "SWIFT_S3_SHUNT_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
    /// The configuration file, sync.json; with --control, only what belongs to this machine is read from it
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SHUNT_CONFIG", required_unless_present = "control")]
    pub config: Option<PathBuf>,
    /// Follow a control plane, which has the configuration: http(s)://HOST:PORT, several for fail-over
    #[arg(long, value_name = "URL", env = "SWIFT_S3_SHUNT_CONTROL", value_delimiter = ',')]
    pub control: Vec<String>,
    /// A file with the token to show to the control plane
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SHUNT_CONTROL_TOKEN_FILE", requires = "control")]
    pub control_token_file: Option<PathBuf>,
    /// Certificate authorities of the control plane, PEM; by default those of the system
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SHUNT_CONTROL_CA_CERT", requires = "control")]
    pub control_ca_cert: Option<PathBuf>,
    /// This machine's certificate for the control plane, PEM
    #[arg(
        long,
        value_name = "PATH",
        env = "SWIFT_S3_SHUNT_CONTROL_CLIENT_CERT",
        requires = "control_client_key"
    )]
    pub control_client_cert: Option<PathBuf>,
    /// The key of --control-client-cert, PEM
    #[arg(
        long,
        value_name = "PATH",
        env = "SWIFT_S3_SHUNT_CONTROL_CLIENT_KEY",
        requires = "control_client_cert"
    )]
    pub control_client_key: Option<PathBuf>,
    /// Where the last good configuration of the control plane is kept
    #[arg(
        long,
        value_name = "PATH",
        env = "SWIFT_S3_SHUNT_STATE_DIR",
        default_value = "/var/lib/swift-s3-shunt"
    )]
    pub state_dir: PathBuf,
    /// Connections of clients at the same time; more are closed at once
    #[arg(long, value_name = "N", env = "SWIFT_S3_SHUNT_MAX_CONNECTIONS", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Archived objects that are written back to Swift at the same time; 0: none
    #[arg(long, value_name = "N", env = "SWIFT_S3_SHUNT_MAX_RESTORES", default_value_t = 16, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub max_restores: u16,
    /// Seconds that Swift may take to begin an answer
    #[arg(long, value_name = "SECONDS", env = "SWIFT_S3_SHUNT_SWIFT_TIMEOUT", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub swift_timeout: u64,
    /// Seconds that a client may take for a header block, for the next piece of a body, and to take what is sent to it
    #[arg(long, value_name = "SECONDS", env = "SWIFT_S3_SHUNT_CLIENT_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub client_timeout: u64,
    /// Seconds that a remote may take to list what a page needs; then it counts as failed
    #[arg(long, value_name = "SECONDS", env = "SWIFT_S3_SHUNT_LISTING_TIMEOUT", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub listing_timeout: u64,
    /// Seconds that requests may go on after a signal to stop
    #[arg(long, value_name = "SECONDS", env = "SWIFT_S3_SHUNT_DRAIN", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub drain: u64,
    /// Write the addresses listened on here, one line "NAME ADDRESS" each, once all are open
    #[arg(long, value_name = "PATH")]
    pub port_file: Option<PathBuf>,
    /// Log lines of at least this importance
    #[arg(long, value_name = "LEVEL", env = "SWIFT_S3_SHUNT_LOG_LEVEL", default_value = "info")]
    pub log_level: Level,
    /// Form of the log
    #[arg(long, value_name = "FORMAT", env = "SWIFT_S3_SHUNT_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
    /// Log to this file (rotated at 100 MiB, five kept) instead of standard error
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SHUNT_LOG_FILE")]
    pub log_file: Option<PathBuf>,
    /// What becomes of the trace that a client's request belongs to (its header traceparent)
    #[arg(long, value_name = "HOW", env = "SWIFT_S3_SHUNT_TRACE_CONTEXT", default_value = "link")]
    pub trace_context: TraceContext,
    /// Traces and metrics
    #[command(flatten)]
    pub telemetry: TelemetryArguments,
}

/// Runs the program.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    run::run(arguments)
}

fn swift_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    if uri.scheme_str() != Some("http") || uri.authority().is_none() {
        return Err("expected http://HOST:PORT".into());
    }
    if uri.path_and_query().is_some_and(|path| path != "/") {
        return Err("expected no path behind http://HOST:PORT".into());
    }
    Ok(uri)
}
