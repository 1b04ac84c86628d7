//! What a running control plane tells in numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use swift_s3_control::control::Settings;
use swift_s3_control::metrics::{METRICS, Metrics};
use swift_s3_daemon::metrics::Metrics as Process;
use swift_s3_proto::v1::*;
use tonic::Code;

use crate::support::{Server, document, eventually, feed, parked, progress, settings};

/// What is told: the name of the series without its labels, its labels, the value.
fn series(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let parse = |line: &str| {
        let (head, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let label = |label: &str| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        };
        (name.to_owned(), labels.map(label).collect(), value.parse().unwrap())
    };
    lines.map(parse).collect()
}

/// The value of the series with these labels.
fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let is_asked = |found: &BTreeMap<String, String>| {
        labels.iter().all(|(name, value)| found.get(*name).is_some_and(|found| found == value))
    };
    let mut found = series(text).into_iter().filter(|(found, labels, _)| found == name && is_asked(labels));
    found.next().map(|(_, _, value)| value)
}

async fn start(process: &Process) -> Server {
    let figures = Duration::from_millis(100);
    let settings = Settings { metrics: Metrics::new(process), figures, ..settings() };
    Server::start_with(Arc::new(tempfile::tempdir().unwrap()), settings, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_of_nodes_and_mappings_are_told_and_follow_them() {
    let process = Process::default();
    let server = start(&process).await;
    let rendered = || async { process.render() };
    let declared = process.render();
    for metric in METRICS {
        let (name, kind) = (metric.prometheus_name(), metric.prometheus_type());
        assert!(declared.contains(&format!("# TYPE {name} {kind}\n")), "{name} is not told");
    }

    assert_eq!(server.apply(&document(&["c"]), 0).await.unwrap(), 1);
    assert_eq!(server.apply(&document(&["d"]), 0).await.unwrap_err().code(), Code::Aborted);
    let id = server.mapping_ids().remove(0);
    let mut node = server.worker("n").await;
    let other = server.worker("o").await;
    let mut told = progress("db", "c", 7);
    told.mapping_id.clone_from(&id);
    told.parked = vec![parked("o", 3)];
    assert_eq!(node.report(vec![told]).await, "");
    node.heartbeat(vec![feed("db", &id, "c", 3)]).await;

    let nodes =
        |text: &str, state| value(text, "swift_s3_control_nodes", &[("role", "worker"), ("state", state)]);
    let mapping = [("mapping", id.as_str())];
    let text = eventually(rendered, |text| {
        value(text, "swift_s3_control_lag_rows", &mapping) == Some(3.0)
            && nodes(text, "behind") == Some(2.0)
            && value(text, "swift_s3_control_parked_reasons", &[("reason", "remote_refused")]) == Some(1.0)
    })
    .await;
    for (name, labels, expected) in [
        ("swift_s3_control_lag_size_bytes", &mapping[..], 30.0),
        ("swift_s3_control_lag_age_seconds", &mapping, 7.0),
        ("swift_s3_control_parked_rows", &mapping, 1.0),
        ("swift_s3_control_containers", &mapping, 1.0),
        ("swift_s3_control_feeds", &[], 1.0),
        ("swift_s3_control_config_revision", &[], 1.0),
        ("swift_s3_control_config_applies_total", &[("outcome", "applied")], 1.0),
        ("swift_s3_control_config_applies_total", &[("outcome", "conflict")], 1.0),
        ("swift_s3_control_leader", &[], 1.0),
        ("swift_s3_control_rpc_streams", &[("rpc_method", "swift_s3_sync.v1.NodeService/Session")], 2.0),
        ("swift_s3_control_alerts", &[("kind", "failures"), ("severity", "warning")], 1.0),
        ("swift_s3_control_alerts", &[("kind", "silent_node")], 0.0),
        ("swift_s3_control_nodes", &[("role", "shunt"), ("state", "in_force")], 0.0),
        (
            "rpc_server_call_duration_seconds_count",
            &[
                ("rpc_method", "swift_s3_sync.v1.ConfigService/ApplyConfig"),
                ("rpc_response_status_code", "ABORTED"),
            ],
            1.0,
        ),
    ] {
        assert_eq!(value(&text, name, labels), Some(expected), "{name} {labels:?} in\n{text}");
    }
    let sqlite = [("store", "sqlite"), ("outcome", "ok")];
    assert!(value(&text, "swift_s3_control_store_commit_duration_seconds_count", &sqlite).unwrap() > 1.0);
    assert!(value(&text, "swift_s3_control_store_size_bytes", &[]).unwrap() > 4_096.0);

    // Each has one at least; how many workers there are is pushed too.
    assert!(value(&text, "swift_s3_control_config_pushes_total", &[]).unwrap() >= 2.0);

    // One goes, the other answers.
    drop(other);
    let text = eventually(rendered, |text| nodes(text, "silent") == Some(1.0)).await;
    assert_eq!(value(&text, "swift_s3_control_alerts", &[("kind", "silent_node")]), Some(1.0));
    server.apply(&document(&["c", "d"]), 1).await.unwrap();
    let snapshot = node.snapshot_of(2).await;
    node.answer(&snapshot, ConfigOutcome::Applied).await;
    let text = eventually(rendered, |text| nodes(text, "in_force") == Some(1.0)).await;
    assert_eq!(value(&text, "swift_s3_control_config_answers_total", &[("outcome", "applied")]), Some(1.0));
    assert_eq!(value(&text, "swift_s3_control_config_push_duration_seconds_count", &[]), Some(1.0));
    only_declared_labels(&text);

    // Nothing is told of what a process does not know any more.
    drop(node);
    server.stop().await;
    let text = process.render();
    assert_eq!(nodes(&text, "silent"), None);
    assert_eq!(
        value(
            &text,
            "swift_s3_control_rpc_streams",
            &[("rpc_method", "swift_s3_sync.v1.NodeService/Session")]
        ),
        Some(0.0)
    );
}

fn only_declared_labels(text: &str) {
    for metric in METRICS {
        let name = metric.prometheus_name();
        let mut declared: Vec<String> = metric.labels.iter().map(|label| label.replace('.', "_")).collect();
        declared.sort();
        for (found, labels, _) in series(text) {
            let suffix = found.strip_prefix(&name);
            if !matches!(suffix, Some("" | "_bucket" | "_sum" | "_count")) {
                continue;
            }
            let labels: Vec<String> = labels.into_keys().filter(|label| label != "le").collect();
            assert_eq!(labels, declared, "{found}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_as_they_end_and_strangers_invent_no_labels() {
    let process = Process::default();
    let server = start(&process).await;
    let mut status = server.status().await;
    status.get_status(GetStatusRequest {}).await.unwrap();
    let code = status.pause_mapping(PauseMappingRequest { mapping: "nothing".to_owned() }).await;
    assert_eq!(code.unwrap_err().code(), Code::NotFound);
    // A path of the caller's own making.
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/AUTH_secret/Photos");
    let codec = tonic_prost::ProstCodec::<GetStatusRequest, ClusterStatus>::default();
    let answer = grpc.unary(tonic::Request::new(GetStatusRequest {}), path, codec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    let count = |text: &str, method: &str, status: &str| {
        let labels = [("rpc_method", method), ("rpc_response_status_code", status)];
        value(text, "rpc_server_call_duration_seconds_count", &labels)
    };
    let rendered = || async { process.render() };
    let text = eventually(rendered, |text| count(text, "_OTHER", "UNIMPLEMENTED") == Some(1.0)).await;
    assert_eq!(count(&text, "swift_s3_sync.v1.StatusService/GetStatus", "OK"), Some(1.0));
    assert_eq!(count(&text, "swift_s3_sync.v1.StatusService/PauseMapping", "NOT_FOUND"), Some(1.0));
    assert!(!text.contains("AUTH_secret"));
    server.stop().await;
}
