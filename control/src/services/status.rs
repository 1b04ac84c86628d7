//! `StatusService`: how everything fares, and the handles to change it.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use swift_s3_proto::v1::status_service_server::StatusService;
use swift_s3_proto::v1::{
    ActivityKind, CallerRole, ClusterStatus, CountFailuresRequest, CountFailuresResponse,
    DescribeMappingRequest, DescribeMappingResponse, ExplainObjectRequest, ExplainObjectResponse,
    ForgetNodeRequest, ForgetNodeResponse, GetCallerRequest, GetCallerResponse, GetHistoryRequest,
    GetHistoryResponse, GetStatusRequest, ListActivityRequest, ListActivityResponse, ListContainersRequest,
    ListContainersResponse, ListCursorsRequest, ListCursorsResponse, ListFailuresRequest,
    ListFailuresResponse, ListMappingsRequest, ListMappingsResponse, ListNodesRequest, ListNodesResponse,
    PauseMappingRequest, PauseMappingResponse, ReleaseDeletesRequest, ReleaseDeletesResponse,
    ResumeMappingRequest, ResumeMappingResponse, RetryCommand, RetryFailuresRequest, RetryFailuresResponse,
    StatusUpdate, WatchStatusRequest,
};
use tonic::{Request, Response, Status};

use super::page::{self, Question};
use super::policy::until_stopped;
use super::{caller, store_status};
use crate::access::{Caller, Role};
use crate::activity;
use crate::control::Control;
use crate::overview::Overview;
use crate::store::{ActivityFilter, CursorFilter, FailureFilter, Line, SwitchChange};
use crate::time;

mod describe;
mod explain;
pub(super) mod find;
mod lists;

/// Between two updates of a watcher that does not say.
const WATCH_INTERVAL: u32 = 1_000;
/// Never less, in milliseconds.
const SHORTEST_WATCH_INTERVAL: u32 = 100;
/// Mappings in one update.
const WATCHED_MAPPINGS: usize = 1_000;
/// The longest name that a question may contain.
const MAX_NAME_BYTES: usize = 4_096;

/// The service.
#[derive(Clone, Debug)]
pub struct Statuses(pub Arc<Control>);

impl Statuses {
    async fn overview(&self) -> Result<Arc<Overview>, Status> {
        self.0.overview.get(&self.0).await.map_err(|error| store_status(&error))
    }

    fn mapping(&self, name: &str) -> Result<String, Status> {
        find::mapping(&self.0.push.current().mappings, name)
    }

    /// Nodes let go what they hold since then or before, each by its own clock, so that it is the time they told.
    fn held_last_ms(&self, mapping_id: &str) -> Result<i64, Status> {
        let live: HashSet<String> = self
            .0
            .registry
            .nodes()
            .into_iter()
            .filter(|node| node.is_live)
            .map(|node| node.record.node_id)
            .collect();
        let held = self.0.feeds().held_last_ms(mapping_id, |node_id| live.contains(node_id));
        held.ok_or_else(|| {
            Status::failed_precondition(format!(
                "no node that is connected holds deletes of mapping {mapping_id}"
            ))
        })
    }

    async fn switch(&self, mapping_id: &str, change: SwitchChange, by: &str) -> Result<bool, Status> {
        self.0.switch(mapping_id, change, by).await.map_err(|error| store_status(&error))
    }
}

/// What a retry was about, in words.
fn retried(command: &RetryCommand, matched: u64) -> String {
    let RetryCommand { account, container, object, reason, .. } = command;
    let mut place = vec![account.as_str(), container, object];
    while place.last().is_some_and(|name| name.is_empty()) {
        place.pop();
    }
    let mut detail = format!("{matched} rows");
    if !place.is_empty() {
        let names: Vec<&str> =
            place.into_iter().map(|name| if name.is_empty() { "*" } else { name }).collect();
        detail.push_str(" of ");
        detail.push_str(&names.join("/"));
    }
    if !reason.is_empty() {
        detail.push_str(", reason ");
        detail.push_str(reason);
    }
    detail
}

#[tonic::async_trait]
impl StatusService for Statuses {
    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<StatusUpdate, Status>> + Send>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<ClusterStatus>, Status> {
        Ok(Response::new(self.overview().await?.status.clone()))
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        lists::nodes(&self.0, &request.into_inner()).map(Response::new)
    }

    async fn list_mappings(
        &self,
        request: Request<ListMappingsRequest>,
    ) -> Result<Response<ListMappingsResponse>, Status> {
        lists::mappings(&*self.overview().await?, &request.into_inner()).map(Response::new)
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        let request = request.into_inner();
        let overview = self.overview().await?;
        // There may be millions to look through.
        let listed = tokio::task::spawn_blocking(move || lists::containers(&overview, &request)).await;
        listed.map_err(|error| Status::internal(error.to_string()))?.map(Response::new)
    }

    async fn list_failures(
        &self,
        request: Request<ListFailuresRequest>,
    ) -> Result<Response<ListFailuresResponse>, Status> {
        let request = request.into_inner();
        let ListFailuresRequest {
            page_size,
            page_token,
            mapping_id,
            account,
            container,
            object_prefix,
            reason,
            node_id,
        } = request;
        let question = Question::new(
            "failures",
            &[&mapping_id, &account, &container, &object_prefix, &reason, &node_id],
        );
        let filter = FailureFilter {
            mapping_id,
            account,
            container,
            object_prefix,
            reason,
            node_id,
            ..FailureFilter::default()
        };
        let after = question.position(&page_token)?;
        let found = self.0.store.reader().failures(filter, after, page::size(page_size)).await;
        let found = found.map_err(|error| store_status(&error))?;
        Ok(Response::new(ListFailuresResponse {
            next_page_token: found.next.map(|position| question.token(&position)).unwrap_or_default(),
            failures: found.failures,
            total: found.total,
        }))
    }

    async fn list_cursors(
        &self,
        request: Request<ListCursorsRequest>,
    ) -> Result<Response<ListCursorsResponse>, Status> {
        let ListCursorsRequest { page_size, page_token, node_id, mapping_id, account, container } =
            request.into_inner();
        let question = Question::new("cursors", &[&node_id, &mapping_id, &account, &container]);
        let after = question.position(&page_token)?;
        let filter = CursorFilter { node_id, mapping_id, account, container };
        let found = self.0.store.reader().cursors(filter, after, page::size(page_size)).await;
        let found = found.map_err(|error| store_status(&error))?;
        Ok(Response::new(ListCursorsResponse {
            next_page_token: found.next.map(|position| question.token(&position)).unwrap_or_default(),
            cursors: found.cursors,
        }))
    }

    async fn list_activity(
        &self,
        request: Request<ListActivityRequest>,
    ) -> Result<Response<ListActivityResponse>, Status> {
        let request = request.into_inner();
        let filter = ActivityFilter {
            kind: request.kind(),
            mapping_id: request.mapping_id,
            only_people: request.only_people,
        };
        let people = if filter.only_people { "people" } else { "" };
        let question = Question::new("activity", &[filter.kind.as_str_name(), &filter.mapping_id, people]);
        let before = question.position::<i64>(&request.page_token)?.unwrap_or(i64::MAX);
        let size = page::size(request.page_size);
        let found = self.0.store.reader().activity(filter, before, size.saturating_add(1)).await;
        let mut activities = found.map_err(|error| store_status(&error))?;
        let has_more = activities.len() > size;
        activities.truncate(size);
        let last = activities.last().filter(|_| has_more);
        let next_page_token = last.map(|last| question.token(&last.id)).unwrap_or_default();
        Ok(Response::new(ListActivityResponse { activities, next_page_token }))
    }

    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let interval = match request.into_inner().interval_milliseconds {
            0 => WATCH_INTERVAL,
            asked => asked.max(SHORTEST_WATCH_INTERVAL),
        };
        let mut ticks = tokio::time::interval(Duration::from_millis(interval.into()));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let service = self.clone();
        let updates = unfold((service, ticks, None), |(service, mut ticks, mut last)| async move {
            loop {
                ticks.tick().await;
                let overview = match service.overview().await {
                    Ok(overview) => overview,
                    Err(status) => return Some((Err(status), (service, ticks, last))),
                };
                let update = StatusUpdate {
                    status: Some(overview.status.clone()),
                    mappings: overview.mappings.iter().take(WATCHED_MAPPINGS).cloned().collect(),
                };
                if last.as_ref() != Some(&update) {
                    last = Some(update.clone());
                    return Some((Ok(update), (service, ticks, last)));
                }
            }
        });
        Ok(Response::new(until_stopped(updates, self.0.stopping.clone())))
    }

    async fn retry_failures(
        &self,
        request: Request<RetryFailuresRequest>,
    ) -> Result<Response<RetryFailuresResponse>, Status> {
        let by = caller(&request);
        let RetryFailuresRequest { mapping_id, account, container, object, reason } = request.into_inner();
        let command = RetryCommand {
            mapping_id: mapping_id.clone(),
            account: account.clone(),
            container: container.clone(),
            object: object.clone(),
            reason: reason.clone(),
        };
        let filter =
            FailureFilter { mapping_id, account, container, object, reason, ..FailureFilter::default() };
        let counted = self.0.store.reader().count_failures(filter).await;
        let (matched, nodes) = counted.map_err(|error| store_status(&error))?;
        let nodes_told = self.0.registry.retry(&nodes, &command);
        tracing::info!(matched, nodes_told, ?command, %by, "rows are tried again");
        self.0.activities.tell(activity::retry(&by, &command.mapping_id, retried(&command, matched)));
        Ok(Response::new(RetryFailuresResponse { matched, nodes_told }))
    }

    async fn pause_mapping(
        &self,
        request: Request<PauseMappingRequest>,
    ) -> Result<Response<PauseMappingResponse>, Status> {
        let by = caller(&request);
        let mapping_id = self.mapping(&request.into_inner().mapping)?;
        let changed = self.switch(&mapping_id, SwitchChange::Pause { at_ms: time::now_ms() }, &by).await?;
        Ok(Response::new(PauseMappingResponse { mapping_id, changed }))
    }

    async fn resume_mapping(
        &self,
        request: Request<ResumeMappingRequest>,
    ) -> Result<Response<ResumeMappingResponse>, Status> {
        let by = caller(&request);
        let mapping_id = self.mapping(&request.into_inner().mapping)?;
        let changed = self.switch(&mapping_id, SwitchChange::Resume, &by).await?;
        Ok(Response::new(ResumeMappingResponse { mapping_id, changed }))
    }

    async fn release_deletes(
        &self,
        request: Request<ReleaseDeletesRequest>,
    ) -> Result<Response<ReleaseDeletesResponse>, Status> {
        let by = caller(&request);
        let mapping_id = self.mapping(&request.into_inner().mapping)?;
        let held_at_ms = self.held_last_ms(&mapping_id)?;
        self.switch(&mapping_id, SwitchChange::ReleaseDeletes { held_at_ms }, &by).await?;
        Ok(Response::new(ReleaseDeletesResponse { mapping_id }))
    }

    async fn explain_object(
        &self,
        request: Request<ExplainObjectRequest>,
    ) -> Result<Response<ExplainObjectResponse>, Status> {
        let request = request.into_inner();
        for (what, name) in
            [("account", &request.account), ("container", &request.container), ("object", &request.object)]
        {
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                let message = format!("{what}: {} bytes; expected 1 to {MAX_NAME_BYTES}", name.len());
                return Err(Status::invalid_argument(message));
            }
        }
        Ok(Response::new(explain::explain(&self.0, &request).await))
    }

    async fn forget_node(
        &self,
        request: Request<ForgetNodeRequest>,
    ) -> Result<Response<ForgetNodeResponse>, Status> {
        let by = caller(&request);
        let node_id = request.into_inner().node_id;
        match self.0.forget_node(&node_id).await.map_err(|error| store_status(&error))? {
            None => return Err(Status::not_found(format!("no node {node_id:?} is known"))),
            Some(false) => {
                let message = format!("node {node_id:?} is connected; stop it first, then forget it");
                return Err(Status::failed_precondition(message));
            }
            Some(true) => {}
        }
        tracing::info!(%node_id, %by, "node forgotten");
        let line = Line::asked(ActivityKind::NodeForgotten, time::now_ms(), &by, String::new());
        self.0.activities.tell(Line { node_id, ..line });
        Ok(Response::new(ForgetNodeResponse {}))
    }

    async fn get_caller(
        &self,
        request: Request<GetCallerRequest>,
    ) -> Result<Response<GetCallerResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        let role = match caller.role {
            Some(Role::Viewer) => CallerRole::Viewer,
            Some(Role::Operator) | None => CallerRole::Operator,
            Some(Role::Node) => CallerRole::Unspecified,
        };
        Ok(Response::new(GetCallerResponse { name: caller.name, role: role.into() }))
    }

    async fn count_failures(
        &self,
        request: Request<CountFailuresRequest>,
    ) -> Result<Response<CountFailuresResponse>, Status> {
        let CountFailuresRequest { mapping_id, account, container } = request.into_inner();
        // Those of everything are counted for all who ask.
        let counted = match mapping_id.is_empty() && account.is_empty() && container.is_empty() {
            true => self.0.overview.reasons(&self.0).await,
            false => self.0.store.reader().failure_reasons(&mapping_id, &account, &container).await,
        };
        let reasons = counted.map_err(|error| store_status(&error))?;
        Ok(Response::new(CountFailuresResponse { reasons }))
    }

    async fn describe_mapping(
        &self,
        request: Request<DescribeMappingRequest>,
    ) -> Result<Response<DescribeMappingResponse>, Status> {
        let overview = self.overview().await?;
        describe::describe(&self.0, &overview, &request.into_inner().mapping).await.map(Response::new)
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        let GetHistoryRequest { mapping_id, seconds } = request.into_inner();
        let read = self.0.history.read(&mapping_id, seconds).await;
        read.map(Response::new).map_err(|error| Status::unavailable(error.to_string()))
    }
}
