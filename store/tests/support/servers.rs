//! Real S3 servers, started for one test on a port of their own.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

pub const IDENTITY: &str = "conformance";
pub const SECRET: &str = "conformance-secret";

/// s3s-fs in this process, keeping objects in a folder. Checks signatures.
pub struct FileServer {
    pub url: String,
    pub folder: tempfile::TempDir,
}

impl FileServer {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = s3s_fs::FileSystem::new(folder.path()).unwrap();
        let mut service = s3s::service::S3ServiceBuilder::new(files);
        service.set_auth(s3s::auth::SimpleAuth::from_single(IDENTITY, SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, folder }
    }

    pub fn create_bucket(&self, bucket: &str) {
        std::fs::create_dir(self.folder.path().join(bucket)).unwrap();
    }
}

/// moto's server, a process of its own that ends with this one.
pub struct MotoServer {
    pub url: String,
    /// A shell that ends the server when its standard input closes, however this process ends.
    leash: Child,
}

impl MotoServer {
    pub async fn start() -> Self {
        let program = moto_program();
        assert!(program.is_file(), "{} is missing: run `make setup`", program.display());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = r#""$0" -H 127.0.0.1 -p "$1" & server=$!; read -r _; kill "$server"; wait"#;
        let leash = Command::new("sh")
            .args(["-c", script])
            .arg(&program)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { url: format!("http://127.0.0.1:{port}"), leash };
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "moto does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server
    }
}

impl Drop for MotoServer {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}

fn moto_program() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    cache.join("swift-s3-sync/venv/bin/moto_server")
}
