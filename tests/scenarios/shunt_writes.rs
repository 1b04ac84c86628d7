//! What the shunt writes: archived objects come back while they are read, and DELETE and POST reach the remote.

mod bypass;
mod deletes;
mod large;
mod posts;
mod races;
mod restores;
mod swift_remote;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::fault_proxy::FaultProxy;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::{Response, SwiftClient};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::wait;

use crate::CLUSTER;

/// A restore of a small object takes some requests to Swift.
const SOON: Duration = Duration::from_secs(30);

/// A site whose container `c` is archived, and a shunt in front of its cluster.
struct Front {
    shunt: Shunt,
    /// A client of the site's account, through the shunt.
    client: SwiftClient,
    /// Between the shunt and Swift, for what it writes back.
    inner: FaultProxy,
    site: Site,
}

impl Front {
    async fn start(server: S3ServerKind) -> Result<Self> {
        Self::with(server, |mapping| mapping).await
    }

    /// With what `change` makes of the mapping, which archives, merges, restores and carries writes.
    async fn with(server: S3ServerKind, change: impl FnOnce(MappingJson) -> MappingJson) -> Result<Self> {
        let site = Site::on(CLUSTER.get().await?, server).await?;
        site.swift.put_container("c").await?;
        let mapping = change(archived(site.mapping("c")));
        Self::around(site, mapping).await
    }

    async fn around(site: Site, mapping: MappingJson) -> Result<Self> {
        let config = SyncJson::new().mapping(mapping);
        site.configure(&config)?;
        let inner = FaultProxy::start(&site.cluster.internal_url()?).await?;
        // Access control is Swift's; these scenarios are about what is written.
        let mut options = ShuntOptions::new(&site.cluster.internal_url()?, config);
        options.internal_url = Some(inner.endpoint());
        let shunt = Shunt::start(site.directory().folder("shunt")?, options).await?;
        let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
        Ok(Self { shunt, client, inner, site })
    }

    /// Puts an object and archives it.
    async fn archive(&self, name: &str, content: &[u8], headers: &[(&str, &str)]) -> Result<()> {
        let length = content.len().to_string();
        let mut all = vec![("Content-Length", length.as_str())];
        all.extend_from_slice(headers);
        self.site.swift.put_object("c", name, content.to_vec(), &all).await?;
        self.site.sync().await?;
        self.expect_gone(name).await
    }

    /// Reads an object through the shunt, which has it from the remote.
    async fn read(&self, name: &str, content: &[u8]) -> Result<Response> {
        let answer = self.client.get_object("c", name).await?.success()?;
        ensure!(answer.body == content, "{name}: {} bytes, expected {}", answer.body.len(), content.len());
        Ok(answer)
    }

    /// Waits until Swift itself serves the object, with this content.
    async fn wait_local(&self, name: &str, content: &[u8]) -> Result<Response> {
        wait::until(&format!("{name} to be local"), SOON, async || {
            let local = self.site.swift.get_object("c", name).await?;
            ensure!(local.status == 200, "{name}: {} locally", local.status);
            ensure!(local.body == content, "{name}: {} bytes locally", local.body.len());
            Ok::<_, anyhow::Error>(local)
        })
        .await
    }

    /// Waits until no restore is under way any more: one of this outcome has ended.
    async fn wait_outcome(&self, outcome: &str) -> Result<()> {
        wait::until(&format!("a restore to end as {outcome}"), SOON, async || {
            ensure!(self.outcomes(outcome).await? > 0, "{}", self.metrics().await?);
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    /// How many restores ended like this.
    async fn outcomes(&self, outcome: &str) -> Result<u64> {
        let line = format!("swift_s3_shunt_restores_total{{outcome=\"{outcome}\"}} ");
        let metrics = self.metrics().await?;
        let value = metrics.lines().find_map(|found| found.strip_prefix(&line));
        value.map_or(Ok(0), |value| value.trim().parse().context("a figure"))
    }

    async fn metrics(&self) -> Result<String> {
        let admin = SwiftClient::new(&self.shunt.admin_url()?, "", None)?;
        let answer = admin.get_raw("/metrics").await?.success()?;
        let lines = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(lines.lines().filter(|line| line.contains("restores")).collect::<Vec<_>>().join("\n"))
    }

    /// Fails unless Swift itself has no such object.
    async fn expect_gone(&self, name: &str) -> Result<()> {
        let local = self.site.swift.head_object("c", name).await?;
        ensure!(local.status == 404, "{name}: {} locally", local.status);
        Ok(())
    }

    /// Timestamp of the object, or of its tombstone, at the first node that holds it.
    async fn timestamp(&self, name: &str) -> Result<String> {
        let names = [self.site.swift.account(), "c", name];
        let answer = self.site.cluster.direct_object("HEAD", 0, names, 0, &[]).await?;
        Ok(answer.header("x-backend-timestamp").unwrap_or_default().to_owned())
    }

    fn key(&self, name: &str) -> String {
        KeyMapping::new(self.site.swift.account(), "c", None).object_key(name)
    }

    /// PUTs that reached Swift on the way for restores: path and status.
    fn written_back(&self) -> Vec<(String, Option<u16>)> {
        let seen = self.inner.seen();
        let puts = seen.iter().filter(|seen| seen.method == "PUT");
        puts.map(|seen| (seen.target.clone(), seen.status)).collect()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.shunt.log_text();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- shunt\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// The mapping of these scenarios.
fn archived(mapping: MappingJson) -> MappingJson {
    mapping
        .set("retain_local", false)
        .set("merge_namespaces", true)
        .set("restore_object", true)
        .set("merge_writes", true)
}
