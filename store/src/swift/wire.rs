//! The way to a Swift cluster and its Keystone: one pool of connections, through a proxy if need be.
//!
//! Paths go out byte for byte: object names may hold `..`, `//` and anything else. Redirects are not followed, since
//! every request carries a token.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::body::{Body, BoxError};
use crate::error::{ErrorKind, StoreError};
use crate::swift::settings::SwiftSettings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below what servers and load balancers commonly allow (60 s and more), so that we are the ones who close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// An object has up to 90 headers of its user's and some of Swift's; operators may have raised that.
const MAX_HEADERS: usize = 1024;
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("swift-s3-sync/", env!("CARGO_PKG_VERSION")));

type Http = Client<HttpsConnector<Route>, Body>;

/// See the module.
pub(crate) struct Wire {
    plain: Http,
    /// Made when it is first needed: not every machine has a trust store.
    secure: OnceLock<Result<Http, String>>,
    route: Route,
    max_connections: usize,
}

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Wire").finish_non_exhaustive()
    }
}

/// No answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("no trusted certificates: {0}")]
    NoTrust(String),
    #[error(transparent)]
    Http(#[from] hyper_util::client::legacy::Error),
}

impl Wire {
    pub(crate) fn new(settings: &SwiftSettings) -> Result<Self, StoreError> {
        let route = Route { tcp: tcp_connector(), proxies: proxies(settings)?.map(Arc::new) };
        let max_connections = settings.max_connections.max(1);
        let plain = HttpsConnectorBuilder::new()
            .with_tls_config(
                tls_versions()
                    .map_err(|error| invalid(&error))?
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth(),
            )
            .https_or_http()
            .enable_http1()
            .wrap_connector(route.clone());
        let plain = pool(plain, max_connections);
        Ok(Self { plain, secure: OnceLock::new(), route, max_connections })
    }

    /// Sends a request and waits for the head of the answer, however long that takes.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, WireError> {
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        if request.uri().scheme_str() == Some("https") {
            let secure = self.secure.get_or_init(|| self.make_secure());
            return match secure {
                Ok(client) => Ok(client.request(request).await?),
                Err(error) => Err(WireError::NoTrust(error.clone())),
            };
        }
        // A proxy for plain HTTP is told who we are with every request, one for TLS with every connection.
        if let Some(proxy) = self.route.proxy_for(request.uri())
            && let Some(credentials) = proxy.basic_auth()
        {
            let mut credentials = credentials.clone();
            credentials.set_sensitive(true);
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, credentials);
        }
        Ok(self.plain.request(request).await?)
    }

    fn make_secure(&self) -> Result<Http, String> {
        let tls =
            tls_versions()?.with_native_roots().map_err(|error| error.to_string())?.with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(self.route.clone());
        Ok(pool(connector, self.max_connections))
    }
}

fn tls_versions() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

fn tcp_connector() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp
}

fn pool(connector: HttpsConnector<Route>, max_connections: usize) -> Http {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(max_connections)
        .http1_max_headers(MAX_HEADERS)
        .build(connector)
}

fn invalid(message: &str) -> StoreError {
    StoreError::named(ErrorKind::Invalid, "open").with_message(Some(message))
}

/// The configured proxies, else those of the environment. `NO_PROXY` holds for both.
fn proxies(settings: &SwiftSettings) -> Result<Option<Matcher>, StoreError> {
    let configured = |proxy: &Option<String>, name: &str| -> Result<Option<String>, StoreError> {
        let Some(proxy) = proxy.as_deref().filter(|proxy| !proxy.is_empty()) else {
            return Ok(None);
        };
        let proxy = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
        let usable =
            proxy.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        // Not the text itself, which may hold a password.
        usable.then_some(Some(proxy)).ok_or_else(|| invalid(&format!("{name}: expected http://host:port")))
    };
    let http = configured(&settings.http_proxy, "http_proxy")?;
    let https = configured(&settings.https_proxy, "https_proxy")?;
    if http.is_none() && https.is_none() {
        let named = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
        return Ok(named.into_iter().any(|name| environment(name).is_some()).then(Matcher::from_env));
    }
    let from_environment =
        |name: &str| environment(name).or_else(|| environment("ALL_PROXY")).unwrap_or_default();
    let matcher = Matcher::builder()
        .http(http.unwrap_or_else(|| from_environment("HTTP_PROXY")))
        .https(https.unwrap_or_else(|| from_environment("HTTPS_PROXY")))
        .no(environment("NO_PROXY").unwrap_or_default())
        .build();
    Ok(Some(matcher))
}

/// A variable under its upper-case or lower-case name, if it is not empty.
fn environment(name: &str) -> Option<String> {
    [name.to_owned(), name.to_ascii_lowercase()]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|value| !value.is_empty())
}

/// Makes connections, to the server itself or to a proxy.
#[derive(Clone)]
struct Route {
    tcp: HttpConnector,
    proxies: Option<Arc<Matcher>>,
}

impl Route {
    /// The proxy for a URL; this machine is never reached by one.
    fn proxy_for(&self, url: &Uri) -> Option<hyper_util::client::proxy::matcher::Intercept> {
        let proxies = self.proxies.as_ref()?;
        if url.host().is_some_and(is_loopback) {
            return None;
        }
        proxies.intercept(url)
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let proxy = self.proxy_for(&url);
        let mut tcp = self.tcp.clone();
        Box::pin(async move {
            let Some(proxy) = proxy else {
                return Ok(Stream { tcp: tcp.call(url).await?, speaks_to_proxy: false });
            };
            if proxy.uri().scheme_str() != Some("http") {
                return Err("only proxies with http:// can be used".into());
            }
            if url.scheme_str() != Some("https") {
                return Ok(Stream { tcp: tcp.call(proxy.uri().clone()).await?, speaks_to_proxy: true });
            }
            let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
            if let Some(credentials) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(credentials.clone());
            }
            Ok(Stream { tcp: tunnel.call(url).await?, speaks_to_proxy: false })
        })
    }
}

/// A connection that knows whether requests on it are a proxy's to read, which wants whole URLs.
struct Stream {
    tcp: TokioIo<TcpStream>,
    speaks_to_proxy: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.tcp.connected().proxy(self.speaks_to_proxy)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, buffers)
    }
}
