//! The worker against `rclone` and against the raw limit.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::s3_client::S3Client;
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_cluster::{ServerKind, SwiftCluster, SwiftOptions};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::usage::Usage;
use swift_s3_tests::worker_process::Worker;

use crate::{Arguments, mebibytes};

const IN_FLIGHT: usize = 16;
const SMALL: usize = 1024;
const LARGE: u64 = 64 * 1024 * 1024;
const BUCKET: &str = "bench";
/// The large object is carried this often: one transfer alone says little on a machine that does other things.
const ROUNDS: usize = 3;
const IDLE: Duration = Duration::from_secs(20);

/// How one way of copying did.
struct Run {
    elapsed: Duration,
    cpu: Duration,
    peak_rss_bytes: u64,
    requests: u64,
}

struct Bench {
    cluster: SwiftCluster,
    store: S3Server,
    bucket: S3Client,
    swift: SwiftClient,
    folder: RunDirectory,
}

/// Measures all of it, one after the other.
pub async fn run(arguments: &Arguments) -> Result<()> {
    println!("bench: starting Swift (1 node, 1 replica, direct object server) and an in-memory S3 server");
    let options = SwiftOptions { log_requests: false, ..SwiftOptions::single_node() };
    let (cluster, store) =
        tokio::try_join!(SwiftCluster::start(options), S3Server::start(S3ServerKind::Memory))?;
    let bucket = store.create_bucket(BUCKET).await?;
    let swift = cluster.client().await?;
    let bench = Bench { cluster, store, bucket, swift, folder: RunDirectory::create("bench")? };
    bench.small(arguments).await?;
    bench.large(arguments).await?;
    bench.segmented(arguments).await?;
    bench.latency(arguments).await?;
    bench.idle(arguments).await
}

impl Bench {
    async fn small(&self, arguments: &Arguments) -> Result<()> {
        let count = arguments.objects;
        println!(
            "\nbench: {count} objects of {SMALL} bytes, {IN_FLIGHT} in flight; uploading them to Swift first"
        );
        self.upload("small", count, SMALL as u64).await?;
        let raw = self.raw("small", count).await?;
        let worker = self.worker("small", count).await?;
        let rclone = if arguments.rclone { Some(self.rclone("small", count).await?) } else { None };
        println!(
            "{:<12} {:>10} {:>16} {:>12} {:>14}",
            "", "objects/s", "CPU ms/object", "requests", "peak MiB"
        );
        for (name, run) in rows(&raw, &worker, rclone.as_ref()) {
            println!(
                "{name:<12} {:>10.0} {:>16.3} {:>12.3} {:>14.1}",
                count as f64 / run.elapsed.as_secs_f64(),
                run.cpu.as_secs_f64() * 1e3 / count as f64,
                run.requests as f64 / count as f64,
                mebibytes(run.peak_rss_bytes)
            );
        }
        ratios(&raw, &worker, rclone.as_ref());
        println!(
            "targets: >= 1200 objects/s, <= 0.3 ms CPU, <= 1.1 requests, <= 60 MiB, >= 0.80 of the raw limit"
        );
        Ok(())
    }

    async fn large(&self, arguments: &Arguments) -> Result<()> {
        let count = arguments.large;
        println!("\nbench: {count} objects of 64 MiB; uploading them to Swift first");
        self.upload("large", count, LARGE).await?;
        let raw = self.raw("large", count).await?;
        self.bucket.delete_all().await?;
        let worker = self.worker("large", count).await?;
        self.bucket.delete_all().await?;
        let rclone = if arguments.rclone { Some(self.rclone("large", count).await?) } else { None };
        self.bucket.delete_all().await?;
        print_rates(count, &rows(&raw, &worker, rclone.as_ref()));
        ratios(&raw, &worker, rclone.as_ref());
        println!("targets: <= 60 MiB, >= 0.80 of the raw limit");
        Ok(())
    }

    /// One static large object; the raw limit copies its segments as objects.
    async fn segmented(&self, arguments: &Arguments) -> Result<()> {
        let count = arguments.segments;
        println!(
            "\nbench: one static large object of {count} segments of 64 MiB; uploading them to Swift first"
        );
        self.upload("segments", count, LARGE).await?;
        let entries: Vec<_> =
            (0..count).map(|number| json!({"path": format!("/segments/object{number:06}")})).collect();
        self.swift.put_container("whole").await?;
        let manifest = serde_json::to_vec(&entries)?;
        let put = self.swift.object_request(
            "PUT",
            "whole",
            "slo",
            "multipart-manifest=put",
            &[],
            Some(manifest.into()),
        );
        put.await?.success()?;
        for round in 1..=ROUNDS {
            let raw = self.raw("segments", count).await?;
            self.bucket.delete_all().await?;
            let worker = self.configured("whole", &format!("whole{round}"))?;
            let before = self.store.requests().await?.total();
            let ended = worker.run_once().await?.expect_code(0)?;
            let requests = self.store.requests().await?.total() - before;
            let keys = swift_s3_policy::KeyMapping::new(self.swift.account(), "whole", None);
            let found = self
                .bucket
                .head(&keys.object_key("slo"))
                .await?
                .context("the large object did not arrive")?;
            ensure!(found.length == count as u64 * LARGE, "{} bytes arrived", found.length);
            self.bucket.delete_all().await?;
            let usage = ended.usage;
            let worker = Run {
                elapsed: ended.elapsed,
                cpu: usage.cpu,
                peak_rss_bytes: usage.peak_rss_bytes,
                requests,
            };
            print_rates(count, &rows(&raw, &worker, None));
            ratios(&raw, &worker, None);
        }
        println!("targets: <= 60 MiB, >= 0.90 of the raw limit");
        Ok(())
    }

    /// Times single changes from the answer of Swift's PUT to the object's being readable in S3.
    async fn latency(&self, arguments: &Arguments) -> Result<()> {
        let container = "changes";
        println!("\nbench: {} single changes, from Swift's answer to readable in S3", arguments.changes);
        self.swift.put_container(container).await?;
        let worker = self.configured(container, "latency")?;
        worker.start()?;
        worker.wait_for_log("following a container", Duration::from_secs(30)).await?;
        let keys = swift_s3_policy::KeyMapping::new(self.swift.account(), container, None);
        let mut times = Vec::new();
        for number in 0..arguments.changes {
            let name = format!("change{number}");
            self.swift.put_object(container, &name, vec![b'x'; SMALL], &[]).await?;
            let answered = Instant::now();
            let key = keys.object_key(&name);
            while self.bucket.head(&key).await?.is_none() {
                ensure!(answered.elapsed() < Duration::from_secs(30), "{key} does not arrive");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.push(answered.elapsed());
            // Changes of people do not come in step with what the worker did before.
            tokio::time::sleep(Duration::from_millis(20 + (number as u64 * 37) % 90)).await;
        }
        worker.stop().await?;
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
        println!(
            "latency ms   p50 {:.0}   p95 {:.0}   p99 {:.0}   max {:.0}",
            at(0.5),
            at(0.95),
            at(0.99),
            at(1.0)
        );
        println!("targets: p50 <= 150 ms");
        Ok(())
    }

    /// What a worker costs that has nothing to do.
    async fn idle(&self, arguments: &Arguments) -> Result<()> {
        println!(
            "\nbench: an idle worker that watches {} containers, for {} s",
            arguments.containers,
            IDLE.as_secs()
        );
        let account = self.cluster.internal_client("AUTH_idle")?;
        stream::iter(0..arguments.containers)
            .map(|number| {
                let account = &account;
                async move { account.put_container(&format!("idle{number}")).await }
            })
            .buffer_unordered(8)
            .try_collect::<Vec<()>>()
            .await?;
        let names = (0..arguments.containers).map(|number| format!("idle{number}"));
        let config = names.fold(base_config(), |config, name| {
            config.mapping(MappingJson::new("AUTH_idle", &name, self.store.access(), BUCKET))
        });
        let worker = Worker::new(&self.cluster, 0, self.folder.folder("idle")?)?;
        worker.configure(&config.set("poll_interval", 5))?;
        worker.start()?;
        // Settled when a whole second costs next to nothing.
        let mut last = Usage::of(worker.pid()?)?.cpu;
        loop {
            tokio::time::sleep(Duration::from_secs(6)).await;
            let now = Usage::of(worker.pid()?)?.cpu;
            let settled = now - last < Duration::from_millis(200);
            last = now;
            if settled {
                break;
            }
        }
        let (before, started) = (Usage::of(worker.pid()?)?.cpu, Instant::now());
        tokio::time::sleep(IDLE).await;
        let usage = Usage::of(worker.pid()?)?;
        let share = (usage.cpu - before).as_secs_f64() / started.elapsed().as_secs_f64();
        println!("idle         {:.2} % of a core, {:.1} MiB", share * 100.0, mebibytes(usage.rss_bytes));
        println!("targets: <= 0.50 % of a core");
        worker.stop().await?;
        Ok(())
    }

    async fn upload(&self, container: &str, count: usize, length: u64) -> Result<()> {
        self.swift.put_container(container).await?;
        let in_flight = if length > 1_000_000 { 2 } else { 8 };
        stream::iter(0..count)
            .map(|number| async move {
                let name = format!("object{number:06}");
                self.swift.put_object_stream(container, &name, length, number as u64 + 1, &[]).await
            })
            .buffer_unordered(in_flight)
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    fn configured(&self, container: &str, folder: &str) -> Result<Worker> {
        let worker = Worker::new(&self.cluster, 0, self.folder.folder(folder)?)?;
        let mapping = MappingJson::new(self.swift.account(), container, self.store.access(), BUCKET);
        worker.configure(&base_config().mapping(mapping))?;
        Ok(worker)
    }

    async fn worker(&self, container: &str, count: usize) -> Result<Run> {
        let worker = self.configured(container, container)?;
        let before = self.store.requests().await?.total();
        let round = worker.run_once().await?.expect_code(0)?;
        let requests = self.store.requests().await?.total() - before;
        let keys = swift_s3_policy::KeyMapping::new(self.swift.account(), container, None);
        let arrived = self.bucket.keys(keys.key_prefix()).await?.len();
        ensure!(arrived == count, "{arrived} of {count} objects arrived");
        Ok(Run {
            elapsed: round.elapsed,
            cpu: round.usage.cpu,
            peak_rss_bytes: round.usage.peak_rss_bytes,
            requests,
        })
    }

    /// The same GETs and PUTs by a bare client.
    async fn raw(&self, container: &str, count: usize) -> Result<Run> {
        let mut pairs = Vec::with_capacity(count);
        let presigning = PresigningConfig::expires_in(Duration::from_secs(3600))?;
        let node = self.cluster.node(0);
        let server = format!("http://{}:{}", node.ip(), node.port(ServerKind::Object));
        let device = node.device_names().first().context("the node has a device")?;
        for number in 0..count {
            let name = format!("object{number:06}");
            let partition = self.cluster.partition(&[self.swift.account(), container, &name]);
            let source = format!("{server}/{device}/{partition}/{}/{container}/{name}", self.swift.account());
            let target = self.bucket.sdk().put_object().bucket(BUCKET).key(format!("raw-{container}/{name}"));
            pairs.push((source, target.presigned(presigning.clone()).await?.uri().to_owned()));
        }
        let client = bare_client();
        let before = own_cpu()?;
        let requests = self.store.requests().await?.total();
        let started = Instant::now();
        let next = Arc::new(AtomicUsize::new(0));
        let pairs = Arc::new(pairs);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let (client, pairs, next) = (client.clone(), Arc::clone(&pairs), Arc::clone(&next));
            tasks.spawn(async move {
                while let Some((source, target)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    carry(&client, source, target).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(Run {
            elapsed: started.elapsed(),
            cpu: own_cpu()? - before,
            peak_rss_bytes: Usage::of(std::process::id())?.rss_bytes,
            requests: self.store.requests().await?.total() - requests - 1,
        })
    }

    /// `rclone copy` of the same container by the proxy, the only way it can read Swift.
    async fn rclone(&self, container: &str, _count: usize) -> Result<Run> {
        let access = self.store.access();
        let before = self.store.requests().await?.total();
        let started = Instant::now();
        let mut child = tokio::process::Command::new("rclone")
            .args(["copy", &format!("src:{container}"), &format!("dst:{BUCKET}/rclone-{container}")])
            .args([
                "--transfers",
                &IN_FLIGHT.to_string(),
                "--checkers",
                &IN_FLIGHT.to_string(),
                "--config",
                "",
            ])
            // Some installations point it at a file that rclone cannot read.
            .env_remove("AWS_CA_BUNDLE")
            .env("RCLONE_CONFIG_SRC_TYPE", "swift")
            .env("RCLONE_CONFIG_SRC_AUTH", format!("{}/auth/v1.0", self.cluster.proxy_url()))
            .env("RCLONE_CONFIG_SRC_USER", "test:tester")
            .env("RCLONE_CONFIG_SRC_KEY", "testing")
            .env("RCLONE_CONFIG_DST_TYPE", "s3")
            .env("RCLONE_CONFIG_DST_PROVIDER", "Other")
            .env("RCLONE_CONFIG_DST_ENDPOINT", &access.endpoint)
            .env("RCLONE_CONFIG_DST_ACCESS_KEY_ID", &access.identity)
            .env("RCLONE_CONFIG_DST_SECRET_ACCESS_KEY", &access.secret)
            .env("RCLONE_CONFIG_DST_REGION", &access.region)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("could not run rclone (make setup installs it)")?;
        let pid = child.id().context("rclone has a process id")?;
        let mut usage = Usage::default();
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    usage = Usage::of(pid).unwrap_or(usage);
                }
            }
        };
        ensure!(status.success(), "rclone failed: {status}");
        Ok(Run {
            elapsed: started.elapsed(),
            cpu: usage.cpu,
            peak_rss_bytes: usage.peak_rss_bytes,
            requests: self.store.requests().await?.total() - before,
        })
    }
}

fn base_config() -> SyncJson {
    SyncJson::new()
        .set("workers", IN_FLIGHT)
        .set("enumerator_workers", 10)
        .set("items_chunk", 1000)
        .set("poll_interval", 5)
        .set("verification_slack", 60)
        .set("log_level", "info")
}

type BareBody = UnsyncBoxBody<Bytes, hyper::Error>;

fn bare_client() -> Client<HttpConnector, BareBody> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

async fn carry(client: &Client<HttpConnector, BareBody>, source: &str, target: &str) -> Result<()> {
    let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let read = Request::get(source).header("X-Backend-Storage-Policy-Index", "0").body(empty)?;
    let answer = client.request(read).await?;
    ensure!(answer.status().is_success(), "GET {source}: {}", answer.status());
    let length = answer.headers().get("content-length").context("a length")?.clone();
    let write = Request::builder()
        .method(Method::PUT)
        .uri(target)
        .header("Content-Length", length)
        .body(answer.into_body().boxed_unsync())?;
    let stored = client.request(write).await?;
    let status = stored.status();
    let body = stored.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "PUT {target}: {status} {}", String::from_utf8_lossy(&body));
    Ok(())
}

fn own_cpu() -> Result<Duration> {
    Ok(Usage::of(std::process::id())?.cpu)
}

fn rows<'a>(raw: &'a Run, worker: &'a Run, rclone: Option<&'a Run>) -> Vec<(&'static str, &'a Run)> {
    let mut rows = vec![("raw limit", raw), ("worker", worker)];
    rows.extend(rclone.map(|run| ("rclone", run)));
    rows
}

fn print_rates(count: usize, rows: &[(&'static str, &Run)]) {
    println!("{:<12} {:>10} {:>16} {:>14}", "", "MB/s", "CPU s/GB", "peak MiB");
    let megabytes = (count as u64 * LARGE) as f64 / 1e6;
    for (name, run) in rows {
        println!(
            "{name:<12} {:>10.0} {:>16.2} {:>14.1}",
            megabytes / run.elapsed.as_secs_f64(),
            run.cpu.as_secs_f64() / megabytes * 1e3,
            mebibytes(run.peak_rss_bytes)
        );
    }
}

fn ratios(raw: &Run, worker: &Run, rclone: Option<&Run>) {
    let of = |other: &Run| other.elapsed.as_secs_f64() / worker.elapsed.as_secs_f64();
    print!("worker: {:.2} of the raw limit", of(raw));
    if let Some(rclone) = rclone {
        print!(", {:.1} times rclone", of(rclone));
    }
    println!();
}
