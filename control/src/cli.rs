//! The command line of `swift-s3-control`, and the life of the process from its first line to its exit code.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use swift_s3_daemon::logging::{LogSettings, complain};
use swift_s3_daemon::service_manager;
use swift_s3_daemon::signals::{Request, Signals};
use swift_s3_daemon::telemetry::{Process, Telemetry};
use swift_s3_etcd::{Etcd, EtcdSettings};
use swift_s3_web_ui::Backend;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::cluster::{self, Board, Cluster, PeerTls};
use crate::control::{Control, Settings, shown};
use crate::documents;
use crate::history::History;
use crate::metrics::Metrics;
use crate::prices::Prices;
use crate::server::{self, Doors, ServeError};
use crate::store::mirror::Keys;
use crate::store::{self, CopyDirectory, DataDirectory, NewRevision, Store};
use crate::time;
use crate::transport::TlsFiles;
use crate::web::{self, Pages};

mod arguments;
mod ready;

pub use arguments::Arguments;
use ready::{Ready, open_admin};

/// The server could not listen, or failed.
const EXIT_FAILED: u8 = 1;
/// The command line, the access file, a certificate or the initial configuration is wrong.
const EXIT_USAGE: u8 = 2;
/// The data directory or its database cannot be used.
const EXIT_DATA: u8 = 3;
/// The process ends this long after it was asked to, whatever hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);

/// Of browsers that are still there after everything else has ended.
const PAGES_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the process cannot go on: exit code and sentence.
struct Failure(u8, String);

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        failed(error)
    }
}

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
            complain(&format!("swift-s3-control: {message}"));
            ExitCode::from(code)
        }
    }
}

fn try_run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(target) = &arguments.backup {
        if !arguments.etcd.etcd.is_empty() {
            let how = "--backup copies a state.db; with --etcd the state is in etcd: use etcdctl snapshot save, or swift-s3ctl state copy";
            return Err(usage(how));
        }
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    let inside = runtime.enter();
    let process = Process { name: "swift-s3-control", version: env!("CARGO_PKG_VERSION"), instance: host() };
    let telemetry = Telemetry::start(&process, &arguments.telemetry, &log).map_err(usage)?;
    drop(inside);
    let ready = Ready::default();
    let doors = Doors { metrics: Metrics::new(telemetry.metrics()), ..Doors::default() };
    open_doors(arguments, &doors).map_err(usage)?;
    let initial = arguments.config.as_deref().map(read_initial).transpose()?;
    let etcd = arguments.etcd.settings().map_err(usage)?;
    let _admin = runtime.block_on(open_admin(arguments, &telemetry, &ready))?;
    let ended = match etcd {
        None => {
            let directory = DataDirectory::lock(&arguments.data_dir).map_err(data)?;
            let store = Store::open(&directory).map_err(data)?;
            let ended = runtime.block_on(serve(arguments, store, doors, initial, &ready));
            runtime.block_on(telemetry.shut_down());
            // A read of the database may hang in a blocking thread; everything that matters is written by now.
            runtime.shutdown_background();
            drop(directory);
            return ended;
        }
        Some(etcd) => {
            let directory = CopyDirectory::lock(&arguments.data_dir).map_err(data)?;
            runtime.block_on(serve_cluster(arguments, etcd, directory, doors, initial, &ready))
        }
    };
    runtime.block_on(telemetry.shut_down());
    runtime.shutdown_background();
    ended
}

fn host() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

/// Every connection takes a file descriptor, and the usual soft limit of 1,024 is for programs that use `select`.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        complain(&format!("swift-s3-control: could not raise the limit of open files: {error}"));
    }
}

/// On an address that other hosts reach, every protection that is left out must be asked for.
fn check_exposure(arguments: &Arguments) -> Result<(), String> {
    let doors = [("--listen", Some(arguments.listen)), ("--http", arguments.http)];
    for (flag, address) in doors {
        let Some(address) = address.filter(|address| !address.ip().is_loopback()) else { continue };
        if arguments.tls_cert.is_none() && !arguments.allow_plaintext {
            return Err(format!(
                "{flag} {address} without TLS: give --tls-cert and --tls-key, or insist with --allow-plaintext"
            ));
        }
        if arguments.access.is_none() && !arguments.allow_anonymous {
            return Err(format!(
                "{flag} {address} without access control: give --access, or insist with --allow-anonymous"
            ));
        }
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

fn read_initial(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| usage(format!("--config {}: could not read it: {error}", path.display())))?;
    // A placeholder stands for a secret that is in force; there is none yet.
    let restored = documents::restore_secrets(&text, None)
        .map_err(|problems| problems.into_iter().map(documents::problem).collect::<Vec<_>>());
    restored.and_then(|_| documents::check(&text)).map_err(|problems| {
        let mut message = format!("--config {}: {} problem(s)", path.display(), problems.len());
        for problem in &problems {
            message.push_str("\n  ");
            message.push_str(&shown(problem));
        }
        usage(message)
    })?;
    Ok(text)
}

/// The only control process, with its state in the data directory.
async fn serve(
    arguments: &Arguments,
    store: Store,
    doors: Doors,
    initial: Option<String>,
    ready: &Ready,
) -> Result<(), Failure> {
    let signals = Signals::install().map_err(failed)?;
    let history = History::of(&arguments.data_dir);
    let control = Control::start_with(store, settings(arguments, &doors)?, history).await.map_err(data)?;
    if let Some(text) = &initial {
        begin_with(&control, text).await.map_err(data)?;
    }
    let (listener, _) = listen(arguments.listen, arguments.port_file.as_deref()).await?;
    let backend = server::backend(&control, &doors).map_err(failed)?;
    let pages = serve_pages(arguments, backend, &doors, &control.stopping).await?;
    let serving = tokio::spawn(server::serve(Arc::clone(&control), listener, doors.clone()));
    ready.alone(&control.store);
    ready.process.ready();
    until_stopped(arguments, signals, &doors, serving, &control.stopping, ready).await?;
    pages.finish().await;
    Ok(())
}

/// The web pages, if they are wanted.
struct WebPages(Option<(JoinHandle<()>, Option<PathBuf>)>);

impl WebPages {
    /// Comes back when browsers are done with, or cut off.
    async fn finish(self) {
        let Some((serving, port_file)) = self.0 else { return };
        drop(tokio::time::timeout(PAGES_TIMEOUT, serving).await);
        if let Some(path) = port_file {
            drop(std::fs::remove_file(path));
        }
    }
}

async fn serve_pages(
    arguments: &Arguments,
    backend: Backend,
    doors: &Doors,
    stopping: &CancellationToken,
) -> Result<WebPages, Failure> {
    let Some(http) = arguments.http else { return Ok(WebPages(None)) };
    let (listener, _) = listen(http, arguments.http_port_file.as_deref()).await?;
    let pages = Pages {
        names: arguments.http_names.clone(),
        requires_certificate: arguments.client_ca.is_some() && arguments.access.is_none(),
    };
    let serving = web::serve(pages, listener, backend, doors.clone(), stopping.clone());
    Ok(WebPages(Some((tokio::spawn(serving), arguments.http_port_file.clone()))))
}

/// One of several, with their state in etcd.
async fn serve_cluster(
    arguments: &Arguments,
    etcd: EtcdSettings,
    directory: CopyDirectory,
    doors: Doors,
    initial: Option<String>,
    ready: &Ready,
) -> Result<(), Failure> {
    let signals = Signals::install().map_err(failed)?;
    let (listener, address) = listen(arguments.listen, arguments.port_file.as_deref()).await?;
    let (board, stopping) = (Board::default(), CancellationToken::new());
    ready.several(&board);
    let history = History::of(&arguments.data_dir);
    let etcd = Etcd::new(etcd);
    let cluster = Cluster {
        keys: Keys::new(&etcd.settings().prefix),
        etcd,
        id: format!("{}-{:08x}", host(), rand::random::<u32>()),
        address: advertised(arguments, address).map_err(usage)?,
        tls: arguments.tls_cert.as_ref().map(|_| peer_tls(arguments)),
        directory,
        settings: settings(arguments, &doors)?,
        history: history.clone(),
        initial,
        board: board.clone(),
        stopping: stopping.clone(),
    };
    let pages = serve_pages(arguments, server::backend_any(&board, &doors), &doors, &stopping).await?;
    let keeping = tokio::spawn(server::keep_history(history, board.clone(), stopping.clone()));
    let listening = server::serve_any(board, listener, doors.clone(), stopping.clone());
    let stop = stopping.clone();
    let serving = tokio::spawn(async move {
        let (served, ended) = tokio::join!(listening, async {
            let ended = cluster::run(cluster).await;
            // It ends by itself only when it cannot go on.
            stop.cancel();
            ended
        });
        drop(keeping.await);
        ended.map_err(data)?;
        served.map_err(failed)
    });
    ready.process.ready();
    until_stopped(arguments, signals, &doors, serving, &stopping, ready).await?;
    pages.finish().await;
    Ok(())
}

/// # Errors
/// A sentence, if the price table cannot be used.
fn settings(arguments: &Arguments, doors: &Doors) -> Result<Settings, Failure> {
    let prices =
        Prices::read(arguments.prices.as_deref()).map_err(|error| usage(format!("--prices: {error}")))?;
    Ok(Settings {
        prices: Arc::new(prices),
        metrics: doors.metrics.clone(),
        history: arguments.history,
        retention: Duration::from_secs(u64::from(arguments.retention) * 24 * 3_600),
        ..Settings::default()
    })
}

async fn listen(on: SocketAddr, port_file: Option<&Path>) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener =
        TcpListener::bind(on).await.map_err(|error| failed(format!("could not listen on {on}: {error}")))?;
    let address = listener.local_addr().map_err(failed)?;
    if let Some(path) = port_file {
        write_port_file(path, address).map_err(|error| failed(format!("{}: {error}", path.display())))?;
    }
    Ok((listener, address))
}

/// The URL by which other control processes reach this one.
fn advertised(arguments: &Arguments, bound: SocketAddr) -> Result<String, String> {
    let scheme = if arguments.tls_cert.is_some() { "https" } else { "http" };
    let address = match &arguments.advertise {
        Some(address) => {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) || address.contains(['/', '@']) {
                return Err(format!("--advertise {address}: expected HOST:PORT"));
            }
            address.clone()
        }
        None if bound.ip().is_unspecified() => {
            return Err(format!(
                "--listen {} is every address of this machine: say with --advertise HOST:PORT by which of them other control \
                 processes reach it",
                arguments.listen
            ));
        }
        None => bound.to_string(),
    };
    Ok(format!("{scheme}://{address}"))
}

fn peer_tls(arguments: &Arguments) -> PeerTls {
    // A certificate that nobody asks for is not shown: it would have to be one that the authority of clients signed.
    let is_asked_for = arguments.client_ca.is_some() && arguments.access.is_none();
    PeerTls {
        ca: arguments.peer_ca.clone().or_else(|| arguments.client_ca.clone()),
        identity: arguments.tls_cert.clone().zip(arguments.tls_key.clone()).filter(|_| is_asked_for),
    }
}

/// Waits for the end of `serving`, which a signal brings about through `stopping`.
async fn until_stopped<E: Into<Failure>>(
    arguments: &Arguments,
    mut signals: Signals,
    doors: &Doors,
    serving: JoinHandle<Result<(), E>>,
    stopping: &CancellationToken,
    ready: &Ready,
) -> Result<(), Failure> {
    tokio::pin!(serving);
    service_manager::ready();
    loop {
        tokio::select! {
            ended = &mut serving => return ended.map_err(failed)?.map_err(Into::into),
            request = signals.next() => match request {
                Request::Stop => break,
                Request::Reload => match open_doors(arguments, doors) {
                    Ok(()) => tracing::info!("read the access file and the certificates again"),
                    Err(error) => tracing::error!(%error, "kept the access file and the certificates of before"),
                },
            },
        }
    }
    ready.process.not_ready("stopping");
    service_manager::stopping();
    stopping.cancel();
    match tokio::time::timeout(STOP_TIMEOUT, serving).await {
        Ok(ended) => {
            ended.map_err(failed)?.map_err(Into::into)?;
            tracing::info!("stopped");
        }
        Err(_) => tracing::warn!("stopped, but something still hung; what was answered is stored"),
    }
    if let Some(path) = &arguments.port_file {
        drop(std::fs::remove_file(path));
    }
    Ok(())
}

/// Puts the initial configuration in force, unless there is one already. It was checked before.
pub(crate) async fn begin_with(control: &Arc<Control>, text: &str) -> Result<(), String> {
    let revision = control.push.current().revision;
    if revision > 0 {
        tracing::info!(revision, "there is a configuration already; --config is not used");
        return Ok(());
    }
    let checked =
        documents::check(text).map_err(|problems| problems.first().map(shown).unwrap_or_default())?;
    for warning in &checked.warnings {
        tracing::warn!("--config: {}", shown(warning));
    }
    let new = NewRevision {
        mappings: u32::try_from(checked.mappings.len()).unwrap_or(u32::MAX),
        document: text.to_owned(),
        author: String::new(),
        comment: "given with --config".to_owned(),
        expected: 0,
        rolled_back_to: 0,
        applied_at_ms: time::now_ms(),
    };
    control.apply(new, checked).await.map(drop).map_err(|error| error.to_string())
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

    use clap::{CommandFactory, Parser};

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
            ("127.0.0.1:0", &["--http", "127.0.0.1:0"], true),
            ("127.0.0.1:0", &["--http", "0.0.0.0:0"], false),
            ("127.0.0.1:0", &["--http", "0.0.0.0:0", "--allow-plaintext", "--access", "a"], true),
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
