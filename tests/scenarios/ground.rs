//! The test ground itself works: real Swift, real S3 servers, faults on demand, nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ground_browser;
mod ground_etcd;
mod ground_fleet;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use aws_sdk_s3::error::ProvideErrorMetadata;
use swift_s3_tests::compare::{Depth, Difference, compare};
use swift_s3_tests::fault_proxy::{Fault, FaultProxy, Network, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::process::{Process, ProcessOptions};
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::s3_client::{S3Access, S3Client};
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::swift_client::{SwiftClient, generated_md5};
use swift_s3_tests::swift_cluster::{ServerKind, SharedCluster, SwiftCluster, SwiftOptions};
use swift_s3_tests::wait;

static CLUSTER: SharedCluster = SharedCluster::new(|| SwiftOptions {
    second_policy: true,
    erasure_coding: true,
    s3api: true,
    ..SwiftOptions::default()
});

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_object_is_read_back_by_proxy_and_object_server() -> Result<()> {
    let cluster = CLUSTER.get().await?;
    let client = cluster.client().await?;
    client.put_container("plain").await?;
    client.put_object("plain", "a b/ü", "hello", &[("X-Object-Meta-Colour", "grün")]).await?;
    let read = client.get_object("plain", "a b/ü").await?;
    assert_eq!((read.status, &read.body[..]), (200, &b"hello"[..]));
    assert_eq!(read.header("x-object-meta-colour"), Some("grün"));
    let mut replicas = 0;
    for node in 0..3 {
        let names = ["AUTH_test", "plain", "a b/ü"];
        let direct = cluster.direct_object("GET", node, names, 0, &[]).await?;
        replicas += usize::from(direct.status == 200 && direct.body == "hello");
    }
    assert_eq!(replicas, 3, "{}", cluster.log_tails());
    Ok(())
}

#[tokio::test]
async fn odd_names_and_accounts_arrive_byte_for_byte() -> Result<()> {
    let cluster = CLUSTER.get().await?;
    let client = cluster.internal_client("AUTH_تacct")?;
    client.put_account().await?;
    client.put_container("تcl-conn-sync").await?;
    let names = ["a/../b", "100%25", "a+b c", "new\nline", "./x", "é/\u{1F600}", "x//y", "?q=1&r#f"];
    for name in names {
        client.put_object("تcl-conn-sync", name, name.to_owned(), &[]).await?;
        let read = client.get_object("تcl-conn-sync", name).await?;
        assert_eq!(read.body, name, "{name:?}");
    }
    let mut expected = names.map(str::to_owned);
    expected.sort();
    let listed: Vec<String> =
        client.list("تcl-conn-sync").await?.into_iter().map(|entry| entry.name).collect();
    assert_eq!(listed, expected);
    Ok(())
}

#[tokio::test]
async fn policies_and_streamed_bodies_work() -> Result<()> {
    let cluster = CLUSTER.get().await?;
    let client = cluster.internal_client("AUTH_policies")?;
    for (policy, index) in [("gold", "0"), ("silver", "1"), ("coded", "2")] {
        client.put_container_with(policy, &[("X-Storage-Policy", policy)]).await?;
        let etag = client.put_object_stream(policy, "big", 3_000_001, 7, &[]).await?;
        let read = client.get_object(policy, "big").await?;
        assert_eq!((read.body.len(), etag), (3_000_001, generated_md5(3_000_001, 7)));
        let head = cluster.direct_container_head("AUTH_policies", policy, 0).await?;
        assert_eq!(head.header("x-backend-storage-policy-index"), Some(index));
    }
    Ok(())
}

#[tokio::test]
async fn container_rows_show_puts_posts_and_deletes() -> Result<()> {
    let cluster = CLUSTER.get().await?;
    let client = cluster.internal_client("AUTH_rows")?;
    client.put_container("c").await?;
    client.put_object("c", "kept", "1", &[("X-Timestamp", "1400000000.00000")]).await?;
    client.put_object("c", "gone", "2", &[]).await?;
    assert_eq!(client.delete_object("c", "gone").await?.status, 204);
    for node in 0..3 {
        let rows = cluster.container_rows("AUTH_rows", "c", node).await?;
        let found: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.deleted)).collect();
        assert_eq!(found, [("kept", false), ("gone", true)], "node {node}");
        assert_eq!(rows[0].created_at, "1400000000.00000");
    }
    Ok(())
}

#[tokio::test]
async fn every_s3_server_stores_lists_and_deletes() -> Result<()> {
    let servers = [
        S3Server::start(S3ServerKind::Memory).await?,
        S3Server::start(S3ServerKind::S3sFs).await?,
        S3Server::start(S3ServerKind::Moto).await?,
        S3Server::on_swift(CLUSTER.get().await?)?,
    ];
    for server in &servers {
        let kind = server.kind();
        let bucket = server.create_bucket("ground").await?;
        bucket.put("a/b c+ü", "hello", &[("colour", "green")], None).await?;
        bucket.put("empty", "", &[], None).await?;
        let read = bucket.get("a/b c+ü").await?.expect("stored");
        assert_eq!(read.body, "hello", "{kind:?}");
        assert_eq!(read.etag, "5d41402abc4b2a76b9719d911017c592", "{kind:?}");
        assert_eq!(read.metadata["colour"], "green", "{kind:?}");
        let head = bucket.head("empty").await?.expect("stored");
        assert_eq!(head.length, 0, "{kind:?}");
        assert_eq!(bucket.keys("").await?, ["a/b c+ü", "empty"], "{kind:?}");
        assert_eq!(bucket.keys("a/").await?, ["a/b c+ü"], "{kind:?}");
        bucket.delete_all().await?;
        assert_eq!(bucket.head("empty").await?, None, "{kind:?}");
        assert!(bucket.keys("").await?.is_empty(), "{kind:?}");
    }
    let counts = servers[0].requests().await?;
    assert_eq!((counts.of(Operation::Put), counts.of(Operation::List)), (2, 4), "{counts}");
    Ok(())
}

#[tokio::test]
async fn the_memory_server_is_as_strict_as_s3() -> Result<()> {
    let server = S3Server::start(S3ServerKind::Memory).await?;
    let bucket = server.create_bucket("strict").await?;
    let wrong = S3Client::new(&S3Access { secret: "wrong".to_owned(), ..server.access().clone() }, "strict");
    assert!(wrong.keys("").await.is_err(), "a wrong signature is refused");
    let elsewhere = server.client("nowhere").keys("").await;
    assert!(elsewhere.is_err(), "a missing bucket is an error");
    let long = bucket.put(&"k".repeat(1025), "x", &[], None).await;
    assert!(long.is_err(), "a long key is refused");
    let metadata = "v".repeat(2048);
    let fat = bucket.put("fat", "x", &[("name", &metadata)], None).await;
    assert!(fat.is_err(), "too much metadata is refused");
    let digest =
        bucket.sdk().put_object().bucket("strict").key("digest").content_md5("AAAAAAAAAAAAAAAAAAAAAA==");
    let refused = digest.body(bytes::Bytes::from_static(b"x").into()).send().await;
    assert_eq!(refused.unwrap_err().code(), Some("BadDigest"));
    assert_eq!(bucket.head("digest").await?, None, "nothing is stored with a wrong digest");
    bucket.put("cold", "x", &[], Some("GLACIER")).await?;
    assert!(bucket.get("cold").await.is_err(), "an archived object cannot be read");
    assert_eq!(bucket.head("cold").await?.unwrap().storage_class.as_deref(), Some("GLACIER"));
    for number in 0..25 {
        bucket.put(&format!("n{number:02}"), "x", &[], None).await?;
    }
    let page = bucket
        .sdk()
        .list_objects_v2()
        .bucket("strict")
        .prefix("n")
        .max_keys(10)
        .start_after("n04")
        .send()
        .await?;
    let keys: Vec<_> = page.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!((keys[0], keys.len(), page.is_truncated()), ("n05", 10, Some(true)));
    assert!(page.contents().iter().all(|object| object.e_tag().is_some()));
    Ok(())
}

async fn faulty() -> Result<(S3Server, FaultProxy, S3Client)> {
    let server = S3Server::start(S3ServerKind::Memory).await?;
    server.create_bucket("faults").await?;
    let proxy = FaultProxy::start(server.endpoint()).await?;
    let access = S3Access { endpoint: proxy.endpoint(), ..server.access().clone() };
    let client = S3Client::new(&access, "faults");
    Ok((server, proxy, client))
}

#[tokio::test]
async fn the_fault_proxy_passes_requests_on_and_counts_them() -> Result<()> {
    let (server, proxy, client) = faulty().await?;
    for key in ["a/../b", "a+b %25", "ü//x", "x y"] {
        client.put(key, key.to_owned(), &[("n", "v")], None).await?;
        assert_eq!(client.get(key).await?.unwrap().body, key);
        assert_eq!(server.client("faults").get(key).await?.unwrap().body, key);
    }
    let counts = proxy.requests();
    assert_eq!((counts.of(Operation::Put), counts.of(Operation::Get), counts.total()), (4, 4, 8));
    let seen = proxy.seen();
    assert_eq!((seen[0].key.as_str(), seen[0].status), ("a/../b", Some(200)));
    assert_eq!(seen[0].header("x-amz-meta-n"), Some("v"));
    proxy.forget();
    assert_eq!(proxy.requests().total(), 0);
    Ok(())
}

#[tokio::test]
async fn rules_strike_the_requests_they_are_for() -> Result<()> {
    let (server, proxy, client) = faulty().await?;
    let direct = server.client("faults");
    let body = "0123456789".repeat(1000);
    client.put("good", body.clone(), &[], None).await?;

    proxy.inject(Rule::new(Fault::slow_down()).on(Operation::Put).times(2));
    assert!(client.put("a", "x", &[], None).await.is_err());
    assert!(client.get("good").await?.is_some(), "other operations pass");
    assert!(client.put("a", "x", &[], None).await.is_err());
    client.put("a", "x", &[], None).await?;

    let id = proxy.inject(Rule::new(Fault::denied()).key_containing("bad").after(1));
    client.put("bad", "x", &[], None).await?;
    assert!(client.put("bad", "x", &[], None).await.is_err());
    assert_eq!(proxy.seen().last().unwrap().status, Some(403));
    proxy.remove(id);
    client.put("bad", "x", &[], None).await?;

    for (fault, cut) in [(Fault::TruncateAnswer(100), true), (Fault::CorruptAnswer(5), false)] {
        proxy.inject(Rule::new(fault.clone()).on(Operation::Get));
        let read = client.get("good").await;
        proxy.heal();
        match read {
            Ok(object) => assert!(!cut && object.unwrap().body != body, "{fault:?}"),
            Err(_) => assert!(cut || matches!(fault, Fault::CorruptAnswer(_)), "{fault:?}"),
        }
    }

    proxy.inject(Rule::new(Fault::LoseAnswer).on(Operation::Put));
    assert!(client.put("unknown", "x", &[], None).await.is_err());
    assert!(direct.head("unknown").await?.is_some(), "the server did it");
    proxy.heal();
    for fault in [Fault::Reset, Fault::TruncateRequest(100)] {
        proxy.inject(Rule::new(fault.clone()));
        assert!(client.put("never", body.clone(), &[], None).await.is_err(), "{fault:?}");
        proxy.heal();
        assert!(direct.head("never").await?.is_none(), "{fault:?}");
    }
    proxy.inject(Rule::new(Fault::wrong_etag()).on(Operation::Head));
    assert_eq!(client.head("good").await?.unwrap().etag, "0".repeat(32));
    proxy.heal();
    proxy.inject(Rule::new(Fault::SlowAnswer(20_000)).on(Operation::Get));
    let started = Instant::now();
    assert_eq!(client.get("good").await?.unwrap().body, body);
    assert!(started.elapsed() > Duration::from_millis(400), "10 kB at 20 kB/s");
    Ok(())
}

#[tokio::test]
async fn stalls_hold_until_healed() -> Result<()> {
    let (_server, proxy, client) = faulty().await?;
    client.put("k", "0123456789", &[], None).await?;
    let short = Duration::from_millis(300);
    for fault in [Fault::Stall, Fault::StallAnswer(5)] {
        proxy.inject(Rule::new(fault.clone()));
        assert!(tokio::time::timeout(short, client.get("k")).await.is_err(), "{fault:?}");
        proxy.heal();
        assert!(client.get("k").await?.is_some(), "{fault:?}");
    }
    proxy.set_network(Network::Stall);
    assert!(tokio::time::timeout(short, client.get("k")).await.is_err());
    proxy.heal();
    assert!(client.get("k").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn the_network_goes_down_and_comes_back() -> Result<()> {
    let (_server, proxy, client) = faulty().await?;
    client.put("k", "x", &[], None).await?;
    for network in [Network::Refuse, Network::Reset] {
        proxy.set_network(network);
        wait::until("requests fail", SOON, async || match client.head("k").await {
            Ok(_) => Err("still answered"),
            Err(_) => Ok(()),
        })
        .await?;
        assert!(client.head("k").await.is_err(), "{network:?}");
        proxy.heal();
        wait::until("requests succeed again", SOON, async || client.head("k").await).await?;
    }
    Ok(())
}

#[tokio::test]
async fn comparing_finds_every_kind_of_difference() -> Result<()> {
    let cluster = CLUSTER.get().await?;
    let server = S3Server::start(S3ServerKind::Memory).await?;
    let bucket = server.create_bucket("compare").await?;
    let client = cluster.internal_client("AUTH_compare")?;
    client.put_container("c").await?;
    for name in ["same", "missing", "content", "metadata"] {
        let headers = [("X-Object-Meta-N", "grün"), ("Content-Type", "text/plain")];
        client.put_object("c", name, name.to_owned(), &headers).await?;
    }
    let put = async |name: &str, body: &str, value: &str| {
        let request = bucket.sdk().put_object().bucket("compare").key(format!("p/{name}"));
        let request = request.content_type("text/plain").metadata("n", value);
        request.body(bytes::Bytes::from(body.to_owned()).into()).send().await
    };
    put("same", "same", "=?UTF-8?Q?gr=C3=BCn?=").await?;
    put("content", "CONTENT", "=?UTF-8?Q?gr=C3=BCn?=").await?;
    put("metadata", "metadata", "blue").await?;
    put("stranger", "x", "v").await?;
    let found = compare(&client, "c", &bucket, Some("p"), Depth::Content).await?;
    let mut told: Vec<String> = Vec::new();
    for difference in &found.0 {
        told.push(match difference {
            Difference::MissingRemotely(name) => format!("missing {name}"),
            Difference::OnlyRemotely(name) => format!("only {name}"),
            Difference::Content { name, what, .. } => format!("{what} of {name}"),
        });
    }
    told.sort();
    assert_eq!(
        told,
        ["content of content", "etag of content", "metadata of metadata", "missing missing", "only stranger"]
    );
    let names = compare(&client, "c", &bucket, Some("p"), Depth::Names).await?;
    assert_eq!(names.0.len(), 2, "{names}");
    Ok(())
}

#[tokio::test]
async fn nodes_stop_freeze_and_come_back() -> Result<()> {
    let cluster = SwiftCluster::start(SwiftOptions::default()).await?;
    let client = cluster.internal_client("AUTH_nodes")?;
    client.put_container("c").await?;
    cluster.stop_node(1).await?;
    client.put_object("c", "o", "written with two nodes", &[]).await?;
    cluster.start_node(1).await?;
    let names = ["AUTH_nodes", "c", "o"];
    assert_eq!(cluster.direct_object("HEAD", 1, names, 0, &[]).await?.status, 404);
    let missed = cluster.container_rows("AUTH_nodes", "c", 1).await?;
    assert!(missed.is_empty(), "{missed:?}");
    cluster.run_everywhere("container-replicator").await?;
    assert_eq!(cluster.container_rows("AUTH_nodes", "c", 1).await?.len(), 1);
    cluster.run_everywhere("object-replicator").await?;
    assert_eq!(cluster.direct_object("HEAD", 1, names, 0, &[]).await?.status, 200);

    cluster.stop_server(2, ServerKind::Container).await?;
    assert!(cluster.direct_container_head("AUTH_nodes", "c", 2).await.is_err());
    cluster.start_server(2, ServerKind::Container).await?;
    cluster.freeze_node(0).await?;
    let frozen =
        tokio::time::timeout(Duration::from_millis(300), cluster.direct_container_head("AUTH_nodes", "c", 0));
    assert!(frozen.await.is_err(), "a frozen server does not answer");
    cluster.thaw_node(0).await?;
    cluster.direct_container_head("AUTH_nodes", "c", 0).await?.success()?;
    Ok(())
}

#[tokio::test]
async fn a_copied_container_database_has_the_rows_and_a_new_id() -> Result<()> {
    let cluster = CLUSTER.get().await?;
    let client = cluster.internal_client("AUTH_copy")?;
    client.put_container("c").await?;
    client.put_object("c", "o", "x", &[]).await?;
    let id = |path: &Path| -> Result<String> {
        let database = rusqlite::Connection::open(path)?;
        Ok(database.query_row("SELECT id FROM container_info", [], |row| row.get(0))?)
    };
    let before = id(&cluster.container_db_path("AUTH_copy", "c", 1)?)?;
    let copied = cluster.copy_container_db("AUTH_copy", "c", 0, 1, true).await?;
    assert_eq!(copied, cluster.container_db_path("AUTH_copy", "c", 1)?);
    assert_ne!(id(&copied)?, before);
    assert_eq!(cluster.container_rows("AUTH_copy", "c", 1).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_container_is_sharded_and_keeps_its_objects() -> Result<()> {
    let cluster = SwiftCluster::start(SwiftOptions::default()).await?;
    let client = cluster.internal_client("AUTH_shard")?;
    client.put_container("c").await?;
    for number in 0..30 {
        client.put_object("c", &format!("o{number:02}"), "x", &[]).await?;
    }
    cluster.shard_container("AUTH_shard", "c", 10).await?;
    client.put_object("c", "late", "x", &[]).await?;
    assert_eq!(client.list("c").await?.len(), 31);
    let shards = cluster.internal_client(".shards_AUTH_shard")?;
    assert_eq!(shards.list_containers().await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_stand_in_for_an_object_server_is_in_redirected_rings() -> Result<()> {
    let cluster = CLUSTER.get().await?;
    let node = cluster.node(0);
    let server = (std::net::IpAddr::V4(node.ip()), node.port(ServerKind::Object)).into();
    let proxy = FaultProxy::start_at(std::net::IpAddr::V4(node.ip()), server).await?;
    let folder = RunDirectory::create("redirect")?;
    cluster.redirect(folder.path(), &[(server, proxy.address().port())]).await?;
    assert!(folder.path().join("swift.conf").exists());
    let mut ring = String::new();
    let packed = folder.path().join("object.ring.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(&packed).output()?.stdout;
    ring.push_str(&String::from_utf8_lossy(&unpacked));
    assert!(ring.contains(&format!("\"port\": {}", proxy.address().port())), "{ring:.800}");
    assert!(!ring.contains(&format!("\"port\": {},", node.port(ServerKind::Object))));
    Ok(())
}

#[tokio::test]
async fn a_child_is_killed_with_what_it_started() -> Result<()> {
    let folder = RunDirectory::create("child")?;
    let log = folder.path().join("log");
    let options = ProcessOptions::new("child", "sh", &log).arguments(["-c", "sleep 100 & echo $!; wait"]);
    let child = Process::start(options)?;
    let grandchild: u32 =
        wait::until("a process id", SOON, async || child.log_text().trim().parse::<u32>()).await?;
    assert!(child.is_running() && is_alive(grandchild));
    drop(child);
    wait::until(
        "end of the grandchild",
        SOON,
        async || {
            if is_alive(grandchild) { Err("alive") } else { Ok(()) }
        },
    )
    .await?;
    let failed =
        Process::start(ProcessOptions::new("failed", "sh", &log).arguments(["-c", "echo oh; exit 7"]))?;
    assert_eq!(failed.wait(SOON).await?, 7);
    assert!(failed.log_tail().contains("oh"));
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_when_the_ground_is_killed() -> Result<()> {
    let mut ground = Command::new(env!("CARGO_BIN_EXE_swift-ground"))
        .args(["--nodes", "1", "--replicas", "1", "--container", "c", "--no-stdin"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(ground.stdout.take().unwrap()).read_line(&mut line)?;
    let told: serde_json::Value = serde_json::from_str(&line)?;
    let directory = told["directory"].as_str().unwrap().to_owned();
    let proxy = told["swift"]["proxy_url"].as_str().unwrap();
    let client = SwiftClient::log_in(proxy, "test:tester", "testing").await?;
    client.put_object("c", "o", "x", &[]).await?;
    assert!(Path::new(&directory).exists());
    // Not even a chance to clean up.
    ground.kill()?;
    ground.wait()?;
    wait::until("removal of its files", SOON, async || {
        if Path::new(&directory).exists() { Err("there") } else { Ok(()) }
    })
    .await?;
    wait::until("end of its servers", SOON, async || {
        let client = SwiftClient::new(proxy, "", None).map_err(|error| error.to_string())?;
        match client.get_raw("/healthcheck").await {
            Ok(_) => Err("alive".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await
}

fn is_alive(pid: u32) -> bool {
    // A zombie that nobody has waited for yet is dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}
