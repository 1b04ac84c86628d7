//! The audit service of the canned server: pages in the order in which they were put there.

use swift_s3_proto::v1::audit_service_server::AuditService;
use swift_s3_proto::v1::*;
use tonic::{Request, Response, Status};

use crate::canned::Service;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AuditService for Service {
    async fn compare_container(
        &self,
        request: Request<CompareContainerRequest>,
    ) -> Answer<CompareContainerResponse> {
        self.0.note(request.get_ref());
        let mut pages = self.0.pages.lock().unwrap();
        match pages.is_empty() {
            true => Err(Status::unavailable("no worker answered")),
            false => pages.remove(0).map(Response::new),
        }
    }

    async fn repair_objects(&self, request: Request<RepairObjectsRequest>) -> Answer<RepairObjectsResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let outcome = match request.action() {
            RepairAction::DeleteExtra => RepairOutcome::Deleted,
            _ => RepairOutcome::Copied,
        };
        let results = request.objects.into_iter().map(|object| RepairResult {
            outcome: if object == "bad" { RepairOutcome::Failed } else { outcome }.into(),
            object,
            detail: "because".to_owned(),
            node_id: "n1".to_owned(),
            bytes: 5,
        });
        Ok(Response::new(RepairObjectsResponse { results: results.collect() }))
    }

    async fn count_container(
        &self,
        request: Request<CountContainerRequest>,
    ) -> Answer<CountContainerResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        if request.container == "absent" {
            return Err(Status::not_found("there is no such container"));
        }
        let is_done = !request.start_after.is_empty();
        Ok(Response::new(CountContainerResponse {
            objects: 1_000,
            bytes: 1 << 20,
            sizes: vec![SizeClass { up_to_bytes: 128 << 10, objects: 1_000, bytes: 1 << 20 }],
            next_start_after: "m".to_owned(),
            is_done,
            ..CountContainerResponse::default()
        }))
    }

    async fn list_account(&self, request: Request<ListAccountRequest>) -> Answer<ListAccountResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let all = ["c1", "c2"].map(str::to_owned);
        let containers: Vec<String> =
            all.into_iter().filter(|name| *name > request.start_after).take(1).collect();
        Ok(Response::new(ListAccountResponse { is_done: containers.is_empty(), containers }))
    }
}
