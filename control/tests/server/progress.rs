use swift_s3_proto::v1::*;
use tonic::Code;

use crate::support::{Server, key, parked, progress};

async fn load(server: &Server, databases: &[&str]) -> Vec<FeedProgress> {
    let keys = databases.iter().map(|database| key(database)).collect();
    let request = LoadProgressRequest { node_id: "n".to_owned(), keys };
    server.nodes().await.load_progress(request).await.unwrap().into_inner().feeds
}

fn names(feed: &FeedProgress) -> Vec<(&str, u32)> {
    feed.parked.iter().map(|row| (row.object.as_str(), row.attempts)).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let mut feed = progress("db1", "c", 41);
    feed.cursors.insert("others".to_owned(), 7);
    feed.parked = vec![parked("b", 1), parked("a", 0)];
    assert_eq!(node.report(vec![feed.clone(), progress("db2", "d", 1)]).await, "");
    feed.cursors.insert("own".to_owned(), 42);
    feed.parked = Vec::new();
    feed.is_complete = false;
    assert_eq!(node.report(vec![feed.clone()]).await, "");

    let server = server.restart().await;
    let loaded = load(&server, &["db1", "unknown"]).await;
    assert_eq!(loaded.len(), 1, "feeds that nothing is known of are left out");
    feed.is_complete = true;
    feed.parked = vec![parked("a", 0), parked("b", 1)];
    assert_eq!(loaded[0], feed);
    server.stop().await;
}

#[tokio::test]
async fn parked_rows_are_merged_removed_and_replaced_as_reports_say() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let report = |parked: Vec<ParkedRow>, unparked: &[&str], is_complete: bool| FeedProgress {
        parked,
        unparked: unparked.iter().map(|name| (*name).to_owned()).collect(),
        is_complete,
        ..progress("db", "c", 1)
    };
    for (feed, expected) in [
        (report(vec![parked("a", 1), parked("b", 1)], &[], true), vec![("a", 1), ("b", 1)]),
        (report(vec![parked("b", 2), parked("c", 1)], &["a"], false), vec![("b", 2), ("c", 1)]),
        (report(vec![], &[], false), vec![("b", 2), ("c", 1)]),
        (report(vec![], &["b", "never there"], false), vec![("c", 1)]),
        // Removed and set aside anew in one report: it is set aside.
        (report(vec![parked("c", 5)], &["c"], false), vec![("c", 5)]),
        (report(vec![parked("d", 1)], &[], true), vec![("d", 1)]),
        (report(vec![], &[], true), vec![]),
    ] {
        assert_eq!(node.report(vec![feed]).await, "");
        assert_eq!(names(&load(&server, &["db"]).await[0]), expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_report_that_is_not_acceptable_is_refused_whole_and_takes_nothing_else_with_it() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let mut other = server.worker("other").await;
    let long = |bytes: usize| "x".repeat(bytes);
    let with = |change: fn(&mut FeedProgress, String), bytes: usize| {
        let mut feed = progress("bad", "c", 1);
        change(&mut feed, long(bytes));
        feed
    };
    for bad in [
        FeedProgress { key: None, ..progress("bad", "c", 1) },
        with(|feed, long| feed.account = long, 1_025),
        with(|feed, long| feed.key.as_mut().unwrap().database_id = long, 1_025),
        with(|feed, long| feed.parked = vec![parked(&long, 1)], 4_097),
        with(|feed, long| feed.delete_valve = long, 65_537),
        with(|feed, _| feed.parked = (0..10_001).map(|i| parked(&i.to_string(), 1)).collect(), 0),
    ] {
        let (failure, fine) = tokio::join!(
            node.report(vec![progress("good", "c", 1), bad]),
            other.report(vec![progress("other", "c", 1)])
        );
        assert!(!failure.is_empty());
        assert_eq!(fine, "");
    }
    assert!(load(&server, &["good", "bad"]).await.is_empty());
    assert_eq!(load(&server, &["other"]).await.len(), 1);

    // Little by little is too many as well.
    let many = |from: usize, count: usize| FeedProgress {
        parked: (from..from + count).map(|index| parked(&index.to_string(), 1)).collect(),
        ..progress("many", "c", 1)
    };
    assert_eq!(node.report(vec![many(0, 9_999)]).await, "");
    let two_more = FeedProgress { is_complete: false, ..many(9_999, 2) };
    assert!(node.report(vec![two_more]).await.contains("10001 rows"));
    assert_eq!(load(&server, &["many"]).await[0].parked.len(), 9_999);
    server.stop().await;
}

#[tokio::test]
async fn a_change_of_what_nothing_is_known_of_is_refused_until_all_of_it_comes() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let all = FeedProgress { parked: vec![parked("a", 1)], ..progress("db", "c", 7) };
    let change = FeedProgress { is_complete: false, ..progress("db", "c", 8) };
    let failure = node.report(vec![change.clone()]).await;
    assert!(failure.contains("db of AUTH_a/c") && failure.contains("send all of it"), "{failure}");
    assert!(load(&server, &["db"]).await.is_empty());
    assert_eq!(node.report(vec![all]).await, "");
    assert_eq!(node.report(vec![change]).await, "");
    let loaded = load(&server, &["db"]).await;
    assert_eq!((loaded[0].cursors["own"], names(&loaded[0])), (8, vec![("a", 1)]));
    server.stop().await;
}

#[tokio::test]
async fn what_was_handed_in_before_a_question_is_part_of_its_answer() {
    let server = Server::start().await;
    let store = server.control.store.clone();
    let many = |cursor| (0..500).map(|index| progress(&format!("db{index}"), "c", cursor)).collect();
    for cursor in 1..10 {
        // The first of both is handed in before the second begins.
        let (saved, loaded) =
            tokio::join!(biased; store.save_progress("n", many(cursor)), load(&server, &["db499"]));
        saved.unwrap();
        assert_eq!(loaded[0].cursors["own"], cursor);
    }
    server.stop().await;
}

#[tokio::test]
async fn long_messages_are_cut_at_a_whole_character() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let mut feed = progress("db", "c", 1);
    feed.parked = vec![ParkedRow { message: "ü".repeat(2_000), ..parked("o", 1) }];
    assert_eq!(node.report(vec![feed]).await, "");
    assert_eq!(load(&server, &["db"]).await[0].parked[0].message, "ü".repeat(500));
    server.stop().await;
}

#[tokio::test]
async fn too_much_to_load_at_once_is_an_error_never_a_gap() {
    let server = Server::start().await;
    let mut node = server.worker("n").await;
    let databases: Vec<String> = (0..6).map(|index| format!("db{index}")).collect();
    for database in &databases {
        let mut feed = progress(database, "c", 1);
        let row = |index: usize| ParkedRow {
            message: "m".repeat(990),
            ..parked(&format!("{index}{}", "o".repeat(900)), 1)
        };
        feed.parked = (0..5_000).map(row).collect();
        assert_eq!(node.report(vec![feed]).await, "");
    }
    let keys = databases.iter().map(|database| key(database)).collect();
    let request = LoadProgressRequest { node_id: "n".to_owned(), keys };
    let refused = server.nodes().await.load_progress(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("fewer"), "{refused:?}");
    assert_eq!(load(&server, &["db0", "db1"]).await.len(), 2);
    let keys = vec![key("x"); 1_001];
    let request = LoadProgressRequest { node_id: "n".to_owned(), keys };
    assert_eq!(server.nodes().await.load_progress(request).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_told_to_all_and_work_goes_on_once_there_is_room() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let server = Server::start_with(folder, crate::support::settings(), Some(60)).await;
    let mut node = server.worker("n").await;
    let large = |database: &str| {
        let mut feed = progress(database, "c", 1);
        feed.parked = (0..200).map(|index| parked(&format!("{index}{}", "o".repeat(500)), 1)).collect();
        feed
    };
    let mut stored = 0;
    let failure = loop {
        let failure = node.report(vec![large(&format!("db{stored}"))]).await;
        if !failure.is_empty() {
            break failure;
        }
        stored += 1;
        assert!(stored < 100, "the limit was not met");
    };
    assert!(failure.contains("full"), "{failure}");
    assert!(load(&server, &[&format!("db{stored}")]).await.is_empty(), "nothing of it was stored");
    let status = server.status().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.alerts[0].starts_with("control cannot store progress"), "{:?}", status.alerts);
    let document =
        crate::support::document(&["c"]).replacen('{', &format!("{{\"//\":\"{}\",", "x".repeat(300_000)), 1);
    assert_eq!(server.apply(&document, 0).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(server.control.push.current().revision, 0, "nothing is pushed that is not stored");

    server.control.store.set_max_pages(1_000_000).await.unwrap();
    assert_eq!(node.report(vec![large(&format!("db{stored}"))]).await, "");
    assert_eq!(server.apply(&document, 0).await.unwrap(), 1);
    let status = server.status().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(!status.alerts.iter().any(|alert| alert.contains("cannot store")), "{:?}", status.alerts);
    server.stop().await;
}
