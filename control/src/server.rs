//! The server: services, health, reflection, and the tasks beside them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use swift_s3_proto::v1::audit_service_server::AuditServiceServer;
use swift_s3_proto::v1::config_service_server::ConfigServiceServer;
use swift_s3_proto::v1::node_service_server::NodeServiceServer;
use swift_s3_proto::v1::policy_service_server::PolicyServiceServer;
use swift_s3_proto::v1::status_service_server::StatusServiceServer;
use swift_s3_proto::{FILE_DESCRIPTOR_SET, MAX_MESSAGE_BYTES};
use swift_s3_web_ui::Backend;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower_layer::layer_fn;

use crate::access::Access;
use crate::activity;
use crate::cluster::{Board, Role, Switch};
use crate::control::Control;
use crate::gate::Gate;
use crate::history::History;
use crate::metrics::{self, Metrics};
use crate::observed::Observed;
use crate::services::audit::Auditing;
use crate::services::config::Configs;
use crate::services::node::Nodes;
use crate::services::policy::Policies;
use crate::services::status::Statuses;
use crate::transport;
use crate::workers::WorkerCount;

/// A peer whose host is gone is noticed after these two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that are still open so long after the stop are dropped.
const DRAIN: Duration = Duration::from_secs(5);
/// The same for one of several processes, where those that it leads end first.
const LEADER_DRAIN: Duration = Duration::from_secs(7);
/// What may lie unread of one call, and of all calls of one connection, where there are several processes: calls of many clients
/// come in one connection then, and some that wait for the disk must not hold up the others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// Nodes' last signs of life are written this often.
const SAVE_NODES: Duration = Duration::from_secs(60);
/// What is too old is removed this often.
const PRUNE: Duration = Duration::from_secs(3_600);

/// Why the server ended other than by being stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Reflection cannot read the compiled contract.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("serving: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// What stands in front of all services. What is in it can be exchanged while the server runs.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// Where calls are counted.
    pub metrics: Metrics,
    /// Who may do what.
    pub access: Arc<watch::Sender<Arc<Access>>>,
    /// How connections are encrypted; none: they are not.
    pub tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
}

/// Serves until [`Control::stopping`] fires, then ends streams, writes what waits, and returns.
///
/// # Errors
/// When the server fails.
pub async fn serve(control: Arc<Control>, listener: TcpListener, doors: Doors) -> Result<(), ServeError> {
    let address = listener.local_addr().ok();
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    let routes = routes(&control)?;
    let tasks = tasks(&control);
    let history = tokio::spawn(control.history.clone().keep(routes.clone(), control.stopping.clone()));
    let in_front = doors.clone();
    control.settings.metrics.leads(true);
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(layer_fn(move |inner| front(Gate::new(inner, &in_front, None), &in_front)))
        .add_routes(routes.add_service(health_service));
    let stop = control.stopping.clone();
    let serving = router.serve_with_incoming_shutdown(
        transport::accept(listener, doors.tls, transport::CLIENTS),
        stop.clone().cancelled_owned(),
    );
    tracing::info!(address = %shown(address), control = %control.id, "serving");
    tokio::pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = stop.cancelled() => {
            tracing::info!("stopping");
            set_health(&health, ServingStatus::NotServing).await;
            // A client that does not read its last messages must not hold the process.
            tokio::time::timeout(DRAIN, &mut serving).await.unwrap_or(Ok(()))
        }
    };
    stop.cancel();
    tasks.join().await;
    drop(history.await);
    control.save_nodes().await;
    control.store.close().await;
    Ok(served?)
}

/// As [`serve`], for one of several processes: what a call gets depends on who leads. Serves until `stop` fires; the board must
/// then show nobody, so that calls under way end.
///
/// # Errors
/// When the server fails.
pub async fn serve_any(
    board: Board,
    listener: TcpListener,
    doors: Doors,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().ok();
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::NotServing).await;
    let telling = tokio::spawn(tell_health(health.clone(), board.clone(), doors.metrics.clone()));
    let in_front = doors.clone();
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(layer_fn(move |inner| {
            let switch = Switch::new(inner, board.clone());
            front(Gate::new(switch, &in_front, Some(board.clone())), &in_front)
        }))
        .add_service(health_service);
    let serving = router.serve_with_incoming_shutdown(
        transport::accept(listener, doors.tls, transport::CLIENTS),
        stop.clone().cancelled_owned(),
    );
    tracing::info!(address = %shown(address), "listening");
    tokio::pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = stop.cancelled() => {
            set_health(&health, ServingStatus::NotServing).await;
            tokio::time::timeout(LEADER_DRAIN, &mut serving).await.unwrap_or(Ok(()))
        }
    };
    stop.cancel();
    telling.abort();
    Ok(served?)
}

/// Answers calls that are made in this process, as the gate lets them.
///
/// # Errors
/// When reflection cannot read the contract.
pub fn backend(control: &Arc<Control>, doors: &Doors) -> Result<Backend, ServeError> {
    Ok(Backend::new(front(Gate::new(routes(control)?, doors, None), doors)))
}

/// The same for one of several processes.
#[must_use]
pub fn backend_any(board: &Board, doors: &Doors) -> Backend {
    let switch = Switch::new(Routes::default(), board.clone());
    Backend::new(front(Gate::new(switch, doors, Some(board.clone())), doors))
}

/// Every call is counted and traced, also one that is refused.
fn front<S>(gate: Gate<S>, doors: &Doors) -> Observed<Gate<S>> {
    Observed::new(gate, doors.metrics.clone())
}

/// Keeps the history of one of several processes until `stop` fires: from what the leader answers, whichever process that is.
pub async fn keep_history(history: History, board: Board, stop: CancellationToken) {
    history.keep(Switch::new(Routes::default(), board), stop).await;
}

/// All services but health.
///
/// # Errors
/// When reflection cannot read the contract.
pub fn routes(control: &Arc<Control>) -> Result<Routes, ServeError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(
            NodeServiceServer::new(Nodes(Arc::clone(control)))
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            PolicyServiceServer::new(Policies(Arc::clone(control)))
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            ConfigServiceServer::new(Configs(Arc::clone(control)))
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            StatusServiceServer::new(Statuses(Arc::clone(control)))
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            AuditServiceServer::new(Auditing(Arc::clone(control)))
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .prepare())
}

/// What runs beside the services until [`Control::stopping`] fires.
pub(crate) struct Tasks([JoinHandle<()>; 4]);

pub(crate) fn tasks(control: &Arc<Control>) -> Tasks {
    Tasks([
        tokio::spawn(count_workers(Arc::clone(control))),
        tokio::spawn(keep_house(Arc::clone(control))),
        tokio::spawn(activity::run(Arc::clone(control))),
        tokio::spawn(metrics::keep(Arc::clone(control))),
    ])
}

impl Tasks {
    /// Comes back when they have ended.
    pub(crate) async fn join(self) {
        for task in self.0 {
            drop(task.await);
        }
    }
}

/// A process serves if it leads or can hand calls on.
async fn tell_health(health: HealthReporter, board: Board, metrics: Metrics) {
    let mut roles = board.watch();
    let mut known = None;
    loop {
        let (status, is_leading, term) = {
            let role = roles.borrow_and_update();
            let status = match &*role {
                Role::Nobody(_) => ServingStatus::NotServing,
                Role::Leading(_) | Role::Following(_) => ServingStatus::Serving,
            };
            (status, matches!(&*role, Role::Leading(_)), role.term())
        };
        metrics.leads(is_leading);
        metrics.leader_changed(changes(known.as_deref(), term.as_deref()));
        known = term;
        set_health(&health, status).await;
        if roles.changed().await.is_err() {
            return;
        }
    }
}

/// How often it changed who leads. From one leader to the next there is always a time without, which may be too short to be seen.
fn changes(before: Option<&str>, now: Option<&str>) -> u64 {
    match (before, now) {
        (before, now) if before == now => 0,
        (Some(_), Some(_)) => 2,
        _ => 1,
    }
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string())
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    let services = [
        "",
        NodeServiceServer::<Nodes>::NAME,
        PolicyServiceServer::<Policies>::NAME,
        ConfigServiceServer::<Configs>::NAME,
        StatusServiceServer::<Statuses>::NAME,
        AuditServiceServer::<Auditing>::NAME,
    ];
    for service in services {
        health.set_service_status(service, status).await;
    }
}

/// Tells nodes over how many workers limits are divided. A restart of many workers makes one push, not one for each.
async fn count_workers(control: Arc<Control>) {
    let settings = &control.settings;
    let mut workers = control.registry.workers();
    let mut counted = WorkerCount::new(control.push.current().worker_count, settings.worker_absence);
    loop {
        let connected = *workers.borrow_and_update();
        if let Some(count) = counted.see(connected, Instant::now()) {
            control.push.publish_workers(count);
        }
        let due = async {
            match counted.due() {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = control.stopping.cancelled() => return,
            () = due => continue,
            changed = workers.changed() => if changed.is_err() { return },
        }
        tokio::select! {
            () = control.stopping.cancelled() => return,
            () = tokio::time::sleep(settings.worker_count_pause) => {}
        }
    }
}

async fn keep_house(control: Arc<Control>) {
    let mut save = tokio::time::interval(SAVE_NODES);
    // Not at the start, when no node has connected yet.
    let mut prune = tokio::time::interval_at(tokio::time::Instant::now() + PRUNE, PRUNE);
    loop {
        tokio::select! {
            () = control.stopping.cancelled() => return,
            _ = save.tick() => control.save_nodes().await,
            _ = prune.tick() => control.prune().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::changes;

    #[test]
    fn changes_of_the_leader_are_counted_also_where_the_time_between_was_not_seen() {
        for (before, now, expected) in [
            (None, None, 0),
            (None, Some("a"), 1),
            (Some("a"), Some("a"), 0),
            (Some("a"), None, 1),
            (Some("a"), Some("b"), 2),
        ] {
            assert_eq!(changes(before, now), expected, "{before:?} {now:?}");
        }
    }
}
