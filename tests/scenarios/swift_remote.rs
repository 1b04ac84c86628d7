//! Another Swift cluster as the remote: objects, metadata, expiry, containers and large objects arrive there as they are here.

mod containers;
mod expiry;
mod large;
mod plain;

use anyhow::{Context, Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::Response;
use swift_s3_tests::swift_cluster::SharedCluster;
use swift_s3_tests::swift_remote::{SwiftRemote, remote_options};
use swift_s3_tests::sync_json::MappingJson;

use crate::CLUSTER;

pub static REMOTE: SharedCluster = SharedCluster::new(remote_options);

/// A local account and a remote one.
struct Pair {
    site: Site,
    remote: SwiftRemote,
}

impl Pair {
    /// Both empty, but for the local container `c`.
    async fn start() -> Result<Self> {
        let pair = Self {
            site: Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?,
            remote: SwiftRemote::on(REMOTE.get().await?).await?,
        };
        pair.site.swift.put_container("c").await?;
        Ok(pair)
    }

    /// A pair whose container `c` goes to the remote container `copies`, with what `change` makes of the mapping.
    async fn mapped(change: impl FnOnce(MappingJson) -> MappingJson) -> Result<Self> {
        let pair = Self::start().await?;
        pair.map("c", "copies", change)?;
        Ok(pair)
    }

    fn map(
        &self,
        container: &str,
        remote: &str,
        change: impl FnOnce(MappingJson) -> MappingJson,
    ) -> Result<()> {
        self.site.map([change(self.remote.mapping(self.site.swift.account(), container, remote))])
    }

    /// Runs every worker once, and answers what they asked of the remote: method and target, logins left out.
    async fn sync(&self) -> Result<Vec<String>> {
        self.remote.faults.forget();
        self.site.sync().await?;
        Ok(self.asked())
    }

    fn asked(&self) -> Vec<String> {
        let seen = self.remote.faults.seen();
        seen.iter()
            .filter(|seen| !seen.target.starts_with("/auth"))
            .map(|seen| format!("{} {}", seen.method, seen.target))
            .collect()
    }

    async fn local(&self, name: &str) -> Result<Response> {
        self.site.swift.get_object("c", name).await?.success()
    }

    async fn copy(&self, name: &str) -> Result<Response> {
        let answer = self.remote.swift.get_object("copies", name).await?;
        answer.success().with_context(|| format!("the copy of {name}"))
    }

    /// Fails unless the copy of an object gives the same content, type and metadata.
    async fn expect_same(&self, name: &str) -> Result<()> {
        let (local, copy) = (self.local(name).await?, self.copy(name).await?);
        ensure!(
            local.body == copy.body,
            "{name}: {} bytes, the copy has {}",
            local.body.len(),
            copy.body.len()
        );
        ensure!(described(&local) == described(&copy), "{:?}\n{:?}", described(&local), described(&copy));
        Ok(())
    }

    /// Names in a remote container, sorted; none if there is no such container.
    async fn names(&self, container: &str) -> Result<Vec<String>> {
        if self.remote.swift.head_container(container).await?.status == 404 {
            return Ok(Vec::new());
        }
        Ok(self.remote.swift.list(container).await?.into_iter().map(|entry| entry.name).collect())
    }
}

/// The headers that a copy has to share.
fn described(object: &Response) -> Vec<(String, String)> {
    let shared = |name: &str| {
        (name.starts_with("x-object-meta-")
            && !name.contains("swift-slo-etag")
            && !name.contains("swift-source"))
            || [
                "content-type",
                "content-encoding",
                "content-disposition",
                "cache-control",
                "content-language",
            ]
            .contains(&name)
    };
    let mut headers: Vec<(String, String)> = object
        .headers
        .iter()
        .filter(|(name, _)| shared(name.as_str()))
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    headers.sort();
    headers
}
