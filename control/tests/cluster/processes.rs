//! Control processes, and clients of them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::config_service_client::ConfigServiceClient;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::v1::status_service_client::StatusServiceClient;
use swift_s3_proto::v1::*;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::support::{Node, PATIENCE, eventually, hello, key};

/// Of the tests' leases.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

pub(crate) struct Process {
    pub(crate) folder: TempDir,
    pub(crate) address: String,
    child: Child,
}

pub(crate) fn command(data: &Path, etcd: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swift-s3-control"));
    command
        .arg("--data-dir")
        .arg(data)
        .args(["--etcd", etcd])
        .env("SWIFT_S3_ETCD_LEASE_SECONDS", "2")
        .env("SWIFT_S3_CONTROL_LISTEN", "127.0.0.1:0")
        .stderr(Stdio::piped());
    command
}

impl Process {
    pub(crate) fn start(etcd: &str, arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), etcd, arguments)
    }

    pub(crate) fn start_in(folder: TempDir, etcd: &str, arguments: &[&str]) -> Self {
        let port_file = folder.path().join("port");
        drop(std::fs::remove_file(&port_file));
        let mut command = command(&folder.path().join("data"), etcd);
        command.arg("--port-file").arg(&port_file).arg("--log-file").arg(folder.path().join("log"));
        let child = command.args(arguments).spawn().unwrap();
        let mut process = Self { folder, child, address: String::new() };
        let deadline = Instant::now() + PATIENCE;
        while process.address.is_empty() {
            assert!(process.child.try_wait().unwrap().is_none(), "it ended: {}", process.log());
            assert!(Instant::now() < deadline, "it does not listen");
            process.address = std::fs::read_to_string(&port_file).unwrap_or_default().trim().to_owned();
            std::thread::sleep(Duration::from_millis(10));
        }
        process
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Stops it where it stands. A signal takes its time: what is sent to the process afterwards must not be answered any more.
    pub(crate) async fn freeze(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_stopped = |stat: String| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"));
        let running = || async {
            let tasks = std::fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path().join("stat"));
            tasks.filter(|stat| !std::fs::read_to_string(stat).is_ok_and(is_stopped)).count()
        };
        eventually(running, |running| *running == 0).await;
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it and starts another one on the same data directory.
    pub(crate) fn restart(mut self, etcd: &str) -> Self {
        self.kill();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Self::start_in(folder, etcd, &[])
    }

    pub(crate) fn is_leading(&self) -> bool {
        let log = self.log();
        let last = |words: &str| log.rfind(words);
        let ended = last("leading no more").max(last("following leader=")).max(last(" stopping"));
        last(" leading control=").is_some_and(|began| Some(began) > ended)
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.try_channel().await.unwrap()
    }

    pub(crate) async fn try_channel(&self) -> Result<Channel, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let connected = endpoint.connect_timeout(Duration::from_secs(2)).connect().await;
        connected.map_err(|error| Status::unavailable(error.to_string()))
    }

    pub(crate) async fn config(&self) -> ConfigServiceClient<Channel> {
        ConfigServiceClient::new(self.channel().await).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) async fn status(&self) -> StatusServiceClient<Channel> {
        StatusServiceClient::new(self.channel().await).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) async fn nodes(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel().await).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Applies a document on top of revision `expected`; returns the new revision.
    pub(crate) async fn apply(&self, document: &str, expected: i64) -> Result<i64, Status> {
        let request = ApplyConfigRequest {
            document: document.to_owned(),
            expected_revision: expected,
            comment: "by a test".to_owned(),
            dry_run: false,
        };
        let config = ConfigServiceClient::new(self.try_channel().await?);
        let mut config = config.max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(config.apply_config(request).await?.into_inner().revision.unwrap().revision)
    }

    /// The revision in force; 0: none.
    pub(crate) async fn revision(&self) -> Result<i64, Status> {
        let request = GetConfigRequest::default();
        let config = ConfigServiceClient::new(self.try_channel().await?);
        let asked = config.max_decoding_message_size(MAX_MESSAGE_BYTES).get_config(request).await;
        match asked {
            Ok(answer) => Ok(answer.into_inner().revision.map_or(0, |revision| revision.revision)),
            Err(status) if status.code() == Code::NotFound => Ok(0),
            Err(status) => Err(status),
        }
    }

    /// Waits until it answers, by itself or through the leader.
    pub(crate) async fn answers(&self) -> i64 {
        eventually(|| self.revision(), Result::is_ok).await.unwrap()
    }

    pub(crate) async fn cursor(&self, database: &str) -> Result<Option<i64>, Status> {
        let mut nodes = NodeServiceClient::new(self.try_channel().await?);
        let request = LoadProgressRequest { node_id: "n".to_owned(), keys: vec![key(database)] };
        let feeds = nodes.load_progress(request).await?.into_inner().feeds;
        Ok(feeds.first().map(|feed| feed.cursors["own"]))
    }

    pub(crate) async fn node(&self, node_id: &str) -> Node {
        let mut node = Node::connect_through(self.nodes().await, hello(node_id, "p")).await;
        node.welcome().await;
        node
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.address, self.log());
        }
    }
}

/// A leader, and one that hands calls on to it.
pub(crate) async fn pair(etcd: &str, arguments: &[&str]) -> (Process, Process) {
    let leader = Process::start(etcd, arguments);
    leader.answers().await;
    let follower = Process::start(etcd, arguments);
    follower.answers().await;
    assert!(leader.is_leading() && !follower.is_leading());
    (leader, follower)
}
