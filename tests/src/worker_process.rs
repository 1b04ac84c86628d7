//! The product's worker as a process, one per node.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::figures::Figures;
use crate::process::{Process, ProcessOptions, read_log, tail};
use crate::s3_servers::built_program;
use crate::swift_cluster::SwiftCluster;
use crate::sync_json::SyncJson;
use crate::usage::Usage;
use crate::wait;

/// Names the worker's program; else the one that `cargo build` made for the same profile.
pub const WORKER_VARIABLE: &str = "SWIFT_S3_SYNC_BIN";
/// A round of a test's rows takes seconds.
const ROUND_LIMIT: Duration = Duration::from_secs(120);
/// The worker gives transfers 10 s to finish.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How one `--once` run went.
#[derive(Debug, Clone)]
pub struct RoundOutcome {
    /// Exit code.
    pub code: i32,
    /// What it logged in this run.
    pub log: String,
    /// From start to end.
    pub elapsed: Duration,
    /// CPU time and memory shortly before its end.
    pub usage: Usage,
}

impl RoundOutcome {
    /// Fails, with the end of the log, unless the exit code is `code`.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "exit code {}, expected {code}; the log ends:\n{}",
            self.code,
            tail(&self.log)
        );
        Ok(self)
    }
}

/// The worker of one node: its configuration, its state, and perhaps its process.
#[derive(Debug)]
pub struct Worker {
    node: usize,
    folder: PathBuf,
    defaults: Vec<(&'static str, Value)>,
    /// Further arguments of every start; see [`Self::set_arguments`].
    arguments: Mutex<Vec<String>>,
    /// Another program than [`worker_program`].
    program: Mutex<Option<PathBuf>>,
    process: Mutex<Option<Process>>,
}

impl Worker {
    /// A worker for `node`, with everything it writes in `folder`. Nothing is started.
    pub fn new(cluster: &SwiftCluster, node: usize, folder: PathBuf) -> Result<Self> {
        let status = folder.join("status");
        fs::create_dir_all(&status)?;
        let mut defaults = vec![
            ("devices", json!(cluster.node(node).devices())),
            ("swift_bind_ip", json!(cluster.node(node).ip())),
            ("swift_dir", json!(cluster.swift_dir())),
            ("status_dir", json!(status)),
        ];
        if let Ok(url) = cluster.internal_url() {
            defaults.push(("internal_url", json!(url)));
        }
        let (arguments, program, process) = Default::default();
        Ok(Self { node, folder, defaults, arguments, program, process })
    }

    /// The node it works for.
    pub fn node(&self) -> usize {
        self.node
    }

    /// `sync.json`.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("sync.json")
    }

    /// Where it keeps its cursors.
    pub fn status_dir(&self) -> PathBuf {
        self.folder.join("status")
    }

    /// Its log of all runs.
    pub fn log_text(&self) -> String {
        read_log(&self.log_path())
    }

    /// From now on every start has these arguments too, for example `--etcd …`.
    pub fn set_arguments<S: Into<String>>(&self, arguments: impl IntoIterator<Item = S>) {
        let arguments = arguments.into_iter().map(Into::into).collect();
        *self.arguments.lock().unwrap_or_else(PoisonError::into_inner) = arguments;
    }

    /// From now on every start serves the admin endpoint, and has no other further arguments.
    pub fn serve_admin(&self) {
        let file = self.admin_port_file().to_string_lossy().into_owned();
        let wanted = ["--admin-listen", "127.0.0.1:0", "--admin-port-file", &file];
        self.set_arguments(wanted);
    }

    /// The URL of the admin endpoint, once it is there.
    pub async fn admin_url(&self) -> Result<String> {
        let file = self.admin_port_file();
        let what = format!("the admin endpoint of the worker of node {}", self.node);
        wait::until(&what, Duration::from_secs(20), async || {
            let address = fs::read_to_string(&file)?;
            Ok::<String, anyhow::Error>(format!("http://{}", address.trim()))
        })
        .await
    }

    /// What it tells on its admin endpoint.
    pub async fn figures(&self) -> Result<Figures> {
        Figures::of(&self.admin_url().await?).await
    }

    fn admin_port_file(&self) -> PathBuf {
        self.folder.join("admin.port")
    }

    /// From now on every start is one of this program, for example of another version.
    pub fn set_program(&self, program: PathBuf) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = Some(program);
    }

    /// Writes `sync.json`; a running worker is not told.
    pub fn configure(&self, config: &SyncJson) -> Result<()> {
        self.write_document(&config.document(&self.defaults))
    }

    /// Writes any document, for configurations that are wrong on purpose.
    pub fn write_document(&self, document: &Value) -> Result<()> {
        // Renamed into place, as an administrator's tool would do: a watching worker never sees half a file.
        let temporary = self.folder.join("sync.json.new");
        fs::write(&temporary, serde_json::to_string_pretty(document)?)?;
        fs::rename(temporary, self.config_path())?;
        Ok(())
    }

    /// Forgets all cursors.
    pub fn forget(&self) -> Result<()> {
        fs::remove_dir_all(self.status_dir())?;
        fs::create_dir_all(self.status_dir())?;
        Ok(())
    }

    /// Runs `--once`, whatever the exit code.
    pub async fn run_once(&self) -> Result<RoundOutcome> {
        self.run(&["--once"], &[]).await
    }

    /// Runs with other arguments behind `--config … --console`, and environment variables, until it ends.
    pub async fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<RoundOutcome> {
        let before = self.log_text().len();
        let started = Instant::now();
        let process = self.spawn(arguments, environment)?;
        let mut usage = Usage::default();
        let code = loop {
            if process.exit_status()?.is_some() {
                break process.wait(Duration::ZERO).await?;
            }
            // At the very end of a process there is nothing to read; the last good reading counts.
            usage = Usage::of(process.pid()).unwrap_or(usage);
            ensure!(
                started.elapsed() < ROUND_LIMIT,
                "the worker of node {} did not end within {ROUND_LIMIT:?}; its log ends:\n{}",
                self.node,
                process.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        Ok(RoundOutcome {
            code,
            log: self.log_text().get(before..).unwrap_or_default().to_owned(),
            elapsed: started.elapsed(),
            usage,
        })
    }

    /// Starts it in loop mode.
    pub fn start(&self) -> Result<()> {
        let mut running = self.lock();
        ensure!(running.is_none(), "the worker of node {} runs already", self.node);
        // In etcd workers are told apart by their names; the default is the machine's, which is the same for all here.
        let (name, given) = (["--node-id".to_owned(), self.node_id()], self.arguments());
        let named: Vec<&str> = if given.iter().any(|argument| argument == "--etcd") {
            name.iter().map(String::as_str).collect()
        } else {
            Vec::new()
        };
        *running = Some(self.spawn(&named, &[])?);
        Ok(())
    }

    /// Starts it under control planes; the first is preferred. Of its own file only what belongs to the node is left.
    pub fn start_under(&self, urls: &[String], environment: &[(&str, &str)]) -> Result<()> {
        self.start_named(urls, &self.node_id(), environment)
    }

    /// The same under any name.
    pub fn start_named(&self, urls: &[String], id: &str, environment: &[(&str, &str)]) -> Result<()> {
        self.write_node_document()?;
        let mut running = self.lock();
        ensure!(running.is_none(), "the worker of node {} runs already", self.node);
        *running = Some(self.spawn(&["--control", &urls.join(","), "--node-id", id], environment)?);
        Ok(())
    }

    /// How it is called under a control plane.
    pub fn node_id(&self) -> String {
        format!("node{}", self.node)
    }

    /// Writes `sync.json` with only what belongs to the node.
    pub fn write_node_document(&self) -> Result<()> {
        let mut document: serde_json::Map<String, Value> =
            self.defaults.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        document.insert("log_level".to_owned(), json!("debug"));
        self.write_document(&Value::Object(document))
    }

    /// Asks it to end and answers the exit code.
    pub async fn stop(&self) -> Result<i32> {
        self.take()?.stop(STOP_LIMIT).await
    }

    /// Kills it, as a power cut would.
    pub async fn kill(&self) -> Result<()> {
        let process = self.take()?;
        process.sigkill()?;
        process.wait(STOP_LIMIT).await?;
        Ok(())
    }

    /// Asks it to read its configuration again.
    pub fn reload(&self) -> Result<()> {
        self.lock().as_ref().context("not running")?.sighup()
    }

    /// Freezes it, as a machine that pauses would: nothing of it runs, its connections stay.
    pub fn freeze(&self) -> Result<()> {
        self.lock().as_ref().context("not running")?.signal(Signal::SIGSTOP)
    }

    /// Lets it go on after [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.lock().as_ref().context("not running")?.signal(Signal::SIGCONT)
    }

    /// Asks it to end; it is still to be waited for by [`Self::stop`].
    pub fn ask_to_end(&self) -> Result<()> {
        self.lock().as_ref().context("not running")?.sigterm()
    }

    /// Process id in loop mode.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.lock().as_ref().context("not running")?.pid())
    }

    /// CPU time and memory in loop mode.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid()?)
    }

    /// True while the process of the loop mode runs.
    pub fn is_running(&self) -> bool {
        self.lock().as_ref().is_some_and(Process::is_running)
    }

    /// Waits until its log has `text`.
    pub async fn wait_for_log(&self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("{text:?} in the log of the worker of node {}", self.node);
        wait::until(&what, limit, async || {
            let log = self.log_text();
            if log.contains(text) {
                return Ok(());
            }
            bail!("not there; the log ends:\n{}", tail(&log))
        })
        .await
    }

    fn arguments(&self) -> Vec<String> {
        self.arguments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("worker.log")
    }

    fn spawn(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Process> {
        let name = format!("worker of node {}", self.node);
        // The address of a former process leads nowhere.
        drop(fs::remove_file(self.admin_port_file()));
        let other = self.program.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let program = other.map_or_else(worker_program, Ok)?;
        let mut options = ProcessOptions::new(name, program, self.log_path())
            .argument("--config")
            .argument(self.config_path())
            .argument("--console")
            .arguments(self.arguments())
            .arguments(arguments);
        for (name, value) in environment {
            options = options.environment(name, value);
        }
        Process::start(options)
    }

    fn take(&self) -> Result<Process> {
        let process = self.lock().take();
        process.with_context(|| format!("the worker of node {} is not running", self.node))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's program.
///
/// # Errors
/// When it was not built.
pub fn worker_program() -> Result<PathBuf> {
    let path = match std::env::var_os(WORKER_VARIABLE) {
        Some(path) => Path::new(&path).to_path_buf(),
        None => built_program("swift-s3-sync")?,
    };
    ensure!(
        path.exists(),
        "{} is missing: run cargo build -p swift-s3-worker, or set {WORKER_VARIABLE}",
        path.display()
    );
    Ok(path)
}
