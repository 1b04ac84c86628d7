//! Each process keeps the past as it saw it, so that whoever leads next has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use swift_s3_control::cluster::{self, Board, Cluster, Role, Switch};
use swift_s3_control::control::Settings;
use swift_s3_control::history::{History, HistoryError};
use swift_s3_control::store::CopyDirectory;
use swift_s3_control::store::mirror::Keys;
use swift_s3_proto::v1::status_service_client::StatusServiceClient;
use swift_s3_proto::v1::*;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::etcd::EtcdProcess;
use crate::processes::Process;
use crate::support::{document, eventually, feed};

const MINUTE: i64 = 60_000;
const START: i64 = 28_000_005 * MINUTE;

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_has_the_past_when_it_leads() {
    let etcd = EtcdProcess::start().await;
    let mut leader = Process::start(&etcd.url(), &[]);
    eventually(|| async { leader.is_leading() }, |leads| *leads).await;
    leader.apply(&document(&["c"]), 0).await.unwrap();
    let mappings = leader.status().await.list_mappings(ListMappingsRequest::default()).await.unwrap();
    let id = mappings.into_inner().mappings.remove(0).mapping_id;
    let node = leader.node("n").await;
    node.heartbeat(vec![feed("db", &id, "c", 5)]).await;
    let lag =
        || async { leader.status().await.get_status(GetStatusRequest {}).await.unwrap().into_inner().lag };
    eventually(lag, Option::is_some).await;

    // A second process, in this one, by a clock of its own.
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(START));
    let clock = Arc::clone(&now);
    let history = History::with_clock(folder.path(), move || clock.load(Ordering::SeqCst));
    let (board, stopping) = (Board::default(), CancellationToken::new());
    let client = etcd.client();
    let follower = Cluster {
        keys: Keys::new(&client.settings().prefix),
        etcd: client,
        id: "follower".to_owned(),
        address: "http://127.0.0.1:1".to_owned(),
        tls: None,
        directory: CopyDirectory::lock(folder.path()).unwrap(),
        settings: Settings::default(),
        history: history.clone(),
        initial: None,
        board: board.clone(),
        stopping: stopping.clone(),
    };
    let service = Switch::new(Routes::default(), board.clone());
    let nobody = history.sample(service.clone()).await;
    assert!(matches!(nobody, Err(HistoryError::NoStatus(_))), "nobody leads as far as it knows: {nobody:?}");
    let running = tokio::spawn(cluster::run(follower));
    eventually(|| async { matches!(board.role(), Role::Following(_)) }, |follows| *follows).await;
    history.sample(service.clone()).await.unwrap();
    leader.kill();
    eventually(|| async { matches!(board.role(), Role::Leading(_)) }, |leads| *leads).await;
    now.store(START + 2 * MINUTE, Ordering::SeqCst);
    history.sample(service.clone()).await.unwrap();

    let request = GetHistoryRequest { mapping_id: id, ..GetHistoryRequest::default() };
    let told = StatusServiceClient::new(service).get_history(request).await.unwrap().into_inner();
    let samples: Vec<_> = told
        .samples
        .iter()
        .map(|sample| (sample.at.as_ref().unwrap().seconds - START / 1_000, sample.lag_seconds))
        .collect();
    assert_eq!(samples, [(0, Some(7.0)), (120, None)], "the node has not come back yet");
    stopping.cancel();
    running.await.unwrap().unwrap();
}
