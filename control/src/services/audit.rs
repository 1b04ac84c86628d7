//! `AuditService`: hands questions to a worker that can answer them, and turns to another one when that fails.

use std::sync::Arc;

use futures_util::future::join_all;
use swift_s3_proto::v1::audit_answer::Answer;
use swift_s3_proto::v1::audit_command::Question;
use swift_s3_proto::v1::audit_service_server::AuditService;
use swift_s3_proto::v1::{
    AuditAnswer, AuditCommand, AuditFailure, CompareContainerRequest, CompareContainerResponse,
    CountContainerRequest, CountContainerResponse, ListAccountRequest, ListAccountResponse, RepairAction,
    RepairObjectsRequest, RepairObjectsResponse, RepairOutcome, RepairResult, control_message,
};
use tonic::{Request, Response, Status};

use super::caller;
use super::status::find;
use crate::activity;
use crate::audits::candidates;
use crate::control::Control;

/// Workers that are asked before the question is given up: each may take its time.
const MOST_WORKERS: usize = 3;
/// The longest name that a question may contain.
const MAX_NAME_BYTES: usize = 8 * 1024;
/// The longest pattern that a question may contain.
const MAX_PATTERN_BYTES: usize = 64 * 1024;
/// Names in one repair.
const MAX_REPAIRS: usize = 1_000;

/// The service.
#[derive(Clone, Debug)]
pub struct Auditing(pub Arc<Control>);

/// Why one worker did not answer.
enum Unanswered {
    /// Another one may.
    Passing(String),
    /// No other one will.
    Final(Status),
}

impl Auditing {
    /// Checks names, and finds the mapping that is meant.
    fn mapping(&self, mapping: &str, account: &str, container: &str) -> Result<String, Status> {
        check("account", account, MAX_NAME_BYTES)?;
        check("container", container, MAX_NAME_BYTES)?;
        let current = self.0.push.current();
        let id = find::mapping(&current.mappings, mapping)?;
        let covers = current.mappings.iter().any(|found| found.id == id && found.covers(account, container));
        if !covers {
            let message = format!("mapping {id} is not about {account}/{container}");
            return Err(Status::not_found(message));
        }
        Ok(id)
    }

    fn is_shared(&self, mapping_id: &str, container: &str) -> bool {
        self.0.parsed.is_shared(&self.0.push.current(), mapping_id, container)
    }

    /// The workers that may answer, best first.
    fn workers(&self, account: &str, container: &str) -> Vec<String> {
        let followers = self.0.feeds().followers(account, container);
        let key = format!("{account}/{container}");
        candidates(&self.0.registry.nodes(), &followers, self.0.push.current().revision, &key)
    }

    /// The first good answer.
    async fn ask_one(&self, account: &str, container: &str, question: &Question) -> Result<Answer, Status> {
        let mut told = Vec::new();
        for node_id in self.workers(account, container).into_iter().take(MOST_WORKERS) {
            match self.ask(&node_id, question.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Final(status)) => return Err(status),
                Err(Unanswered::Passing(why)) => told.push(format!("{node_id}: {why}")),
            }
        }
        if told.is_empty() {
            return Err(Status::unavailable(
                "no worker is connected that compares and counts; upgrade older ones",
            ));
        }
        Err(Status::unavailable(told.join("; ")))
    }

    async fn ask(&self, node_id: &str, question: Question) -> Result<Answer, Unanswered> {
        let control = &self.0;
        let mut awaited = control.audits.await_answer(node_id);
        let command = AuditCommand { id: awaited.id, question: Some(question) };
        if !control.registry.tell(node_id, control_message::Message::Audit(command)) {
            return Err(Unanswered::Passing("is not connected, or does not read".to_owned()));
        }
        let limit = control.settings.audit;
        match tokio::time::timeout(limit, &mut awaited.answer).await {
            Ok(Ok(answer)) => read(answer),
            Ok(Err(_)) => Err(Unanswered::Passing("disconnected".to_owned())),
            Err(_) => Err(Unanswered::Passing(format!("no answer within {limit:?}"))),
        }
    }

    /// Each name is handled by the worker that handles it anyway; what none of them owns, by any that has its row.
    async fn copy_again(&self, request: RepairObjectsRequest) -> Result<Vec<RepairResult>, Status> {
        let workers = self.workers(&request.account, &request.container);
        let followers = self.0.feeds().followers(&request.account, &request.container);
        let holders: Vec<&String> = workers.iter().filter(|worker| followers.contains(worker)).collect();
        if holders.is_empty() {
            return Err(Status::unavailable("no worker that follows the container is connected"));
        }
        let asked = holders.iter().map(|node_id| async {
            let question = Question::Repair(RepairObjectsRequest { any_node: false, ..request.clone() });
            (node_id.as_str(), self.ask(node_id, question).await)
        });
        let mut found = Found::new(&request.objects);
        for (node_id, answer) in join_all(asked).await {
            found.take(node_id, answer)?;
        }
        for node_id in holders {
            let left = found.left_to(node_id);
            if left.is_empty() {
                continue;
            }
            let question =
                Question::Repair(RepairObjectsRequest { any_node: true, objects: left, ..request.clone() });
            found.take(node_id, self.ask(node_id, question).await)?;
        }
        Ok(found.into_results())
    }
}

/// The best result of each name so far.
struct Found {
    best: std::collections::BTreeMap<String, RepairResult>,
    /// Workers that have the row of a name that another handles first.
    others: std::collections::BTreeMap<String, Vec<String>>,
    troubles: Vec<String>,
}

impl Found {
    fn new(objects: &[String]) -> Self {
        let unknown = |object: &String| {
            let result = RepairResult {
                object: object.clone(),
                outcome: RepairOutcome::NoRow.into(),
                detail: "no worker that answered has a row of it".to_owned(),
                ..RepairResult::default()
            };
            (object.clone(), result)
        };
        Self {
            best: objects.iter().map(unknown).collect(),
            others: std::collections::BTreeMap::new(),
            troubles: Vec::new(),
        }
    }

    fn take(&mut self, node_id: &str, answer: Result<Answer, Unanswered>) -> Result<(), Status> {
        let results = match answer {
            Ok(Answer::Repair(answer)) => answer.results,
            Ok(_) => return Err(unexpected()),
            Err(Unanswered::Final(status)) => return Err(status),
            Err(Unanswered::Passing(why)) => {
                self.troubles.push(format!("{node_id}: {why}"));
                return Ok(());
            }
        };
        for mut result in results {
            node_id.clone_into(&mut result.node_id);
            let Some(best) = self.best.get_mut(&result.object) else { continue };
            if result.outcome() == RepairOutcome::OtherNode {
                self.others.entry(result.object.clone()).or_default().push(node_id.to_owned());
            }
            if rank(result.outcome()) > rank(best.outcome()) {
                *best = result;
            }
        }
        Ok(())
    }

    /// Names that nobody handled, and of which this worker has the row.
    fn left_to(&self, node_id: &str) -> Vec<String> {
        let is_left = |result: &&RepairResult| {
            result.outcome() == RepairOutcome::OtherNode
                && self
                    .others
                    .get(&result.object)
                    .is_some_and(|nodes| nodes.iter().any(|node| node == node_id))
        };
        self.best.values().filter(is_left).map(|result| result.object.clone()).collect()
    }

    fn into_results(mut self) -> Vec<RepairResult> {
        if !self.troubles.is_empty() {
            let why = self.troubles.join("; ");
            for result in self.best.values_mut().filter(|result| rank(result.outcome()) < 2) {
                result.set_outcome(RepairOutcome::Unfinished);
                result.detail.clone_from(&why);
            }
        }
        self.best.into_values().collect()
    }
}

/// What says most about a name.
fn rank(outcome: RepairOutcome) -> u8 {
    match outcome {
        RepairOutcome::Unspecified | RepairOutcome::NoRow => 0,
        RepairOutcome::OtherNode => 1,
        RepairOutcome::Unfinished | RepairOutcome::Refused => 2,
        _ => 3,
    }
}

fn check(what: &str, name: &str, most: usize) -> Result<(), Status> {
    if name.is_empty() || name.len() > most {
        return Err(Status::invalid_argument(format!("{what}: {} bytes; expected 1 to {most}", name.len())));
    }
    Ok(())
}

fn check_start(start_after: &str) -> Result<(), Status> {
    if start_after.len() > MAX_NAME_BYTES {
        return Err(Status::invalid_argument(format!("start_after: more than {MAX_NAME_BYTES} bytes")));
    }
    Ok(())
}

fn read(answer: AuditAnswer) -> Result<Answer, Unanswered> {
    let kind = answer.failure_kind();
    if answer.failure.is_empty() && kind == AuditFailure::Unspecified {
        return answer.answer.ok_or_else(|| Unanswered::Passing("answered nothing".to_owned()));
    }
    Err(match kind {
        AuditFailure::Refused => Unanswered::Final(Status::failed_precondition(answer.failure)),
        AuditFailure::NoContainer => Unanswered::Final(Status::not_found(answer.failure)),
        AuditFailure::Unspecified | AuditFailure::NotServed | AuditFailure::Busy => {
            Unanswered::Passing(answer.failure)
        }
    })
}

fn unexpected() -> Status {
    Status::internal("a worker answered another question")
}

#[tonic::async_trait]
impl AuditService for Auditing {
    async fn compare_container(
        &self,
        request: Request<CompareContainerRequest>,
    ) -> Result<Response<CompareContainerResponse>, Status> {
        let mut request = request.into_inner();
        check_start(&request.start_after)?;
        request.mapping_id = self.mapping(&request.mapping_id, &request.account, &request.container)?;
        let (account, container) = (request.account.clone(), request.container.clone());
        request.is_prefix_shared = self.is_shared(&request.mapping_id, &container);
        match self.ask_one(&account, &container, &Question::Compare(request)).await? {
            Answer::Compare(answer) => Ok(Response::new(answer)),
            _ => Err(unexpected()),
        }
    }

    async fn repair_objects(
        &self,
        request: Request<RepairObjectsRequest>,
    ) -> Result<Response<RepairObjectsResponse>, Status> {
        let by = caller(&request);
        let mut request = request.into_inner();
        if request.objects.len() > MAX_REPAIRS {
            let message = format!("objects: {} names; expected at most {MAX_REPAIRS}", request.objects.len());
            return Err(Status::invalid_argument(message));
        }
        for object in &request.objects {
            check("objects", object, MAX_NAME_BYTES)?;
        }
        request.mapping_id = self.mapping(&request.mapping_id, &request.account, &request.container)?;
        if self.0.push.current().is_paused(&request.mapping_id) {
            return Err(Status::failed_precondition("the mapping is paused; resume it first"));
        }
        request.is_prefix_shared = self.is_shared(&request.mapping_id, &request.container);
        let action = request.action();
        if action == RepairAction::DeleteExtra && !request.never_archived {
            return Err(Status::failed_precondition(
                "never_archived: not set; what looks extra in a container that was archived once is the only copy",
            ));
        }
        if action == RepairAction::Unspecified {
            return Err(Status::invalid_argument(
                "action: expected REPAIR_ACTION_COPY or REPAIR_ACTION_DELETE_EXTRA",
            ));
        }
        tracing::info!(
            mapping_id = %request.mapping_id, account = %request.account, container = %request.container,
            action = action.as_str_name(), names = request.objects.len(), %by, "repair ordered"
        );
        let place = format!("{}/{}", request.account, request.container);
        let is_delete = action == RepairAction::DeleteExtra;
        let line = activity::repair(&by, &request.mapping_id, &place, is_delete, request.objects.len());
        self.0.activities.tell(line);
        let results = match is_delete {
            false => self.copy_again(request).await?,
            true => {
                let (account, container) = (request.account.clone(), request.container.clone());
                let question = Question::Repair(RepairObjectsRequest { any_node: true, ..request });
                match self.ask_one(&account, &container, &question).await? {
                    Answer::Repair(answer) => answer.results,
                    _ => return Err(unexpected()),
                }
            }
        };
        Ok(Response::new(RepairObjectsResponse { results }))
    }

    async fn count_container(
        &self,
        request: Request<CountContainerRequest>,
    ) -> Result<Response<CountContainerResponse>, Status> {
        let request = request.into_inner();
        check("account", &request.account, MAX_NAME_BYTES)?;
        check("container", &request.container, MAX_NAME_BYTES)?;
        check_start(&request.start_after)?;
        if request.exclude_pattern.len() > MAX_PATTERN_BYTES {
            return Err(Status::invalid_argument(format!(
                "exclude_pattern: more than {MAX_PATTERN_BYTES} bytes"
            )));
        }
        let (account, container) = (request.account.clone(), request.container.clone());
        match self.ask_one(&account, &container, &Question::Count(request)).await? {
            Answer::Count(answer) => Ok(Response::new(answer)),
            _ => Err(unexpected()),
        }
    }

    async fn list_account(
        &self,
        request: Request<ListAccountRequest>,
    ) -> Result<Response<ListAccountResponse>, Status> {
        let request = request.into_inner();
        check("account", &request.account, MAX_NAME_BYTES)?;
        check_start(&request.start_after)?;
        let account = request.account.clone();
        match self.ask_one(&account, "", &Question::List(request)).await? {
            Answer::List(answer) => Ok(Response::new(answer)),
            _ => Err(unexpected()),
        }
    }
}
