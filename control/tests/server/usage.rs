use std::sync::Arc;

use swift_s3_control::store::UsageNews;
use swift_s3_control::time;
use swift_s3_proto::v1::*;

use crate::support::{Node, Server, eventually, hello, progress, settings};

/// A mapping to Amazon, one to a clone, and one whose storage class nobody knows the price of.
fn document() -> String {
    let mapping = |container: &str| {
        serde_json::json!({
            "account": "AUTH_a", "container": container, "aws_bucket": "bucket", "aws_identity": "id",
            "aws_secret": "secret", "aws_region": "us-east-1"
        })
    };
    let (amazon, mut clone, mut quiet) = (mapping("amazon"), mapping("clone"), mapping("quiet"));
    clone["aws_endpoint"] = "http://127.0.0.1:9000".into();
    quiet["aws_storage_class"] = "STANDARD_IA".into();
    quiet.as_object_mut().unwrap().remove("aws_storage_class");
    serde_json::json!({ "containers": [amazon, clone, quiet] }).to_string()
}

async fn usage(server: &Server) -> Vec<Option<MappingUsage>> {
    let mappings = server.status().await.list_mappings(ListMappingsRequest::default()).await.unwrap();
    mappings.into_inner().mappings.into_iter().map(|mapping| mapping.usage).collect()
}

async fn tell(node: &mut Node, sequence: u64, number: u64, mapping_id: &str, writes: u64) -> String {
    let asked =
        RemoteUsage { writes, bytes_sent: 7, bytes_received: 1_000_000_000, ..RemoteUsage::default() };
    let usage = vec![UsageReport { mapping_id: mapping_id.to_owned(), usage: Some(asked) }];
    let report = ProgressReport { sequence, feeds: Vec::new(), usage, usage_number: number };
    node.send(node_message::Message::Progress(report)).await;
    loop {
        if let control_message::Message::ProgressAck(ack) = node.next().await.unwrap() {
            assert_eq!(ack.sequence, sequence);
            return ack.failure;
        }
    }
}

fn writes(usage: &Option<MappingUsage>) -> u64 {
    usage.as_ref().and_then(|usage| usage.usage.as_ref()).map_or(0, |usage| usage.writes)
}

#[tokio::test]
async fn what_workers_asked_adds_up_once_however_often_it_is_sent() {
    let server = Server::start().await;
    server.apply(&document(), 0).await.unwrap();
    let ids = server.mapping_ids();
    let mut node = server.worker("n").await;
    assert_eq!(usage(&server).await, [None, None, None], "who tells nothing has not asked nothing");
    assert_eq!(tell(&mut node, 1, 1, &ids[0], 500_000).await, "");
    // The answer got lost, and the connection with it.
    drop(node);
    let server = server.restart().await;
    let mut node = server.worker("n").await;
    assert_eq!(tell(&mut node, 1, 1, &ids[0], 500_000).await, "");
    assert_eq!(tell(&mut node, 2, 2, &ids[0], 500_000).await, "");
    assert_eq!(tell(&mut node, 3, 2, &ids[0], 500_000).await, "");
    // Another process of the node counts from one.
    drop(node);
    eventually(|| async { server.control.registry.is_connected("n") }, |is| *is == Some(false)).await;
    let mut node = Node::connect(&server, hello("n", "another process")).await;
    node.welcome().await;
    assert_eq!(tell(&mut node, 1, 1, &ids[1], u64::MAX).await, "");
    assert_eq!(tell(&mut node, 2, 2, &ids[1], u64::MAX).await, "", "no count is too much");
    let told = eventually(|| usage(&server), |told| told[1].is_some()).await;
    assert_eq!(writes(&told[0]), 1_000_000);
    let amazon = told[0].clone().unwrap();
    let expected = 1_000.0 * 0.005 + 2.0 * 0.09;
    assert!((amazon.cost.unwrap() - expected).abs() < 1e-6, "{amazon:?}");
    assert_eq!((amazon.currency.as_str(), amazon.month.len()), ("USD", 7));
    let clone = told[1].clone().unwrap();
    assert_eq!((clone.cost, clone.currency.as_str()), (None, ""), "nobody knows what a clone bills");
    assert_eq!(told[2], None);

    server.stop().await;
}

#[tokio::test]
async fn usage_that_makes_no_sense_is_left_out_and_costs_neither_progress_nor_time() {
    let server = Server::start().await;
    server.apply(&document(), 0).await.unwrap();
    let ids = server.mapping_ids();
    let mut node = server.worker("n").await;
    let report = |mapping_id: &str| UsageReport {
        mapping_id: mapping_id.to_owned(),
        usage: Some(RemoteUsage { writes: 5, ..RemoteUsage::default() }),
    };
    let mut odd = vec![report(""), report(&"x".repeat(2_000))];
    odd.extend((0..100_000).map(|number| report(&format!("invented {number}"))));
    odd.push(report(&ids[1]));
    let news = UsageNews { instance_id: "p".to_owned(), number: 1, reports: odd.clone() };
    // Beside the session, which knows what is in force, the store bounds what it takes.
    server.control.store.save_report("another", vec![progress("d", "amazon", 5)], news).await.unwrap();
    let kept = server.control.store.reader().usage(time::month(time::now_ms()));
    assert_eq!(kept.await.unwrap().len(), 10_000);

    let feeds = vec![progress("e", "amazon", 7)];
    let told = ProgressReport { sequence: 1, feeds, usage: odd, usage_number: 1 };
    node.send(node_message::Message::Progress(told)).await;
    loop {
        if let control_message::Message::ProgressAck(ack) = node.next().await.unwrap() {
            assert_eq!(ack.failure, "");
            break;
        }
    }
    let told = eventually(|| usage(&server), |told| told[1].is_some()).await;
    assert_eq!((writes(&told[1]), &told[0]), (5, &None));
    server.stop().await;
}

#[tokio::test]
async fn a_year_of_months_is_kept_whatever_the_clock_says() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let server = Server::start_with(Arc::clone(&folder), settings(), None).await;
    server.stop().await;
    let path = folder.path().join("data/state.db");
    let months = |sql: &str| {
        let database = rusqlite::Connection::open(&path).unwrap();
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    months(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20)
         INSERT INTO usage SELECT printf('%04d-%02d', 2000 + n / 12, 1 + n % 12), 'm', 1, 1, 1, 1, 1, 1 FROM n RETURNING month",
    );
    let server = Server::start_with(Arc::clone(&folder), settings(), None).await;
    server.control.prune().await;
    server.stop().await;
    let kept = months("SELECT month FROM usage ORDER BY month");
    assert_eq!((kept.len(), kept[0].as_str(), kept[11].as_str()), (12, "2000-10", "2001-09"));
}
