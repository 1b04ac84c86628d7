//! The life of a worker under a control plane.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use swift_s3_proto::v1::control_message::Message as FromControl;
use swift_s3_proto::v1::node_message::Message as ToControl;
use swift_s3_proto::v1::{RetryCommand, Snapshot};
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::audit::Auditor;
use crate::control::configuration::{Configuration, read, refusal, switches};
use crate::control::explain::explain;
use crate::control::load;
use crate::control::reporter::Audience;
use crate::control::session::{Incoming, Parts as SessionParts, Session};
use crate::feed::Tried;
use crate::reason::Reason;
use crate::schedule::Order;
use swift_s3_daemon::control_client::LastGood;

/// Messages that wait for whoever acts on them.
const QUEUE: usize = 64;
/// Questions about objects that are answered at the same time; each may ask the remote.
const EXPLAINING: usize = 16;
/// A control plane that is there speaks up within this time; after it, the last good configuration is used.
const PATIENCE: Duration = Duration::from_secs(5);
/// A single round waits this long for the control plane before it gives up.
const PATIENCE_ONCE: Duration = Duration::from_secs(60);

/// Works by what the control plane says.
pub(super) async fn serve(
    arguments: &Arguments,
    settings: ControlSettings,
    etcd: Option<Etcd>,
    node: SyncConfig,
    local: Option<String>,
    mut signals: Signals,
    process: &OfProcess,
) -> ExitCode {
    process.readiness.not_ready("no configuration of the control plane yet");
    let node_id = settings.node_id.clone();
    let endpoints = match settings.endpoints() {
        Ok(endpoints) => endpoints,
        Err(error) => {
            tracing::error!(%error, "could not prepare the connection to the control plane");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), control = ?settings.urls, node = settings.node_id,
        once = arguments.once, "started");
    // Not only after contact: a control plane that is away must not hold up the start of this machine.
    service_manager::ready();
    let (snapshots, mut snapshot) = watch::channel(None);
    let (from_control, commands) = mpsc::channel(QUEUE);
    let (connected, contacts) = watch::channel(0);
    let (answers, to_control) = mpsc::channel(QUEUE);
    let (refused, refusals) = watch::channel(BTreeMap::new());
    let board = Arc::new(Board::default());
    let remotes = Arc::new(Remotes::observed(Arc::new(process.metrics.clone())));
    let statuses = Arc::new(Statuses::default());
    let last_good = LastGood::new(&node.status_dir);
    let kept = last_good.load();
    let revision = Arc::new(AtomicI64::new(kept.as_ref().map(|kept| kept.revision).unwrap_or_default()));
    let (session, link) = Session::new(SessionParts {
        settings,
        endpoints,
        incoming: Incoming { snapshots, orders: from_control, connected },
        answers: to_control,
        board: Arc::clone(&board),
        statuses: Arc::clone(&statuses),
        refused: refusals,
        revision: Arc::clone(&revision),
        metrics: process.metrics.clone(),
    });
    let stop = CancellationToken::new();
    let session = tokio::spawn(session.run(stop.clone()));
    tokio::spawn(load::run(Arc::clone(&board), Arc::clone(&statuses), stop.clone()));
    let begun = first(&mut snapshot, kept, arguments.once, &mut signals).await;
    let Some(in_force) = begun else {
        stopping(process);
        stop.cancel();
        return if arguments.once { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let stood =
        stand_on(in_force, local.as_deref(), etcd.is_some(), &mut snapshot, &answers, &mut signals).await;
    let Some((in_force, config, ground)) = stood else {
        stopping(process);
        stop.cancel();
        return ExitCode::SUCCESS;
    };
    let config = Arc::new(config);
    let around = Surroundings {
        link: Some(link.clone()),
        board: Arc::clone(&board),
        remotes: Arc::clone(&remotes),
        worker_count: in_force.worker_count,
        switches: switches(&in_force),
        // Mappings may have been left out of what is kept here; the control plane says what there is.
        is_complete: false,
        coordination: coordination(etcd.as_ref(), &node_id, &config, arguments.once),
    };
    statuses.watch_sharing(&around.coordination);
    process.metrics.observe(&Sources::new(&board, &statuses, &around.coordination));
    let work = parts(ground, Arc::clone(&config), arguments.once, around, process);
    let servers = work.shared.container_servers.clone();
    let objects = work.shared.transfer.local().clone();
    let scheduler = Scheduler::new(work);
    let code = if arguments.once {
        once(scheduler, signals, process).await
    } else {
        let (orders, receiver) = mpsc::channel(QUEUE);
        let configuration = Configuration {
            local,
            snapshots: snapshot,
            orders: orders.clone(),
            answers: answers.clone(),
            refused,
            revision,
            last_good,
            remotes,
            running: config,
            has_etcd: etcd.is_some(),
            metrics: process.metrics.clone(),
        };
        tokio::spawn(configuration.run(in_force, stop.clone()));
        let auditor = Auditor::new(Arc::clone(&board), servers.clone(), objects, orders.clone());
        tokio::spawn(reporter::run(Arc::clone(&board), statuses, servers, Audience::Control, stop.clone()));
        tokio::spawn(act(commands, contacts, orders, answers, board, link, Arc::new(auditor)));
        let nothing_to_read = || {
            tracing::info!("SIGHUP does nothing here: the control plane pushes the configuration");
            None
        };
        process.readiness.ready();
        scheduler.run(signals, Box::new(nothing_to_read), receiver).await;
        ExitCode::SUCCESS
    };
    stop.cancel();
    // Gives up its connection by itself, and at once.
    drop(session.await);
    code
}

/// The snapshot to begin with: what was last in force here, with the newest switches; without that, what the control plane has. `None` when
/// told to stop.
async fn first(
    snapshot: &mut watch::Receiver<Option<Snapshot>>,
    kept: Option<Snapshot>,
    once: bool,
    signals: &mut Signals,
) -> Option<Snapshot> {
    let kept = kept.filter(|kept| kept.revision != 0);
    let patience = match (&kept, once) {
        (Some(_), _) => PATIENCE,
        (None, true) => PATIENCE_ONCE,
        (None, false) => Duration::MAX,
    };
    tokio::select! {
        waited = tokio::time::timeout(patience, snapshot.wait_for(Option::is_some)) => match waited {
            Ok(Ok(snapshot)) => {
                let pushed = Snapshot::clone(snapshot.as_ref()?);
                return Some(match kept {
                    // A single round has no time to check what is new.
                    Some(kept) if !once || pushed.revision == 0 => with_switches(kept, &pushed),
                    _ => pushed,
                });
            }
            // The session ends with the process only.
            Ok(Err(_)) => return None,
            Err(_) => {}
        },
        () = signals.stop_requested() => return None,
    }
    match &kept {
        Some(kept) => tracing::warn!(
            revision = kept.revision,
            "the control plane is away; beginning with the last configuration that was in force"
        ),
        None => tracing::error!("the control plane is away, and no configuration is known"),
    }
    kept
}

/// What is kept here may be paused by now, or not any more. A control plane that lost its memory knows nothing of that.
fn with_switches(kept: Snapshot, pushed: &Snapshot) -> Snapshot {
    if pushed.revision == 0 {
        return kept;
    }
    Snapshot { switches: pushed.switches.clone(), worker_count: pushed.worker_count, ..kept }
}

/// The configuration and everything on this machine that it names. While there is something wrong with it, tries what is pushed. `None` when told
/// to stop.
async fn stand_on(
    begun: Snapshot,
    local: Option<&str>,
    has_etcd: bool,
    snapshot: &mut watch::Receiver<Option<Snapshot>>,
    answers: &mpsc::Sender<ToControl>,
    signals: &mut Signals,
) -> Option<(Snapshot, SyncConfig, Ground)> {
    let mut current = begun;
    loop {
        let stood = read(&current, local, has_etcd)
            .and_then(|read| Ground::prepare(&read.config).map(|ground| (read.config, ground)));
        match stood {
            Ok((config, ground)) => return Some((current, config, ground)),
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(revision = current.revision, "this node cannot begin: {problem}");
                }
                // Without contact nobody listens.
                drop(answers.try_send(refusal(&current, problems)));
            }
        }
        tokio::select! {
            changed = snapshot.changed() => changed.ok()?,
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
            () = signals.stop_requested() => return None,
        }
        if let Some(next) = snapshot.borrow_and_update().clone() {
            current = next;
        }
    }
}

/// Does what the control plane asks for.
async fn act(
    mut commands: mpsc::Receiver<FromControl>,
    mut contacts: watch::Receiver<u64>,
    orders: mpsc::Sender<Order>,
    answers: mpsc::Sender<ToControl>,
    board: Arc<Board>,
    link: Link,
    auditor: Arc<Auditor>,
) {
    let explaining = Arc::new(Semaphore::new(EXPLAINING));
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(FromControl::Retry(command)) => if orders.send(retry(command)).await.is_err() {
                    return;
                },
                Some(FromControl::Explain(command)) => {
                    let (board, link, answers) = (Arc::clone(&board), link.clone(), answers.clone());
                    let Ok(permit) = Arc::clone(&explaining).try_acquire_owned() else {
                        tracing::warn!("too many questions about objects at once; one was dropped");
                        continue;
                    };
                    tokio::spawn(async move {
                        let _permit = permit;
                        let answer = explain(&board, link.node_id(), &command).await;
                        // Nobody waits for it any more when the connection is gone.
                        drop(answers.try_send(ToControl::ExplainAnswer(answer)));
                    });
                }
                Some(FromControl::Audit(command)) => {
                    let (auditor, answers) = (Arc::clone(&auditor), answers.clone());
                    tokio::spawn(async move {
                        let answer = auditor.answer(command).await;
                        drop(answers.send(ToControl::AuditAnswer(answer)).await);
                    });
                }
                Some(_) => {}
                None => return,
            },
            changed = contacts.changed() => {
                if changed.is_err() || orders.send(Order::Connected).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn retry(command: RetryCommand) -> Order {
    let wish = |text: String| (!text.is_empty()).then_some(text);
    Order::Retry {
        mapping_id: wish(command.mapping_id),
        account: wish(command.account),
        container: wish(command.container),
        rows: Tried {
            object: wish(command.object),
            reason: wish(command.reason).map(|word| Reason::from_word(&word)),
        },
    }
}
