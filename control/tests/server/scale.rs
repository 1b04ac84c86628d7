//! A large cluster, told to the server directly: 1,000 nodes, 1,000 mappings, 100,000 containers with three replicas each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use swift_s3_proto::v1::*;

use crate::support::{Server, document, hello};

/// How large.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    mappings: usize,
    containers: usize,
    replicas: usize,
}

/// A server that such a cluster is connected to. Nothing answers for the nodes, so they are live for a minute.
struct Large {
    server: Server,
    size: Size,
    sessions: Vec<u64>,
    ids: Vec<String>,
}

impl Large {
    async fn start(size: Size) -> Self {
        let server = Server::start().await;
        let names: Vec<String> = (0..size.mappings).map(|index| format!("mapping-{index:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        server.apply(&document(&names), 0).await.unwrap();
        let ids = server.mapping_ids();
        let connect = |index| server.control.registry.connect(hello(&node_id(index), "p")).unwrap().session;
        let sessions = (0..size.nodes).map(connect).collect();
        let large = Self { server, size, sessions, ids };
        for node in 0..size.nodes {
            large.beat(node, true, 0);
        }
        large
    }

    /// A heartbeat of one node: with all of its feeds, or with one that changed.
    fn beat(&self, node: usize, is_complete: bool, rows: u64) {
        let Size { nodes, containers, replicas, .. } = self.size;
        // The replicas of a container are on nodes beside each other.
        let all = (0..containers).filter(|container| (node + nodes - container % nodes) % nodes < replicas);
        let feeds = all.take(if is_complete { usize::MAX } else { 1 }).map(|container| {
            let replica = (node + nodes - container % nodes) % nodes;
            FeedStatus {
                key: Some(FeedKey {
                    mapping_identity: format!("identity-of-mapping-{:012}", container % self.ids.len()),
                    database_id: format!("database-{container:06}-{replica}"),
                }),
                mapping_id: self.ids[container % self.ids.len()].clone(),
                account: "AUTH_a".to_owned(),
                container: format!("container-{container:06}"),
                lag: Some(Lag { rows, seconds: (container % 100) as f64, ..Lag::default() }),
                replicas: vec![u32::try_from(replica).unwrap()],
                nodes: u32::try_from(replicas).unwrap(),
                ..FeedStatus::default()
            }
        });
        let health = self.ids.iter().map(|id| MappingHealth { mapping_id: id.clone(), ..Default::default() });
        let mut heartbeat = Heartbeat {
            sent_at: Some(std::time::SystemTime::now().into()),
            feeds: feeds.collect(),
            mappings: health.collect(),
            is_complete,
            ..Heartbeat::default()
        };
        let control = &self.server.control;
        assert!(control.registry.heartbeat(&node_id(node), self.sessions[node], &mut heartbeat));
        control.feeds().heartbeat(&node_id(node), heartbeat, 0).unwrap();
    }
}

fn node_id(index: usize) -> String {
    format!("node-{index:04}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it in an optimised build"]
async fn measure_a_large_cluster() {
    let size = Size { nodes: 1_000, mappings: 1_000, containers: 100_000, replicas: 3 };
    let large = Large::start(size).await;
    let control = Arc::clone(&large.server.control);
    let mut status = large.server.status().await;
    let mut times = Vec::new();
    for round in 0..10 {
        tokio::time::sleep(Duration::from_millis(3_100)).await;
        let began = Instant::now();
        let told = status.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        let of_status = began.elapsed();
        assert_eq!((told.containers, told.mappings), (100_000, 1_000));
        // Something changes, and heartbeats go on meanwhile.
        large.beat(round, false, 1);
        let began = Instant::now();
        let mappings = ListMappingsRequest { page_size: 1_000, ..Default::default() };
        assert_eq!(status.list_mappings(mappings).await.unwrap().into_inner().mappings.len(), 1_000);
        let of_mappings = began.elapsed();
        tokio::time::sleep(Duration::from_millis(3_100)).await;
        let making = {
            let mut status = status.clone();
            tokio::spawn(async move { status.get_status(GetStatusRequest {}).await.map(drop) })
        };
        let mut longest = Duration::ZERO;
        while !making.is_finished() {
            let began = Instant::now();
            drop(control.feeds());
            longest = longest.max(began.elapsed());
            tokio::task::yield_now().await;
        }
        making.await.unwrap().unwrap();
        times.push((of_status, of_mappings, longest));
    }
    for (status, mappings, lock) in times {
        eprintln!("GetStatus {status:?}, ListMappings {mappings:?}, longest wait of a heartbeat {lock:?}");
    }
    large.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, of any build"]
async fn measure_lists_of_containers() {
    let large = Large::start(Size { nodes: 100, mappings: 10, containers: 100_000, replicas: 1 }).await;
    let mut status = large.server.status().await;
    let by_lag = ListContainersRequest { order: ContainerOrder::Lag.into(), ..Default::default() };
    let requests = [
        ("first page", ListContainersRequest::default()),
        ("furthest behind", by_lag.clone()),
        (
            "furthest behind of a search",
            ListContainersRequest { container_contains: "99".to_owned(), ..by_lag },
        ),
        ("search", ListContainersRequest { container_contains: "-09999".to_owned(), ..Default::default() }),
    ];
    for (what, request) in requests {
        let mut times = Vec::new();
        for _ in 0..5 {
            let began = Instant::now();
            assert!(
                !status.list_containers(request.clone()).await.unwrap().into_inner().containers.is_empty()
            );
            times.push(began.elapsed());
        }
        eprintln!("{what}: {times:?}");
    }
    large.server.stop().await;
}
