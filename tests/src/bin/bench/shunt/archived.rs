//! Archived objects through the shunt, against S3 and Swift asked directly.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::s3_client::S3Client;
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_cluster::{SwiftCluster, SwiftOptions};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::usage::Usage;

use super::load::{Load, Measured};
use super::{ROUND, ROUNDS, mebibytes_unit};
use crate::mebibytes;

const BUCKET: &str = "bench";
const CONTAINER: &str = "attic";
const LISTED: &str = "listed";
/// Names on each side of the merged listing.
const NAMES: usize = 10_000;
const CLIENTS: usize = 500;
const SIZES: [(&str, usize); 3] = [("small", 1024), ("middle", 1024 * 1024), ("large", 64 * 1024 * 1024)];

struct Bench {
    cluster: SwiftCluster,
    store: S3Server,
    bucket: S3Client,
    swift: SwiftClient,
    shunt: Shunt,
    _folder: RunDirectory,
}

/// Measures all of it.
pub(super) async fn run() -> Result<()> {
    println!(
        "\nbench: archived objects. Swift (1 node, 1 replica), an in-memory S3 server, all on the same cores"
    );
    let options = SwiftOptions { log_requests: false, ..SwiftOptions::single_node() };
    let (cluster, store) =
        tokio::try_join!(SwiftCluster::start(options), S3Server::start(S3ServerKind::Memory))?;
    let bucket = store.create_bucket(BUCKET).await?;
    let swift = cluster.client().await?;
    let folder = RunDirectory::create("bench-shunt")?;
    let mut config = SyncJson::new();
    for container in [CONTAINER, LISTED] {
        swift.put_container(container).await?;
        let mapping = MappingJson::new(swift.account(), container, store.access(), BUCKET);
        config = config.mapping(mapping.set("merge_namespaces", true));
    }
    let mut options = ShuntOptions::new(&cluster.proxy_url(), config);
    options.arguments = vec!["--log-level".into(), "warning".into()];
    let shunt = Shunt::start(folder.folder("shunt")?, options).await?;
    let bench = Bench { cluster, store, bucket, swift, shunt, _folder: folder };
    bench.reads().await?;
    bench.listings().await?;
    bench.many_clients().await
}

impl Bench {
    fn keys(&self, container: &str) -> KeyMapping {
        KeyMapping::new(self.swift.account(), container, None)
    }

    async fn reads(&self) -> Result<()> {
        for (name, size) in SIZES {
            let key = self.keys(CONTAINER).object_key(name);
            self.bucket.put(&key, vec![b'x'; size], &[], None).await?;
        }
        let token = self.swift.token().context("a token")?;
        for (name, size) in SIZES {
            let connections = if size > 1024 * 1024 { 2 } else { 8 };
            let key = self.keys(CONTAINER).object_key(name);
            let signed = self.presigned(&key).await?;
            let s3 = Load::new(&self.store.access().endpoint, &signed, connections);
            let path = format!("/v1/{}/{CONTAINER}/{name}", self.swift.account());
            let through = Load::new(&self.shunt.url()?, &path, connections).header("X-Auth-Token", token);
            // What every archived GET begins with.
            let local = format!("/v1/{}?limit=1", self.swift.account());
            let swift =
                Load::new(&self.cluster.proxy_url(), &local, connections).header("X-Auth-Token", token);
            let mut results = [const { Vec::new() }; 3];
            for _ in 0..ROUNDS {
                for (load, results) in [&s3, &through, &swift].into_iter().zip(&mut results) {
                    results.push(load.run(ROUND).await?);
                }
            }
            let medians: Vec<Measured> = results.iter().map(|results| Measured::median(results)).collect();
            let [s3, through, swift] = medians.as_slice() else { continue };
            println!("  {size} bytes, {connections} connections");
            for (what, measured) in [("S3 directly", s3), ("shunt", through), ("Swift, account", swift)] {
                println!(
                    "    {what:15} {:8.0} requests/s {:8.1} MiB/s  p50 {:7.2} ms",
                    measured.per_second,
                    measured.bytes_per_second / mebibytes_unit(),
                    measured.p50.as_secs_f64() * 1e3
                );
            }
            println!("    shunt / S3: {:.2} of the rate", through.bytes_per_second / s3.bytes_per_second);
        }
        Ok(())
    }

    async fn listings(&self) -> Result<()> {
        println!("  listing of {NAMES} local and {NAMES} archived names; writing them first");
        let keys = self.keys(LISTED);
        let (swift, bucket) = (&self.swift, &self.bucket);
        let local = stream::iter(0..NAMES).map(|number| async move {
            swift
                .put_object(LISTED, &format!("object-{number:06}-local"), Bytes::from_static(b"x"), &[])
                .await
                .map(|_| ())
        });
        local.buffer_unordered(8).try_collect::<()>().await?;
        let keys = &keys;
        let remote = stream::iter(0..NAMES).map(|number| async move {
            let key = keys.object_key(&format!("object-{number:06}-remote"));
            bucket.put(&key, Vec::new(), &[], None).await.map(|_| ())
        });
        remote.buffer_unordered(8).try_collect::<()>().await?;
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            let [local, remote, merged] = &mut times;
            let begun = std::time::Instant::now();
            ensure!(self.walk(&self.cluster.proxy_url()).await? == NAMES);
            local.push(begun.elapsed());
            let begun = std::time::Instant::now();
            ensure!(self.bucket.keys(keys.key_prefix()).await?.len() == NAMES);
            remote.push(begun.elapsed());
            let begun = std::time::Instant::now();
            ensure!(self.walk(&self.shunt.url()?).await? == 2 * NAMES);
            merged.push(begun.elapsed());
        }
        let [local, remote, merged] = times.map(|mut times| {
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or_default()
        });
        println!(
            "    Swift {:.3} s, S3 {:.3} s, merged {:.3} s: {:.2} of the slower one",
            local.as_secs_f64(),
            remote.as_secs_f64(),
            merged.as_secs_f64(),
            merged.as_secs_f64() / local.max(remote).as_secs_f64()
        );
        Ok(())
    }

    /// All pages of a listing.
    async fn walk(&self, proxy: &str) -> Result<usize> {
        let client = SwiftClient::new(proxy, self.swift.account(), self.swift.token().map(str::to_owned))?;
        Ok(client.list(LISTED).await?.len())
    }

    async fn many_clients(&self) -> Result<()> {
        let token = self.swift.token().context("a token")?;
        let path = format!("/v1/{}/{CONTAINER}/middle", self.swift.account());
        let load = Load::new(&self.shunt.url()?, &path, CLIENTS).header("X-Auth-Token", token);
        let measured = load.run(Duration::from_secs(10)).await?;
        let usage = Usage::of(self.shunt.pid()?)?;
        println!(
            "  {CLIENTS} clients, 1 MiB each: {:.0} requests/s, p99 {:.1} s, peak memory {:.0} MiB",
            measured.per_second,
            measured.p99.as_secs_f64(),
            mebibytes(usage.peak_rss_bytes)
        );
        Ok(())
    }

    /// Path and query of a signed GET.
    async fn presigned(&self, key: &str) -> Result<String> {
        let config = PresigningConfig::expires_in(Duration::from_secs(3600))?;
        let request = self.bucket.sdk().get_object().bucket(BUCKET).key(key).presigned(config).await?;
        let url: http::Uri = request.uri().parse()?;
        Ok(url.path_and_query().context("a path")?.to_string())
    }
}
