//! A Swift client that sends exactly the bytes it is told to.
//!
//! Other clients fold `a/../b`, refuse odd metadata or retry behind the test's back; this one does nothing of that. It
//! belongs to the runtime of the test that made it.

use std::convert::Infallible;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use md5::{Digest, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;

/// Everything but unreserved characters and the slash is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// One piece of a generated body.
const PIECE: usize = 65_536;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers as sent.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// A header's value, if it is there; bytes that are not UTF-8 are replaced.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// Fails unless the status is 2xx.
    pub fn success(self) -> Result<Self> {
        ensure!(
            (200..300).contains(&self.status),
            "status {}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self)
    }
}

/// One entry of a container listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Object name.
    pub name: String,
    /// MD5 in hex, as the listing has it.
    pub hash: String,
    /// Length.
    pub bytes: u64,
    /// Content type.
    pub content_type: String,
    /// Time of the last change, ISO 8601.
    pub last_modified: String,
}

/// A client of one account.
#[derive(Debug, Clone)]
pub struct SwiftClient {
    http: Client<HttpConnector, Body>,
    base: String,
    account: String,
    token: Option<String>,
}

impl SwiftClient {
    /// A client that sends `token`, if any, to `http://address:port`.
    pub fn new(base: &str, account: &str, token: Option<String>) -> Result<Self> {
        ensure!(base.starts_with("http://"), "{base} is not http://");
        Ok(Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            base: base.trim_end_matches('/').to_owned(),
            account: account.to_owned(),
            token,
        })
    }

    /// Gets a token with the version 1 authentication; the account is the one that the answer names.
    pub async fn log_in(base: &str, user: &str, key: &str) -> Result<Self> {
        let mut client = Self::new(base, "", None)?;
        let response = client
            .send_raw("GET", "/auth/v1.0", &[("X-Auth-User", user), ("X-Auth-Key", key)], None)
            .await?
            .success()
            .context("log in")?;
        let url = response.header("x-storage-url").context("no storage URL")?;
        client.account = url.rsplit_once("/v1/").context("the storage URL has no account")?.1.to_owned();
        client.token = response.header("x-auth-token").map(str::to_owned);
        Ok(client)
    }

    /// Percent-encodes a path, keeping slashes.
    pub fn encode(bytes: &[u8]) -> String {
        percent_encode(bytes, ESCAPED).to_string()
    }

    /// The account's name.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The token, for other clients such as rclone.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// `http://address:port/v1/<account>`.
    pub fn storage_url(&self) -> String {
        format!("{}{}", self.base, self.path(None, None))
    }

    /// Creates the account itself. Needed only for names outside Latin-1: others are created with their first
    /// container, and for these Swift 2.30 answers 500.
    pub async fn put_account(&self) -> Result<()> {
        self.send(&self.path(None, None), "PUT", &[], None).await?.success()?;
        Ok(())
    }

    /// Creates a container.
    pub async fn put_container(&self, container: &str) -> Result<()> {
        self.put_container_with(container, &[]).await
    }

    /// Creates (or changes) a container, with headers such as `X-Storage-Policy`.
    pub async fn put_container_with(&self, container: &str, headers: &[(&str, &str)]) -> Result<()> {
        let path = self.path(Some(container), None);
        self.send(&path, "PUT", headers, None).await?.success()?;
        Ok(())
    }

    /// Deletes a container.
    pub async fn delete_container(&self, container: &str) -> Result<Response> {
        let path = self.path(Some(container), None);
        self.send(&path, "DELETE", &[], None).await
    }

    /// HEAD of a container.
    pub async fn head_container(&self, container: &str) -> Result<Response> {
        let path = self.path(Some(container), None);
        self.send(&path, "HEAD", &[], None).await
    }

    /// POST to a container.
    pub async fn post_container(&self, container: &str, headers: &[(&str, &str)]) -> Result<Response> {
        let path = self.path(Some(container), None);
        self.send(&path, "POST", headers, None).await
    }

    /// Writes an object; fails unless Swift accepts it.
    pub async fn put_object(
        &self,
        container: &str,
        name: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let path = self.path(Some(container), Some(name));
        self.send(&path, "PUT", headers, Some(body.into()))
            .await?
            .success()
            .with_context(|| format!("PUT {path}"))
    }

    /// Writes an object of `length` generated bytes without holding them in memory; answers the MD5 of what was sent.
    pub async fn put_object_stream(
        &self,
        container: &str,
        name: &str,
        length: u64,
        seed: u64,
        headers: &[(&str, &str)],
    ) -> Result<String> {
        let path = self.path(Some(container), Some(name));
        let pieces = generated_pieces(length, seed).map(|piece| Ok(Frame::data(piece)));
        let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
        let length_text = length.to_string();
        let mut all = vec![("Content-Length", length_text.as_str())];
        all.extend_from_slice(headers);
        let response = self.exchange("PUT", &path, &self.with_token(&all)?, body).await?;
        let response = response.success().with_context(|| format!("PUT {path}"))?;
        let etag = response.header("etag").unwrap_or_default().to_owned();
        let expected = generated_md5(length, seed);
        ensure!(etag == expected, "PUT {path}: etag {etag}, expected {expected}");
        Ok(expected)
    }

    /// Changes an object's metadata.
    pub async fn post_object(&self, container: &str, name: &str, headers: &[(&str, &str)]) -> Result<()> {
        let path = self.path(Some(container), Some(name));
        self.send(&path, "POST", headers, None).await?.success().with_context(|| format!("POST {path}"))?;
        Ok(())
    }

    /// Deletes an object; 404 is an answer like any other.
    pub async fn delete_object(&self, container: &str, name: &str) -> Result<Response> {
        let path = self.path(Some(container), Some(name));
        self.send(&path, "DELETE", &[], None).await
    }

    /// Reads an object, whatever the status.
    pub async fn get_object(&self, container: &str, name: &str) -> Result<Response> {
        let path = self.path(Some(container), Some(name));
        self.send(&path, "GET", &[], None).await
    }

    /// HEAD of an object, whatever the status.
    pub async fn head_object(&self, container: &str, name: &str) -> Result<Response> {
        let path = self.path(Some(container), Some(name));
        self.send(&path, "HEAD", &[], None).await
    }

    /// Any request about an object, with a query such as `multipart-manifest=put` or an empty one.
    pub async fn object_request(
        &self,
        method: &str,
        container: &str,
        name: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Response> {
        let mut path = self.path(Some(container), Some(name));
        if !query.is_empty() {
            path.push('?');
            path.push_str(query);
        }
        self.send(&path, method, headers, body).await
    }

    /// All entries of a container, page by page.
    pub async fn list(&self, container: &str) -> Result<Vec<Listed>> {
        let mut entries: Vec<Listed> = Vec::new();
        loop {
            let marker = entries.last().map_or("", |entry| entry.name.as_str());
            let path = format!(
                "{}?format=json&marker={}",
                self.path(Some(container), None),
                percent_encode(marker.as_bytes(), NON_ALPHANUMERIC)
            );
            let response = self.send(&path, "GET", &[], None).await?.success()?;
            let page: Vec<Value> = serde_json::from_slice(&response.body)?;
            if page.is_empty() {
                return Ok(entries);
            }
            for entry in &page {
                entries.push(listed(entry)?);
            }
        }
    }

    /// The names of the account's containers.
    pub async fn list_containers(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let marker = names.last().map_or("", String::as_str);
            let path = format!(
                "{}?format=json&marker={}",
                self.path(None, None),
                percent_encode(marker.as_bytes(), NON_ALPHANUMERIC)
            );
            let response = self.send(&path, "GET", &[], None).await?.success()?;
            let page: Vec<Value> = serde_json::from_slice(&response.body)?;
            if page.is_empty() {
                return Ok(names);
            }
            let page = page.iter().filter_map(|entry| entry.get("name").and_then(Value::as_str));
            names.extend(page.map(str::to_owned));
        }
    }

    /// A GET of any path, without a token.
    pub async fn get_raw(&self, path: &str) -> Result<Response> {
        self.send_raw("GET", path, &[], None).await
    }

    /// Any request to any path (already encoded), without a token.
    pub async fn send_raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Response> {
        let headers = header_map(headers)?;
        let body = Full::new(body.unwrap_or_default()).boxed_unsync();
        self.exchange(method, path, &headers, body).await
    }

    async fn send(
        &self,
        path: &str,
        method: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Response> {
        let headers = self.with_token(headers)?;
        let body = Full::new(body.unwrap_or_default()).boxed_unsync();
        self.exchange(method, path, &headers, body).await
    }

    async fn exchange(&self, method: &str, path: &str, headers: &HeaderMap, body: Body) -> Result<Response> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(body)
            .with_context(|| format!("{method} {path}"))?;
        request.headers_mut().extend(headers.clone());
        let response = self.http.request(request).await.with_context(|| format!("{method} {path}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.with_context(|| format!("body of {method} {path}"))?.to_bytes();
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    fn with_token(&self, headers: &[(&str, &str)]) -> Result<HeaderMap> {
        let mut all = header_map(headers)?;
        if let Some(token) = &self.token {
            all.insert("x-auth-token", HeaderValue::from_str(token)?);
        }
        Ok(all)
    }

    fn path(&self, container: Option<&str>, object: Option<&str>) -> String {
        let mut path = format!("/v1/{}", Self::encode(self.account.as_bytes()));
        for part in [container, object].into_iter().flatten() {
            path.push('/');
            path.push_str(&Self::encode(part.as_bytes()));
        }
        path
    }
}

fn header_map(headers: &[(&str, &str)]) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        // Bytes, not text: Swift metadata is UTF-8 on the wire.
        map.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value.as_bytes())?);
    }
    Ok(map)
}

fn listed(entry: &Value) -> Result<Listed> {
    let text = |field: &str| {
        entry
            .get(field)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .with_context(|| format!("no {field} in {entry}"))
    };
    let Some(bytes) = entry.get("bytes").and_then(Value::as_u64) else {
        bail!("no length in {entry}");
    };
    Ok(Listed {
        name: text("name")?,
        hash: text("hash")?,
        bytes,
        content_type: text("content_type")?,
        last_modified: text("last_modified")?,
    })
}

/// `length` bytes in pieces; the same for the same seed, and different at every place.
pub fn generated_pieces(length: u64, seed: u64) -> impl Iterator<Item = Bytes> + Send {
    let mut left = length;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        left -= u64::try_from(size).unwrap_or(left);
        let mut piece = Vec::with_capacity(size + 8);
        while piece.len() < size {
            // xorshift64: fast, and good enough that no two pieces are alike.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        piece.truncate(size);
        Some(Bytes::from(piece))
    })
}

/// The MD5 of [`generated_pieces`], in hex.
pub fn generated_md5(length: u64, seed: u64) -> String {
    let mut hash = Md5::new();
    for piece in generated_pieces(length, seed) {
        hash.update(&piece);
    }
    hex::encode(hash.finalize())
}
