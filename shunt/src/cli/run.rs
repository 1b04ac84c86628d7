//! Puts the parts together and runs them until told to stop.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use swift_s3_daemon::admin::{self, Admin};
use swift_s3_daemon::control_client::ControlSettings;
use swift_s3_daemon::logging::{LogSettings, complain};
use swift_s3_daemon::service_manager;
use swift_s3_daemon::signals::{Request, Signals};
use swift_s3_daemon::telemetry::{Process, Telemetry};
use swift_s3_policy::{ConfigProblem, Secret, SecretSource};
use swift_s3_store::secrets::resolve;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Arguments;
use crate::context::Context;
use crate::filter::{self, Filter, FilterAddress, FilterListener};
use crate::listing::Listings;
use crate::metrics::{self, Metrics};
use crate::policy::control::Follower;
use crate::policy::{Policies, file};
use crate::proxy::{self, Limits, Proxy};
use crate::read::Reads;
use crate::readiness::Readiness;
use crate::restore::Restores;
use crate::upstream::Upstream;

const EXIT_CONFIGURATION: u8 = 2;
/// How long restores may go on after the last client has gone.
const RESTORES_GRACE: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let log = LogSettings {
        level: arguments.log_level.into(),
        format: arguments.log_format.into(),
        console: arguments.log_file.is_none(),
        file: arguments.log_file.clone(),
        syslog: None,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("swift-s3-shunt: could not start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let process = Process { name: "swift-s3-shunt", version: env!("CARGO_PKG_VERSION"), instance: host };
    let inside = runtime.enter();
    let telemetry = match Telemetry::start(&process, &arguments.telemetry, &log) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            complain(&format!("swift-s3-shunt: {error}"));
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    drop(inside);
    let code = runtime.block_on(serve(arguments, &telemetry));
    runtime.block_on(telemetry.shut_down());
    // A name lookup may hang in a blocking thread; nothing durable waits for it.
    runtime.shutdown_background();
    code
}

async fn serve(arguments: &Arguments, telemetry: &Telemetry) -> ExitCode {
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "could not install signal handlers");
            return ExitCode::FAILURE;
        }
    };
    let policies =
        Arc::new(Policies::new(metrics::remotes(telemetry.metrics()), telemetry.sampling().clone()));
    let readiness = Arc::new(Readiness::default());
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (reload, reloads) = mpsc::channel(1);
    if let Err(problems) = begin_policy(arguments, &policies, &readiness, &tasks, &stop, reloads).await {
        complain(&format!("swift-s3-shunt: {} problem(s)", problems.len()));
        for problem in &problems {
            complain(&format!("  {problem}"));
        }
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    let metrics = Metrics::new(telemetry.metrics());
    let restores = Arc::new(Restores::new(usize::from(arguments.max_restores), metrics.clone()));
    let context = Arc::new(Context {
        policies,
        metrics,
        restores,
        reads: Reads::default(),
        listings: Listings::new(Duration::from_secs(arguments.listing_timeout)),
        trace_context: arguments.trace_context,
        sends_traces: telemetry.sampling().is_on(),
    });
    metrics::observe(telemetry.metrics(), &context);
    let mut opened = String::new();
    if let Err(error) = open_admin(arguments, telemetry, &readiness, &mut opened).await {
        complain(&format!("swift-s3-shunt: {error}"));
        return ExitCode::FAILURE;
    }
    // Without a policy everything archived would look gone. A control plane that is away must not hold up the start of this machine,
    // so the service manager is told before there is one.
    if !arguments.control.is_empty() {
        service_manager::ready();
    }
    tokio::select! {
        () = readiness.has_policy() => {}
        () = signals.stop_requested() => {
            tracing::info!("stopped before there was a policy");
            return ExitCode::SUCCESS;
        }
    }
    if let Err(error) = open_doors(arguments, &context, &tasks, &stop, opened).await {
        complain(&format!("swift-s3-shunt: {error}"));
        return ExitCode::FAILURE;
    }
    service_manager::ready();
    loop {
        match signals.next().await {
            Request::Reload if arguments.control.is_empty() => drop(reload.try_send(())),
            Request::Reload => {
                tracing::info!("SIGHUP does nothing here: the control plane pushes the configuration")
            }
            Request::Stop => break,
        }
    }
    tracing::info!(drain_seconds = arguments.drain, "stopping");
    readiness.stopping();
    service_manager::stopping();
    stop.cancel();
    tasks.close();
    let ended = async {
        tasks.wait().await;
        // Clients have what they asked for; what is written back may need a moment more.
        context.restores.shut_down(RESTORES_GRACE).await;
    };
    tokio::select! {
        () = ended => {}
        () = signals.stop_requested() => tracing::warn!("told twice to stop; not waiting"),
    }
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// Puts the first policy in force, and follows what comes after it.
async fn begin_policy(
    arguments: &Arguments,
    policies: &Arc<Policies>,
    readiness: &Arc<Readiness>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    reloads: mpsc::Receiver<()>,
) -> Result<(), Vec<String>> {
    let shown = |problems: Vec<ConfigProblem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    if let (Some(path), true) = (&arguments.config, arguments.control.is_empty()) {
        let stamp = file::stamp(path);
        let config = file::read(path).map_err(shown)?;
        let problems = policies.install(&config).await;
        if !problems.is_empty() {
            return Err(problems);
        }
        readiness.policy_in_force();
        tasks.spawn(file::follow(path.clone(), stamp, Arc::clone(policies), reloads, stop.clone()));
        return Ok(());
    }
    let local = arguments.config.as_deref().map(std::fs::read_to_string).transpose();
    let local = local.map_err(|error| vec![format!("--config: {error}")])?;
    std::fs::create_dir_all(&arguments.state_dir)
        .map_err(|error| vec![format!("--state-dir {}: {error}", arguments.state_dir.display())])?;
    let settings = control_settings(arguments).map_err(|problem| vec![problem])?;
    let mut follower = Follower::new(settings, &arguments.state_dir, local, Arc::clone(policies))
        .map_err(|error| vec![format!("--control: {error}")])?;
    if follower.begin().await {
        readiness.policy_in_force();
    }
    let (ready, readiness) = (Arc::new(Notify::new()), Arc::clone(readiness));
    tasks.spawn(follower.run(Arc::clone(&ready), stop.clone()));
    tokio::spawn(async move {
        ready.notified().await;
        readiness.policy_in_force();
    });
    Ok(())
}

fn control_settings(arguments: &Arguments) -> Result<ControlSettings, String> {
    let token =
        arguments.control_token_file.clone().map(|path| resolve(&SecretSource::File(path))).transpose();
    let token = token.map_err(|error| format!("--control-token-file: {error}"))?;
    Ok(ControlSettings {
        urls: arguments.control.clone(),
        node_id: String::new(),
        token: token.map(Secret::new),
        ca_cert: arguments.control_ca_cert.clone(),
        client_identity: arguments.control_client_cert.clone().zip(arguments.control_client_key.clone()),
        addresses: Vec::new(),
    })
}

/// Liveness and readiness are told from the start, and to the end.
async fn open_admin(
    arguments: &Arguments,
    telemetry: &Telemetry,
    readiness: &Arc<Readiness>,
    opened: &mut String,
) -> Result<(), String> {
    let Some(address) = arguments.admin_listen else { return Ok(()) };
    let readiness = Arc::clone(readiness);
    let admin = Admin::new(
        telemetry.metrics().clone(),
        telemetry.level().clone(),
        Arc::new(move || readiness.state()),
    );
    let door = admin::open(address, admin, None)
        .await
        .map_err(|error| format!("--admin-listen {address}: {error}"))?;
    let _ = writeln!(opened, "admin {}", door.address);
    Ok(())
}

/// Opens all doors before any is served.
async fn open_doors(
    arguments: &Arguments,
    context: &Arc<Context>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    mut opened: String,
) -> Result<(), String> {
    let clients = listen("--listen", "proxy", arguments.listen, &mut opened).await?;
    let filter = filter_door(arguments, context, &mut opened).await?;
    if let Some(path) = &arguments.port_file {
        write_whole(path, &opened).map_err(|error| format!("--port-file {}: {error}", path.display()))?;
    }
    if let Some((listener, filter)) = filter {
        tasks.spawn(filter::serve(listener, filter, limits(arguments), stop.clone()));
    }
    if let (Some(listener), Some(authority)) =
        (clients, arguments.swift.as_ref().and_then(|uri| uri.authority().cloned()))
    {
        let limit = Duration::from_secs(arguments.swift_timeout);
        tracing::info!(swift = %authority, "serving clients");
        let idle = Duration::from_secs(arguments.client_timeout);
        let upstream = Upstream::new(Scheme::HTTP, authority, limit, context.metrics.clone());
        let proxy = Arc::new(Proxy::new(Arc::clone(context), upstream, idle));
        tasks.spawn(proxy::serve(listener, proxy, limits(arguments), stop.clone()));
    }
    Ok(())
}

fn limits(arguments: &Arguments) -> Limits {
    Limits {
        connections: usize::try_from(arguments.max_connections).unwrap_or(usize::MAX),
        drain: Duration::from_secs(arguments.drain),
    }
}

/// Opens the door for the filter in Swift's pipeline.
async fn filter_door(
    arguments: &Arguments,
    context: &Arc<Context>,
    opened: &mut String,
) -> Result<Option<(FilterListener, Arc<Filter>)>, String> {
    let Some(address) = &arguments.filter_listen else { return Ok(None) };
    let address: FilterAddress = address.parse().map_err(|error| format!("--filter-listen: {error}"))?;
    let token =
        arguments.filter_token_file.clone().map(|path| resolve(&SecretSource::File(path))).transpose();
    let token = token.map_err(|error| format!("--filter-token-file: {error}"))?;
    if token.is_none() && matches!(address, FilterAddress::Tcp(_)) {
        return Err(
            "--filter-listen: a port needs --filter-token-file, as any user of this machine can reach it"
                .into(),
        );
    }
    let listener =
        FilterListener::open(&address).await.map_err(|error| format!("--filter-listen: {error}"))?;
    tracing::info!(address = %listener.address(), door = "filter", "listening");
    let _ = writeln!(opened, "filter {}", listener.address());
    let filter = Filter::new(Arc::clone(context), token.map(Secret::new));
    Ok(Some((listener, Arc::new(filter))))
}

async fn listen(
    flag: &str,
    name: &str,
    address: Option<SocketAddr>,
    opened: &mut String,
) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| format!("{flag} {address}: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("{flag}: {error}"))?;
    tracing::info!(%address, door = name, "listening");
    let _ = writeln!(opened, "{name} {address}");
    Ok(Some(listener))
}

/// Whoever waits for the file never sees half of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, path)
}
