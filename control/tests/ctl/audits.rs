//! Comparisons, their repair, and plans.

use std::fs;

use swift_s3_proto::v1::{
    CompareContainerResponse, CompareCounts, Difference, DifferenceKind, MappingStatus,
};
use tonic::Status;

use crate::canned::CannedServer;
use crate::program::Home;

fn mapping(container: &str) -> MappingStatus {
    MappingStatus {
        mapping_id: "0123456789ab".into(),
        account: "AUTH_a".into(),
        container: container.into(),
        ..MappingStatus::default()
    }
}

fn page(next: &str, differences: &[(&str, DifferenceKind)]) -> CompareContainerResponse {
    let count = |wanted| differences.iter().filter(|(_, kind)| *kind == wanted).count() as u64;
    CompareContainerResponse {
        counts: Some(CompareCounts {
            compared: 10,
            equal: 10 - differences.len() as u64,
            missing: count(DifferenceKind::Missing),
            extra: count(DifferenceKind::Extra),
            pending: count(DifferenceKind::Pending),
            not_compared: count(DifferenceKind::NotCompared),
            bytes_to_repair: 5,
            ..CompareCounts::default()
        }),
        differences: differences
            .iter()
            .map(|(object, kind)| Difference {
                object: (*object).to_owned(),
                kind: (*kind).into(),
                detail: "why\u{1b}[2J".to_owned(),
                local_bytes: Some(5),
                ..Difference::default()
            })
            .collect(),
        next_start_after: next.to_owned(),
        is_done: next.is_empty(),
        object_count: 20,
        list_requests: 1,
        ..CompareContainerResponse::default()
    }
}

async fn serve(
    container: &str,
    pages: Vec<Result<CompareContainerResponse, Status>>,
) -> (CannedServer, Home) {
    let server = CannedServer::start().await;
    *server.canned.mappings.lock().unwrap() = vec![mapping(container)];
    *server.canned.pages.lock().unwrap() = pages;
    let home = Home::new(&server.url());
    (server, home)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_followed_to_the_end_and_differences_told_harmlessly() {
    use DifferenceKind::{Missing, Pending};
    let pages = vec![Ok(page("m", &[("a\u{1b}[2J", Missing)])), Ok(page("", &[("z", Pending)]))];
    let (server, home) = serve("c", pages.clone()).await;
    let shown = home.run(&["audit", "--mapping", "AUTH_a/c"]).await.exits(3);
    assert!(shown.stdout.contains("missing    c/a\\x1b[2J  (5 B): why\\x1b[2J\n"), "{shown:?}");
    assert!(shown.stdout.contains("1 difference: 20 names in 1 container"), "{shown:?}");
    assert_eq!(server.canned.asked("start_after: \"m\"").len(), 1);
    *server.canned.pages.lock().unwrap() = pages;
    let shown = home.run(&["audit", "--mapping", "0123456789ab", "-o", "json"]).await.exits(3);
    let lines: Vec<serde_json::Value> =
        shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{shown:?}");
    assert_eq!((&lines[0]["kind"], &lines[0]["remote_bytes"]), (&"missing".into(), &serde_json::Value::Null));
    assert_eq!(
        (&lines[2]["summary"]["compared"], &lines[2]["summary"]["is_equal"]),
        (&20.into(), &false.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_or_cannot_be_compared_is_no_error_and_no_proof() {
    let (server, home) = serve("c", vec![Ok(page("", &[("z", DifferenceKind::Pending)]))]).await;
    let shown = home.run(&["audit", "--mapping", "AUTH_a/c"]).await.exits(5);
    assert!(shown.stdout.contains("not proven equal: 10 names"), "{shown:?}");
    let uncompared = || vec![Ok(page("", &[("z", DifferenceKind::NotCompared)]))];
    *server.canned.pages.lock().unwrap() = uncompared();
    let shown = home.run(&["audit", "--mapping", "AUTH_a/c", "-o", "json"]).await.exits(5);
    assert!(shown.stdout.contains("\"is_equal\":false"), "{shown:?}");
    *server.canned.pages.lock().unwrap() = uncompared();
    home.run(&["audit", "--mapping", "AUTH_a/c", "--repair"]).await.exits(5);
    *server.canned.pages.lock().unwrap() = vec![Ok(page("", &[]))];
    let shown = home.run(&["audit", "--mapping", "AUTH_a/c"]).await.exits(0);
    assert!(shown.stdout.starts_with("equal: 10 names"), "{shown:?}");
    let strayed = home.run(&["audit", "--mapping", "AUTH_a/c", "--container", "d"]).await.exits(2);
    assert!(strayed.stderr.contains("not about container d"), "{strayed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_containers_of_an_account_are_walked() {
    let (server, home) = serve("/*", vec![Ok(page("", &[])), Ok(page("", &[]))]).await;
    let shown = home.run(&["audit", "--mapping", "0123456789ab"]).await.exits(0);
    assert!(shown.stdout.contains("20 names in 2 containers"), "{shown:?}");
    assert_eq!(server.canned.asked("container: \"c2\"").len(), 1);
    // One that is deleted meanwhile is left out.
    *server.canned.pages.lock().unwrap() = vec![Err(Status::not_found("no container")), Ok(page("", &[]))];
    let shown = home.run(&["audit", "--mapping", "0123456789ab"]).await.exits(0);
    assert!(shown.stdout.contains("10 names in 1 container"), "{shown:?}");
    assert!(shown.stdout.contains("1  containers deleted meanwhile"), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_goes_on_where_it_was_broken_off() {
    use DifferenceKind::Missing;
    let refused = Err(Status::failed_precondition("no"));
    let (server, home) = serve("c", vec![Ok(page("m", &[("a", Missing)])), refused]).await;
    let words = ["audit", "--mapping", "AUTH_a/c", "--state", "state"];
    let broken = home.run(&words).await.exits(1);
    assert!(broken.stderr.contains("run it again with --state state"), "{broken:?}");
    *server.canned.pages.lock().unwrap() = vec![Err(Status::unavailable("restarting")), Ok(page("", &[]))];
    let shown = home.run(&words).await.exits(3);
    assert!(shown.stderr.contains("trying again in 1 s"), "{shown:?}");
    assert!(shown.stdout.contains("1 difference: 20 names") && !shown.stdout.contains("c/a"), "{shown:?}");
    // What was found in the first run is repaired in the third.
    let repaired = home.run(&[&words[..], &["--repair", "--yes"]].concat()).await.exits(0);
    assert!(repaired.stdout.contains("repaired: 1 copied; 5 B sent; 0 differences left"), "{repaired:?}");
    assert_eq!(server.canned.asked("objects: [\"a\"]").len(), 1);
    *server.canned.mappings.lock().unwrap() =
        vec![MappingStatus { mapping_id: "ba9876543210".into(), ..mapping("c") }];
    assert!(home.run(&words).await.exits(2).stderr.contains("another comparison"));
    let names = fs::read_dir(home.folder.path()).unwrap().count();
    assert_eq!(names, 2, "the state and its names, nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_shows_asks_and_does_no_more_than_was_said() {
    use DifferenceKind::{Extra, Missing};
    let pages = || vec![Ok(page("", &[("bad", Missing), ("good", Missing), ("stray", Extra)]))];
    let (server, home) = serve("c", pages()).await;
    let words = ["audit", "--mapping", "AUTH_a/c", "--repair"];
    let with = |more: &[&'static str]| [&words[..], more].concat();
    let again = || *server.canned.pages.lock().unwrap() = pages();
    let shown = home.run(&with(&["--dry-run", "--delete-extra", "--never-archived"])).await.exits(3);
    assert!(shown.stderr.contains("2 names handled again (5 B), 1 name removed"), "{shown:?}");
    again();
    assert!(home.run(&words).await.exits(2).stderr.contains("expected --yes"), "nobody can be asked");
    assert!(server.canned.asked("RepairObjectsRequest").is_empty());
    again();
    let shown = home.run(&with(&["--yes"])).await.exits(3);
    assert!(shown.stdout.contains("failed      c/bad: because"), "{shown:?}");
    assert!(
        shown.stdout.contains("repaired: 1 copied, 1 failed; 10 B sent; 2 differences left"),
        "{shown:?}"
    );
    assert!(server.canned.asked("DeleteExtra").is_empty(), "nobody asked for deletes");
    again();
    home.run(&with(&["--yes", "--delete-extra", "--never-archived", "--force"])).await.exits(3);
    let deletes = server.canned.asked("DeleteExtra");
    assert!(deletes[0].contains("[\"stray\"]") && deletes[0].contains("planned_deletes: 1"), "{deletes:?}");
    assert!(deletes[0].contains("ignore_delete_limit: true"), "{deletes:?}");
    assert!(deletes[0].contains("never_archived: true"), "{deletes:?}");
    home.run(&["audit", "--mapping", "AUTH_a/c", "--delete-extra", "--never-archived"]).await.exits(2);
    let refused = home.run(&with(&["--yes", "--delete-extra"])).await.exits(2);
    assert!(refused.stderr.contains("--delete-extra needs --never-archived"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_prices_what_is_new() {
    let (server, home) = serve("c", Vec::new()).await;
    let document = |class: &str| {
        format!(
            r#"{{"containers": [{{"account": "AUTH_a", "container": "new", "aws_bucket": "b", "storage_class": "{class}",
                "aws_identity": "i", "aws_secret": "s"}}, {{"account": "AUTH_a", "container": "absent", "aws_bucket": "b",
                "aws_identity": "i", "aws_secret": "s"}}]}}"#
        )
    };
    home.write("sync.json", &document("STANDARD_IA"));
    let plan = ["plan", "--file", "sync.json", "--bandwidth", "1MiB"];
    let shown = home.run(&plan).await.exits(0);
    assert!(
        shown.stdout.contains("2000 objects of at most 128 KiB in STANDARD_IA are billed as 131072"),
        "{shown:?}"
    );
    assert!(shown.stdout.contains("1 of its containers do not exist yet"), "{shown:?}");
    let json = home.run(&[&plan[..], &["-o", "json"]].concat()).await.exits(0).json();
    let first = &json["mappings"][0];
    assert_eq!((&first["objects"], &first["puts"], &first["lists"]), (&2000.into(), &2000.into(), &2.into()));
    assert_eq!((&first["seconds"], &first["status"]), (&2.0.into(), &"new".into()));
    assert!((first["cost"]["requests"].as_f64().unwrap() - 0.02001).abs() < 1e-9, "{json}");
    assert_eq!(json["prices"]["currency"], "USD");
    home.write("prices.toml", "currency = \"EUR\"\n");
    let json =
        home.run(&[&plan[..], &["-o", "json", "--prices", "prices.toml"]].concat()).await.exits(0).json();
    assert_eq!(json["prices"]["currency"], "EUR");
    home.run(&[&plan[..], &["--mapping", "AUTH_a/nothing"]].concat()).await.exits(1);
    assert_eq!(server.canned.asked("start_after: \"m\"").len(), 3);
}
