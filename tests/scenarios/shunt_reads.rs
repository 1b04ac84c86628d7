//! GET and HEAD of archived objects through the shunt's door for clients.

mod access;
mod archives;
mod copies;
mod faults;
mod semantics;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::{Response, SwiftClient};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};

use crate::CLUSTER;

/// A site whose container `c` is archived and merged, and a shunt in front of the proxy without authentication.
struct Reads {
    shunt: Shunt,
    /// A client that goes through the shunt.
    client: SwiftClient,
    site: Site,
}

impl Reads {
    async fn on(server: S3ServerKind) -> Result<Self> {
        let site = Site::on(CLUSTER.get().await?, server).await?;
        let mapping = site.mapping("c");
        Self::with(site, mapping).await
    }

    async fn with(site: Site, mapping: MappingJson) -> Result<Self> {
        for container in ["c", "s", "other"] {
            site.swift.put_container(container).await?;
        }
        let mapping = mapping.set("retain_local", false).set("merge_namespaces", true);
        site.map([mapping.clone()])?;
        let options = ShuntOptions::new(&site.cluster.internal_url()?, SyncJson::new().mapping(mapping));
        let shunt = Shunt::start(site.directory().folder("shunt")?, options).await?;
        let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
        Ok(Self { shunt, client, site })
    }

    /// Writes an object and archives it.
    async fn archive(&self, name: &str, content: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> Result<()> {
        let content = content.as_ref().to_vec();
        self.site
            .swift
            .object_request("PUT", "c", name, "", headers, Some(content.into()))
            .await?
            .success()?;
        self.carry().await?;
        let local = self.site.swift.head_object("c", name).await?;
        ensure!(local.status == 404, "{name} is still in Swift: {}", local.status);
        Ok(())
    }

    async fn carry(&self) -> Result<()> {
        self.site.sync().await.map(|_| ())
    }

    /// A request through the shunt.
    async fn ask(&self, method: &str, name: &str, headers: &[(&str, &str)]) -> Result<Response> {
        self.client.object_request(method, "c", name, "", headers, None).await
    }

    /// Segments in `s`, and the manifest of a static large object over them.
    async fn put_slo(
        &self,
        name: &str,
        segments: &[(&str, Vec<u8>)],
        headers: &[(&str, &str)],
    ) -> Result<()> {
        let swift = &self.site.swift;
        for (segment, content) in segments {
            let content = content.clone().into();
            swift.object_request("PUT", "s", segment, "", &[], Some(content)).await?.success()?;
        }
        let entries: Vec<Value> =
            segments.iter().map(|(segment, _)| json!({"path": format!("/s/{segment}")})).collect();
        let body = Value::from(entries).to_string();
        let query = "multipart-manifest=put";
        swift.object_request("PUT", "c", name, query, headers, Some(body.into())).await?.success()?;
        Ok(())
    }
}

/// A figure of the shunt's.
async fn figure(shunt: &Shunt, name: &str) -> Result<u64> {
    let admin = SwiftClient::new(&shunt.admin_url()?, "", None)?;
    let text = String::from_utf8(admin.get_raw("/metrics").await?.success()?.body.to_vec())?;
    let values = text.lines().filter(|line| line.starts_with(name));
    let mut sum = 0.0;
    for line in values {
        sum += line.rsplit(' ').next().context("a value")?.parse::<f64>()?;
    }
    Ok(format!("{sum:.0}").parse()?)
}

/// Content that is different everywhere.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Fails unless an answer has this status; shows the answer.
fn expect(answer: &Response, status: u16) -> Result<()> {
    ensure!(
        answer.status == status,
        "status {}, expected {status}: {:?} {}",
        answer.status,
        answer.headers,
        String::from_utf8_lossy(answer.body.get(..200.min(answer.body.len())).unwrap_or_default())
    );
    Ok(())
}
