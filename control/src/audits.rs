//! Questions that one worker answers at length: compare, repair, count. Knows who waits for which answer, and in which order workers
//! are asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use swift_s3_proto::v1::{AuditAnswer, NodeState};
use tokio::sync::oneshot;

use crate::registry::NodeView;

/// The capability of workers that compare, repair and count.
pub const CAN_AUDIT: &str = "audit";

/// Who waits for which answer.
#[derive(Debug, Default)]
pub struct Audits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: HashMap<u64, (String, oneshot::Sender<AuditAnswer>)>,
}

/// An answer that is awaited. Nobody waits for it any more once this is dropped.
#[derive(Debug)]
pub struct Awaited<'a> {
    audits: &'a Audits,
    /// Names the question.
    pub id: u64,
    /// Fails when the worker is gone.
    pub answer: oneshot::Receiver<AuditAnswer>,
}

impl Audits {
    /// Makes room for the answer of a node.
    #[must_use]
    pub fn await_answer(&self, node_id: &str) -> Awaited<'_> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.lock();
        state.next += 1;
        let id = state.next;
        state.waiting.insert(id, (node_id.to_owned(), sender));
        Awaited { audits: self, id, answer }
    }

    /// Hands a node's answer to who waits for it. Answers that nobody asked this node for are dropped.
    pub fn answered(&self, node_id: &str, answer: AuditAnswer) {
        let mut state = self.lock();
        if state.waiting.get(&answer.id).is_some_and(|(asked, _)| asked == node_id)
            && let Some((_, sender)) = state.waiting.remove(&answer.id)
        {
            // Whoever asked may have given up.
            drop(sender.send(answer));
        }
    }

    /// How many answers are awaited.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().waiting.len()
    }

    /// A node is gone: its answers will not come.
    pub fn gone(&self, node_id: &str) {
        self.lock().waiting.retain(|_, (asked, _)| asked != node_id);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.audits.lock().waiting.remove(&self.id);
    }
}

/// The workers to ask, in this order: those that follow the container, then those that have the configuration in force. Workers that
/// are equal in this come in an order that depends on `key`: the pages of one container go to one worker, containers to different ones.
#[must_use]
pub fn candidates(nodes: &[NodeView], followers: &[String], revision: i64, key: &str) -> Vec<String> {
    let mut able: Vec<(bool, bool, u64, &String)> = nodes
        .iter()
        .filter(|node| node.is_live && node.is_worker())
        .filter(|node| node.record.capabilities.iter().any(|word| word == CAN_AUDIT))
        .map(|node| {
            let id = &node.record.node_id;
            (!followers.contains(id), node.state(revision) != NodeState::Synced, mix(key, id), id)
        })
        .collect();
    able.sort();
    able.into_iter().map(|(_, _, _, id)| id.clone()).collect()
}

/// FNV-1a: the same at every control process, unlike the hash of a map.
fn mix(key: &str, node_id: &str) -> u64 {
    let bytes = key.bytes().chain([0]).chain(node_id.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::store::NodeRecord;
    use swift_s3_proto::v1::Role;

    fn node(id: &str, is_live: bool, can: &[&str]) -> NodeView {
        NodeView {
            record: NodeRecord {
                node_id: id.to_owned(),
                role: Role::Worker.into(),
                version: String::new(),
                host: String::new(),
                addresses: Vec::new(),
                capabilities: can.iter().map(|word| (*word).to_owned()).collect(),
                revision: 0,
                last_seen_at_ms: 0,
                is_lost: false,
            },
            is_live,
            connected_at_ms: None,
            answer: None,
            health: std::sync::Arc::default(),
            clock_skew_seconds: None,
            coordination: None,
            load: None,
            refused_report: None,
        }
    }

    #[test]
    fn followers_are_asked_first_and_silent_or_older_workers_never() {
        let nodes = [
            node("a", true, &["audit"]),
            node("b", true, &["audit"]),
            node("c", false, &["audit"]),
            node("d", true, &[]),
        ];
        assert_eq!(candidates(&nodes, &["b".to_owned()], 0, "x"), ["b", "a"]);
        assert_eq!(candidates(&nodes, &["a".to_owned()], 0, "x"), ["a", "b"]);
    }

    #[test]
    fn containers_are_spread_over_workers_and_pages_are_not() {
        let nodes: Vec<NodeView> = (0..3).map(|id| node(&id.to_string(), true, &["audit"])).collect();
        let first = |key: &str| candidates(&nodes, &[], 0, key)[0].clone();
        let used: std::collections::BTreeSet<String> = (0..50).map(|key| first(&key.to_string())).collect();
        assert_eq!(used.len(), 3);
        assert_eq!(first("c"), first("c"));
    }

    #[tokio::test]
    async fn only_who_was_asked_answers_and_who_is_gone_ends_the_wait() {
        let audits = Audits::default();
        let mut awaited = audits.await_answer("n");
        audits.answered("other", AuditAnswer { id: awaited.id, ..AuditAnswer::default() });
        assert!(awaited.answer.try_recv().is_err());
        audits.answered("n", AuditAnswer { id: awaited.id, ..AuditAnswer::default() });
        assert!(awaited.answer.try_recv().is_ok());
        drop(awaited);
        let awaited = audits.await_answer("n");
        audits.gone("n");
        let Awaited { .. } = &awaited;
        assert!(audits.lock().waiting.is_empty());
    }
}
