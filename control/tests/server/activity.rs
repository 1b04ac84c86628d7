use std::sync::Arc;
use std::time::Duration;

use swift_s3_control::control::Settings;
use swift_s3_control::store::Line;
use swift_s3_proto::v1::*;

use crate::support::{Server, document, eventually, feed, hello, parked, progress, settings};

pub(crate) async fn activity(server: &Server) -> Vec<Activity> {
    let request = ListActivityRequest { page_size: 1_000, ..ListActivityRequest::default() };
    server.status().await.list_activity(request).await.unwrap().into_inner().activities
}

fn kinds(activities: &[Activity]) -> Vec<ActivityKind> {
    activities.iter().map(Activity::kind).collect()
}

#[tokio::test]
async fn what_people_change_is_told_with_the_change_and_survives_a_restart() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    server.apply(&document(&["c", "d"]), 1).await.unwrap();
    assert!(server.apply(&document(&["e"]), 1).await.is_err(), "a conflict is no change");
    let rollback =
        RollbackConfigRequest { revision: 1, expected_revision: 2, comment: "as <b>before</b>".to_owned() };
    server.config().await.rollback_config(rollback).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let mut status = server.status().await;
    let pause = PauseMappingRequest { mapping: id.clone() };
    status.pause_mapping(pause.clone()).await.unwrap();
    status.pause_mapping(pause).await.unwrap();
    status.resume_mapping(ResumeMappingRequest { mapping: id.clone() }).await.unwrap();

    let server = server.restart().await;
    let told = activity(&server).await;
    assert_eq!(
        kinds(&told),
        [
            ActivityKind::MappingResumed,
            ActivityKind::MappingPaused,
            ActivityKind::ConfigRolledBack,
            ActivityKind::ConfigApplied,
            ActivityKind::ConfigApplied
        ],
        "newest first, and nothing for what was so already: {told:?}"
    );
    assert!(told.iter().all(|one| one.is_asked_for && one.at.is_some()));
    assert!(told.windows(2).all(|pair| pair[0].id > pair[1].id));
    assert_eq!((told[1].mapping_id.as_str(), told[2].revision), (id.as_str(), 3));
    assert_eq!(told[2].detail, "to revision 1, 1 mappings: as <b>before</b>");

    let of_mapping = ListActivityRequest { mapping_id: id, page_size: 1, ..ListActivityRequest::default() };
    let first = server.status().await.list_activity(of_mapping.clone()).await.unwrap().into_inner();
    assert_eq!(kinds(&first.activities), [ActivityKind::MappingResumed]);
    let next = ListActivityRequest { page_token: first.next_page_token, ..of_mapping };
    let last = server.status().await.list_activity(next).await.unwrap().into_inner();
    assert_eq!(kinds(&last.activities), [ActivityKind::MappingPaused]);
    assert_eq!(last.next_page_token, "");
    let applied = ListActivityRequest { kind: ActivityKind::ConfigApplied.into(), ..Default::default() };
    assert_eq!(server.status().await.list_activity(applied).await.unwrap().into_inner().activities.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_line_that_cannot_be_written_costs_nobody_anything_else() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let server = Server::start_with(Arc::clone(&folder), settings(), None).await;
    let database = rusqlite::Connection::open(folder.path().join("data/state.db")).unwrap();
    let forbid = "CREATE TRIGGER no_activity BEFORE INSERT ON activity BEGIN SELECT RAISE(ABORT, 'no'); END";
    database.execute_batch(forbid).unwrap();
    server.apply(&document(&["c"]), 0).await.unwrap();
    let pause = PauseMappingRequest { mapping: server.mapping_ids().remove(0) };
    server.status().await.pause_mapping(pause).await.unwrap();
    let store = &server.control.store;
    let line = Line::asked(ActivityKind::RetryOrdered, 1, "me", "lost".to_owned());
    store.record(vec![line]).await.unwrap();
    store.save_progress("n", vec![progress("d", "c", 5)]).await.unwrap();
    assert_eq!(store.trouble(), None);
    assert_eq!(activity(&server).await, []);
    database.execute_batch("DROP TRIGGER no_activity").unwrap();

    let server = server.restart().await;
    let mut status = server.status().await;
    let mappings = status.list_mappings(ListMappingsRequest::default()).await.unwrap().into_inner().mappings;
    assert!(mappings[0].is_paused, "{mappings:?}");
    assert_eq!(server.control.push.current().revision, 1);
    server.control.activities.tell(Line::asked(ActivityKind::RetryOrdered, 1, "me", "kept".to_owned()));
    eventually(|| activity(&server), |told| told.len() == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn repairs_of_many_containers_are_few_lines_with_all_their_names() {
    let server = Server::start().await;
    for round in 0..2 {
        for container in 0..50 {
            let place = format!("AUTH_a/c{container}");
            let line = swift_s3_control::activity::repair("me", "m", &place, false, 3);
            server.control.activities.tell(Line { at_ms: round, ..line });
        }
    }
    let has_all = |told: &Vec<Activity>| {
        let names = told.iter().filter_map(|one| one.detail.split(' ').next()?.parse::<u32>().ok());
        names.sum::<u32>() == 300
    };
    let told = eventually(|| activity(&server), has_all).await;
    // An hour may begin in between.
    assert!(told.len() == 11 || told.len() == 22, "{told:?}");
    assert!(told[0].detail.ends_with("names of more containers to be handled again"), "{told:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_hold_of_last_week_keeps_its_time_and_the_words_of_the_node_that_told_it() {
    let server = Server::start().await;
    let today = prost_types::Timestamp::from(std::time::SystemTime::now());
    let last_week = prost_types::Timestamp { seconds: today.seconds - 7 * 86_400, nanos: 0 };
    server.apply(&document(&["c"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let held = |because: &str| {
        let status = FeedStatus {
            deletes_held_at: Some(last_week),
            deletes_held_because: because.to_owned(),
            ..feed("d", &id, "c", 1)
        };
        let heartbeat = Heartbeat { feeds: vec![status], ..Heartbeat::default() };
        node_message::Message::Heartbeat(heartbeat)
    };
    let first = server.worker("n").await;
    first.send(held("first")).await;
    let told = eventually(|| told_of(&server, ActivityKind::DeletesHeld), |told| told.len() == 1).await;
    assert_eq!(told[0].at, Some(last_week));
    let mut second = server.worker("m").await;
    second.send(held("second")).await;
    second.send(node_message::Message::Progress(ProgressReport::default())).await;
    while !matches!(second.next().await.unwrap(), control_message::Message::ProgressAck(_)) {}
    // Written with what was told before, or after it.
    let third = server.worker("o").await;
    let has_third = |told: &Vec<Activity>| told.iter().any(|one| one.node_id == "o");
    eventually(|| activity(&server), has_third).await;
    let told = told_of(&server, ActivityKind::DeletesHeld).await;
    assert_eq!((told.len(), told[0].node_id.as_str()), (1, "n"));
    assert!(told[0].detail.ends_with("first"), "{told:?}");
    drop((first, second, third));
    server.stop().await;
}

/// Times short enough to see a node fall silent.
fn quick() -> Settings {
    let (silence, absence) = (Duration::from_millis(300), Duration::from_millis(600));
    Settings { silence, worker_absence: absence, ..settings() }
}

async fn told_of(server: &Server, kind: ActivityKind) -> Vec<Activity> {
    activity(server).await.into_iter().filter(|one| one.kind() == kind).collect()
}

#[tokio::test]
async fn a_node_that_comes_goes_and_comes_back_is_told_once_each_and_a_restart_of_control_is_not() {
    let server = Server::start_with(Arc::new(tempfile::tempdir().unwrap()), quick(), None).await;
    let node = server.worker("n").await;
    let new = |told: &Vec<Activity>| told.len() == 1;
    let told = eventually(|| told_of(&server, ActivityKind::NodeConnected), new).await;
    assert_eq!((told[0].node_id.as_str(), told[0].is_asked_for), ("n", false));
    assert!(told[0].detail.starts_with("for the first time, version 0.1.0"), "{told:?}");
    // A connection that is made anew by the same process is no news.
    let again = server.worker("n").await;
    drop(node);
    drop(again);
    let lost = eventually(|| told_of(&server, ActivityKind::NodeLost), new).await;
    assert!(lost[0].detail.starts_with("no sign of life since 20"), "{lost:?}");
    let server = server.restart().await;
    let node = server.worker("n").await;
    let back = eventually(|| told_of(&server, ActivityKind::NodeConnected), |told| told.len() == 2).await;
    assert!(back[0].detail.starts_with("again, after it was silent"), "{back:?}");

    drop(node);
    server.stop().await;
}

#[tokio::test]
async fn a_process_that_starts_anew_is_told_and_one_that_stays_over_a_restart_of_control_is_not() {
    let server = Server::start().await;
    let stays = server.worker("n").await;
    eventually(|| told_of(&server, ActivityKind::NodeConnected), |told| told.len() == 1).await;
    let server = server.restart().await;
    drop(stays);
    let stays = server.worker("n").await;
    let first = server.worker("m").await;
    eventually(|| told_of(&server, ActivityKind::NodeConnected), |told| told.len() == 2).await;
    drop(first);
    connect_when_free(&server, "m", "another process").await.welcome().await;
    let told = eventually(|| told_of(&server, ActivityKind::NodeConnected), |told| told.len() == 3).await;
    assert!(told[0].detail.starts_with("again, after a start of its process"), "{told:?}");
    assert_eq!(told.iter().filter(|one| one.node_id == "n").count(), 1, "{told:?}");
    drop(stays);
    server.stop().await;
}

/// Another process may connect once the first one is off.
async fn connect_when_free(server: &Server, node_id: &str, instance_id: &str) -> crate::support::Node {
    eventually(|| async { server.control.registry.is_connected(node_id) }, |is| *is == Some(false)).await;
    crate::support::Node::connect(server, hello(node_id, instance_id)).await
}

#[tokio::test]
async fn a_node_that_is_gone_while_control_starts_is_told_once_however_often_it_starts() {
    let server = Server::start_with(Arc::new(tempfile::tempdir().unwrap()), quick(), None).await;
    drop(server.worker("n").await);
    let mut server = server.restart().await;
    eventually(|| told_of(&server, ActivityKind::NodeLost), |told| told.len() == 1).await;
    for _ in 0..2 {
        server = server.restart().await;
        // Long enough to be told again; a second node shows that what there was to tell is told.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(told_of(&server, ActivityKind::NodeLost).await.len(), 1);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_fleet_that_connects_at_once_is_a_few_lines() {
    let server = Server::start().await;
    let mut fleet = Vec::new();
    for number in 0..60 {
        fleet.push(server.worker(&format!("n{number:02}")).await);
    }
    // Over a minute's end it is twice as many lines.
    let count = |told: &Vec<Activity>| -> u64 {
        let more = |one: &Activity| one.detail.split(' ').next()?.parse::<u64>().ok();
        told.iter().map(|one| more(one).unwrap_or(1)).sum()
    };
    let told = eventually(|| told_of(&server, ActivityKind::NodeConnected), |told| count(told) == 60).await;
    assert!(told.len() <= 22, "{told:?}");
    let rest = told.iter().find(|one| one.detail.ends_with(" more nodes connected in this minute"));
    assert!(rest.is_some_and(|rest| rest.node_id.is_empty()), "{told:?}");
    server.stop().await;
}

#[tokio::test]
async fn takeovers_holds_and_refusals_that_are_told_again_and_again_are_one_line_each() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let id = server.mapping_ids().remove(0);
    let now = || Some(std::time::SystemTime::now().into());
    let taken = |shares, at| Takeover {
        at: Some(at),
        is_returned: false,
        device: "10.0.0.1:6201/d1".to_owned(),
        home_node_id: "gone".to_owned(),
        shares,
        seconds: 0.5,
    };
    let held = FeedStatus {
        deletes_held_at: now(),
        deletes_held_because: "600 of 1000 objects would be deleted".to_owned(),
        ..feed("db", &id, "c", 0)
    };
    let beat = |takeovers: Vec<Takeover>| {
        let coordination = Some(Coordination { takeovers, ..Coordination::default() });
        let feeds = vec![held.clone()];
        node_message::Message::Heartbeat(Heartbeat {
            coordination,
            feeds,
            is_complete: true,
            ..Heartbeat::default()
        })
    };
    let at: prost_types::Timestamp = now().unwrap();
    let refuse = async |server: &Server| {
        let mut node = crate::support::Node::connect(server, hello("n", "p")).await;
        node.welcome().await;
        let snapshot = node.snapshot().await;
        node.answer(&snapshot, ConfigOutcome::Rejected).await;
        node
    };
    let node = refuse(&server).await;
    node.send(beat(vec![taken(3, at)])).await;
    eventually(|| told_of(&server, ActivityKind::SharesTaken), |told| told.len() == 1).await;
    // More of the same takeover.
    node.send(beat(vec![taken(5, at)])).await;
    let grown =
        |told: &Vec<Activity>| told[0].detail.starts_with("5 shares of device 10.0.0.1:6201/d1 of node gone");
    eventually(|| told_of(&server, ActivityKind::SharesTaken), grown).await;

    let server = server.restart().await;
    let node = refuse(&server).await;
    let later = prost_types::Timestamp { nanos: at.nanos ^ 1, ..at };
    node.send(beat(vec![taken(5, at), Takeover { is_returned: true, ..taken(5, later) }])).await;
    eventually(|| told_of(&server, ActivityKind::SharesReturned), |told| told.len() == 1).await;
    for kind in [ActivityKind::SharesTaken, ActivityKind::DeletesHeld, ActivityKind::ConfigRejected] {
        let told = told_of(&server, kind).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].node_id, "n");
    }
    let held = told_of(&server, ActivityKind::DeletesHeld).await.remove(0);
    assert_eq!(held.mapping_id, id);
    assert_eq!(held.detail, "of AUTH_a/c: 600 of 1000 objects would be deleted");
    server.stop().await;
}

#[tokio::test]
async fn retries_and_forgotten_nodes_are_told_with_what_was_asked_for() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let mut failing = progress("db", "c", 1);
    failing.parked = vec![parked("o", 1)];
    node.report(vec![failing]).await;
    let mut status = server.status().await;
    let retry = RetryFailuresRequest {
        account: "AUTH_a".to_owned(),
        reason: "remote_refused".to_owned(),
        ..RetryFailuresRequest::default()
    };
    status.retry_failures(retry).await.unwrap();
    drop(node);
    eventually(|| async { server.control.registry.is_connected("n") }, |is| *is == Some(false)).await;
    status.forget_node(ForgetNodeRequest { node_id: "n".to_owned() }).await.unwrap();
    let people = ListActivityRequest { only_people: true, ..ListActivityRequest::default() };
    let ask = || async {
        let mut status = server.status().await;
        status.list_activity(people.clone()).await.unwrap().into_inner().activities
    };
    let told = eventually(ask, |told| told.len() == 2).await;
    assert_eq!(kinds(&told), [ActivityKind::NodeForgotten, ActivityKind::RetryOrdered]);
    assert_eq!(
        (told[0].node_id.as_str(), told[1].detail.as_str()),
        ("n", "1 rows of AUTH_a, reason remote_refused")
    );
    server.stop().await;
}

#[tokio::test]
async fn what_happens_never_pushes_out_what_people_did() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    let happened = |number| Line::happened(ActivityKind::NodeLost, number, format!("number {number}"));
    for part in 0..13_i64 {
        server.control.store.record((0..400).map(|n| happened(part * 400 + n)).collect()).await.unwrap();
    }
    let mut request = ListActivityRequest { page_size: 1_000, ..ListActivityRequest::default() };
    let mut told = Vec::new();
    loop {
        let page = server.status().await.list_activity(request.clone()).await.unwrap().into_inner();
        told.extend(page.activities);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(told.len(), 5_001);
    assert_eq!(told[0].detail, "number 5199");
    assert_eq!(told[5_000].kind(), ActivityKind::ConfigApplied);
    server.stop().await;
}
