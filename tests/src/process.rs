//! One child process with its log in a file.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::leash;
use crate::wait;

/// Lines of a log that failures show.
const TAIL_LINES: usize = 40;

/// A running (or ended) child. Dropping it kills it and everything in its process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    log: PathBuf,
}

/// What to start; see [`Process::start`].
#[derive(Debug)]
pub struct ProcessOptions {
    name: String,
    command: Command,
    log: PathBuf,
}

impl ProcessOptions {
    /// `name` is for messages; standard output and error are appended to `log`.
    pub fn new(name: impl Into<String>, program: impl AsRef<OsStr>, log: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), command: leash::command(program), log: log.into() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn argument(mut self, value: impl AsRef<OsStr>) -> Self {
        self.command.arg(value);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<S: AsRef<OsStr>>(mut self, values: impl IntoIterator<Item = S>) -> Self {
        self.command.args(values);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }
}

impl Process {
    /// Starts it, with nothing on its standard input.
    pub fn start(options: ProcessOptions) -> Result<Self> {
        let (process, _, _) = Self::spawn(options, false)?;
        Ok(process)
    }

    /// Starts it with pipes: standard output goes to the caller, standard error to the log.
    pub fn start_with_pipes(options: ProcessOptions) -> Result<(Self, ChildStdin, ChildStdout)> {
        let (process, stdin, stdout) = Self::spawn(options, true)?;
        Ok((process, stdin.context("no standard input pipe")?, stdout.context("no standard output pipe")?))
    }

    fn spawn(
        options: ProcessOptions,
        pipes: bool,
    ) -> Result<(Self, Option<ChildStdin>, Option<ChildStdout>)> {
        let ProcessOptions { name, mut command, log } = options;
        let errors = open_log(&log)?;
        if pipes {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(errors.try_clone()?);
        }
        command.stderr(errors);
        let mut child = leash::spawn(command)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let process = Self { name, pid: child.id(), child: Mutex::new(child), log };
        Ok((process, stdin, stdout))
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's own process id, which is also its process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The log file.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything logged so far; bytes that are not UTF-8 are replaced.
    pub fn log_text(&self) -> String {
        read_log(&self.log)
    }

    /// The last lines of the log, for messages.
    pub fn log_tail(&self) -> String {
        tail(&self.log_text())
    }

    /// The exit status, if it has ended.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        Ok(self.lock().try_wait()?)
    }

    /// True while it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.exit_status(), Ok(None))
    }

    /// Sends `signal` to the process group; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // Holding the lock keeps the id from being reaped, and so from being given to another process, meanwhile.
        let mut child = self.lock();
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        killpg(process_id(self.pid)?, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Asks it to end.
    pub fn sigterm(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Asks it to read its configuration again.
    pub fn sighup(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Kills it, as a power cut would.
    pub fn sigkill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Waits until it ends; the exit code, or 128 + signal number as a shell gives it.
    pub async fn wait(&self, limit: Duration) -> Result<i32> {
        let what = format!("end of {}", self.name);
        wait::until(&what, limit, async || match self.exit_status() {
            Ok(Some(status)) => Ok(exit_code(status)),
            Ok(None) => Err(anyhow!("still running; log ends:\n{}", self.log_tail())),
            Err(error) => Err(error),
        })
        .await
    }

    /// Asks it to end and waits for that.
    pub async fn stop(&self, limit: Duration) -> Result<i32> {
        self.sigterm()?;
        self.wait(limit).await
    }

    /// Waits until something accepts connections at `address`.
    pub async fn wait_for_port(&self, address: SocketAddr, limit: Duration) -> Result<()> {
        let what = format!("{} listening on {address}", self.name);
        self.wait_until(&what, limit, async || {
            tokio::net::TcpStream::connect(address).await?;
            Ok(())
        })
        .await
    }

    /// Waits until the log contains `text`.
    pub async fn wait_for_log(&self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("{text:?} in the log of {}", self.name);
        self.wait_until(&what, limit, async || {
            if self.log_text().contains(text) { Ok(()) } else { bail!("not there") }
        })
        .await
    }

    /// Polls `probe` like [`wait::until`], but fails at once when the process has ended.
    pub async fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        probe: impl AsyncFn() -> Result<T>,
    ) -> Result<T> {
        let outcome = wait::until(what, limit, async || match probe().await {
            Ok(value) => Ok(Ok(value)),
            Err(reason) => match self.exit_status() {
                Ok(Some(status)) => Ok(Err(anyhow!("{} ended: {status}", self.name))),
                _ => Err(reason),
            },
        })
        .await
        .and_then(|inner| inner);
        outcome.with_context(|| format!("{what}; its log ends:\n{}", self.log_tail()))
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.sigkill();
        let _ = self.lock().wait();
    }
}

fn process_id(pid: u32) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Opens a log for appending, so that a restarted process continues it.
pub(crate) fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open the log {}", path.display()))
}

pub(crate) fn read_log(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(TAIL_LINES);
    lines.get(start..).unwrap_or_default().join("\n")
}
