//! `ConfigService`: the configuration as operators see it. Secrets never leave: documents are redacted, problems and changes
//! are made without them.

use std::sync::Arc;

use swift_s3_proto::v1::config_service_server::ConfigService;
use swift_s3_proto::v1::{
    ApplyConfigRequest, ApplyConfigResponse, DiffConfigRequest, DiffConfigResponse, GetConfigRequest,
    GetConfigResponse, ListRevisionsRequest, ListRevisionsResponse, Problem, Revision, RollbackConfigRequest,
    ValidateConfigRequest, ValidateConfigResponse,
};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::page::{self, Question};
use super::{caller, store_status};
use crate::control::{Control, shown};
use crate::documents::{self, Checked};
use crate::metrics::ChangeOutcome;
use crate::store::{NewRevision, RevisionRecord, StoreError};
use crate::time;

/// The longest comment of a revision.
const MAX_COMMENT_BYTES: usize = 1_000;
/// Problems that the message of an error names; its details have all that fit.
const PROBLEMS_IN_MESSAGE: usize = 3;
/// The message is cut to this.
const MAX_MESSAGE_CHARACTERS: usize = 1_000;
/// Details travel in headers, of which clients take 16 KiB by default, in base64.
const MAX_DETAILS_BYTES: usize = 6_000;

/// The service.
#[derive(Clone, Debug)]
pub struct Configs(pub Arc<Control>);

/// A document that was looked at: complete with its secrets, and right.
struct Candidate {
    document: String,
    checked: Checked,
    /// The revision in force, and its text.
    current: (i64, String),
}

/// What is to be done for a call that was found right.
enum Wanted {
    /// Nothing: this is the answer.
    Nothing(ChangeOutcome, ApplyConfigResponse),
    /// A new revision; the answer lacks its number.
    Change(Box<(NewRevision, Checked)>, ApplyConfigResponse),
}

impl Configs {
    async fn revision(&self, revision: i64) -> Result<(RevisionRecord, String), Status> {
        let found = self.0.store.reader().revision(revision).await.map_err(|error| store_status(&error))?;
        found.ok_or_else(|| match revision {
            0 => Status::not_found("no configuration was applied yet"),
            _ => Status::not_found(format!(
                "revision {revision} does not exist, or is older than the history that is kept"
            )),
        })
    }

    /// The text of a revision; 0: of the one in force, which may be none.
    async fn text(&self, revision: i64) -> Result<Option<String>, Status> {
        match self.revision(revision).await {
            Ok((_, text)) => Ok(Some(text)),
            Err(status) if revision == 0 && status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn revision_in_force(&self) -> Result<Option<Revision>, Status> {
        match self.revision(0).await {
            Ok((record, _)) => Ok(Some(record.into())),
            Err(status) if status.code() == Code::NotFound => Ok(Revision::default().into()),
            Err(status) => Err(status),
        }
    }

    /// Completes a document and checks it. Runs apart from other calls: a large document takes a while.
    async fn examine(&self, document: String) -> Result<Result<Candidate, Vec<Problem>>, Status> {
        let current = self.0.push.current();
        let examined = tokio::task::spawn_blocking(move || {
            documents::check_size(&document)?;
            let text = current.text().to_owned();
            let in_force = (current.revision > 0).then_some(text.as_str());
            let document = documents::restore_secrets(&document, in_force)
                .map_err(|problems| problems.into_iter().map(documents::problem).collect::<Vec<_>>())?;
            let checked = documents::check(&document)?;
            Ok(Candidate { document, checked, current: (current.revision, text) })
        });
        examined.await.map_err(|error| Status::internal(error.to_string()))
    }

    async fn change(
        &self,
        candidate: Candidate,
        expected: i64,
        author: String,
        comment: String,
        rolled_back_to: i64,
    ) -> Result<Wanted, Status> {
        let Candidate { document, checked, current } = candidate;
        let changes = documents::changes((current.0 > 0).then_some(current.1.as_str()), &document);
        let warnings = checked.warnings.clone();
        if current.0 == expected && changes.is_empty() && documents::is_same(&current.1, &document) {
            let revision = self.revision_in_force().await?;
            return Ok(Wanted::Nothing(
                ChangeOutcome::Unchanged,
                ApplyConfigResponse { revision, warnings, changes },
            ));
        }
        let new = NewRevision {
            mappings: u32::try_from(checked.mappings.len()).unwrap_or(u32::MAX),
            document,
            author,
            comment,
            expected,
            rolled_back_to,
            applied_at_ms: time::now_ms(),
        };
        Ok(Wanted::Change(
            Box::new((new, checked)),
            ApplyConfigResponse { revision: None, warnings, changes },
        ))
    }

    /// Does what was asked for, and counts what became of it. A change counts itself.
    async fn done(&self, wanted: Result<Wanted, Status>) -> Result<Response<ApplyConfigResponse>, Status> {
        let metrics = &self.0.settings.metrics;
        match wanted {
            Err(status) => {
                metrics.applied(ChangeOutcome::of(&status));
                Err(status)
            }
            Ok(Wanted::Nothing(outcome, response)) => {
                metrics.applied(outcome);
                Ok(Response::new(response))
            }
            Ok(Wanted::Change(change, mut response)) => {
                let (new, checked) = *change;
                let record = self.0.apply(new, checked).await.map_err(|error| store_status(&error))?;
                response.revision = Some(record.into());
                Ok(Response::new(response))
            }
        }
    }

    async fn try_apply(&self, request: Request<ApplyConfigRequest>) -> Result<Wanted, Status> {
        let author = caller(&request);
        let ApplyConfigRequest { document, expected_revision, dry_run, comment } = request.into_inner();
        check_comment(&comment)?;
        let candidate = self.examine(document).await?.map_err(|problems| refusal(&problems))?;
        let current = candidate.current.0;
        if current != expected_revision {
            return Err(store_status(&StoreError::Conflict { current, expected: expected_revision }));
        }
        if dry_run {
            let changes = documents::changes(
                (current > 0).then_some(candidate.current.1.as_str()),
                &candidate.document,
            );
            let revision = self.revision_in_force().await?;
            let warnings = candidate.checked.warnings;
            return Ok(Wanted::Nothing(
                ChangeOutcome::Tried,
                ApplyConfigResponse { revision, warnings, changes },
            ));
        }
        self.change(candidate, expected_revision, author, comment, 0).await
    }

    async fn try_roll_back(&self, request: Request<RollbackConfigRequest>) -> Result<Wanted, Status> {
        let author = caller(&request);
        let RollbackConfigRequest { revision, expected_revision, comment } = request.into_inner();
        check_comment(&comment)?;
        if revision <= 0 {
            return Err(Status::invalid_argument(
                "revision: expected the number of an older revision, at least 1",
            ));
        }
        let (_, document) = self.revision(revision).await?;
        // Complete with its own secrets: nothing is restored from another revision.
        let checked = documents::check(&document).map_err(|problems| refusal(&problems))?;
        let current = self.0.push.current();
        let current = (current.revision, current.text().to_owned());
        if current.0 != expected_revision {
            return Err(store_status(&StoreError::Conflict {
                current: current.0,
                expected: expected_revision,
            }));
        }
        let candidate = Candidate { document, checked, current };
        self.change(candidate, expected_revision, author, comment, revision).await
    }
}

#[tonic::async_trait]
impl ConfigService for Configs {
    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        let (record, text) = self.revision(request.into_inner().revision).await?;
        let document = documents::redact(&text).map_err(|_| {
            Status::internal("the stored document cannot be read, so that its secrets cannot be hidden")
        })?;
        Ok(Response::new(GetConfigResponse { revision: Some(record.into()), document }))
    }

    async fn validate_config(
        &self,
        request: Request<ValidateConfigRequest>,
    ) -> Result<Response<ValidateConfigResponse>, Status> {
        let response = match self.examine(request.into_inner().document).await? {
            Err(problems) => ValidateConfigResponse { problems, ..Default::default() },
            Ok(Candidate { document, checked, current }) => ValidateConfigResponse {
                problems: Vec::new(),
                changes: documents::changes((current.0 > 0).then_some(current.1.as_str()), &document),
                mappings: u32::try_from(checked.mappings.len()).unwrap_or(u32::MAX),
                warnings: checked.warnings,
            },
        };
        Ok(Response::new(response))
    }

    async fn apply_config(
        &self,
        request: Request<ApplyConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        self.done(self.try_apply(request).await).await
    }

    async fn list_revisions(
        &self,
        request: Request<ListRevisionsRequest>,
    ) -> Result<Response<ListRevisionsResponse>, Status> {
        let ListRevisionsRequest { page_size, page_token } = request.into_inner();
        let question = Question::new("revisions", &[]);
        let before = question.position::<i64>(&page_token)?.unwrap_or(i64::MAX);
        let size = page::size(page_size);
        let found =
            self.0.store.reader().revisions(before, size + 1).await.map_err(|error| store_status(&error))?;
        let has_more = found.len() > size;
        let revisions: Vec<Revision> = found.into_iter().take(size).map(Revision::from).collect();
        let last = revisions.last().filter(|_| has_more);
        let next_page_token = last.map(|last| question.token(&last.revision)).unwrap_or_default();
        Ok(Response::new(ListRevisionsResponse { revisions, next_page_token }))
    }

    async fn diff_config(
        &self,
        request: Request<DiffConfigRequest>,
    ) -> Result<Response<DiffConfigResponse>, Status> {
        let DiffConfigRequest { from_revision, to_revision, document } = request.into_inner();
        let from = self.text(from_revision).await?;
        let to = if document.is_empty() {
            self.text(to_revision).await?.unwrap_or_else(|| "{}".to_owned())
        } else {
            // Placeholders stand for the secrets of the side that the document is compared with.
            documents::restore_secrets(&document, from.as_deref()).map_err(|problems| {
                refusal(&problems.into_iter().map(documents::problem).collect::<Vec<_>>())
            })?
        };
        Ok(Response::new(DiffConfigResponse { changes: documents::changes(from.as_deref(), &to) }))
    }

    async fn rollback_config(
        &self,
        request: Request<RollbackConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        self.done(self.try_roll_back(request).await).await
    }
}

fn check_comment(comment: &str) -> Result<(), Status> {
    if comment.len() <= MAX_COMMENT_BYTES {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("comment: {} bytes; at most {MAX_COMMENT_BYTES}", comment.len())))
}

/// INVALID_ARGUMENT that names the first problems in words, and as many as fit in its details. ValidateConfig tells all.
fn refusal(problems: &[Problem]) -> Status {
    let mut message = format!("the configuration has {} problem(s)", problems.len());
    for problem in problems.iter().take(PROBLEMS_IN_MESSAGE) {
        message.push_str("; ");
        message.push_str(&shown(problem));
    }
    if problems.len() > PROBLEMS_IN_MESSAGE {
        message.push_str("; …");
    }
    let message: String = message.chars().take(MAX_MESSAGE_CHARACTERS).collect();
    let mut room = MAX_DETAILS_BYTES;
    let mut violations = Vec::new();
    for problem in problems {
        let description = format!("found {}; allowed: {}", problem.found, problem.allowed);
        let Some(rest) = room.checked_sub(problem.path.len() + description.len() + 16) else { break };
        room = rest;
        violations.push(FieldViolation::new(problem.path.clone(), description));
    }
    let left_out = problems.len() - violations.len();
    if left_out > 0 {
        violations.push(FieldViolation::new("", format!("and {left_out} more; ValidateConfig tells all")));
    }
    Status::with_error_details(Code::InvalidArgument, message, ErrorDetails::with_bad_request(violations))
}
