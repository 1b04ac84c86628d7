//! Talks to `tests/ground/swift_host.py`, which runs the processes of one cluster.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::process::{Process, ProcessOptions, read_log, tail};
use crate::python::{SYSTEM_PYTHON, ground_file};

/// Importing Swift takes a second on an idle machine; several clusters may start at once on a busy one.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Pending requests by id; the answers come from a thread of their own.
type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// The host process. It ends, with everything it runs, when this is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    process: Process,
    stdin: Mutex<ChildStdin>,
    pending: Pending,
    next_id: AtomicU64,
    logs: PathBuf,
}

impl Host {
    /// Starts it for the cluster whose `swift.conf` is in `swift_dir`; that file must be there already.
    pub(crate) async fn start(swift_dir: &Path, logs: &Path) -> Result<Self> {
        let options = ProcessOptions::new("swift-host", SYSTEM_PYTHON, logs.join("host.log"))
            .argument(ground_file("swift_host.py"))
            .argument(swift_dir);
        let (process, stdin, stdout) = Process::start_with_pipes(options)?;
        let pending = Pending::default();
        let (ready, is_ready) = oneshot::channel();
        lock(&pending).insert(0, ready);
        let answers = Arc::clone(&pending);
        thread::spawn(move || dispatch(stdout, &answers));
        let host = Self {
            process,
            stdin: Mutex::new(stdin),
            pending,
            next_id: AtomicU64::new(1),
            logs: logs.to_path_buf(),
        };
        match tokio::time::timeout(START_LIMIT, is_ready).await {
            Ok(Ok(_)) => Ok(host),
            _ => bail!(
                "the host of the Swift servers did not start (is Swift installed? run scripts/setup.sh):\n{}",
                host.process.log_tail()
            ),
        }
    }

    /// Starts a WSGI server; answers its process id at once.
    pub(crate) async fn serve(&self, application: &str, conf: &Path, log: &str) -> Result<u32> {
        self.serve_with(application, conf, log, None).await
    }

    /// The same, with one more folder of Python packages.
    pub(crate) async fn serve_with(
        &self,
        application: &str,
        conf: &Path,
        log: &str,
        packages: Option<&Path>,
    ) -> Result<u32> {
        let answer = self
            .ask(json!({
                "operation": "serve", "application": application, "conf": conf, "log": self.log_path(log),
                "packages": packages,
            }))
            .await?;
        let pid = answer.get("pid").and_then(Value::as_u64);
        Ok(u32::try_from(pid.context("no pid in the answer")?)?)
    }

    /// Runs a daemon once and waits for its end.
    ///
    /// # Errors
    /// When it ends otherwise than with 0, with what it logged.
    pub(crate) async fn run_once(&self, daemon: &str, conf: &Path, log: &str) -> Result<String> {
        let before = self.log_text(log).len();
        let answer = self
            .ask(json!({"operation": "run", "daemon": daemon, "conf": conf, "log": self.log_path(log)}))
            .await?;
        self.finished(&answer, daemon, log, before)
    }

    /// Calls a function of the host's table in a child of its own.
    pub(crate) async fn call(&self, function: &str, arguments: Value) -> Result<String> {
        let log = format!("call-{function}.log");
        let before = self.log_text(&log).len();
        let answer = self
            .ask(json!({"operation": "call", "function": function, "arguments": arguments, "log": self.log_path(&log)}))
            .await?;
        self.finished(&answer, function, &log, before)
    }

    /// Sends a signal to a child; with `wait`, answers when the child has ended.
    pub(crate) async fn signal(&self, pid: u32, signal: Signal, wait: bool) -> Result<()> {
        self.ask(json!({"operation": "signal", "pid": pid, "signal": signal as i32, "wait": wait}))
            .await
            .map(|_| ())
    }

    /// Everything in one log so far.
    pub(crate) fn log_text(&self, log: &str) -> String {
        read_log(&self.log_path(log))
    }

    fn log_path(&self, log: &str) -> PathBuf {
        self.logs.join(log)
    }

    fn finished(&self, answer: &Value, what: &str, log: &str, before: usize) -> Result<String> {
        let text = self.log_text(log).get(before..).unwrap_or_default().to_owned();
        match answer.get("exit").and_then(Value::as_i64) {
            Some(0) => Ok(text),
            code => bail!("{what} ended with {code:?}:\n{}", tail(&text)),
        }
    }

    async fn ask(&self, mut request: Value) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if let Some(fields) = request.as_object_mut() {
            fields.insert("id".to_owned(), id.into());
        }
        let (sender, receiver) = oneshot::channel();
        lock(&self.pending).insert(id, sender);
        {
            let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(stdin, "{request}").context("write to the host of the Swift servers")?;
        }
        let answer = receiver
            .await
            .map_err(|_| anyhow!("the host of the Swift servers is gone:\n{}", self.process.log_tail()))?;
        if let Some(error) = answer.get("error") {
            bail!("the host of the Swift servers refused {request}: {error}");
        }
        Ok(answer)
    }
}

fn lock(pending: &Pending) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Value>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dispatch(stdout: ChildStdout, pending: &Pending) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        let Ok(answer) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let waiting = answer.get("id").and_then(Value::as_u64).and_then(|id| lock(pending).remove(&id));
        if let Some(waiting) = waiting {
            // Nobody waits any more when a test was cut off.
            let _ = waiting.send(answer);
        }
    }
    // Dropping the senders tells everybody who still waits.
    lock(pending).clear();
}
