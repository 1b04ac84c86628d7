//! Questions about objects: who is asked, and who waits for which answer.

use std::collections::HashSet;

use swift_s3_proto::v1::{ExplainAnswer, ExplainCommand, ObjectFindings, Role, control_message};
use tokio::sync::mpsc;

use super::Registry;

/// The capability of nodes that answer questions about objects.
const CAN_EXPLAIN: &str = "explain";

/// Who waits for answers to a question.
#[derive(Debug)]
pub(super) struct Asker {
    answers: mpsc::Sender<(String, Vec<ObjectFindings>)>,
    /// Nodes that were asked and have not answered.
    waiting: HashSet<String>,
}

/// A question that nodes are being asked. Answers are taken until it is dropped.
#[derive(Debug)]
pub struct Question<'a> {
    registry: &'a Registry,
    id: u64,
    /// Who was asked.
    pub asked: Vec<String>,
    /// What they answer.
    pub answers: mpsc::Receiver<(String, Vec<ObjectFindings>)>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.registry.lock().questions.remove(&self.id);
    }
}

impl Registry {
    /// Hands a node's answer to who asked.
    pub fn explained(&self, node_id: &str, answer: ExplainAnswer) {
        let asker = self.lock().questions.get_mut(&answer.id).and_then(|asker| {
            // One answer of each node that was asked.
            asker.waiting.remove(node_id).then(|| asker.answers.clone())
        });
        if let Some(asker) = asker {
            let mut findings = answer.findings;
            for finding in &mut findings {
                node_id.clone_into(&mut finding.node_id);
            }
            drop(asker.try_send((node_id.to_owned(), findings)));
        }
    }

    /// Asks live workers that can tell about an object: those named, or all if none is.
    #[must_use]
    pub fn ask(&self, account: &str, container: &str, object: &str, node_ids: &[String]) -> Question<'_> {
        let mut state = self.lock();
        state.next_question += 1;
        let id = state.next_question;
        let command = ExplainCommand {
            id,
            account: account.to_owned(),
            container: container.to_owned(),
            object: object.to_owned(),
        };
        let mut asked = Vec::new();
        for (node_id, node) in &state.nodes {
            let is_meant = node_ids.is_empty() || node_ids.contains(node_id);
            if is_meant
                && node.record.role == i32::from(Role::Worker)
                && node.record.capabilities.iter().any(|word| word == CAN_EXPLAIN)
                && node.is_live(self.silence)
                && node.tell(control_message::Message::Explain(command.clone()))
            {
                asked.push(node_id.clone());
            }
        }
        let (sender, answers) = mpsc::channel(asked.len().max(1));
        state.questions.insert(id, Asker { answers: sender, waiting: asked.iter().cloned().collect() });
        Question { registry: self, id, asked, answers }
    }
}
