//! The program with a configuration of its own, for runs that end soon.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use swift_s3_tests::process::{Process, ProcessOptions};
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::swift_cluster::SwiftCluster;
use swift_s3_tests::worker_process::worker_program;

use crate::CLUSTER;

/// A refusal, or a round without work, takes well under a second.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The program with a configuration of its own on a node of the shared cluster.
pub struct Trial {
    pub cluster: Arc<SwiftCluster>,
    pub folder: RunDirectory,
    /// What `status_dir` says.
    pub status: PathBuf,
}

/// What a run said, on standard output and error, and its exit code.
pub struct Told {
    pub code: i32,
    pub text: String,
}

impl Told {
    #[track_caller]
    pub fn expect(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.text);
        for part in parts {
            assert!(self.text.contains(part), "{part:?} is not in\n{}", self.text);
        }
    }

    #[track_caller]
    pub fn expect_absent(&self, part: &str) {
        assert!(!self.text.contains(part), "{part:?} is in\n{}", self.text);
    }
}

impl Trial {
    pub async fn new() -> Result<Self> {
        let folder = RunDirectory::create("trial")?;
        let status = folder.folder("status")?;
        Ok(Self { cluster: CLUSTER.get().await?, folder, status })
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("sync.json")
    }

    /// A document without mistakes; its container does not exist, so a round has nothing to do.
    pub fn document(&self) -> Value {
        json!({
            "devices": self.cluster.node(0).devices(),
            "swift_bind_ip": self.cluster.node(0).ip(),
            "swift_dir": self.cluster.swift_dir(),
            "status_dir": self.status,
            "items_chunk": 100,
            "containers": [{
                "account": "AUTH_trial", "container": "none", "aws_bucket": "bucket",
                "aws_endpoint": "http://127.0.0.1:9", "aws_identity": "key", "aws_secret": "secret",
            }],
        })
    }

    /// The document after one change.
    pub fn changed(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut document = self.document();
        change(&mut document);
        self.write(&document)
    }

    pub fn write(&self, document: &Value) -> Result<()> {
        fs::write(self.config(), document.to_string())?;
        Ok(())
    }

    pub fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Process> {
        let log = self.folder.path().join("said");
        drop(fs::remove_file(&log));
        let mut options = ProcessOptions::new("trial", worker_program()?, log).arguments(arguments);
        for (name, value) in environment {
            options = options.environment(name, value);
        }
        Process::start(options)
    }

    /// Runs with exactly these arguments.
    pub async fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Told> {
        let process = self.start(arguments, environment)?;
        let code = process.wait(LIMIT).await?;
        Ok(Told { code, text: process.log_text() })
    }

    /// One round with its log on the console.
    pub async fn round(&self) -> Result<Told> {
        self.run_with(&["--config", path(&self.config()), "--once", "--console"], &[]).await
    }

    pub async fn check(&self) -> Result<Told> {
        self.run_with(&["--config", path(&self.config()), "--check-config"], &[]).await
    }
}

/// A path as an argument, or as a part of what is told.
pub fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
