//! Asks nodes about one object, and puts what they say together.

use std::sync::Arc;

use swift_s3_proto::v1::{ExplainObjectRequest, ExplainObjectResponse, ObjectFindings};
use tokio::time::{Instant, timeout_at};

use crate::control::Control;
use crate::time;
use crate::verdict::{Evidence, verdict};

/// Findings of one answer to the operator: replicas and shards of a container, times its mappings.
const MAX_FINDINGS: usize = 10_000;

pub(super) async fn explain(control: &Arc<Control>, request: &ExplainObjectRequest) -> ExplainObjectResponse {
    let ExplainObjectRequest { account, container, object } = request;
    let current = control.push.current();
    let mappings: Vec<(String, bool)> = current
        .mappings
        .iter()
        .filter(|mapping| mapping.covers(account, container))
        .map(|mapping| (mapping.id.clone(), current.is_paused(&mapping.id)))
        .collect();
    let mut findings = Vec::new();
    let mut silent_nodes = Vec::new();
    let mut asked = 0;
    if !mappings.is_empty() {
        let followers = control.feeds().followers(account, container);
        // If none of those that follow it can be asked, another may hold it by now.
        let mut question = control.registry.ask(account, container, object, &followers);
        if question.asked.is_empty() && !followers.is_empty() {
            question = control.registry.ask(account, container, object, &[]);
        }
        asked = question.asked.len();
        let answered = gather(control, &mut question.answers, asked, &mut findings).await;
        silent_nodes = followers
            .into_iter()
            .chain(question.asked.iter().cloned())
            .filter(|node| !answered.contains(node))
            .collect();
        silent_nodes.sort();
        silent_nodes.dedup();
    }
    let verdict = verdict(&Evidence {
        has_configuration: current.revision > 0,
        mappings: &mappings,
        findings: &findings,
        silent_nodes: &silent_nodes,
        asked,
        now: u64::try_from(time::now_ms() / 1_000).unwrap_or(0),
    });
    ExplainObjectResponse {
        verdict,
        findings,
        silent_nodes,
        mapping_ids: mappings.into_iter().map(|(id, _)| id).collect(),
    }
}

/// Takes answers until all are there or the time is over. Returns who answered.
async fn gather(
    control: &Control,
    answers: &mut tokio::sync::mpsc::Receiver<(String, Vec<ObjectFindings>)>,
    asked: usize,
    findings: &mut Vec<ObjectFindings>,
) -> Vec<String> {
    let deadline = Instant::now() + control.settings.explain;
    let mut answered = Vec::new();
    while answered.len() < asked
        && let Ok(Some((node_id, found))) = timeout_at(deadline, answers.recv()).await
    {
        let room = MAX_FINDINGS.saturating_sub(findings.len());
        findings.extend(found.into_iter().take(room));
        answered.push(node_id);
    }
    answered
}
