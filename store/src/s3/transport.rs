//! The way to the remote: one pool of connections that the SDK and our own uploads share, through a proxy if need be.
//!
//! Every request to the remote passes here, whoever made it. So here they are counted, named as this program's, and
//! their answers' headers made readable.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use tracing::Instrument as _;

use crate::error::{ErrorKind, StoreError};
use crate::metering::{Operation, RequestCounter};
use crate::observing::{Asked, Key, Observer, Patience, S3};
use crate::s3::classify;
use crate::s3::setup::ATTEMPT_TIMEOUT;
use crate::s3::style::{endpoint_host, is_loopback};
use crate::s3::{COPY_TIMEOUT, S3Settings};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below what servers and load balancers commonly allow (60 s and more), so that we are the ones who close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// See the module.
#[derive(Clone)]
pub(crate) struct Transport {
    connector: Arc<Connector>,
    counter: Arc<RequestCounter>,
    user_agent: Arc<str>,
    observer: Observer,
    bucket: Arc<str>,
    /// URL of the bucket, without a slash at its end.
    bucket_url: Arc<str>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Transport").field("user_agent", &self.user_agent).finish_non_exhaustive()
    }
}

impl Transport {
    /// A pool for the endpoint at `url` (with the bucket's host, where it has one of its own).
    pub(crate) fn new(
        settings: &S3Settings,
        url: &str,
        user_agent: &str,
        observer: Observer,
    ) -> Result<Self, StoreError> {
        let https = url.starts_with("https://");
        let mut builder = Connector::builder()
            .connector_settings(HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .enable_tcp_nodelay(true)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(settings.max_connections.max(1));
        let proxy = proxy_for(settings, url)?;
        let proxy_needs_tls = proxy.is_from_env()
            || [&settings.http_proxy, &settings.https_proxy]
                .into_iter()
                .flatten()
                .any(|proxy| proxy.starts_with("https://"));
        builder = builder.proxy_config(proxy);
        // Without TLS there is no need for a trust store, which not every machine has.
        let connector = if https || proxy_needs_tls {
            builder.tls_provider(tls::Provider::rustls(CryptoMode::AwsLc)).build()
        } else {
            builder.build_http()
        };
        Ok(Self {
            connector: Arc::new(connector),
            counter: Arc::new(RequestCounter::default()),
            user_agent: user_agent.into(),
            observer,
            bucket: settings.remote.bucket.as_str().into(),
            bucket_url: url.trim_end_matches('/').into(),
        })
    }

    /// Requests sent so far.
    pub(crate) fn counter(&self) -> &RequestCounter {
        &self.counter
    }

    fn asked<'a>(&'a self, request: &'a HttpRequest, operation: Operation) -> Asked<'a> {
        let url = request.uri();
        let path = url.split_once('?').map_or(url, |(path, _)| path);
        let key = path.strip_prefix(&*self.bucket_url).unwrap_or_default();
        Asked {
            provider: S3,
            operation,
            method: request.method(),
            bucket: &self.bucket,
            key: Key::Encoded(key.strip_prefix('/').unwrap_or(key)),
            server: authority(url),
        }
    }

    /// This transport in the shape the SDK wants, whatever settings it asks for: timeouts of connecting are set here,
    /// all others the SDK keeps itself.
    pub(crate) fn sdk_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_settings, _components| connector.clone())
    }
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let patience = Patience::Answer(limit_of(operation_of(&request)));
        self.send(request, patience)
    }
}

impl Transport {
    /// Sends a request. Whoever gives up when `patience` is at its end has met a remote that hangs.
    pub(crate) fn send(&self, mut request: HttpRequest, patience: Patience) -> HttpConnectorFuture {
        let operation = operation_of(&request);
        self.counter.count(operation);
        // Not signed, as servers on the way may change it; so it can be set this late.
        let _ = request.headers_mut().try_insert("user-agent", self.user_agent.to_string());
        let watched = self.observer.begin(&self.asked(&request, operation), patience);
        let span = watched.span();
        // The connection's own task, if one is begun, belongs to no request.
        let answer = self.connector.call(request);
        let answer = async move {
            let answer = answer.await;
            match &answer {
                Ok(response) => watched.answered(
                    response.status().as_u16(),
                    classify::kind_of_head(response),
                    classify::request_id(response),
                ),
                Err(error) => watched.failed(classify::connector_kind(error)),
            }
            let mut response = answer?;
            if matches!(operation, Operation::Head | Operation::Get) {
                tidy_headers(&mut response);
            }
            Ok(response)
        };
        HttpConnectorFuture::new(answer.instrument(span))
    }
}

/// How long the SDK, which sends all but uploads, waits for an answer.
fn limit_of(operation: Operation) -> Duration {
    match operation {
        Operation::Copy | Operation::CopyPart | Operation::CompleteUpload => COPY_TIMEOUT,
        _ => ATTEMPT_TIMEOUT,
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// Which operation a request belongs to.
fn operation_of(request: &HttpRequest) -> Operation {
    let query = request.uri().split_once('?').map_or("", |(_, query)| query);
    let asks = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
    let copies = || request.headers().contains_key("x-amz-copy-source");
    match request.method() {
        "HEAD" => Operation::Head,
        "DELETE" if asks("uploadId") => Operation::AbortUpload,
        "DELETE" if asks("lifecycle") => Operation::WriteLifecycle,
        "DELETE" => Operation::Delete,
        "POST" if asks("uploads") => Operation::CreateUpload,
        "POST" if asks("restore") => Operation::Thaw,
        "POST" => Operation::CompleteUpload,
        "PUT" if asks("uploadId") && copies() => Operation::CopyPart,
        "PUT" if asks("uploadId") => Operation::PutPart,
        "PUT" if copies() => Operation::Copy,
        "PUT" if asks("lifecycle") => Operation::WriteLifecycle,
        "PUT" => Operation::Put,
        _ if asks("lifecycle") => Operation::ReadLifecycle,
        _ if asks("uploads") => Operation::ListUploads,
        _ if asks("uploadId") => Operation::ListParts,
        // The SDK names what it asks for, but for listings of keys.
        _ if query.split('&').any(|part| part == "x-id=GetObject") => Operation::Get,
        _ => Operation::List,
    }
}

/// Leaves of an answer's headers what is read of them, in the form the SDK insists on: UTF-8, each name once, times
/// as HTTP has them. It would refuse the whole answer for a header that matters to nobody, and remotes give back any
/// bytes that somebody once stored.
fn tidy_headers(response: &mut HttpResponse) {
    let mut tidy: BTreeMap<String, String> = BTreeMap::new();
    let mut dropped: Vec<String> = Vec::new();
    for (name, value) in response.headers().iter_bytes() {
        let value = String::from_utf8_lossy(value);
        if !is_read(name, &value) {
            dropped.push(name.to_owned());
        } else if let Some(first) = tidy.get_mut(name) {
            if name.starts_with(METADATA_PREFIX) {
                first.push_str(", ");
                first.push_str(&value);
            }
        } else {
            tidy.insert(name.to_owned(), value.into_owned());
        }
    }
    let headers = response.headers_mut();
    for name in dropped {
        headers.remove(name);
    }
    for (name, value) in tidy {
        let _ = headers.try_insert(name, value);
    }
}

const METADATA_PREFIX: &str = "x-amz-meta-";

/// Whether a header of the answer to a HEAD or GET is of use and can be used.
fn is_read(name: &str, value: &str) -> bool {
    match name {
        "last-modified" => DateTime::from_str(value, Format::HttpDate).is_ok(),
        "content-length" => value.parse::<u64>().is_ok(),
        "content-type" | "date" | "etag" | "content-range" => true,
        "cache-control" | "content-disposition" | "content-encoding" | "content-language" => true,
        "x-amz-server-side-encryption" | "x-amz-storage-class" | "x-amz-restore" | "x-amz-archive-status" => {
            true
        }
        _ => name.starts_with(METADATA_PREFIX) || classify::reads_header(name),
    }
}

/// The proxy for `url`: configured, else from the environment. `NO_PROXY` holds for both; this machine is never reached
/// by proxy.
fn proxy_for(settings: &S3Settings, url: &str) -> Result<ProxyConfig, StoreError> {
    if endpoint_host(url).is_some_and(|host| is_loopback(&host)) {
        return Ok(ProxyConfig::disabled());
    }
    let (configured, name) = if url.starts_with("https://") {
        (&settings.https_proxy, "https_proxy")
    } else {
        (&settings.http_proxy, "http_proxy")
    };
    let Some(proxy) = configured.as_deref().filter(|proxy| !proxy.is_empty()) else {
        return Ok(proxy_from_environment());
    };
    let proxy = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    let config = ProxyConfig::all(proxy).map_err(|error| {
        StoreError::named(ErrorKind::Invalid, "open").with_message(Some(&format!("{name}: {error}")))
    })?;
    Ok(match environment("NO_PROXY") {
        Some(rules) => config.no_proxy(rules),
        None => config,
    })
}

/// Proxies named by the environment; disabled when there are none, which spares the matching of every request.
fn proxy_from_environment() -> ProxyConfig {
    let named =
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].into_iter().any(|name| environment(name).is_some());
    if named { ProxyConfig::from_env() } else { ProxyConfig::disabled() }
}

/// A variable under its upper-case or lower-case name, if it is not empty.
fn environment(name: &str) -> Option<String> {
    [name.to_owned(), name.to_ascii_lowercase()]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|value| !value.is_empty())
}
