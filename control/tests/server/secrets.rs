use swift_s3_proto::v1::*;

use crate::support::{LOG, SECRET, Server, document};

/// Everything that operators can ask for, in debug form, in one text; and the log at its most talkative.
#[tokio::test]
async fn a_planted_secret_is_in_no_answer_to_operators_and_in_no_log() {
    let server = Server::start().await;
    let mut told = String::new();
    let mut config = server.config().await;
    let mut status = server.status().await;
    let proxied = document(&["c"]).replacen(
        '{',
        &format!("{{\"http_proxy\":\"http://user:{SECRET}@proxy:3128\",\"statsd_token\":\"{SECRET}\","),
        1,
    );
    server.apply(&proxied, 0).await.unwrap();
    let changed = document(&["c", "d"]).replace(SECRET, &format!("{SECRET}-changed"));
    server.apply(&changed, 1).await.unwrap();
    for revision in [0, 1, 2] {
        told += &format!("{:?}", config.get_config(GetConfigRequest { revision }).await.unwrap());
    }
    for (from_revision, to_revision, document) in
        [(1, 2, String::new()), (2, 1, String::new()), (1, 0, proxied.clone())]
    {
        let request = DiffConfigRequest { from_revision, to_revision, document };
        told += &format!("{:?}", config.diff_config(request).await.unwrap());
    }
    let bad = [
        proxied.replace("\"aws_bucket\"", "\"aws_bukket\""),
        proxied.replace(&format!("\"{SECRET}\""), &format!("[\"{SECRET}\"]")),
        proxied.replace("\"aws_identity\":", "\"aws_identity\" "),
        format!("{{\"{SECRET}\": 1, \"containers\": \"{SECRET}\""),
        format!("\"{SECRET}"),
    ];
    for document in &bad {
        told += &format!("{:?}", server.apply(document, 2).await);
        let request = ValidateConfigRequest { document: document.clone() };
        told += &format!("{:?}", config.validate_config(request).await.unwrap());
    }
    for document in &bad {
        // The answer may repeat what is no secret by its key; it must not fail.
        let request = ValidateConfigRequest { document: document.clone() };
        assert!(
            !config.validate_config(request).await.unwrap().into_inner().problems.is_empty()
                || document == &bad[0]
        );
    }
    let rollback = RollbackConfigRequest { revision: 1, expected_revision: 2, comment: String::new() };
    told += &format!("{:?}", config.rollback_config(rollback).await.unwrap());
    told += &format!("{:?}", config.list_revisions(ListRevisionsRequest::default()).await.unwrap());
    let node = server.worker("n").await;
    told += &format!("{:?}", status.get_status(GetStatusRequest {}).await.unwrap());
    told += &format!("{:?}", status.list_nodes(ListNodesRequest::default()).await.unwrap());
    told += &format!("{:?}", status.list_mappings(ListMappingsRequest::default()).await.unwrap());
    drop(node);
    // What a panic or a log line of debugging would show.
    told += &format!("{:?}", server.control);
    server.stop().await;
    assert!(told.contains("***") && !told.contains(SECRET), "{}", around(&told));

    let log = LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let own: Vec<&str> =
        std::str::from_utf8(&log).unwrap().lines().filter(|line| line.contains("swift_s3_control")).collect();
    let own = own.join("\n");
    assert!(own.contains("configuration applied") && !own.contains(SECRET), "{}", around(&own));
}

/// What surrounds the secret, to find the guilty.
fn around(text: &str) -> &str {
    let at = text.find(SECRET).unwrap_or(0);
    text.get(at.saturating_sub(200)..(at + 40).min(text.len())).unwrap_or(text)
}
