//! The status service of the canned server.

use std::pin::Pin;

use swift_s3_proto::v1::status_service_server::StatusService;
use swift_s3_proto::v1::*;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::canned::{Service, page};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl StatusService for Service {
    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<StatusUpdate, Status>> + Send>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<ClusterStatus> {
        Ok(Response::new(self.0.status.lock().unwrap().clone()))
    }

    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Answer<ListNodesResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let mut nodes = self.0.nodes.lock().unwrap().clone();
        nodes.retain(|node| request.state == 0 || node.state == request.state);
        let (nodes, next_page_token) = page(&nodes, request.page_size, &request.page_token)?;
        Ok(Response::new(ListNodesResponse { nodes, next_page_token }))
    }

    async fn list_mappings(&self, request: Request<ListMappingsRequest>) -> Answer<ListMappingsResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let mut mappings = self.0.mappings.lock().unwrap().clone();
        mappings.retain(|mapping| request.account.is_empty() || mapping.account == request.account);
        let (mappings, next_page_token) = page(&mappings, request.page_size, &request.page_token)?;
        Ok(Response::new(ListMappingsResponse { mappings, next_page_token }))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let containers = self.0.containers.lock().unwrap();
        let (containers, next_page_token) = page(&containers, request.page_size, &request.page_token)?;
        Ok(Response::new(ListContainersResponse { containers, next_page_token }))
    }

    async fn list_failures(&self, request: Request<ListFailuresRequest>) -> Answer<ListFailuresResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let mut failures = self.0.failures.lock().unwrap().clone();
        failures.retain(|failure| {
            failure.row.as_ref().is_some_and(|row| row.object.starts_with(&request.object_prefix))
        });
        let total = failures.len() as u64;
        let (failures, next_page_token) = page(&failures, request.page_size, &request.page_token)?;
        Ok(Response::new(ListFailuresResponse { failures, next_page_token, total }))
    }

    async fn watch_status(&self, request: Request<WatchStatusRequest>) -> Answer<Self::WatchStatusStream> {
        self.0.note(request.get_ref());
        let update = StatusUpdate {
            status: Some(self.0.status.lock().unwrap().clone()),
            mappings: self.0.mappings.lock().unwrap().clone(),
        };
        // Two updates, and the stream ends.
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(update.clone()), Ok(update)]))))
    }

    async fn retry_failures(&self, request: Request<RetryFailuresRequest>) -> Answer<RetryFailuresResponse> {
        self.0.note(request.get_ref());
        Ok(Response::new(RetryFailuresResponse { matched: 1, nodes_told: 2 }))
    }

    async fn pause_mapping(&self, request: Request<PauseMappingRequest>) -> Answer<PauseMappingResponse> {
        let mapping_id = request.into_inner().mapping;
        if mapping_id == "absent" {
            return Err(Status::not_found("no mapping absent\u{1b}[2J"));
        }
        Ok(Response::new(PauseMappingResponse { mapping_id, changed: true }))
    }

    async fn resume_mapping(&self, request: Request<ResumeMappingRequest>) -> Answer<ResumeMappingResponse> {
        Ok(Response::new(ResumeMappingResponse { mapping_id: request.into_inner().mapping, changed: false }))
    }

    async fn release_deletes(
        &self,
        request: Request<ReleaseDeletesRequest>,
    ) -> Answer<ReleaseDeletesResponse> {
        Ok(Response::new(ReleaseDeletesResponse { mapping_id: request.into_inner().mapping }))
    }

    async fn explain_object(&self, request: Request<ExplainObjectRequest>) -> Answer<ExplainObjectResponse> {
        self.0.note(request.get_ref());
        let findings = ObjectFindings {
            node_id: "n1".into(),
            is_owner: true,
            state: ObjectState::Parked.into(),
            explanation: "tried 3 times".into(),
            remote_trouble: "timed out".into(),
            ..ObjectFindings::default()
        };
        Ok(Response::new(ExplainObjectResponse {
            verdict: "set aside after 3 attempts".into(),
            findings: vec![findings],
            silent_nodes: vec!["n2".into()],
            mapping_ids: vec!["0123456789ab".into()],
        }))
    }

    async fn forget_node(&self, request: Request<ForgetNodeRequest>) -> Answer<ForgetNodeResponse> {
        self.0.note(request.get_ref());
        Ok(Response::new(ForgetNodeResponse {}))
    }

    async fn list_cursors(&self, request: Request<ListCursorsRequest>) -> Answer<ListCursorsResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let cursors = self.0.cursors.lock().unwrap();
        let (cursors, next_page_token) = page(&cursors, request.page_size, &request.page_token)?;
        Ok(Response::new(ListCursorsResponse { cursors, next_page_token }))
    }

    async fn list_activity(&self, request: Request<ListActivityRequest>) -> Answer<ListActivityResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let activities = self.0.activities.lock().unwrap();
        let (activities, next_page_token) = page(&activities, request.page_size, &request.page_token)?;
        Ok(Response::new(ListActivityResponse { activities, next_page_token }))
    }

    async fn get_caller(&self, _: Request<GetCallerRequest>) -> Answer<GetCallerResponse> {
        Ok(Response::new(GetCallerResponse { name: "ops".into(), role: CallerRole::Operator.into() }))
    }

    async fn count_failures(&self, request: Request<CountFailuresRequest>) -> Answer<CountFailuresResponse> {
        self.0.note(request.get_ref());
        let count = |reason: &str, rows| FailureCount { reason: reason.into(), rows };
        let reasons = vec![count("remote_refused", 41), count("local_missing", 1)];
        Ok(Response::new(CountFailuresResponse { reasons }))
    }

    async fn describe_mapping(
        &self,
        request: Request<DescribeMappingRequest>,
    ) -> Answer<DescribeMappingResponse> {
        let name = request.into_inner().mapping;
        let status = self.0.mappings.lock().unwrap().iter().find(|known| known.mapping_id == name).cloned();
        if status.is_none() {
            return Err(Status::not_found(format!("no mapping {name:?}")));
        }
        Ok(Response::new(DescribeMappingResponse {
            status,
            policy: vec!["Every change goes there.".into(), "Local copies stay.".into()],
            document: "{\n  \"account\": \"AUTH_a\"\n}\n".into(),
            path: "containers[0]".into(),
            failure_reasons: vec![FailureCount { reason: "remote_refused".into(), rows: 41 }],
        }))
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Answer<GetHistoryResponse> {
        self.0.note(request.get_ref());
        Ok(Response::new(GetHistoryResponse { step_seconds: 60, samples: Vec::new() }))
    }
}
