//! Real S3 servers of different authors, each started on an address of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::operation::RequestCounts;
use crate::ports::{Neighbourhood, free_port};
use crate::process::{Process, ProcessOptions};
use crate::python::environment_program;
use crate::run_directory::RunDirectory;
use crate::s3_client::{S3Access, S3Client};
use crate::swift_client::SwiftClient;
use crate::swift_cluster::SwiftCluster;

/// moto takes three seconds on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The servers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum S3ServerKind {
    /// `s3-test-server` with objects in memory: the strictest, the fastest, and it counts requests.
    Memory,
    /// `s3-test-server` on the `s3s-fs` crate: keys are file names, listings have no ETags.
    S3sFs,
    /// moto: AWS's behaviour as Python people know it. Checks neither signatures nor Content-MD5.
    Moto,
    /// The s3api middleware of a Swift cluster; see [`S3Server::on_swift`].
    SwiftS3Api,
}

/// A running S3 server.
#[derive(Debug)]
pub struct S3Server {
    kind: S3ServerKind,
    access: S3Access,
    // Dropped in this order: the process first, its files last.
    process: Option<Process>,
    _cluster: Option<Arc<SwiftCluster>>,
    _directory: Option<RunDirectory>,
}

impl S3Server {
    /// Starts a server and waits until it answers. [`S3ServerKind::SwiftS3Api`] gets a cluster of its own.
    pub async fn start(kind: S3ServerKind) -> Result<Self> {
        if kind == S3ServerKind::SwiftS3Api {
            let options = crate::swift_cluster::SwiftOptions {
                s3api: true,
                internal_proxy: false,
                ..crate::swift_cluster::SwiftOptions::single_node()
            };
            return Self::on_swift(Arc::new(SwiftCluster::start(options).await?));
        }
        let directory = RunDirectory::create("s3")?;
        let ip = IpAddr::V4(Neighbourhood::random().address(1));
        let address = SocketAddr::new(ip, free_port(ip)?);
        let access = S3Access {
            endpoint: format!("http://{address}"),
            identity: "ground".to_owned(),
            secret: "ground-secret".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let log = directory.path().join("server.log");
        let options = match kind {
            S3ServerKind::Moto => ProcessOptions::new("moto", environment_program("moto_server")?, log)
                .arguments(["-H", &ip.to_string(), "-p", &address.port().to_string()]),
            _ => {
                let options = ProcessOptions::new("s3-test-server", test_server()?, log)
                    .arguments(["--address", &address.to_string()])
                    .arguments(["--access-key", &access.identity])
                    .arguments(["--secret-key", &access.secret]);
                if kind == S3ServerKind::S3sFs {
                    options.argument("--files").argument(directory.folder("files")?)
                } else {
                    options
                }
            }
        };
        let process = Process::start(options)?;
        process.wait_for_port(address, START_LIMIT).await?;
        Ok(Self { kind, access, process: Some(process), _cluster: None, _directory: Some(directory) })
    }

    /// The s3api of a cluster that was started with it; its buckets are containers of account `AUTH_test2`, so that the
    /// mapped containers of `AUTH_test` stay apart.
    pub fn on_swift(cluster: Arc<SwiftCluster>) -> Result<Self> {
        ensure!(cluster.options().s3api, "the cluster has no s3api");
        Ok(Self {
            kind: S3ServerKind::SwiftS3Api,
            access: S3Access {
                endpoint: cluster.proxy_url(),
                identity: "test2:tester2".to_owned(),
                secret: "testing2".to_owned(),
                region: "us-east-1".to_owned(),
            },
            process: None,
            _cluster: Some(cluster),
            _directory: None,
        })
    }

    /// Which one it is.
    pub fn kind(&self) -> S3ServerKind {
        self.kind
    }

    /// Where it is and how to sign for it.
    pub fn access(&self) -> &S3Access {
        &self.access
    }

    /// `http://address:port`.
    pub fn endpoint(&self) -> &str {
        &self.access.endpoint
    }

    /// A client of a bucket, whether it exists or not.
    pub fn client(&self, bucket: &str) -> S3Client {
        S3Client::new(&self.access, bucket)
    }

    /// Creates a bucket and answers a client of it.
    pub async fn create_bucket(&self, bucket: &str) -> Result<S3Client> {
        let client = self.client(bucket);
        client.create_bucket().await?;
        Ok(client)
    }

    /// Requests since the start, by operation.
    ///
    /// # Errors
    /// When the server does not count; count at a fault proxy then.
    pub async fn requests(&self) -> Result<RequestCounts> {
        ensure!(
            matches!(self.kind, S3ServerKind::Memory | S3ServerKind::S3sFs),
            "{:?} does not count requests",
            self.kind
        );
        let client = SwiftClient::new(&self.access.endpoint, "", None)?;
        let response = client.get_raw("/__requests").await?.success()?;
        Ok(RequestCounts::from_json(&serde_json::from_slice(&response.body)?))
    }

    /// Its process, to kill or freeze it; none for a cluster's s3api.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }
}

/// `s3-test-server` beside this program.
fn test_server() -> Result<PathBuf> {
    let path = built_program("s3-test-server")?;
    ensure!(path.exists(), "{} is missing: run cargo build -p swift-s3-tests --bins", path.display());
    Ok(path)
}

/// The path that `cargo build` gives to a program of the profile that this program was built with.
pub(crate) fn built_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the running program")?;
    let mut folder = own.parent().context("the running program is in a folder")?;
    // Test binaries are in `deps`.
    if folder.ends_with("deps") {
        folder = folder.parent().context("deps is in a folder")?;
    }
    Ok(folder.join(name))
}
