//! `PolicyService`: the snapshot for those that do not report.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt, unfold};
use swift_s3_proto::v1::policy_service_server::PolicyService;
use swift_s3_proto::v1::{GetSnapshotRequest, LookupRequest, LookupResponse, Snapshot, WatchSnapshotRequest};
use tonic::{Request, Response, Status};

use crate::control::Control;

/// The service.
#[derive(Clone, Debug)]
pub struct Policies(pub Arc<Control>);

#[tonic::async_trait]
impl PolicyService for Policies {
    type WatchSnapshotStream = Pin<Box<dyn Stream<Item = Result<Snapshot, Status>> + Send>>;

    async fn get_snapshot(&self, _: Request<GetSnapshotRequest>) -> Result<Response<Snapshot>, Status> {
        let current = self.0.push.current();
        if current.revision == 0 {
            return Err(Status::not_found("no configuration was applied yet"));
        }
        Ok(Response::new(current.snapshot(String::new())))
    }

    async fn watch_snapshot(
        &self,
        request: Request<WatchSnapshotRequest>,
    ) -> Result<Response<Self::WatchSnapshotStream>, Status> {
        let seen = request.into_inner().generation;
        let mut snapshots = self.0.push.watch();
        snapshots.mark_changed();
        let stopping = self.0.stopping.clone();
        let updates = unfold((snapshots, seen), |(mut snapshots, seen)| async move {
            loop {
                snapshots.changed().await.ok()?;
                let current = Arc::clone(&snapshots.borrow_and_update());
                // Unequal, not greater: after a backup was restored, what is in force may be older.
                if current.generation != seen {
                    return Some((Ok(current.snapshot(String::new())), (snapshots, current.generation)));
                }
            }
        });
        Ok(Response::new(until_stopped(updates, stopping)))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let LookupRequest { account, container } = request.into_inner();
        let current = self.0.push.current();
        let mappings = self.0.lookups.get(&current).await.lookup(&account, &container);
        Ok(Response::new(LookupResponse {
            revision: current.revision,
            mappings: mappings.iter().map(|mapping| mapping.to_vec()).collect(),
        }))
    }
}

/// The stream, and UNAVAILABLE at its end when the process stops.
pub(super) fn until_stopped<T: Send + 'static>(
    updates: impl Stream<Item = Result<T, Status>> + Send + 'static,
    stopping: tokio_util::sync::CancellationToken,
) -> Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>> {
    let last = Status::unavailable("this control process is stopping; connect again");
    Box::pin(
        updates
            .take_until(stopping.cancelled_owned())
            .chain(futures_util::stream::once(std::future::ready(Err(last)))),
    )
}
