#![allow(clippy::unwrap_used)]

use swift_s3_proto::v1::{ExplainAnswer, NodeState, ObjectFindings};
use tonic::Code;

use super::*;

fn registry() -> Registry {
    Registry::new(Vec::new(), Duration::from_secs(15))
}

fn hello(node_id: &str, instance_id: &str) -> Hello {
    Hello {
        node_id: node_id.to_owned(),
        instance_id: instance_id.to_owned(),
        role: Role::Worker.into(),
        version: "0.1.0".to_owned(),
        host: "host-1".to_owned(),
        capabilities: vec!["explain".to_owned()],
        ..Hello::default()
    }
}

fn answer(nonce: &str, outcome: ConfigOutcome) -> ConfigAnswer {
    ConfigAnswer { nonce: nonce.to_owned(), outcome: outcome.into(), ..ConfigAnswer::default() }
}

#[test]
fn a_second_process_is_refused_and_told_who_has_the_id() {
    let registry = registry();
    let mut first = registry.connect(hello("n", "p")).unwrap();
    let refused = registry.connect(hello("n", "q")).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("host \"host-1\"") && refused.message().contains("since 20"));
    assert!(first.end.try_recv().is_err() && registry.seen("n", first.session));
    assert!(registry.disconnect("n", first.session));
    registry.connect(hello("n", "q")).unwrap();
}

#[test]
fn a_reconnect_replaces_the_old_stream_at_once() {
    let registry = registry();
    let mut old = registry.connect(hello("n", "p")).unwrap();
    let new = registry.connect(hello("n", "p")).unwrap();
    assert_eq!(old.end.try_recv().unwrap().code(), Code::Aborted);
    // The old stream's end must not take the new one off.
    assert!(!registry.disconnect("n", old.session) && !registry.seen("n", old.session));
    assert!(registry.seen("n", new.session));
    assert_eq!(*registry.workers().borrow(), 1);
}

#[test]
fn greetings_that_are_not_right_are_refused() {
    let long = "x".repeat(256);
    for (hello, code) in [
        (hello("", "p"), Code::InvalidArgument),
        (hello(&long, "p"), Code::InvalidArgument),
        (hello("n\n", "p"), Code::InvalidArgument),
        (hello("n", ""), Code::InvalidArgument),
        (Hello { role: 0, ..hello("n", "p") }, Code::InvalidArgument),
        (Hello { role: 77, ..hello("n", "p") }, Code::InvalidArgument),
        (Hello { host: long, ..hello("n", "p") }, Code::InvalidArgument),
        (Hello { capabilities: vec![String::new(); 257], ..hello("n", "p") }, Code::InvalidArgument),
        (Hello { version: "2.0.0".to_owned(), ..hello("n", "p") }, Code::FailedPrecondition),
        (Hello { version: String::new(), ..hello("n", "p") }, Code::FailedPrecondition),
    ] {
        assert_eq!(registry().connect(hello).unwrap_err().code(), code);
    }
    for version in ["0.0.1", "0.9", "1.0.0", "1.99.3-rc1"] {
        registry().connect(Hello { version: version.to_owned(), ..hello("n", "p") }).unwrap();
    }
}

#[test]
fn a_nodes_state_follows_its_answer_to_the_revision_in_force() {
    use ConfigOutcome::{Applied, Applying, PartlyApplied, Rejected, Unspecified};
    for (is_live, answer, revision, expected) in [
        (false, Some((3, Applied)), 3, NodeState::NotSeen),
        (false, None, 0, NodeState::NotSeen),
        (true, None, 0, NodeState::Synced),
        (true, None, 3, NodeState::Stale),
        (true, Some((2, Applied)), 3, NodeState::Stale),
        (true, Some((2, Rejected)), 3, NodeState::Stale),
        (true, Some((3, Applying)), 3, NodeState::Stale),
        (true, Some((3, Unspecified)), 3, NodeState::Stale),
        (true, Some((3, Applied)), 3, NodeState::Synced),
        (true, Some((3, PartlyApplied)), 3, NodeState::Rejected),
        (true, Some((3, Rejected)), 3, NodeState::Rejected),
    ] {
        assert_eq!(state(is_live, answer, revision), expected, "{answer:?} {revision}");
    }
}

#[test]
fn only_answers_to_what_was_sent_count_and_late_ones_do_not_undo_newer() {
    let registry = registry();
    let session = registry.connect(hello("n", "p")).unwrap().session;
    assert!(registry.answered("n", session, answer("x", ConfigOutcome::Applied)).is_none());
    registry.pushed("n", session, "one", 1, 10);
    registry.pushed("n", session, "two", 2, 11);
    assert_eq!(registry.answered("n", session, answer("two", ConfigOutcome::Applied)).unwrap().revision, 2);
    registry.answered("n", session, answer("one", ConfigOutcome::Rejected)).unwrap();
    let nodes = registry.nodes();
    let node = nodes.first().unwrap();
    assert_eq!((node.state(2), node.record.revision), (NodeState::Synced, 2));
    assert!(registry.answered("n", session + 1, answer("two", ConfigOutcome::Rejected)).is_none());
}

#[test]
fn workers_are_counted_shunts_are_not() {
    let registry = registry();
    let workers = registry.workers();
    let one = registry.connect(hello("a", "p")).unwrap();
    registry.connect(hello("b", "p")).unwrap();
    registry.connect(Hello { role: Role::Shunt.into(), ..hello("s", "p") }).unwrap();
    assert_eq!(*workers.borrow(), 2);
    registry.disconnect("a", one.session);
    assert_eq!(*workers.borrow(), 1);
}

#[test]
fn silence_is_noticed_and_a_connected_node_is_not_forgotten() {
    let registry = Registry::new(Vec::new(), Duration::ZERO);
    let connected = registry.connect(hello("n", "p")).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert!(registry.nodes().first().is_some_and(|node| !node.is_live && node.connected_at_ms.is_some()));
    assert_eq!(registry.forget("n"), Some(false));
    registry.disconnect("n", connected.session);
    assert_eq!((registry.forget("n"), registry.forget("n")), (Some(true), None));
}

#[test]
fn what_a_node_does_not_read_is_not_piled_up() {
    let registry = registry();
    let connected = registry.connect(hello("n", "p")).unwrap();
    let told =
        (0..OUTBOUND_QUEUE * 2).filter(|_| registry.retry(&["n".to_owned()], &RetryCommand::default()) == 1);
    assert_eq!(told.count(), OUTBOUND_QUEUE);
    drop(connected);
    assert_eq!(registry.retry(&["n".to_owned(), "unknown".to_owned()], &RetryCommand::default()), 0);
}

#[test]
fn answers_about_an_object_carry_the_name_of_who_gave_them() {
    let registry = registry();
    let mut connected = registry.connect(hello("n", "p")).unwrap();
    let _other = registry.connect(hello("other", "p")).unwrap();
    let _mute = registry.connect(Hello { capabilities: Vec::new(), ..hello("mute", "p") }).unwrap();
    let mut question = registry.ask("a", "c", "o", &[]);
    assert_eq!(question.asked, ["n", "other"], "only those that can tell");
    let Some(control_message::Message::Explain(command)) = connected.outbound.try_recv().unwrap().message
    else {
        unreachable!("expected a question");
    };
    let lie = ObjectFindings { node_id: "another".to_owned(), ..ObjectFindings::default() };
    let answer = ExplainAnswer { id: command.id, findings: vec![lie] };
    registry.explained("n", answer.clone());
    registry.explained("n", answer.clone());
    let (node_id, findings) = question.answers.try_recv().unwrap();
    assert_eq!((node_id.as_str(), findings.first().unwrap().node_id.as_str()), ("n", "n"));
    assert!(question.answers.try_recv().is_err(), "one answer of each node");
    drop(question);
    registry.explained("n", answer);
    assert!(registry.lock().questions.is_empty());
}

#[test]
fn a_reason_for_refusing_reports_is_new_once_and_shows_until_one_is_taken() {
    let registry = registry();
    let session = registry.connect(hello("n", "p")).unwrap().session;
    let shown = || registry.nodes().first().unwrap().refused_report.clone();
    let why = || Some("too long".to_owned());
    assert!(registry.reported("n", session, why()) && !registry.reported("n", session, why()));
    assert_eq!(shown(), why());
    assert!(!registry.reported("n", session, None));
    assert_eq!(shown(), None);
    assert!(!registry.reported("n", session, why()) && registry.reported("n", session, Some(String::new())));
}

#[test]
fn records_are_saved_once_per_change() {
    let registry = registry();
    let session = registry.connect(hello("n", "p")).unwrap().session;
    assert_eq!(registry.take_unsaved().len(), 1);
    assert!(registry.take_unsaved().is_empty());
    registry.seen("n", session);
    assert_eq!(registry.take_unsaved().len(), 1);
}
