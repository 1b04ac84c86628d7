//! What operators and their tools ask a process itself, on an address of its own:
//!
//! - `GET /live`: 200 while the process runs.
//! - `GET /ready`: 200 when it does its work, 503 with the reason when it does not yet, or no longer.
//! - `GET /metrics`: all metrics in Prometheus' text format.
//! - `GET /log-level`, `PUT /log-level`: how much is logged; changed only from this machine.
//!
//! Nothing here is secret, and nothing here is authenticated: bind it to loopback or to a network of operators.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use http::header::{ALLOW, CONTENT_TYPE, FORWARDED, HOST, VIA};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::logging::{Level, LevelSwitch};
use crate::metrics::Metrics;

/// Connections at a time; a monitoring system has one or two.
const MAX_CONNECTIONS: usize = 64;
/// A connection that takes longer than this is cut: nobody needs so long, and places are few.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// Looks at all metrics at a time, each in a thread of its own.
const MAX_RENDERS: usize = 2;
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// No word of a level is longer.
const MAX_BODY: usize = 64;

/// Says why the process is not ready, if it is not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is told.
#[derive(Clone)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/log-level`.
    pub level: LevelSwitch,
    /// For `/ready`.
    pub readiness: Readiness,
    renders: Arc<Semaphore>,
}

impl Admin {
    /// What is told of a process.
    #[must_use]
    pub fn new(metrics: Metrics, level: LevelSwitch, readiness: Readiness) -> Self {
        Self { metrics, level, readiness, renders: Arc::new(Semaphore::new(MAX_RENDERS)) }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Admin").finish_non_exhaustive()
    }
}

type Answer = Response<Full<Bytes>>;

/// An endpoint that is open. To be kept while the process lives: with it goes the file with its address.
#[derive(Debug)]
pub struct Door {
    /// What is listened on.
    pub address: SocketAddr,
    port_file: Option<PathBuf>,
}

impl Drop for Door {
    fn drop(&mut self) {
        let Some(path) = &self.port_file else { return };
        // The next process may have written its own by now.
        if std::fs::read_to_string(path).is_ok_and(|text| text == line(self.address)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn line(address: SocketAddr) -> String {
    format!("{address}\n")
}

/// Opens `address` and serves it until the process ends. The address that is listened on is also written to `port_file`: whole, or not
/// at all.
///
/// # Errors
/// When the address cannot be listened on, or the file not be written.
pub async fn open(address: SocketAddr, admin: Admin, port_file: Option<&Path>) -> std::io::Result<Door> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    if let Some(path) = port_file {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        std::fs::write(&draft, line(address))?;
        std::fs::rename(&draft, path)?;
    }
    tracing::info!(%address, door = "admin", "listening");
    tokio::spawn(serve(listener, admin));
    Ok(Door { address, port_file: port_file.map(Path::to_owned) })
}

async fn serve(listener: TcpListener, admin: Admin) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of file descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let admin = admin.clone();
        tokio::spawn(async move {
            drop(tokio::time::timeout(CONNECTION_LIMIT, serve_one(stream, peer.ip(), admin)).await);
            drop(place);
        });
    }
}

async fn serve_one(stream: TcpStream, peer: IpAddr, admin: Admin) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(answer(request, peer, admin).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        // So that a place is free again as soon as its answer is taken.
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an admin connection ended");
    }
}

async fn answer(request: Request<Incoming>, peer: IpAddr, admin: Admin) -> Answer {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match (request.uri().path(), is_read) {
        ("/live", true) => text(StatusCode::OK, "live\n"),
        ("/ready", true) => match (admin.readiness)() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        ("/metrics", true) => {
            let Ok(_turn) = admin.renders.acquire().await else {
                return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
            };
            let rendered = tokio::task::spawn_blocking(move || admin.metrics.render()).await;
            match rendered {
                Ok(rendered) => {
                    with_type(text(StatusCode::OK, rendered), "text/plain; version=0.0.4; charset=utf-8")
                }
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be read\n"),
            }
        }
        ("/log-level", true) => text(StatusCode::OK, format!("{}\n", Level::from(admin.level.level()))),
        ("/log-level", false) if request.method() == Method::PUT => {
            set_level(request, peer, &admin.level).await
        }
        ("/live" | "/ready" | "/metrics", false) => not_allowed("GET, HEAD"),
        ("/log-level", false) => not_allowed("GET, HEAD, PUT"),
        _ => text(StatusCode::NOT_FOUND, "/live, /ready, /metrics and /log-level are here\n"),
    }
}

async fn set_level(request: Request<Incoming>, peer: IpAddr, level: &LevelSwitch) -> Answer {
    if !peer.to_canonical().is_loopback()
        || !is_of_this_machine(request.headers())
        || is_relayed(request.headers())
    {
        return text(StatusCode::FORBIDDEN, "the log level can be changed from this machine only\n");
    }
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return text(StatusCode::BAD_REQUEST, levels()),
    };
    let word = std::str::from_utf8(&body).unwrap_or_default().trim();
    match Level::from_str(word, true) {
        Ok(wanted) => {
            level.set(wanted.into());
            text(StatusCode::OK, format!("{wanted}\n"))
        }
        Err(_) => text(StatusCode::BAD_REQUEST, levels()),
    }
}

fn levels() -> String {
    let words: Vec<String> = Level::value_variants().iter().map(ToString::to_string).collect();
    format!("expected one of {}\n", words.join(", "))
}

/// A page of a browser on this machine cannot get here by a name of its own that leads to loopback.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// A proxy on this machine speaks for others.
fn is_relayed(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
        || headers.contains_key(VIA)
        || headers.keys().any(|name| name.as_str().starts_with("x-forwarded-"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    with_type(answer, "text/plain; charset=utf-8")
}

fn with_type(mut answer: Answer, content_type: &'static str) -> Answer {
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("{methods} only\n"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        for (host, is_ours) in [
            ("127.0.0.1:9462", true),
            ("[::1]:9462", true),
            ("localhost:9462", true),
            ("localhost", true),
            ("10.1.2.3", true),
            ("evil.example:9462", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            assert_eq!(is_of_this_machine(&headers), is_ours, "{host}");
        }
        assert!(!is_of_this_machine(&HeaderMap::new()));
    }

    async fn ask(address: SocketAddr, request: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn put(address: SocketAddr, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        ask(address, &format!("PUT /log-level HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
            .await
    }

    #[tokio::test]
    async fn the_endpoint_tells_the_process_and_changes_its_log_level_from_this_machine_only() {
        let log = crate::logging::LogSettings {
            level: swift_s3_policy::LogLevel::Info,
            format: swift_s3_policy::LogFormat::Text,
            console: false,
            file: None,
            syslog: None,
        };
        // Kept, as the subscriber of a process would.
        let layer = crate::logging::layer(&log).unwrap();
        let state = crate::readiness::Readiness::default();
        let readiness = state.clone();
        let admin = Admin::new(Metrics::default(), layer.level.clone(), Arc::new(move || readiness.state()));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin");
        let door = open("127.0.0.1:0".parse().unwrap(), admin, Some(&file)).await.unwrap();
        let address = door.address;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), line(address));
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(ask(address, &get("/live")).await, (200, "live\n".into()));
        assert_eq!(ask(address, &get("/ready")).await, (503, "not ready: starting\n".into()));
        state.ready();
        assert_eq!(ask(address, &get("/ready")).await.0, 200);
        assert_eq!(ask(address, &get("/metrics")).await.0, 200);
        assert_eq!(ask(address, &get("/other")).await.0, 404);
        assert_eq!(ask(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await, (200, String::new()));
        assert_eq!(ask(address, "DELETE /ready HTTP/1.1\r\nHost: x\r\n\r\n").await.0, 405);
        assert_eq!(ask(address, &get("/log-level")).await, (200, "info\n".into()));
        for (headers, body, status) in [
            ("Host: localhost\r\n", "debug", 200),
            ("Host: 127.0.0.1:1\r\n", " Warning\n", 200),
            ("Host: evil.example\r\n", "trace", 403),
            ("Host: localhost\r\nX-Forwarded-For: 10.1.1.1\r\n", "trace", 403),
            ("Host: localhost\r\n", "loud", 400),
            ("Host: localhost\r\n", &"x".repeat(10_000), 400),
        ] {
            assert_eq!(put(address, headers, body).await.0, status, "{headers} {}", body.len());
        }
        assert_eq!(ask(address, &get("/log-level")).await, (200, "warning\n".into()));
        drop(layer);
        drop(door);
        assert!(!file.exists(), "nobody is to look for a process that has ended");
        // What another has written meanwhile stays.
        std::fs::write(&file, "127.0.0.1:1\n").unwrap();
        drop(Door { address, port_file: Some(file.clone()) });
        assert!(file.exists());
    }
}
