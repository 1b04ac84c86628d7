//! A remote for tests: an HTTP server that keeps what it was sent and answers as it is told.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use swift_s3_policy::{Addressing, CredentialSource, RemoteMetadata, S3Remote};
use swift_s3_store::{ObjectStore, PutObject, S3Settings, StaticCredentials, body, s3::RequestStyle};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// Never to be seen in any error, log or `Debug` text.
pub const SECRET: &str = "wJalr-secret-key-never-shown";
pub const SESSION_TOKEN: &str = "session-token-never-shown";

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Captured {
    pub method: String,
    /// As on the request line.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub had_trailers: bool,
    /// The body arrived in full.
    pub complete: bool,
}

impl Captured {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The request line's target without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// What a test server says to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub body: String,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name, value.as_ref().to_vec()));
        self
    }

    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// An error document.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status).header("content-type", "application/xml").header("x-amz-request-id", "REQ1").body(
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"),
        )
    }
}

/// See the module.
pub struct Server {
    pub url: String,
    captured: Arc<Mutex<Vec<Captured>>>,
    /// Told when the head of a request is there.
    pub head_arrived: Arc<Notify>,
}

impl Server {
    pub fn captured(&self) -> Vec<Captured> {
        self.captured.lock().unwrap().clone()
    }

    pub fn only(&self) -> Captured {
        let captured = self.captured();
        assert_eq!(captured.len(), 1, "{captured:#?}");
        captured.into_iter().next().unwrap()
    }
}

/// Starts a server that answers with what `answer` makes of the request and of the number of requests before it.
pub async fn serve(answer: impl Fn(&Captured, usize) -> Answer + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let captured = Arc::new(Mutex::new(Vec::new()));
    let head_arrived = Arc::new(Notify::new());
    let server = Server { url, captured: Arc::clone(&captured), head_arrived: Arc::clone(&head_arrived) };
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let captured = Arc::clone(&captured);
            let answer = Arc::clone(&answer);
            let head_arrived = Arc::clone(&head_arrived);
            let service = service_fn(move |request: Request<Incoming>| {
                let captured = Arc::clone(&captured);
                let answer = Arc::clone(&answer);
                let head_arrived = Arc::clone(&head_arrived);
                async move {
                    head_arrived.notify_one();
                    let request = capture(request).await;
                    let number = {
                        let mut all = captured.lock().unwrap();
                        all.push(request.clone());
                        all.len() - 1
                    };
                    let answer = answer(&request, number);
                    let mut response = Response::builder().status(answer.status);
                    for (name, value) in answer.headers {
                        response = response.header(name, value);
                    }
                    Ok::<_, Infallible>(response.body(Full::<Bytes>::from(answer.body)).unwrap())
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    server
}

async fn capture(request: Request<Incoming>) -> Captured {
    let (parts, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    let mut had_trailers = false;
    let mut complete = true;
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(_) => had_trailers = true,
            },
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    Captured {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body,
        had_trailers,
        complete,
    }
}

/// Settings for `bucket` at `endpoint`.
pub fn settings(endpoint: &str) -> S3Settings {
    S3Settings {
        remote: S3Remote {
            endpoint: Some(endpoint.to_owned()),
            bucket: "bucket".to_owned(),
            region: None,
            addressing: Addressing::Auto,
            credentials: CredentialSource::DefaultChain,
            encryption: true,
            storage_class: None,
            archived_metadata: swift_s3_policy::ArchivedMetadata::default(),
        },
        credentials: Some(StaticCredentials {
            identity: "AKIDEXAMPLE".to_owned(),
            secret: SECRET.to_owned(),
            session_token: None,
        }),
        http_proxy: None,
        https_proxy: None,
        max_connections: 4,
    }
}

pub async fn open(settings: &S3Settings) -> Arc<dyn ObjectStore> {
    swift_s3_store::open(settings).await.unwrap()
}

pub async fn open_at(server: &Server) -> Arc<dyn ObjectStore> {
    open(&settings(&server.url)).await
}

pub async fn open_in_style(server: &Server, change: impl FnOnce(&mut RequestStyle)) -> Arc<dyn ObjectStore> {
    let settings = settings(&server.url);
    let mut style = RequestStyle::of(&settings.remote);
    change(&mut style);
    swift_s3_store::s3::open_with_style(&settings, style).await.unwrap()
}

pub fn metadata(content_type: &str, user: &[(&str, &str)]) -> RemoteMetadata {
    RemoteMetadata {
        content_type: content_type.to_owned(),
        user: user
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..RemoteMetadata::default()
    }
}

pub fn put_of(content: impl Into<Bytes>) -> PutObject {
    let content = content.into();
    PutObject {
        length: content.len() as u64,
        content_md5: Some(md5(&content)),
        metadata: metadata("text/plain", &[]),
        body: body::from_bytes(content),
        storage_class: None,
    }
}

pub fn md5(content: &[u8]) -> [u8; 16] {
    use md5::Digest;
    md5::Md5::digest(content).into()
}

pub fn hex_md5(content: &[u8]) -> String {
    md5(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
