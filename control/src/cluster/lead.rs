//! What a leader does from its election to its end: reads the state, answers, lets go.

use std::sync::Arc;
use std::time::Duration;

use swift_s3_etcd::{Lease, Term};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::board::{Leading, Role};
use super::life::Cluster;
use crate::cli;
use crate::control::Control;
use crate::server;
use crate::store::mirror::{
    LoadError, Meta, MetaError, Mirror, Operation, SCHEMA, Sequence, State, StateError, WriteError, load,
    read_meta, remove_other_states, states, switch_to, write_state,
};
use crate::store::{OpenError, Store, StoreError, upgrade};
use crate::time;

/// A leader looks this often whether it is still told to be one.
const LOOK: Duration = Duration::from_secs(2);
/// Calls under way may take so long when the process stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a term did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeadError {
    #[error("{0}")]
    Meta(#[from] MetaError),
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Write(#[from] WriteError),
    #[error("{0}")]
    State(#[from] StateError),
    #[error("{0}")]
    Copy(#[from] OpenError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Failed(String),
}

/// Leads until the lease is over or the process stops.
///
/// # Errors
/// When it cannot begin. What it did not write, another one may.
pub(super) async fn lead(
    cluster: &Arc<Cluster>,
    lease: &Lease,
    created: i64,
    secret: &str,
) -> Result<(), LeadError> {
    let term = lease.term().clone();
    let began = std::time::Instant::now();
    let control = tokio::select! {
        () = cluster.stopping.cancelled() => return Ok(()),
        () = term.over() => return Err(LeadError::Failed("the lease was over before the state was read".to_owned())),
        begun = begin(cluster, &term, created) => begun?,
    };
    let routes = server::routes(&control).map_err(|error| LeadError::Failed(error.to_string()))?;
    let tasks = server::tasks(&control);
    let (ended, calls) = (CancellationToken::new(), TaskTracker::new());
    let seconds = began.elapsed().as_secs_f64();
    let revision = control.push.current().revision;
    tracing::info!(control = %control.id, revision, seconds, "leading");
    cluster.board.set(Role::Leading(Leading {
        routes,
        store: control.store.clone(),
        term: term.clone(),
        ended: ended.clone(),
        calls: calls.clone(),
        secret: Arc::from(secret),
    }));
    let is_stop = tokio::select! {
        () = cluster.stopping.cancelled() => true,
        () = term.over() => false,
        () = replaced(cluster, created) => {
            term.end();
            false
        }
    };
    if is_stop {
        tracing::info!("stopping");
    } else {
        tracing::error!("lost the lease; leading no more");
        // Nothing of what is under way may be answered.
        ended.cancel();
    }
    cluster.board.set(Role::Nobody(Arc::from("this control process leads no more")));
    control.stopping.cancel();
    calls.close();
    if tokio::time::timeout(DRAIN, calls.wait()).await.is_err() {
        tracing::debug!("calls under way were cut off");
    }
    ended.cancel();
    tasks.join().await;
    control.save_nodes().await;
    control.store.close().await;
    if let Err(error) = cluster.directory.clear() {
        tracing::warn!(%error, "could not remove the working copy");
    }
    Ok(())
}

/// Comes back when the leader's key is gone, or another's, although the lease goes on: somebody removed it, or restored a backup.
async fn replaced(cluster: &Cluster, created: i64) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Ok(found) = cluster.etcd.get(&cluster.keys.leader()).await
            && found.is_none_or(|found| found.created != created)
        {
            return;
        }
    }
}

/// Reads the state, and makes it what this version works with.
async fn begin(cluster: &Arc<Cluster>, term: &Term, created: i64) -> Result<Arc<Control>, LeadError> {
    let (etcd, keys) = (&cluster.etcd, &cluster.keys);
    let mut sequence = Sequence::begin(etcd, keys, created, &cluster.id).await?;
    let meta = match read_meta(etcd, keys).await? {
        Some((meta, _)) => meta,
        None => {
            // What was there is not forgotten because one key is gone.
            if let Some(found) = states(etcd, keys).await.map_err(MetaError::from)?.first() {
                return Err(LeadError::Failed(format!(
                    "there are rows under {found} in etcd, and no {}: a copy was cut short, or the key was removed; copy the state \
                     again with --replace, restore a backup of etcd, or remove what is under {}",
                    keys.meta(),
                    keys.states()
                )));
            }
            tracing::warn!(prefix = keys.root(), "there is no state in etcd; beginning an empty one");
            let meta = Meta::of(new_number(0));
            switch_to(&mut sequence, keys, &meta).await?;
            meta
        }
    };
    cluster.directory.clear()?;
    let (path, connection) = cluster.directory.create(created, meta.schema)?;
    let state = keys.state(meta.state);
    let (mut connection, leftovers) = read(cluster, &state, sequence.revision(), connection).await?;
    for operations in leftovers {
        sequence.write(operations).await?;
    }
    // What a migration or a copy that was cut short left behind.
    remove_others(cluster, &mut sequence, &meta).await;
    let state = match meta.schema < SCHEMA {
        true => {
            let (moved, upgraded) = migrate(cluster, &mut sequence, &meta, connection).await?;
            connection = upgraded;
            moved
        }
        false => state,
    };
    let mirror = Mirror::new(Handle::current(), sequence, state, term.clone());
    let store = Store::mirrored(&path, connection, mirror)?;
    let control = Control::start_with(store, cluster.settings.clone(), cluster.history.clone()).await?;
    if let Some(text) = &cluster.initial {
        cli::begin_with(&control, text).await.map_err(LeadError::Failed)?;
    }
    Ok(control)
}

async fn read(
    cluster: &Arc<Cluster>,
    state: &State,
    revision: i64,
    mut connection: rusqlite::Connection,
) -> Result<(rusqlite::Connection, Vec<Vec<Operation>>), LeadError> {
    let (runtime, etcd, state) = (Handle::current(), cluster.etcd.clone(), state.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let loaded = load(&runtime, &etcd, &state, revision, &mut connection, &mut |_| {})?;
        Ok::<_, LoadError>((connection, loaded))
    });
    let (connection, loaded) = reading.await.map_err(|error| LeadError::Failed(error.to_string()))??;
    if !loaded.leftovers.is_empty() {
        let count = loaded.leftovers.len();
        tracing::info!(count, "removing what a write that was cut short left behind");
    }
    tracing::info!(rows = loaded.rows(), revision, "read the state");
    Ok((connection, loaded.into_removals()))
}

/// Writes the state anew in this version's form, beside the one of before, and puts it in its place.
async fn migrate(
    cluster: &Arc<Cluster>,
    sequence: &mut Sequence,
    old: &Meta,
    mut connection: rusqlite::Connection,
) -> Result<(State, rusqlite::Connection), LeadError> {
    tracing::info!(from = old.schema, to = SCHEMA, "bringing the state to this version's form");
    let upgrading = tokio::task::spawn_blocking(move || {
        upgrade(&mut connection)?;
        Ok::<_, OpenError>(connection)
    });
    let mut connection = upgrading.await.map_err(|error| LeadError::Failed(error.to_string()))??;
    let meta = Meta::of(new_number(old.state));
    let state = cluster.keys.state(meta.state);
    write_state(sequence, &state, &mut connection, &mut |_| {}).await?;
    switch_to(sequence, &cluster.keys, &meta).await?;
    remove_others(cluster, sequence, &meta).await;
    Ok((state, connection))
}

/// Removes states that are not in force, which nobody can be writing: whoever leads is the only one that etcd takes writes of.
async fn remove_others(cluster: &Arc<Cluster>, sequence: &mut Sequence, meta: &Meta) {
    if let Err(error) = remove_other_states(&cluster.etcd, sequence, &cluster.keys, meta.state).await {
        tracing::warn!(%error, "could not remove states that are not in force");
    }
}

/// A number that no state has, also none that was never finished.
pub(crate) fn new_number(old: u64) -> u64 {
    u64::try_from(time::now_ms()).unwrap_or(0).max(old.saturating_add(1))
}
