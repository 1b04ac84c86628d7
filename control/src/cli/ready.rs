//! What the process tells of itself on its admin endpoint: whether it can do its work, and if not, why.

use std::sync::{Arc, OnceLock};

use swift_s3_daemon::admin::{self, Admin, Door};
use swift_s3_daemon::readiness::Readiness;
use swift_s3_daemon::telemetry::Telemetry;

use super::{Arguments, Failure, failed};
use crate::cluster::{Board, Role};
use crate::store::Store;

/// Whether calls that come here are answered. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Ready {
    /// Of the process: starting, serving, stopping.
    pub(super) process: Readiness,
    work: Arc<OnceLock<Work>>,
}

#[derive(Debug)]
enum Work {
    /// The only control process.
    Alone(Store),
    /// One of several.
    Several(Board),
}

impl Ready {
    /// It is the only one, with this state.
    pub(super) fn alone(&self, store: &Store) {
        drop(self.work.set(Work::Alone(store.clone())));
    }

    /// It is one of several.
    pub(super) fn several(&self, board: &Board) {
        drop(self.work.set(Work::Several(board.clone())));
    }

    /// # Errors
    /// Why it is not ready.
    fn look(&self) -> Result<(), String> {
        self.process.state()?;
        match self.work.get() {
            None => Ok(()),
            Some(Work::Alone(store)) => can_store(store),
            Some(Work::Several(board)) => match board.role() {
                Role::Nobody(why) => Err(format!("no control process leads: {why}")),
                // Whether the leader is ready, it says itself; but calls must get there.
                Role::Following(leader) => leader.is_reached(),
                Role::Leading(leading) if !leading.term.is_valid() => {
                    Err("this control process leads no more: its lease is over".to_owned())
                }
                Role::Leading(leading) => can_store(&leading.store),
            },
        }
    }
}

/// Status is still told and the configuration still pushed, but no change and no progress is taken.
fn can_store(store: &Store) -> Result<(), String> {
    store.trouble().map_or(Ok(()), |trouble| Err(format!("nothing can be stored: {trouble}")))
}

/// Opens the admin endpoint, if it is wanted; to be kept while the process lives.
pub(super) async fn open_admin(
    arguments: &Arguments,
    telemetry: &Telemetry,
    ready: &Ready,
) -> Result<Option<Door>, Failure> {
    let Some(address) = arguments.admin_listen else { return Ok(None) };
    let ready = ready.clone();
    let admin =
        Admin::new(telemetry.metrics().clone(), telemetry.level().clone(), Arc::new(move || ready.look()));
    let opened = admin::open(address, admin, arguments.admin_port_file.as_deref()).await;
    opened.map(Some).map_err(|error| failed(format!("--admin-listen {address}: {error}")))
}
