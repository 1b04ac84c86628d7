//! Measures the processor time that one upload of 1 KiB costs on the client's side.
//!
//! `cargo run --release --example put_cost [uploads] [at once]`. The remote is a plain server on a thread of its own;
//! only the time of the client's threads is counted, by the kernel's per-thread accounting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use swift_s3_policy::{Addressing, CredentialSource, RemoteMetadata, S3Remote};
use swift_s3_store::{PutObject, S3Settings, StaticCredentials, body};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let uploads: u32 = arguments.next().map_or(20_000, |text| text.parse().unwrap());
    let at_once: usize = arguments.next().map_or(20, |text| text.parse().unwrap());
    let port = start_server();
    // One thread: its usage is then the client's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = settings(port);
        let store = swift_s3_store::open(&settings).await.unwrap();
        measure("warm-up", uploads / 10, at_once, |number| {
            let store = Arc::clone(&store);
            async move {
                store.put(&key(number), put()).await.unwrap();
            }
        })
        .await;
        measure("store", uploads, at_once, |number| {
            let store = Arc::clone(&store);
            async move {
                store.put(&key(number), put()).await.unwrap();
            }
        })
        .await;
        let client = sdk_client(port);
        measure("sdk", uploads, at_once, |number| {
            let client = client.clone();
            async move {
                client
                    .put_object()
                    .bucket("bucket")
                    .key(key(number))
                    .content_type("application/octet-stream")
                    .content_length(1024)
                    .content_md5("DzQ7CTGhJqIKEzIXx8A55g==")
                    .metadata("mtime", "1400000000.00000")
                    .body(aws_sdk_s3::primitives::ByteStream::from_body_1_x(http_body_util::Full::new(
                        Bytes::from_static(&[0; 1024]),
                    )))
                    .customize()
                    .disable_payload_signing()
                    .send()
                    .await
                    .unwrap();
            }
        })
        .await;
        let plain =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        measure("plain HTTP", uploads, at_once, |number| {
            let request = http::Request::put(format!("http://127.0.0.1:{port}/bucket/{}", key(number)))
                .header("content-length", 1024)
                .body(http_body_util::Full::new(Bytes::from_static(&[0; 1024])))
                .unwrap();
            let answer = plain.request(request);
            async move {
                answer.await.unwrap().collect().await.unwrap();
            }
        })
        .await;
    });
}

fn key(number: u32) -> String {
    format!("e5d922/AUTH_test/sync-s3/folder/object-{number:08}")
}

fn put() -> PutObject {
    PutObject {
        length: 1024,
        content_md5: Some([7; 16]),
        metadata: RemoteMetadata {
            content_type: "application/octet-stream".to_owned(),
            user: [("mtime".to_owned(), "1400000000.00000".to_owned())].into(),
            ..Default::default()
        },
        body: body::from_bytes(Bytes::from_static(&[0; 1024])),
        storage_class: None,
    }
}

async fn measure<F, T>(what: &str, uploads: u32, at_once: usize, upload: F)
where
    F: Fn(u32) -> T,
    T: Future<Output = ()>,
{
    let (before, started) = (usage(), Instant::now());
    stream::iter(0..uploads).map(upload).buffer_unordered(at_once).collect::<Vec<()>>().await;
    let (used, elapsed) = (usage() - before, started.elapsed());
    println!(
        "{what:>10}: {:>7.1} µs of processor time per upload, {:>8.0} uploads/s",
        used.as_secs_f64() * 1e6 / f64::from(uploads),
        f64::from(uploads) / elapsed.as_secs_f64(),
    );
}

/// User and system time of this thread.
fn usage() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap())
}

fn start_server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async {
                        request.into_body().collect().await.unwrap();
                        let response = hyper::Response::builder()
                            .header("etag", "\"0f343b0931a126a20a133217c7c039e6\"")
                            .header("x-amz-request-id", "4442587FB7D0A2F9")
                            .body(Empty::<Bytes>::new())
                            .unwrap();
                        Ok::<_, Infallible>(response)
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    });
    port
}

fn settings(port: u16) -> S3Settings {
    S3Settings {
        remote: S3Remote {
            endpoint: Some(format!("http://127.0.0.1:{port}")),
            bucket: "bucket".to_owned(),
            region: None,
            addressing: Addressing::Path,
            credentials: CredentialSource::DefaultChain,
            encryption: false,
            storage_class: None,
            archived_metadata: swift_s3_policy::ArchivedMetadata::default(),
        },
        credentials: Some(StaticCredentials {
            identity: "AKIDEXAMPLE".to_owned(),
            secret: "secret".to_owned(),
            session_token: None,
        }),
        http_proxy: None,
        https_proxy: None,
        max_connections: 64,
    }
}

/// The SDK alone, set up as lean as it can be, for comparison.
fn sdk_client(port: u16) -> aws_sdk_s3::Client {
    use aws_sdk_s3::config::{
        Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig,
    };
    let config = aws_sdk_s3::Config::builder()
        .behavior_version_latest()
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "secret", None, None, "test"))
        .endpoint_url(format!("http://127.0.0.1:{port}"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}
