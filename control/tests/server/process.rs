//! The binary itself: flags, signals, kill -9, exit codes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use swift_s3_proto::v1::config_service_client::ConfigServiceClient;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::v1::*;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Node, PATIENCE, SECRET, document, eventually, hello, key, progress};

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swift-s3-control"));
    command.arg("--data-dir").arg(data).env("SWIFT_S3_CONTROL_LISTEN", "127.0.0.1:0").stderr(Stdio::piped());
    command
}

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let port_file = folder.join("port");
        drop(std::fs::remove_file(&port_file));
        Self::start_as(command(&folder.join("data")), folder, arguments)
    }

    fn start_as(mut command: Command, folder: &Path, arguments: &[&str]) -> Self {
        let port_file = folder.join("port");
        let child = command.arg("--port-file").arg(&port_file).args(arguments).spawn().unwrap();
        let mut process = Self { child, address: String::new() };
        let deadline = Instant::now() + PATIENCE;
        while process.address.is_empty() {
            assert!(process.child.try_wait().unwrap().is_none(), "it ended");
            assert!(Instant::now() < deadline, "it does not listen");
            process.address = std::fs::read_to_string(&port_file).unwrap_or_default().trim().to_owned();
            std::thread::sleep(Duration::from_millis(10));
        }
        process
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Its exit code.
    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &[]);
    let apply = ApplyConfigRequest { document: document(&["c"]), ..ApplyConfigRequest::default() };
    ConfigServiceClient::new(process.channel().await).apply_config(apply).await.unwrap();
    let mut node =
        Node::connect_through(NodeServiceClient::new(process.channel().await), hello("n", "p")).await;
    node.welcome().await;
    for cursor in 1..=50 {
        assert_eq!(node.report(vec![progress("db", "c", cursor)]).await, "");
    }
    process.signal(nix::sys::signal::Signal::SIGKILL);
    process.wait();

    let mut process = Process::start(folder.path(), &[]);
    let request = LoadProgressRequest { node_id: "n".to_owned(), keys: vec![key("db")] };
    let mut nodes = NodeServiceClient::new(process.channel().await);
    let loaded = nodes.load_progress(request).await.unwrap().into_inner().feeds;
    assert_eq!(loaded[0].cursors["own"], 50);
    let read =
        ConfigServiceClient::new(process.channel().await).get_config(GetConfigRequest::default()).await;
    assert_eq!(read.unwrap().into_inner().revision.unwrap().revision, 1);
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.wait(), Some(0));
}

#[tokio::test]
async fn a_stop_is_quick_and_clean_with_a_node_connected() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &[]);
    let mut node =
        Node::connect_through(NodeServiceClient::new(process.channel().await), hello("n", "p")).await;
    node.welcome().await;
    process.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(process.wait(), Some(0));
    assert!(!folder.path().join("port").exists() && !folder.path().join("data/state.db-wal").exists());
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn the_access_file_is_read_again_on_sighup_and_a_bad_one_changes_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let entry = |token: &str| format!("[[access]]\nname = \"a\"\nrole = \"viewer\"\ntoken = \"{token}\"\n");
    let path = write(folder.path(), "access.toml", &entry("first-token-0123456"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let log_file = folder.path().join("log");
    let arguments = ["--access", path.to_str().unwrap(), "--log-file", log_file.to_str().unwrap()];
    let process = Process::start(folder.path(), &arguments);
    let channel = process.channel().await;
    let ask = |token: &'static str| {
        let mut request = tonic::Request::new(ListRevisionsRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let mut config = ConfigServiceClient::new(channel.clone());
        async move { config.list_revisions(request).await.is_ok() }
    };
    assert!(ask("first-token-0123456").await && !ask("other-token-0123456").await);
    write(folder.path(), "access.toml", &entry("other-token-0123456"));
    process.signal(nix::sys::signal::Signal::SIGHUP);
    eventually(|| ask("other-token-0123456"), |is_in| *is_in).await;
    assert!(!ask("first-token-0123456").await);
    write(folder.path(), "access.toml", "[[access]]");
    process.signal(nix::sys::signal::Signal::SIGHUP);
    let log = || async { std::fs::read_to_string(&log_file).unwrap_or_default() };
    eventually(log, |log| log.contains("kept the access file")).await;
    assert!(ask("other-token-0123456").await);
    write(folder.path(), "access.toml", &entry("first-token-0123456"));
    process.signal(nix::sys::signal::Signal::SIGHUP);
    eventually(|| ask("first-token-0123456"), |is_in| *is_in).await;
}

#[tokio::test]
async fn the_initial_configuration_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "sync.json", &document(&["c"]));
    for mappings in [1, 1] {
        let process = Process::start(folder.path(), &["--config", path.to_str().unwrap()]);
        let read =
            ConfigServiceClient::new(process.channel().await).get_config(GetConfigRequest::default()).await;
        let revision = read.unwrap().into_inner().revision.unwrap();
        assert_eq!((revision.revision, revision.mappings), (1, mappings));
        std::fs::write(&path, document(&["c", "d"])).unwrap();
    }
}

fn refused(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn what_is_wrong_at_the_start_has_its_exit_code_and_words() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let with = |arguments: &[&str]| {
        let mut command = command(&data);
        command.args(arguments);
        refused(command)
    };
    let bad =
        write(folder.path(), "bad.json", &format!("{{\"containers\":[{{\"aws_secret\":\"{SECRET}\"}}]}}"));
    let hidden = write(folder.path(), "hidden.json", &document(&["c"]).replace(SECRET, "***"));
    let access = write(folder.path(), "access.toml", "");
    for (arguments, code, words) in [
        (&["--listen", "0.0.0.0:0"][..], 2, "--allow-plaintext"),
        (&["--no-such-flag"], 2, "--no-such-flag"),
        (&["--config", bad.to_str().unwrap()], 2, "containers[0].aws_bucket"),
        (&["--config", hidden.to_str().unwrap()], 2, "containers[0].aws_secret"),
        (&["--config", "/nowhere.json"], 2, "/nowhere.json"),
        (&["--access", access.to_str().unwrap()], 2, "chmod 600"),
        (&["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key"], 2, "/nowhere.pem"),
        (&["--backup", "/nowhere/backup.db"], 3, "failed"),
        (&["--data-dir", "/proc/nowhere"], 2, "cannot be used multiple times"),
    ] {
        let (found, text) = with(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
        assert!(!text.contains(SECRET), "{text}");
    }
    let (code, text) = refused(command(Path::new("/proc/nowhere")));
    assert_eq!(code, Some(3), "{text}");
}

#[test]
fn a_second_process_on_the_same_data_is_refused_and_a_backup_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let (code, text) = refused(command(&folder.path().join("data")));
    assert_eq!(code, Some(3));
    assert!(text.contains("in use by another swift-s3-control"), "{text}");
    let target = folder.path().join("backup.db");
    let mut backup = command(&folder.path().join("data"));
    backup.arg("--backup").arg(&target);
    assert_eq!(refused(backup).0, Some(0));
    assert!(target.exists());
    drop(process);
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_system_allows() {
    let folder = tempfile::tempdir().unwrap();
    let mut few = Command::new("sh");
    few.args([
        "-c",
        "ulimit -Sn 200 && exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_swift-s3-control"),
        "--data-dir",
    ])
    .arg(folder.path().join("data"))
    .env("SWIFT_S3_CONTROL_LISTEN", "127.0.0.1:0");
    let process = Process::start_as(few, folder.path(), &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let words: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert!(words[3] != "200" && words[3] == words[4], "{words:?}");
}
