//! Listings through the shunt: local and archived names are one name space, in Swift's own words.

mod entries;
mod failures;
mod paging;
mod semantics;
mod swift_remotes;

use anyhow::{Context, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::HeaderMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use swift_s3_policy::KeyMapping;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::{Response, SwiftClient};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};

use crate::CLUSTER;

/// Uploads at the same time.
const AT_ONCE: usize = 16;

/// A site whose container `c` is merged with its bucket, and a shunt in front of its Swift.
struct Merged {
    shunt: Shunt,
    client: SwiftClient,
    site: Site,
    keys: KeyMapping,
}

impl Merged {
    async fn start(server: S3ServerKind) -> Result<Self> {
        Self::with(server, &[], |mapping| mapping).await
    }

    /// With further arguments of the shunt, and what `change` makes of the mapping.
    async fn with(
        server: S3ServerKind,
        arguments: &[&str],
        change: impl FnOnce(MappingJson) -> MappingJson,
    ) -> Result<Self> {
        let site = Site::on(CLUSTER.get().await?, server).await?;
        site.swift.put_container("c").await?;
        let mapping = change(site.mapping("c").set("merge_namespaces", true));
        let config = SyncJson::new().mapping(mapping);
        let mut options = ShuntOptions::new(&site.cluster.internal_url()?, config);
        options.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let shunt = Shunt::start(site.directory().folder("shunt")?, options).await?;
        let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
        let keys = KeyMapping::new(site.swift.account(), "c", None);
        Ok(Self { shunt, client, site, keys })
    }

    /// Objects in Swift; each content is its name.
    async fn put_local<'a>(&self, container: &str, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let puts =
            names.into_iter().map(|name| self.site.swift.put_object(container, name, name.to_owned(), &[]));
        stream::iter(puts).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
    }

    /// Objects in the bucket; each content is its name, twice.
    async fn put_remote<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let puts = names.into_iter().map(|name| {
            let key = self.keys.object_key(name);
            async move { self.site.bucket.put(&key, name.repeat(2), &[], None).await }
        });
        stream::iter(puts).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await
    }

    /// A GET of `c` through the shunt.
    async fn get(&self, query: &str) -> Result<Response> {
        self.get_with(query, &[]).await
    }

    async fn get_with(&self, query: &str, headers: &[(&str, &str)]) -> Result<Response> {
        get(&self.client, "c", query, headers).await
    }

    /// The names and folders that a query gives, as text.
    async fn names(&self, query: &str) -> Result<Vec<String>> {
        lines(&self.get(query).await?.success()?)
    }

    async fn json(&self, query: &str) -> Result<Vec<Value>> {
        let query = if query.is_empty() { "format=json".to_owned() } else { format!("{query}&format=json") };
        let answer = self.get(&query).await?.success()?;
        serde_json::from_slice(&answer.body).context("a JSON listing")
    }

    /// What `content_location` calls the bucket.
    fn location(&self) -> String {
        format!("{};{};{}", self.site.faults.endpoint(), self.site.bucket.bucket(), self.keys.key_prefix())
    }
}

/// A GET of a container, with something that looks like a token: whoever has none waits for Swift.
async fn get(
    client: &SwiftClient,
    container: &str,
    query: &str,
    headers: &[(&str, &str)],
) -> Result<Response> {
    let path = format!("/v1/{}/{}", client.account(), encode(container));
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    let mut all = vec![("X-Auth-Token", "any")];
    all.extend_from_slice(headers);
    client.send_raw("GET", &target, &all, None).await
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn lines(answer: &Response) -> Result<Vec<String>> {
    let text = std::str::from_utf8(&answer.body)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn texts(entries: &[Value]) -> Vec<&str> {
    entries.iter().filter_map(|entry| entry.get("name").or(entry.get("subdir"))?.as_str()).collect()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
