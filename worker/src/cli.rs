//! The command line, and the life of the process from its first line to its exit code.

mod controlled;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use swift_s3_daemon::admin::{self, Admin, Door};
use swift_s3_daemon::logging::{Level, LogSettings, complain};
use swift_s3_daemon::readiness::Readiness;
use swift_s3_daemon::service_manager;
use swift_s3_daemon::signals::Signals;
use swift_s3_daemon::statsd::Counters;
use swift_s3_daemon::telemetry::{Process, Telemetry, TelemetryArguments};
use swift_s3_etcd::{ErrorKind, Etcd, EtcdArguments};
use swift_s3_policy::document::local_settings;
use swift_s3_policy::{ConfigProblem, CoordinationChoice, LogLevel, Secret, SecretSource, SyncConfig};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::control::Link;
use crate::control::reporter::{self, Statuses};
use crate::coordination::Coordination;
use crate::discover::Discovery;
use crate::feed::Shared;
use crate::metrics::{Metrics, Reloaded, Sources};
use crate::schedule::{Parts, Scheduler, Switch};
use crate::startup::{self, Ground};
use crate::swift::backend::Backend;
use crate::swift::container_server::ContainerServers;
use crate::swift::local_objects::LocalObjects;
use crate::telling::Telling;
use crate::transfer::Transfer;
use swift_s3_daemon::control_client::ControlSettings;
use swift_s3_store::remotes::Remotes;
use swift_s3_store::secrets::resolve;

/// Some row of a single round could not be carried.
const EXIT_ROWS_FAILED: u8 = 1;
/// The command line or the configuration is wrong, or what it names is not there.
const EXIT_CONFIGURATION: u8 = 2;
/// A scheduler that does nothing for so long does not work.
const HANGS_AFTER: Duration = Duration::from_secs(60);

const AFTER_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  finish transfers for up to 10 s, save progress, exit 0; a second one exits at once
  SIGHUP           read the configuration again; a bad file is told in the log and changes nothing
                   (with --control nothing: the control plane pushes changes)

Exit status:
  0  stopped as asked, or with --once: every row is carried or waits for its age
  1  with --once: some rows could not be carried, or a remote or database failed
  2  wrong usage or configuration; every problem of the file is printed with its JSON path

See docs/configuration.md for every key of the file.";

/// Carries every change of mapped Swift containers to S3, from the container databases of this node.
#[derive(Debug, Parser)]
#[command(name = "swift-s3-sync", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// The configuration file, sync.json; with --control, only what belongs to this node is read from it
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SYNC_CONFIG", required_unless_present = "control")]
    pub config: Option<PathBuf>,
    /// Work under a control plane, which has the configuration and keeps progress: http(s)://HOST:PORT, several for fail-over
    #[arg(long, value_name = "URL", env = "SWIFT_S3_SYNC_CONTROL", value_delimiter = ',')]
    pub control: Vec<String>,
    /// The name of this node towards the control plane and in etcd; by default the host's name
    #[arg(long, value_name = "NAME", env = "SWIFT_S3_SYNC_NODE_ID")]
    pub node_id: Option<String>,
    /// A file with the token to show to the control plane
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SYNC_CONTROL_TOKEN_FILE", requires = "control")]
    pub control_token_file: Option<PathBuf>,
    /// Certificate authorities of the control plane, PEM; by default those of the system
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SYNC_CONTROL_CA_CERT", requires = "control")]
    pub control_ca_cert: Option<PathBuf>,
    /// This node's certificate for the control plane, PEM
    #[arg(
        long,
        value_name = "PATH",
        env = "SWIFT_S3_SYNC_CONTROL_CLIENT_CERT",
        requires = "control_client_key"
    )]
    pub control_client_cert: Option<PathBuf>,
    /// The key of --control-client-cert, PEM
    #[arg(
        long,
        value_name = "PATH",
        env = "SWIFT_S3_SYNC_CONTROL_CLIENT_KEY",
        requires = "control_client_cert"
    )]
    pub control_client_key: Option<PathBuf>,
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
    /// Share the work out through etcd
    #[command(flatten)]
    pub etcd: EtcdArguments,
    /// Serve /live, /ready, /metrics and /log-level here; port 0 takes a free one [default: not at all]
    #[arg(long, value_name = "ADDRESS:PORT", env = "SWIFT_S3_SYNC_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
    /// Write the address of --admin-listen to this file
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_SYNC_ADMIN_PORT_FILE", requires = "admin_listen")]
    pub admin_port_file: Option<PathBuf>,
    /// Traces and metrics
    #[command(flatten)]
    pub telemetry: TelemetryArguments,
}

/// Runs the program.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let (config, local, warnings) = match load(arguments) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(arguments, &problems),
    };
    if arguments.check_config {
        return check(arguments, &config, &warnings);
    }
    let mut problems = Vec::new();
    let etcd = match arguments.etcd.settings() {
        Ok(settings) => settings.map(Etcd::new),
        Err(error) => {
            problems.push(ConfigProblem {
                path: "--etcd".into(),
                found: error.to_string(),
                allowed: "an etcd that can be talked to".into(),
            });
            None
        }
    };
    problems.extend(startup::coordination_problem(&config, !arguments.etcd.etcd.is_empty()));
    if config.log_file.is_none() && !arguments.console {
        problems.push(ConfigProblem {
            path: "log_file".into(),
            found: "nothing".into(),
            allowed: "the path of a log file, or start with --console".into(),
        });
    }
    let control = match under_control(arguments, &config) {
        Ok(control) => control,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    // With a control plane the rest of the ground is known with its configuration.
    let lock = match startup::lock(&config.status_dir) {
        Ok(lock) if problems.is_empty() => lock,
        Ok(_) => return refuse(arguments, &problems),
        Err(problem) => {
            problems.push(problem);
            if control.is_none() {
                problems.extend(startup::inspect(&config).2);
            }
            return refuse(arguments, &problems);
        }
    };
    let ground = match control.is_none().then(|| Ground::prepare(&config)).transpose() {
        Ok(ground) => ground,
        Err(problems) => return refuse(arguments, &problems),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("swift-s3-sync: could not start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let inside = runtime.enter();
    let telemetry = match start_telemetry(arguments, &config) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            complain(&format!("swift-s3-sync: {error}"));
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    drop(inside);
    for warning in &warnings {
        tracing::warn!("{}: {warning}", file(arguments));
    }
    if control.is_none() && config.mappings.is_empty() {
        tracing::warn!("the configuration has no containers; nothing to do");
        service_manager::ready();
        return ExitCode::SUCCESS;
    }
    let metrics = Metrics::new(telemetry.metrics());
    let level = arguments.log_level.is_none().then(|| telemetry.level().clone());
    let process = OfProcess {
        telling: Telling::new(metrics.clone(), telemetry.sampling().clone(), level),
        metrics,
        readiness: Readiness::default(),
    };
    let parts = Life { telemetry: &telemetry, process, etcd, control, config, local, ground };
    let code = runtime.block_on(live(arguments, parts));
    runtime.block_on(telemetry.shut_down());
    // A DNS lookup or a database read may hang in a blocking thread; everything that matters is saved by now.
    runtime.shutdown_background();
    drop(lock);
    code
}

/// What tells of the process.
#[derive(Clone, Debug)]
struct OfProcess {
    telling: Telling,
    metrics: Metrics,
    readiness: Readiness,
}

/// What the process has when its life begins.
struct Life<'a> {
    telemetry: &'a Telemetry,
    process: OfProcess,
    etcd: Option<Etcd>,
    control: Option<ControlSettings>,
    config: SyncConfig,
    local: Option<String>,
    ground: Option<Ground>,
}

async fn live(arguments: &Arguments, life: Life<'_>) -> ExitCode {
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "could not install signal handlers");
            return ExitCode::FAILURE;
        }
    };
    let _door = match open_admin(arguments, life.telemetry, &life.process).await {
        Ok(door) => door,
        Err(error) => {
            tracing::error!(%error, "could not serve --admin-listen");
            complain(&format!("swift-s3-sync: --admin-listen: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if let Some(etcd) = &life.etcd
        && let Err(error) = etcd.get(&etcd.key("workers/")).await
        && error.kind() == ErrorKind::Denied
    {
        // Without an answer work goes on by the implicit rules; with this one somebody has to look.
        tracing::error!(%error, "etcd does not let this worker in");
        complain(&format!("swift-s3-sync: {error}"));
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    match (life.control, life.ground) {
        (Some(settings), _) => {
            controlled::serve(arguments, settings, life.etcd, life.config, life.local, signals, &life.process)
                .await
        }
        (None, Some(ground)) => {
            alone(arguments, life.etcd.as_ref(), Arc::new(life.config), ground, signals, &life.process).await
        }
        (None, None) => ExitCode::FAILURE,
    }
}

fn start_telemetry(arguments: &Arguments, config: &SyncConfig) -> Result<Telemetry, String> {
    let process = Process {
        name: "swift-s3-sync",
        version: env!("CARGO_PKG_VERSION"),
        instance: node_id(arguments).map_err(|problem| problem.to_string())?,
    };
    let log = LogSettings {
        level: arguments.log_level.map_or(config.log_level, LogLevel::from),
        format: config.log_format,
        console: arguments.console,
        file: config.log_file.clone(),
        syslog: config.syslog.clone(),
    };
    Telemetry::start(&process, &arguments.telemetry, &log).map_err(|error| error.to_string())
}

async fn open_admin(
    arguments: &Arguments,
    telemetry: &Telemetry,
    process: &OfProcess,
) -> std::io::Result<Option<Door>> {
    let Some(address) = arguments.admin_listen else { return Ok(None) };
    let (readiness, metrics) = (process.readiness.clone(), process.metrics.clone());
    let state = move || readiness.state().and_then(|()| is_turning(metrics.idle()));
    let admin = Admin::new(telemetry.metrics().clone(), telemetry.level().clone(), Arc::new(state));
    admin::open(address, admin, arguments.admin_port_file.as_deref()).await.map(Some)
}

/// Says so when the scheduler, which turns each second, has done nothing for long.
fn is_turning(idle: Option<Duration>) -> Result<(), String> {
    match idle {
        Some(idle) if idle > HANGS_AFTER => {
            Err(format!("the scheduler has done nothing for {} s", idle.as_secs()))
        }
        _ => Ok(()),
    }
}

/// The configuration file; under a control plane what of it belongs to the node, with its text.
fn load(
    arguments: &Arguments,
) -> Result<(SyncConfig, Option<String>, Vec<ConfigProblem>), Vec<ConfigProblem>> {
    match &arguments.config {
        Some(path) if arguments.control.is_empty() => {
            let (config, warnings) = startup::load(path)?;
            Ok((config, None, warnings))
        }
        path => {
            let text = path.as_deref().map(startup::read_text).transpose()?;
            let parsed = local_settings(text.as_deref().unwrap_or("{}"))?;
            Ok((parsed.config, text, parsed.warnings))
        }
    }
}

/// Where the control plane is, if there is to be one.
fn under_control(
    arguments: &Arguments,
    config: &SyncConfig,
) -> Result<Option<ControlSettings>, ConfigProblem> {
    if arguments.control.is_empty() {
        return Ok(None);
    }
    let problem = |path: &str, found: String, allowed: &str| ConfigProblem {
        path: path.to_owned(),
        found,
        allowed: allowed.to_owned(),
    };
    let token =
        arguments.control_token_file.clone().map(|path| resolve(&SecretSource::File(path))).transpose();
    let token = token
        .map_err(|error| problem("--control-token-file", error.to_string(), "a file that holds the token"))?;
    let node_id = node_id(arguments)?;
    let settings = ControlSettings {
        urls: arguments.control.clone(),
        node_id,
        token: token.map(Secret::new),
        ca_cert: arguments.control_ca_cert.clone(),
        client_identity: arguments.control_client_cert.clone().zip(arguments.control_client_key.clone()),
        addresses: config.swift_bind_ip.iter().map(ToString::to_string).collect(),
    };
    // Read again when it is used; here only to refuse early.
    settings
        .endpoints()
        .map_err(|error| problem("--control", error.to_string(), "the address of a control plane"))?;
    Ok(Some(settings))
}

/// What this worker is called by others.
fn node_id(arguments: &Arguments) -> Result<String, ConfigProblem> {
    let host =
        || nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned()).unwrap_or_default();
    let node_id = arguments.node_id.clone().unwrap_or_else(host);
    if node_id.is_empty() || node_id.len() > 255 || node_id.chars().any(char::is_control) {
        return Err(ConfigProblem {
            path: "--node-id".to_owned(),
            found: format!("{node_id:?}"),
            allowed: "a name of 1 to 255 bytes".to_owned(),
        });
    }
    Ok(node_id)
}

fn file(arguments: &Arguments) -> String {
    let named = arguments.config.as_ref().map(|path| path.display().to_string());
    named.unwrap_or_else(|| "settings of this node".to_owned())
}

fn check(arguments: &Arguments, config: &SyncConfig, warnings: &[ConfigProblem]) -> ExitCode {
    if let Err(problems) = Ground::check(config) {
        return refuse(arguments, &problems);
    }
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    println!("{}: ok, {} mappings", file(arguments), config.mappings.len());
    ExitCode::SUCCESS
}

fn refuse(arguments: &Arguments, problems: &[ConfigProblem]) -> ExitCode {
    complain(&format!("swift-s3-sync: {}: {} problem(s)", file(arguments), problems.len()));
    for problem in problems {
        complain(&format!("  {problem}"));
    }
    ExitCode::from(EXIT_CONFIGURATION)
}

/// Works by the configuration file.
async fn alone(
    arguments: &Arguments,
    etcd: Option<&Etcd>,
    config: Arc<SyncConfig>,
    ground: Ground,
    signals: Signals,
    process: &OfProcess,
) -> ExitCode {
    let node_id = match node_id(arguments) {
        Ok(node_id) => node_id,
        Err(problem) => return refuse(arguments, &[problem]),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), config = %file(arguments), mappings = config.mappings.len(),
        devices = %config.devices.display(), once = arguments.once, "started"
    );
    service_manager::ready();
    let work = parts(
        ground,
        Arc::clone(&config),
        arguments.once,
        Surroundings {
            link: None,
            board: Arc::default(),
            remotes: Arc::new(Remotes::observed(Arc::new(process.metrics.clone()))),
            worker_count: 0,
            switches: HashMap::new(),
            is_complete: true,
            coordination: coordination(etcd, &node_id, &config, arguments.once),
        },
        process,
    );
    let statuses = Arc::<Statuses>::default();
    let sources = Sources::new(&work.board, &statuses, &work.coordination);
    process.metrics.observe(&sources);
    let servers = work.shared.container_servers.clone();
    let scheduler = Scheduler::new(work);
    if arguments.once {
        return once(scheduler, signals, process).await;
    }
    let path = arguments.config.clone().unwrap_or_default();
    let running = std::sync::Mutex::new(config);
    // Nobody gives orders.
    let (_orders, receiver) = mpsc::channel(1);
    let counted = process.metrics.clone();
    let reload = move || {
        let config = startup::reload(&path, &running);
        counted.reloaded(if config.is_some() { Reloaded::Applied } else { Reloaded::Refused });
        config
    };
    let stop = CancellationToken::new();
    // Looks at all databases are not worth it when nobody is told of them.
    if arguments.admin_listen.is_some() || arguments.telemetry.has_collector() {
        let audience = reporter::Audience::Metrics;
        tokio::spawn(reporter::run(sources.board, statuses, servers, audience, stop.clone()));
    }
    process.readiness.ready();
    scheduler.run(signals, Box::new(reload), receiver).await;
    stop.cancel();
    ExitCode::SUCCESS
}

async fn once(scheduler: Scheduler, signals: Signals, process: &OfProcess) -> ExitCode {
    process.readiness.ready();
    let succeeded = scheduler.run_once(signals).await;
    stopping(process);
    if succeeded { ExitCode::SUCCESS } else { ExitCode::from(EXIT_ROWS_FAILED) }
}

/// Tells those who watch that the process is about to end.
fn stopping(process: &OfProcess) {
    process.readiness.not_ready("stopping");
    service_manager::stopping();
}

/// How this worker shares the work with others. A single round is too short to own anything.
fn coordination(etcd: Option<&Etcd>, node_id: &str, config: &SyncConfig, once: bool) -> Coordination {
    match etcd {
        Some(etcd) if !once => {
            tracing::info!(etcd = ?etcd.settings().endpoints, prefix = etcd.settings().prefix, node = node_id,
                lease_seconds = etcd.settings().lease.as_secs(), "coordinating through etcd");
            Coordination::start(etcd, node_id, config.coordination != CoordinationChoice::Implicit)
        }
        etcd => Coordination::without_etcd(etcd.is_some()),
    }
}

/// What a worker has beside its configuration.
#[derive(Debug)]
struct Surroundings {
    link: Option<Link>,
    board: Arc<Board>,
    remotes: Arc<Remotes>,
    worker_count: u32,
    switches: HashMap<String, Switch>,
    is_complete: bool,
    coordination: Coordination,
}

fn parts(
    ground: Ground,
    config: Arc<SyncConfig>,
    once: bool,
    around: Surroundings,
    process: &OfProcess,
) -> Parts {
    let metrics = &process.metrics;
    let Ground { topology, status, internal_url } = ground;
    let counters = Counters::new(config.statsd.as_ref());
    let backend = Backend::default().counted(metrics.clone());
    let servers = ContainerServers::new(topology.clone(), backend.clone());
    let local = LocalObjects::new(topology.clone(), backend, internal_url);
    Parts {
        shared: Shared {
            transfer: Transfer::new(
                local,
                topology.clone(),
                servers.clone(),
                counters.clone(),
                metrics.clone(),
            ),
            container_servers: servers.clone(),
            waiting: std::sync::atomic::AtomicUsize::new(0),
            metrics: metrics.clone(),
        },
        discovery: Discovery::new(&config.devices, topology, servers),
        counters,
        status,
        config,
        once,
        link: around.link,
        board: around.board,
        remotes: around.remotes,
        worker_count: around.worker_count,
        switches: around.switches,
        is_complete: around.is_complete,
        coordination: around.coordination,
        readiness: process.readiness.clone(),
        telling: process.telling.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_that_hangs_is_not_ready_and_one_that_has_not_begun_is_no_trouble() {
        for (idle, is_ready) in [(None, true), (Some(1), true), (Some(60), true), (Some(61), false)] {
            assert_eq!(is_turning(idle.map(Duration::from_secs)).is_ok(), is_ready, "{idle:?}");
        }
    }
}
