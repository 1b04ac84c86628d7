//! The product's shunt as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::{Process, ProcessOptions, read_log};
use crate::s3_servers::built_program;
use crate::sync_json::SyncJson;
use crate::wait;

/// It reads its configuration and listens.
const START_LIMIT: Duration = Duration::from_secs(30);
/// It drains for at most 2 s here.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Where a shunt has its policy from.
#[derive(Debug, Clone)]
pub enum Policy {
    /// A file, which [`Shunt::configure`] replaces.
    File(SyncJson),
    /// A control plane, by its URL.
    Control(String),
}

/// What a shunt is started with.
#[derive(Debug, Clone)]
pub struct ShuntOptions {
    /// The proxy behind it; `None`: no door for clients.
    pub swift: Option<String>,
    /// Its policy.
    pub policy: Policy,
    /// Goes into the file as `internal_url`.
    pub internal_url: Option<String>,
    /// Whether it serves the filter, on the socket [`Shunt::socket`].
    pub filter: bool,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Another program than the one that was built, for example of another version.
    pub program: Option<PathBuf>,
}

impl ShuntOptions {
    /// In front of a proxy, with a policy from a file.
    pub fn new(swift: &str, config: SyncJson) -> Self {
        Self {
            swift: Some(swift.to_owned()),
            policy: Policy::File(config),
            internal_url: None,
            filter: false,
            arguments: Vec::new(),
            program: None,
        }
    }
}

/// A shunt with its files in a folder. Its addresses change with a restart, its socket does not.
#[derive(Debug)]
pub struct Shunt {
    folder: PathBuf,
    options: ShuntOptions,
    program: Mutex<PathBuf>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    addresses: Vec<(String, String)>,
}

impl Shunt {
    /// Starts one and waits until it listens.
    pub async fn start(folder: PathBuf, options: ShuntOptions) -> Result<Self> {
        let program = options.program.clone().map_or_else(|| built_program("swift-s3-shunt"), Ok)?;
        let shunt = Self { folder, options, program: Mutex::new(program), running: Mutex::new(None) };
        if let Policy::File(config) = &shunt.options.policy {
            shunt.configure(config)?;
        }
        shunt.launch().await?;
        Ok(shunt)
    }

    /// Writes its configuration file, in one piece; it notices by itself within two seconds, or after [`Shunt::reload`].
    pub fn configure(&self, config: &SyncJson) -> Result<()> {
        let mut own: Vec<(&'static str, Value)> = Vec::new();
        if let Some(url) = &self.options.internal_url {
            own.push(("internal_url", json!(url)));
        }
        self.write_config(&serde_json::to_string_pretty(&config.document(&own))?)
    }

    /// Writes any text as its configuration file, in one piece.
    pub fn write_config(&self, text: &str) -> Result<()> {
        let temporary = self.folder.join("sync.json.new");
        fs::write(&temporary, text)?;
        fs::rename(temporary, self.config_path())?;
        Ok(())
    }

    /// Tells it to read its file now.
    pub fn reload(&self) -> Result<()> {
        self.with(|running| running.process.sighup())?
    }

    /// From now on every start is one of this program.
    pub fn set_program(&self, program: PathBuf) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = program;
    }

    /// Starts it again.
    pub async fn restart(&self) -> Result<()> {
        self.launch().await
    }

    async fn launch(&self) -> Result<()> {
        let port_file = self.folder.join("ports");
        if port_file.exists() {
            fs::remove_file(&port_file)?;
        }
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut options = ProcessOptions::new("shunt", program, self.log_path())
            // Arguments of the scenario count more.
            .environment("SWIFT_S3_SHUNT_DRAIN", "2")
            .environment("SWIFT_S3_SHUNT_LOG_LEVEL", "debug")
            .arguments(["--admin-listen", "127.0.0.1:0"])
            .argument("--port-file")
            .argument(&port_file)
            .argument("--state-dir")
            .argument(self.folder.join("state"));
        if let Some(swift) = &self.options.swift {
            options = options.arguments(["--listen", "127.0.0.1:0", "--swift", swift]);
        }
        if self.options.filter {
            options =
                options.argument("--filter-listen").argument(format!("unix://{}", self.socket().display()));
        }
        options = match &self.options.policy {
            Policy::File(_) => options.argument("--config").argument(self.config_path()),
            Policy::Control(url) => options.arguments(["--control", url]),
        };
        let process = Process::start(options.arguments(&self.options.arguments))?;
        let addresses = wait::until("the shunt to listen", START_LIMIT, async || {
            if !process.is_running() {
                bail!("it ended; its log ends:\n{}", process.log_tail());
            }
            let text = fs::read_to_string(&port_file)?;
            let pairs = text.lines().filter_map(|line| line.split_once(' '));
            Ok(pairs.map(|(name, address)| (name.to_owned(), address.to_owned())).collect::<Vec<_>>())
        })
        .await?;
        *self.lock() = Some(Running { process, addresses });
        Ok(())
    }

    /// `http://…` for clients.
    pub fn url(&self) -> Result<String> {
        self.address("proxy").map(|address| format!("http://{address}"))
    }

    /// `http://…` of `/live`, `/ready` and `/metrics`.
    pub fn admin_url(&self) -> Result<String> {
        self.address("admin").map(|address| format!("http://{address}"))
    }

    /// `http://…` where it serves the filter by a port.
    pub fn filter_url(&self) -> Result<String> {
        self.address("filter").map(|address| format!("http://{address}"))
    }

    /// Where it serves the filter.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("shunt.sock")
    }

    /// `sync.json`.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("sync.json")
    }

    /// Its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        self.with(|running| running.process.pid())
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.with(|running| running.process.is_running()).unwrap_or(false)
    }

    /// Its log of all runs.
    pub fn log_text(&self) -> String {
        read_log(&self.log_path())
    }

    /// Asks it to end; answers the exit code.
    pub async fn stop(&self) -> Result<i32> {
        self.take()?.process.stop(STOP_LIMIT).await
    }

    /// Asks it to end, and does not wait.
    pub fn sigterm(&self) -> Result<()> {
        self.with(|running| running.process.sigterm())?
    }

    /// Kills it, as a power cut would.
    pub async fn kill(&self) -> Result<()> {
        let running = self.take()?;
        running.process.sigkill()?;
        running.process.wait(STOP_LIMIT).await?;
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("shunt.log")
    }

    fn address(&self, name: &str) -> Result<String> {
        self.with(|running| {
            let found = running.addresses.iter().find(|(found, _)| found == name);
            found.map(|(_, address)| address.clone()).with_context(|| format!("it has no door {name}"))
        })?
    }

    fn with<T>(&self, use_it: impl FnOnce(&Running) -> T) -> Result<T> {
        self.lock().as_ref().map(use_it).context("the shunt is not running")
    }

    fn take(&self) -> Result<Running> {
        self.lock().take().context("the shunt is not running")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
