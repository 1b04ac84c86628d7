//! The command line of `swift-s3-control`, and the life of the process from its first line to its exit code.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use swift_s3_daemon::logging::{self, LogSettings};
use swift_s3_daemon::signals::{Request, Signals};
use swift_s3_policy::{LogFormat, LogLevel};
use tokio::net::TcpListener;

use crate::access::Access;
use crate::control::{Control, Settings, shown};
use crate::documents;
use crate::server::{self, Doors};
use crate::store::{self, DataDirectory, NewRevision, Store};
use crate::time;
use crate::transport::TlsFiles;

/// The server could not listen, or failed.
const EXIT_FAILED: u8 = 1;
/// The command line, the access file, a certificate or the initial configuration is wrong.
const EXIT_USAGE: u8 = 2;
/// The data directory or its database cannot be used.
const EXIT_DATA: u8 = 3;
/// The process ends this long after it was asked to, whatever hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);

const AFTER_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  stop: streams end with UNAVAILABLE, what waits is written; exit 0 within 10 s
  SIGHUP           read the access file and the certificates again; bad ones are told in the log and change nothing

Exit status:
  0  stopped as asked, or the backup was made
  1  could not listen, or the server failed
  2  wrong usage, access file, certificate, or initial configuration
  3  the data directory cannot be used: in use, damaged, of another program, or of a newer version

Access file (--access), TOML, mode 600; one entry for each caller:
  [[access]]
  name = \"ops\"               # shown in logs and in the history
  role = \"operator\"          # node: workers and shunts; viewer: reads; operator: reads and changes
  token_file = \"ops.token\"   # or token, token_sha256 (64 hexadecimal digits), or certificate_cn

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
    /// Where the state is kept; created if needed, for this user only
    #[arg(long, value_name = "DIR", env = "SWIFT_S3_CONTROL_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Write the address that is listened on to this file
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_PORT_FILE")]
    pub port_file: Option<PathBuf>,
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
    /// Copy the database to this new file and exit; works while a server uses it
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
    /// Log lines of at least this importance
    #[arg(long, value_name = "LEVEL", env = "SWIFT_S3_CONTROL_LOG_LEVEL", default_value = "info")]
    pub log_level: Level,
    /// What a log line looks like
    #[arg(long, value_name = "FORMAT", env = "SWIFT_S3_CONTROL_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
    /// Log to this file instead of standard error
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_CONTROL_LOG_FILE")]
    pub log_file: Option<PathBuf>,
    /// Log to standard error too when there is a log file
    #[arg(long)]
    pub console: bool,
}

/// Log levels.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Level {
    /// A human must look.
    Error,
    /// Unexpected, but work goes on.
    Warning,
    /// Changes of state.
    Info,
    /// Every message.
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

/// Log formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
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

/// Why the process cannot go on: exit code and sentence.
struct Failure(u8, String);

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure(EXIT_USAGE, error.to_string())
}

fn data(error: impl std::fmt::Display) -> Failure {
    Failure(EXIT_DATA, error.to_string())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure(EXIT_FAILED, error.to_string())
}

/// Runs the program.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match try_run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            eprintln!("swift-s3-control: {message}");
            ExitCode::from(code)
        }
    }
}

fn try_run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(target) = &arguments.backup {
        return store::backup(&arguments.data_dir, target).map_err(data);
    }
    check_exposure(arguments).map_err(usage)?;
    raise_file_limit();
    let log = LogSettings {
        level: arguments.log_level.into(),
        format: arguments.log_format.into(),
        console: arguments.console || arguments.log_file.is_none(),
        file: arguments.log_file.clone(),
        syslog: None,
    };
    logging::init(&log).map_err(usage)?;
    let doors = Doors::default();
    open_doors(arguments, &doors).map_err(usage)?;
    let initial = arguments.config.as_deref().map(read_initial).transpose()?;
    let directory = DataDirectory::lock(&arguments.data_dir).map_err(data)?;
    let store = Store::open(&directory).map_err(data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let ended = runtime.block_on(serve(arguments, store, doors, initial));
    // A read of the database may hang in a blocking thread; everything that matters is written by now.
    runtime.shutdown_background();
    drop(directory);
    ended
}

/// Every connection takes a file descriptor, and the usual soft limit of 1,024 is for programs that use `select`.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        eprintln!("swift-s3-control: could not raise the limit of open files: {error}");
    }
}

/// On an address that other hosts reach, every protection that is left out must be asked for.
fn check_exposure(arguments: &Arguments) -> Result<(), String> {
    if arguments.listen.ip().is_loopback() {
        return Ok(());
    }
    let listen = arguments.listen;
    if arguments.tls_cert.is_none() && !arguments.allow_plaintext {
        return Err(format!(
            "--listen {listen} without TLS: give --tls-cert and --tls-key, or insist with --allow-plaintext"
        ));
    }
    if arguments.access.is_none() && !arguments.allow_anonymous {
        return Err(format!(
            "--listen {listen} without access control: give --access, or insist with --allow-anonymous"
        ));
    }
    Ok(())
}

/// Reads the access file and the certificates, and exchanges both only if both are right.
fn open_doors(arguments: &Arguments, doors: &Doors) -> Result<(), String> {
    let access = match &arguments.access {
        Some(path) => Access::read(path).map_err(|error| error.to_string())?,
        None => Access::open(),
    };
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => {
            let files = TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: arguments.client_ca.clone(),
                requires_certificate: !access.is_enforced(),
            };
            Some(files.load().map_err(|error| error.to_string())?)
        }
        _ => None,
    };
    tracing::info!(
        access_entries = access.count(),
        anonymous = !access.is_enforced(),
        tls = tls.is_some(),
        client_certificates = arguments.client_ca.is_some(),
        "access control"
    );
    doors.access.send_replace(Arc::new(access));
    doors.tls.store(tls);
    Ok(())
}

fn read_initial(path: &Path) -> Result<(String, documents::Checked), Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| usage(format!("--config {}: could not read it: {error}", path.display())))?;
    // A placeholder stands for a secret that is in force; there is none yet.
    let restored = documents::restore_secrets(&text, None)
        .map_err(|problems| problems.into_iter().map(documents::problem).collect::<Vec<_>>());
    let checked = restored.and_then(|_| documents::check(&text)).map_err(|problems| {
        let mut message = format!("--config {}: {} problem(s)", path.display(), problems.len());
        for problem in &problems {
            message.push_str("\n  ");
            message.push_str(&shown(problem));
        }
        usage(message)
    })?;
    Ok((text, checked))
}

async fn serve(
    arguments: &Arguments,
    store: Store,
    doors: Doors,
    initial: Option<(String, documents::Checked)>,
) -> Result<(), Failure> {
    let mut signals = Signals::install().map_err(failed)?;
    let settings = Settings {
        history: arguments.history,
        retention: Duration::from_secs(u64::from(arguments.retention) * 24 * 3_600),
        ..Settings::default()
    };
    let control = Control::start(store, settings).await.map_err(data)?;
    if let Some((document, checked)) = initial {
        begin_with(&control, document, checked).await?;
    }
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| failed(format!("could not listen on {}: {error}", arguments.listen)))?;
    let address = listener.local_addr().map_err(failed)?;
    if let Some(path) = &arguments.port_file {
        write_port_file(path, address).map_err(|error| failed(format!("{}: {error}", path.display())))?;
    }
    let serving = tokio::spawn(server::serve(Arc::clone(&control), listener, doors.clone()));
    tokio::pin!(serving);
    loop {
        tokio::select! {
            ended = &mut serving => return ended.map_err(failed)?.map_err(failed),
            request = signals.next() => match request {
                Request::Stop => break,
                Request::Reload => match open_doors(arguments, &doors) {
                    Ok(()) => tracing::info!("read the access file and the certificates again"),
                    Err(error) => tracing::error!(%error, "kept the access file and the certificates of before"),
                },
            },
        }
    }
    control.stopping.cancel();
    match tokio::time::timeout(STOP_TIMEOUT, serving).await {
        Ok(ended) => {
            ended.map_err(failed)?.map_err(failed)?;
            tracing::info!("stopped");
        }
        Err(_) => tracing::warn!("stopped, but something still hung; what was answered is stored"),
    }
    if let Some(path) = &arguments.port_file {
        drop(std::fs::remove_file(path));
    }
    Ok(())
}

/// Puts the initial configuration in force, unless there is one already.
async fn begin_with(
    control: &Arc<Control>,
    document: String,
    checked: documents::Checked,
) -> Result<(), Failure> {
    let revision = control.push.current().revision;
    if revision > 0 {
        tracing::info!(revision, "there is a configuration already; --config is not used");
        return Ok(());
    }
    for warning in &checked.warnings {
        tracing::warn!("--config: {}", shown(warning));
    }
    let new = NewRevision {
        mappings: u32::try_from(checked.mappings.len()).unwrap_or(u32::MAX),
        document,
        author: String::new(),
        comment: "given with --config".to_owned(),
        expected: 0,
        rolled_back_to: 0,
        applied_at_ms: time::now_ms(),
    };
    control.apply(new, checked).await.map(drop).map_err(data)
}

/// Whole or not at all: a reader never sees half an address.
fn write_port_file(path: &Path, address: SocketAddr) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    std::fs::write(&draft, format!("{address}\n"))?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_other_hosts_reach_must_be_protected_or_insisted_on() {
        let tls = ["--tls-cert", "c", "--tls-key", "k"];
        for (listen, extra, allowed) in [
            ("127.0.0.1:0", &[][..], true),
            ("[::1]:0", &[], true),
            ("0.0.0.0:0", &[], false),
            ("0.0.0.0:0", &["--allow-plaintext"], false),
            ("0.0.0.0:0", &["--allow-anonymous"], false),
            ("0.0.0.0:0", &["--allow-plaintext", "--allow-anonymous"], true),
            ("[::]:0", &tls, false),
            ("10.1.2.3:5", &["--tls-cert", "c", "--tls-key", "k", "--access", "a"], true),
            ("10.1.2.3:5", &["--allow-plaintext", "--access", "a"], true),
        ] {
            let arguments = ["swift-s3-control", "--data-dir", "d", "--listen", listen];
            let arguments = Arguments::try_parse_from(arguments.iter().chain(extra)).unwrap();
            assert_eq!(check_exposure(&arguments).is_ok(), allowed, "{listen} {extra:?}");
        }
        for bad in
            [&["--tls-cert", "c"][..], &["--client-ca", "c"], &["--history", "0"], &["--listen", "nowhere"]]
        {
            let arguments = ["swift-s3-control", "--data-dir", "d"];
            assert!(Arguments::try_parse_from(arguments.iter().chain(bad)).is_err(), "{bad:?}");
        }
    }
}
