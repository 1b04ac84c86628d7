//! An etcd of one member, in a process of its own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use swift_s3_etcd::{Etcd, EtcdSettings};
use tempfile::TempDir;

use crate::support::eventually;

pub(crate) struct EtcdProcess {
    folder: TempDir,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl EtcdProcess {
    pub(crate) async fn start() -> Self {
        // Somebody may take a port between the look and the start.
        for _ in 0..5 {
            let (client_port, peer_port) = (free_port(), free_port());
            let folder = tempfile::tempdir().unwrap();
            let mut process = Self { folder, client_port, peer_port, child: None };
            if process.launch().await {
                return process;
            }
        }
        panic!("etcd does not start");
    }

    async fn launch(&mut self) -> bool {
        let client = self.url();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new("etcd");
        command
            .args(["--name", "a", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("a={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().expect("etcd is installed"));
        let etcd = self.client();
        for _ in 0..200 {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if etcd.get("x").await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) async fn start_again(&mut self) {
        self.kill();
        assert!(self.launch().await, "etcd does not start again");
    }

    /// Starts again with nothing in it.
    pub(crate) async fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
        self.start_again().await;
    }

    /// Lets in nobody but root and a user `control`, who may use our prefix only; all have this password.
    pub(crate) async fn ask_for_password(&self, password: &str) {
        use swift_s3_etcd::etcd_client::{Client, Permission};
        let mut client = Client::connect([self.url()], None).await.unwrap();
        client.role_add("ours").await.unwrap();
        let permission = Permission::read_write("/swift-s3-sync/").with_prefix();
        client.role_grant_permission("ours", permission).await.unwrap();
        for (user, role) in [("root", "root"), ("control", "ours")] {
            client.user_add(user, password, None).await.unwrap();
            client.user_grant_role(user, role).await.unwrap();
        }
        client.auth_enable().await.unwrap();
    }

    /// A backup, as operators make it.
    pub(crate) fn save(&self, file: &Path) {
        run("etcdctl", &["--endpoints", &self.url(), "snapshot", "save", file.to_str().unwrap()]);
    }

    /// Stops it, and starts it from a backup.
    pub(crate) async fn restore(&mut self, file: &Path) {
        self.kill();
        let data = self.folder.path().join("data");
        std::fs::remove_dir_all(&data).unwrap();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let (data, cluster) = (data.to_str().unwrap().to_owned(), format!("a={peer}"));
        let file = file.to_str().unwrap();
        let arguments = ["snapshot", "restore", file, "--name", "a", "--data-dir", &data];
        run(
            "etcdctl",
            &[&arguments[..], &["--initial-cluster", &cluster, "--initial-advertise-peer-urls", &peer]]
                .concat(),
        );
        self.start_again().await;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.client_port
    }

    pub(crate) fn client(&self) -> Etcd {
        client(&[&self.url()])
    }

    /// All keys of the control plane with their values.
    pub(crate) async fn rows(&self) -> Vec<(String, String)> {
        let listed = self.client().list("/swift-s3-sync/control/", 100_000).await.unwrap();
        let shown = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        listed.entries.into_iter().map(|entry| (entry.key, shown(entry.value))).collect()
    }

    /// The value of this row, where all of the state is too much to list at once.
    pub(crate) async fn row_of_large(&self, name: &str) -> String {
        let meta = self.client().get("/swift-s3-sync/control/meta").await.unwrap().unwrap().value;
        let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
        let key = format!("/swift-s3-sync/control/state/{}/{name}", meta["state"]);
        String::from_utf8(self.client().get(&key).await.unwrap().unwrap().value).unwrap()
    }

    /// The key of this row of the state in use.
    pub(crate) async fn row(&self, name: &str) -> String {
        let ends = format!("/{name}");
        let find = || async { self.rows().await.into_iter().find(|(key, _)| key.ends_with(&ends)) };
        eventually(find, Option::is_some).await.unwrap().0
    }
}

fn run(program: &str, arguments: &[&str]) {
    let ran = Command::new(program).args(arguments).env("ETCDCTL_API", "3").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn client(urls: &[&str]) -> Etcd {
    let urls = urls.iter().map(|url| (*url).to_owned()).collect();
    Etcd::new(EtcdSettings::new(urls, None, None, None, "/swift-s3-sync/", Duration::from_secs(2)).unwrap())
}
