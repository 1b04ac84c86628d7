use swift_s3_proto::v1::*;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{SECRET, Server, document};

#[tokio::test]
async fn a_document_is_applied_read_listed_compared_and_rolled_back() {
    let server = Server::start().await;
    let mut config = server.config().await;
    let none = config.get_config(GetConfigRequest { revision: 0 }).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    assert_eq!(server.apply(&document(&["one"]), 0).await.unwrap(), 1);
    assert_eq!(server.apply(&document(&["one", "two"]), 1).await.unwrap(), 2);

    let read = config.get_config(GetConfigRequest { revision: 0 }).await.unwrap().into_inner();
    let about = read.revision.unwrap();
    assert_eq!((about.revision, about.mappings, about.comment.as_str()), (2, 2, "by a test"));
    assert!(read.document.contains("\"***\"") && !read.document.contains(SECRET));

    // What was read can be applied as it is: placeholders keep the secrets, and nothing differs.
    assert_eq!(server.apply(&read.document, 2).await.unwrap(), 2);

    let diff = DiffConfigRequest { from_revision: 1, to_revision: 2, document: String::new() };
    let changes = config.diff_config(diff).await.unwrap().into_inner().changes;
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].kind(), changes[0].mapping.as_str()), (ChangeKind::Added, "AUTH_a/two"));

    let rollback = RollbackConfigRequest { revision: 1, expected_revision: 2, comment: "back".to_owned() };
    let back = config.rollback_config(rollback).await.unwrap().into_inner().revision.unwrap();
    assert_eq!((back.revision, back.rolled_back_to, back.mappings), (3, 1, 1));
    assert_eq!(server.control.push.current().text(), document(&["one"]).as_str().pretty());

    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRevisionsRequest { page_size: 2, page_token };
        let page = config.list_revisions(request).await.unwrap().into_inner();
        seen.extend(page.revisions.iter().map(|revision| revision.revision));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [3, 2, 1]);

    // A restart remembers all of it.
    let server = server.restart().await;
    assert_eq!(server.control.push.current().revision, 3);
    let missing = server.config().await.get_config(GetConfigRequest { revision: 9 }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    server.stop().await;
}

trait Pretty {
    fn pretty(&self) -> String;
}

impl Pretty for str {
    /// As documents are stored.
    fn pretty(&self) -> String {
        let value: serde_json::Value = serde_json::from_str(self).unwrap();
        format!("{value:#}\n")
    }
}

#[tokio::test]
async fn of_many_changes_at_once_one_wins_and_the_others_are_told() {
    let server = Server::start().await;
    let documents: Vec<String> = (0..8).map(|index| document(&[&format!("c{index}")])).collect();
    let results =
        futures_util::future::join_all(documents.iter().map(|document| server.apply(document, 0))).await;
    let won: Vec<i64> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
    assert_eq!(won, [1]);
    for lost in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(lost.code(), Code::Aborted);
        assert!(lost.message().contains("revision in force is 1"), "{lost:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_problem_of_a_document_is_named_and_nothing_is_applied() {
    let server = Server::start().await;
    let bad = format!(
        "{{\"containers\":[{{\"account\":\"a\",\"container\":\"c\",\"aws_secret\":\"{SECRET}\"}},{{\"copy_after\":\"x\"}}]}}"
    );
    let refused = server.apply(&bad, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_details_bad_request().unwrap();
    let paths: Vec<&str> =
        details.field_violations.iter().map(|violation| violation.field.as_str()).collect();
    assert!(
        paths.contains(&"containers[0].aws_bucket") && paths.contains(&"containers[1].account"),
        "{paths:?}"
    );
    assert!(refused.message().contains("containers[0]"), "{}", refused.message());
    assert!(!format!("{refused:?}").contains(SECRET));

    let validated = server.config().await.validate_config(ValidateConfigRequest { document: bad }).await;
    assert_eq!(validated.unwrap().into_inner().problems.len(), paths.len());

    let placeholder = document(&["c"]).replace(SECRET, "***");
    let refused = server.apply(&placeholder, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("containers[0].aws_secret"), "{}", refused.message());

    // More problems than fit into an answer's headers are still an answer.
    let many = format!("{{\"containers\":[{}]}}", vec!["{\"account\":5}"; 5_000].join(","));
    let refused = server.apply(&many, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let last = refused.get_details_bad_request().unwrap().field_violations.pop().unwrap();
    assert!(last.description.contains("more; ValidateConfig tells all"), "{last:?}");
    assert_eq!(server.control.push.current().revision, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_dry_run_and_a_validation_change_nothing() {
    let server = Server::start().await;
    let request = ApplyConfigRequest { document: document(&["c"]), dry_run: true, ..Default::default() };
    let tried = server.config().await.apply_config(request).await.unwrap().into_inner();
    assert_eq!((tried.revision.unwrap().revision, tried.changes.is_empty()), (0, false));
    let request = ValidateConfigRequest { document: document(&["c"]) };
    let valid = server.config().await.validate_config(request).await.unwrap().into_inner();
    assert_eq!((valid.mappings, valid.problems.len(), valid.changes.is_empty()), (1, 0, false));
    assert_eq!(server.control.push.current().revision, 0);

    let long =
        ApplyConfigRequest { document: document(&["c"]), comment: "x".repeat(1_001), ..Default::default() };
    assert_eq!(server.config().await.apply_config(long).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn comments_are_kept_and_the_note_of_a_tool_makes_no_revision() {
    let server = Server::start().await;
    let plain = document(&["c"]);
    server.apply(&plain, 0).await.unwrap();
    let with = |comment: &str| plain.replacen('{', &format!("{{\"{comment}\":\"1\","), 1);
    assert_eq!(server.apply(&with("// revision"), 1).await.unwrap(), 1);
    assert_eq!(server.apply(&with("// why"), 1).await.unwrap(), 2);
    assert!(server.control.push.current().text().contains("// why"));
    server.stop().await;
}

#[tokio::test]
async fn a_watcher_of_the_policy_gets_each_latest_snapshot_also_behind_a_restart() {
    let server = Server::start().await;
    let mut policy = server.policy().await;
    assert_eq!(policy.get_snapshot(GetSnapshotRequest {}).await.unwrap_err().code(), Code::NotFound);
    server.apply(&document(&["c"]), 0).await.unwrap();
    let first = policy.get_snapshot(GetSnapshotRequest {}).await.unwrap().into_inner();
    assert!(std::str::from_utf8(&first.document).unwrap().contains(SECRET), "nodes need the secrets");
    assert_eq!((first.revision, first.nonce.as_str(), first.worker_count), (1, "", 1));

    let request = WatchSnapshotRequest { generation: 0 };
    let mut watch = policy.watch_snapshot(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap(), first);
    server.apply(&document(&["c", "d"]), 1).await.unwrap();
    let second = watch.message().await.unwrap().unwrap();
    assert!(second.revision == 2 && second.generation > first.generation);

    let server = server.restart().await;
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    let mut policy = server.policy().await;
    let request = WatchSnapshotRequest { generation: second.generation };
    let mut watch = policy.watch_snapshot(request).await.unwrap().into_inner();
    let third = watch.message().await.unwrap().unwrap();
    assert!(third.revision == 2 && third.generation > second.generation);

    let looked = LookupRequest { account: "AUTH_a".to_owned(), container: "d".to_owned() };
    let found = policy.lookup(looked).await.unwrap().into_inner();
    assert_eq!((found.revision, found.mappings.len()), (2, 1));
    drop(watch);
    server.stop().await;
}
