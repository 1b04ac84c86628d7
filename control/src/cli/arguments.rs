//! What may be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use swift_s3_daemon::logging::{Format, Level};
use swift_s3_daemon::telemetry::TelemetryArguments;
use swift_s3_etcd::EtcdArguments;

const AFTER_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  stop: streams end with UNAVAILABLE, what waits is written; exit 0 within 10 s
  SIGHUP           read the access file and the certificates again; bad ones are told in the log and change nothing

Exit status:
  0  stopped as asked, or the backup was made
  1  could not listen, or the server failed
  2  wrong usage, access file, certificate, or initial configuration
  3  the data directory, or the state in etcd, cannot be used: in use, damaged, of another program, or of a newer version

Access file (--access), TOML, mode 600; one entry for each caller:
  [[access]]
  name = \"ops\"               # shown in logs and in the history
  role = \"operator\"          # node: workers and shunts; viewer: reads; operator: reads and changes
  token_file = \"ops.token\"   # or token, token_sha256 (64 hexadecimal digits), or certificate_cn

Several processes (--etcd): the state is in etcd; one process leads, the others hand calls on to it, and the next one leads when
it is gone for --etcd-lease-seconds. Each needs a --data-dir of its own, for a working copy that is thrown away, an address that
the others reach (--advertise), and the same access file.

With --client-ca, a certificate that is presented must be signed by it. Without --access everybody must present one; with
--access who presents none needs a token.";

/// The control plane: keeps the configuration, pushes it to every node, and knows how everything fares.
#[derive(Debug, Parser)]
#[command(name = "swift-s3-control", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "SWIFT_S3_CONTROL_LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,
    /// Where the state is kept, with --etcd a working copy of it; created if needed, for this user only
    #[arg(long, value_name = "DIR", env = "SWIFT_S3_CONTROL_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Write the address that is listened on to this file
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_PORT_FILE")]
    pub port_file: Option<PathBuf>,
    /// Serve the web pages here; port 0 takes a free one [default: not at all]
    #[arg(long, value_name = "ADDRESS:PORT", env = "SWIFT_S3_CONTROL_HTTP")]
    pub http: Option<SocketAddr>,
    /// Write the address of the web pages to this file
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_HTTP_PORT_FILE", requires = "http")]
    pub http_port_file: Option<PathBuf>,
    /// Without access control: a name by which browsers may ask for the web pages, beside addresses and localhost; repeatable
    #[arg(
        long = "http-name",
        value_name = "HOST",
        env = "SWIFT_S3_CONTROL_HTTP_NAMES",
        value_delimiter = ',',
        requires = "http"
    )]
    pub http_names: Vec<String>,
    /// The server's certificate chain, PEM
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, PEM
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Who signs clients' certificates, PEM
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_CLIENT_CA", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// Who may do what, see below; without it everybody may do everything
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_ACCESS")]
    pub access: Option<PathBuf>,
    /// Listen without TLS on an address that other hosts reach: tokens and secrets can then be read on the way
    #[arg(long, env = "SWIFT_S3_CONTROL_ALLOW_PLAINTEXT")]
    pub allow_plaintext: bool,
    /// Listen without --access on an address that other hosts reach: whoever connects can read every secret
    #[arg(long, env = "SWIFT_S3_CONTROL_ALLOW_ANONYMOUS")]
    pub allow_anonymous: bool,
    /// A configuration to begin with; taken as revision 1 when there is none yet
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Revisions of the configuration that are kept
    #[arg(long, value_name = "N", env = "SWIFT_S3_CONTROL_HISTORY", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub history: u32,
    /// Nodes that were not seen for so long are forgotten with their progress
    #[arg(long, value_name = "DAYS", env = "SWIFT_S3_CONTROL_RETENTION", default_value_t = 90,
          value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub retention: u32,
    /// Prices of the remote store, TOML, in place of those that are built in; as with `swift-s3ctl plan`
    #[arg(long, value_name = "FILE", env = "SWIFT_S3_CONTROL_PRICES")]
    pub prices: Option<PathBuf>,
    /// Copy the database to this new file and exit; works while a server uses it
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
    /// Where other control processes reach this one [default: --listen, unless that is every address]
    #[arg(long, value_name = "HOST:PORT", env = "SWIFT_S3_CONTROL_ADVERTISE", requires = "etcd")]
    pub advertise: Option<String>,
    /// Who signs the certificates of other control processes, PEM [default: --client-ca, else whom the system trusts]
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_PEER_CA", requires = "etcd")]
    pub peer_ca: Option<PathBuf>,
    /// Where the state is when there are several control processes
    #[command(flatten)]
    pub etcd: EtcdArguments,
    /// Log lines of at least this importance
    #[arg(
        long,
        help_heading = "Log",
        value_name = "LEVEL",
        env = "SWIFT_S3_CONTROL_LOG_LEVEL",
        default_value = "info"
    )]
    pub log_level: Level,
    /// What a log line looks like
    #[arg(
        long,
        help_heading = "Log",
        value_name = "FORMAT",
        env = "SWIFT_S3_CONTROL_LOG_FORMAT",
        default_value = "text"
    )]
    pub log_format: Format,
    /// Log to this file instead of standard error
    #[arg(long, help_heading = "Log", value_name = "PATH", env = "SWIFT_S3_CONTROL_LOG_FILE")]
    pub log_file: Option<PathBuf>,
    /// Log to standard error too when there is a log file
    #[arg(long, help_heading = "Log")]
    pub console: bool,
    /// Serve /live, /ready, /metrics and /log-level here; port 0 takes a free one [default: not at all]
    #[arg(
        long,
        help_heading = "Admin endpoint",
        value_name = "ADDRESS:PORT",
        env = "SWIFT_S3_CONTROL_ADMIN_LISTEN"
    )]
    pub admin_listen: Option<SocketAddr>,
    /// Write the address of --admin-listen to this file
    #[arg(
        long,
        help_heading = "Admin endpoint",
        value_name = "PATH",
        env = "SWIFT_S3_CONTROL_ADMIN_PORT_FILE",
        requires = "admin_listen"
    )]
    pub admin_port_file: Option<PathBuf>,
    /// Traces and metrics
    #[command(flatten, next_help_heading = "Traces and metrics")]
    pub telemetry: TelemetryArguments,
}
