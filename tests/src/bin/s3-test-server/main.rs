//! A real S3 server for tests and benchmarks: SigV4 and SigV2 are checked, XML is S3's, and requests are counted by
//! operation (`GET /__requests`, no signature).
//!
//! `s3-test-server --address 127.0.0.1:0 --access-key K --secret-key S [--files DIR]`; the first line on standard output
//! is `{"address": "127.0.0.1:12345"}`. Objects are in memory, with `--files` in a directory (the `s3s-fs` crate, which
//! has no ETags in listings, and file names for keys). It ends at SIGTERM.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use swift_s3_tests::operation::{Operation, RequestCounts};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

mod conditions;
mod listing;
mod memory_store;
mod multipart;
mod object;

/// The counts' path; no bucket name starts with an underscore.
const COUNTS_PATH: &str = "/__requests";

struct Arguments {
    address: SocketAddr,
    access_key: String,
    secret_key: String,
    files: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Counters([AtomicU64; Operation::ALL.len()]);

impl Counters {
    fn count(&self, operation: Operation) {
        for (counter, candidate) in self.0.iter().zip(Operation::ALL) {
            if candidate == operation {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn snapshot(&self) -> RequestCounts {
        let mut counts = RequestCounts::default();
        for (counter, operation) in self.0.iter().zip(Operation::ALL) {
            counts.add(operation, counter.load(Ordering::Relaxed));
        }
        counts
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = arguments()?;
    let auth = SimpleAuth::from_single(arguments.access_key, arguments.secret_key);
    let mut builder = match &arguments.files {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            let files = s3s_fs::FileSystem::new(folder)
                .map_err(|error| anyhow::anyhow!("open {}: {error:?}", folder.display()))?;
            S3ServiceBuilder::new(files)
        }
        None => S3ServiceBuilder::new(memory_store::MemoryStore::default()),
    };
    builder.set_auth(auth);
    let service = builder.build();
    let counters = Arc::new(Counters::default());
    let listener = TcpListener::bind(arguments.address)
        .await
        .with_context(|| format!("listen on {}", arguments.address))?;
    println!("{{\"address\": \"{}\"}}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                // A caller going away is its own affair.
                tokio::spawn(serve(stream, service.clone(), Arc::clone(&counters)));
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

async fn serve(stream: TcpStream, service: S3Service, counters: Arc<Counters>) {
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        let counters = Arc::clone(&counters);
        async move { Ok::<_, Infallible>(answer(request, &service, &counters).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        eprintln!("connection ended: {error:?}");
    }
}

async fn answer(request: Request<Incoming>, service: &S3Service, counters: &Counters) -> Response<Body> {
    if request.uri().path() == COUNTS_PATH {
        return text(StatusCode::OK, counters.snapshot().to_json().to_string());
    }
    let operation = Operation::of(request.method(), request.uri(), request.headers());
    counters.count(operation);
    let line = format!("{} {}", request.method(), request.uri());
    match service.call(request.map(Body::from)).await {
        Ok(response) => {
            if !response.status().is_success() {
                eprintln!("{line}: {}", response.status());
            }
            response
        }
        Err(error) => {
            eprintln!("{line}: {error:?}");
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}"))
        }
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(Body::http_body(body));
    *response.status_mut() = status;
    response
}

fn arguments() -> Result<Arguments> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut access_key = "ground".to_owned();
    let mut secret_key = "ground-secret".to_owned();
    let mut files = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--address" => address = value()?.parse().context("--address")?,
            "--access-key" => access_key = value()?,
            "--secret-key" => secret_key = value()?,
            "--files" => files = Some(PathBuf::from(value()?)),
            _ => bail!("unknown argument {word}"),
        }
    }
    Ok(Arguments { address, access_key, secret_key, files })
}
