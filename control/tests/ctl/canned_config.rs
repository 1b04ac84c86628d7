//! The configuration service of the canned server: any JSON object without the key `wrong` is right.

use swift_s3_proto::v1::config_service_server::ConfigService;
use swift_s3_proto::v1::*;
use tonic::{Request, Response, Status};

use crate::canned::{Canned, Service, page};

type Answer<T> = Result<Response<T>, Status>;

fn changes(from: &str, to: &str) -> Vec<Change> {
    if from == to {
        return Vec::new();
    }
    vec![Change {
        kind: ChangeKind::Changed.into(),
        path: "workers".into(),
        before: "8".into(),
        after: "16".into(),
        ..Change::default()
    }]
}

fn document(canned: &Canned, revision: i64) -> Result<(Revision, String), Status> {
    let revisions = canned.revisions.lock().unwrap();
    let found = revisions.iter().rev().find(|(each, _)| revision == 0 || each.revision == revision);
    found.cloned().ok_or_else(|| Status::not_found("no such revision"))
}

fn in_force(canned: &Canned) -> String {
    document(canned, 0).map(|(_, text)| text).unwrap_or_default()
}

impl Service {
    fn put(&self, document: &str, expected: i64, comment: &str) -> Result<Revision, Status> {
        if expected != self.0.revision() {
            return Err(Status::aborted("another revision is in force"));
        }
        if let Some(nodes) = self.0.nodes_after_apply.lock().unwrap().take() {
            *self.0.nodes.lock().unwrap() = nodes;
        }
        Ok(self.0.put(document, comment))
    }
}

#[tonic::async_trait]
impl ConfigService for Service {
    async fn get_config(&self, request: Request<GetConfigRequest>) -> Answer<GetConfigResponse> {
        let (revision, document) = document(&self.0, request.into_inner().revision)?;
        Ok(Response::new(GetConfigResponse { revision: Some(revision), document }))
    }

    async fn validate_config(
        &self,
        request: Request<ValidateConfigRequest>,
    ) -> Answer<ValidateConfigResponse> {
        let text = request.into_inner().document;
        let problem = |path: &str| Problem {
            path: path.into(),
            found: "\"a\u{1b}[2Jb\"".into(),
            allowed: "a number".into(),
            ..Problem::default()
        };
        let problems =
            if text.contains("wrong") { vec![problem("wrong"), problem("wrong.too")] } else { Vec::new() };
        let warnings = if text.contains("odd") { vec![problem("odd")] } else { Vec::new() };
        let changes = changes(&in_force(&self.0), &text);
        Ok(Response::new(ValidateConfigResponse { problems, warnings, changes, mappings: 1 }))
    }

    async fn apply_config(&self, request: Request<ApplyConfigRequest>) -> Answer<ApplyConfigResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let changes = changes(&in_force(&self.0), &request.document);
        let revision = if request.dry_run || changes.is_empty() {
            document(&self.0, 0)?.0
        } else {
            self.put(&request.document, request.expected_revision, &request.comment)?
        };
        Ok(Response::new(ApplyConfigResponse { revision: Some(revision), warnings: Vec::new(), changes }))
    }

    async fn list_revisions(&self, request: Request<ListRevisionsRequest>) -> Answer<ListRevisionsResponse> {
        let request = request.into_inner();
        let all: Vec<Revision> =
            self.0.revisions.lock().unwrap().iter().rev().map(|(revision, _)| revision.clone()).collect();
        let (revisions, next_page_token) = page(&all, request.page_size, &request.page_token)?;
        Ok(Response::new(ListRevisionsResponse { revisions, next_page_token }))
    }

    async fn diff_config(&self, request: Request<DiffConfigRequest>) -> Answer<DiffConfigResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let from = document(&self.0, request.from_revision)?.1;
        let to = match request.document.as_str() {
            "" => document(&self.0, request.to_revision)?.1,
            text => text.to_owned(),
        };
        Ok(Response::new(DiffConfigResponse { changes: changes(&from, &to) }))
    }

    async fn rollback_config(&self, request: Request<RollbackConfigRequest>) -> Answer<ApplyConfigResponse> {
        let request = request.into_inner();
        self.0.note(&request);
        let text = document(&self.0, request.revision)?.1;
        let changes = changes(&in_force(&self.0), &text);
        let revision = self.put(&text, request.expected_revision, &request.comment)?;
        Ok(Response::new(ApplyConfigResponse { revision: Some(revision), warnings: Vec::new(), changes }))
    }
}
