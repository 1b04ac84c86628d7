#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::prelude::*;
use swift_s3_proto::v1::{MappingSwitch, Problem, Role};

use super::*;
use crate::documents::MappingInfo;
use crate::registry::Answer;
use crate::store::NodeRecord;

const REVISION: i64 = 7;
const IDS: [&str; 3] = ["m0", "m1", "m2"];

/// What a worker says of the mapping: paused, refused, remote in trouble, named by a problem.
type Said = (bool, bool, bool, bool);

#[derive(Clone, Debug)]
struct Worker {
    is_live: bool,
    is_worker: bool,
    /// The revision that it answered to, and how.
    answer: Option<(i64, ConfigOutcome)>,
    said: Vec<Said>,
}

fn node(worker: &Worker) -> NodeView {
    let said = || IDS.iter().zip(&worker.said);
    let health = said().map(|(id, (is_paused, refused, trouble, _))| MappingHealth {
        mapping_id: (*id).to_owned(),
        is_paused: *is_paused,
        refused: if *refused { "no".to_owned() } else { String::new() },
        remote_trouble: if *trouble { "down".to_owned() } else { String::new() },
    });
    let ordinary = |health: &MappingHealth| {
        !health.is_paused && health.refused.is_empty() && health.remote_trouble.is_empty()
    };
    let named = said().filter(|(_, said)| said.3).map(|(id, _)| *id).chain([""]);
    let problems = named.map(|id| Problem { mapping_id: id.to_owned(), ..Problem::default() });
    NodeView {
        record: NodeRecord {
            node_id: "n".to_owned(),
            role: if worker.is_worker { Role::Worker } else { Role::Shunt }.into(),
            version: String::new(),
            host: String::new(),
            addresses: Vec::new(),
            capabilities: Vec::new(),
            revision: 0,
            last_seen_at_ms: 0,
            is_lost: false,
        },
        is_live: worker.is_live,
        connected_at_ms: None,
        answer: worker.answer.map(|(revision, outcome)| Answer {
            revision,
            generation: 1,
            outcome,
            problems: problems.collect(),
            took: Duration::ZERO,
        }),
        health: health.filter(|health| !ordinary(health)).collect(),
        clock_skew_seconds: None,
        coordination: None,
        load: None,
        refused_report: None,
    }
}

fn current(paused: &[bool]) -> Current {
    let mapping = |id: &&str| MappingInfo {
        id: (*id).to_owned(),
        account: "a".to_owned(),
        container: "c".to_owned(),
        remote: "r".to_owned(),
        retain_local: true,
        billed_as: None,
    };
    let switch = |(id, is_paused): (&&str, &bool)| MappingSwitch {
        mapping_id: (*id).to_owned(),
        is_paused: *is_paused,
        deletes_released_at: None,
    };
    Current {
        revision: REVISION,
        generation: 1,
        document: bytes::Bytes::new(),
        mappings: IDS.iter().map(mapping).collect(),
        switches: IDS.iter().zip(paused).map(switch).collect(),
        worker_count: 1,
    }
}

/// The same by looking at each mapping on each worker.
fn expected(index: usize, is_paused: bool, workers: &[Worker]) -> (u32, u32, usize) {
    let (mut applied, mut total, mut troubles) = (0, 0, 0);
    for worker in workers.iter().filter(|worker| worker.is_live && worker.is_worker) {
        let (says_paused, refused, trouble, named) = worker.said[index];
        total += 1;
        let has_answered =
            matches!(worker.answer, Some((REVISION, ConfigOutcome::Applied | ConfigOutcome::PartlyApplied)));
        let is_named = named && worker.answer.is_some();
        if has_answered && !is_named && says_paused == is_paused && !refused {
            applied += 1;
        }
        troubles += usize::from(refused || trouble);
    }
    (applied, total, troubles)
}

fn workers() -> impl Strategy<Value = Vec<Worker>> {
    let outcomes = prop_oneof![
        Just(ConfigOutcome::Applied),
        Just(ConfigOutcome::PartlyApplied),
        Just(ConfigOutcome::Rejected),
        Just(ConfigOutcome::Applying)
    ];
    let answer = prop::option::of((REVISION - 1..=REVISION, outcomes));
    let said = prop::collection::vec(any::<Said>(), IDS.len());
    let worker = (any::<bool>(), any::<bool>(), answer, said)
        .prop_map(|(is_live, is_worker, answer, said)| Worker { is_live, is_worker, answer, said });
    prop::collection::vec(worker, 0..6)
}

proptest! {
    #[test]
    fn what_is_counted_from_exceptions_is_what_looking_at_everything_counts(
        workers in workers(),
        paused in prop::collection::vec(any::<bool>(), IDS.len()),
    ) {
        let nodes: Vec<NodeView> = workers.iter().map(node).collect();
        let statuses = begin(&current(&paused), &nodes, &[(1.0, 2.0)]);
        for (index, status) in statuses.iter().enumerate() {
            let counted = (status.nodes_applied, status.nodes_total, status.troubles.len());
            prop_assert_eq!(counted, expected(index, paused[index], &workers));
            prop_assert_eq!(status.is_paused, paused[index]);
        }
        prop_assert_eq!((statuses[0].rows_per_second, statuses[1].rows_per_second), (1.0, 0.0));
    }
}

#[test]
fn a_revision_of_zero_needs_no_answer() {
    let worker = Worker { is_live: true, is_worker: true, answer: None, said: Vec::new() };
    let current = Current { revision: 0, ..current(&[false]) };
    let statuses = begin(&current, &[node(&worker)], &[]);
    assert!(statuses.iter().all(|status| status.nodes_applied == 1), "{statuses:?}");
}
