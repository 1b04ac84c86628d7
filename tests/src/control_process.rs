//! The product's control plane as a process, and gRPC clients for it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::config_service_client::ConfigServiceClient;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::v1::status_service_client::StatusServiceClient;
use swift_s3_proto::v1::{ApplyConfigRequest, GetConfigRequest, NodeState, Revision};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::process::{Process, ProcessOptions, read_log};
use crate::s3_servers::built_program;
use crate::sync_json::SyncJson;
use crate::wait;

/// It opens its database and listens.
const START_LIMIT: Duration = Duration::from_secs(30);
/// It promises 10 s.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Every node has answered to a configuration by then.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(60);

/// Puts a caller's token into each call; none if there is no access file.
#[derive(Debug, Clone, Default)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    /// One that is shown as a bearer token.
    ///
    /// # Errors
    /// When it cannot be put into a header.
    pub fn new(token: &str) -> Result<Self> {
        Ok(Self(Some(format!("Bearer {token}").parse()?)))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// The way of calls to a control plane.
pub type Calls = InterceptedService<Channel, Token>;

/// A control plane with its data in a folder. It keeps its port over restarts.
#[derive(Debug)]
pub struct Control {
    folder: PathBuf,
    arguments: Vec<String>,
    address: SocketAddr,
    token: Token,
    program: Mutex<PathBuf>,
    process: Mutex<Option<Process>>,
}

impl Control {
    /// Starts one.
    pub async fn start(folder: PathBuf) -> Result<Self> {
        Self::start_with(folder, &[]).await
    }

    /// Starts one with further arguments.
    pub async fn start_with(folder: PathBuf, arguments: &[&str]) -> Result<Self> {
        Self::start_program(program("swift-s3-control")?, folder, arguments).await
    }

    /// Starts a given program, for example another version.
    pub async fn start_program(program: PathBuf, folder: PathBuf, arguments: &[&str]) -> Result<Self> {
        let mut control = Self {
            folder,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: Token::default(),
            program: Mutex::new(program),
            process: Mutex::new(None),
        };
        control.address = control.launch().await?;
        Ok(control)
    }

    /// From now on this token is in each call that a test makes.
    ///
    /// # Errors
    /// When it cannot be put into a header.
    pub fn with_token(self, token: &str) -> Result<Self> {
        Ok(Self { token: Token::new(token)?, ..self })
    }

    /// From now on every start is one of this program.
    pub fn set_program(&self, program: PathBuf) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = program;
    }

    /// Starts it again at the same address.
    pub async fn restart(&self) -> Result<()> {
        let address = self.launch().await?;
        ensure!(address == self.address, "listens on {address}, not {}", self.address);
        Ok(())
    }

    async fn launch(&self) -> Result<SocketAddr> {
        let port_file = self.folder.join("port");
        if port_file.exists() {
            fs::remove_file(&port_file)?;
        }
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let options = ProcessOptions::new("control", program, self.log_path())
            .arguments(["--listen", &self.address.to_string()])
            .argument("--data-dir")
            .argument(self.data_dir())
            .argument("--port-file")
            .argument(&port_file)
            .arguments(["--log-level", "debug"])
            .arguments(&self.arguments);
        let process = Process::start(options)?;
        let address = wait::until("the control plane to listen", START_LIMIT, async || {
            if !process.is_running() {
                bail!("it ended; its log ends:\n{}", process.log_tail());
            }
            let text = fs::read_to_string(&port_file)?;
            text.trim().parse::<SocketAddr>().with_context(|| format!("got {text:?}"))
        })
        .await?;
        *self.lock() = Some(process);
        Ok(address)
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `http://…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `host:port`, as grpcurl wants it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its state is.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its log of all runs.
    pub fn log_text(&self) -> String {
        read_log(&self.log_path())
    }

    /// Asks it to end; answers the exit code.
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

    /// Freezes it, as a machine that pauses would.
    pub fn freeze(&self) -> Result<()> {
        self.lock().as_ref().context("not running")?.signal(nix::sys::signal::Signal::SIGSTOP)
    }

    /// Lets it go on after [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.lock().as_ref().context("not running")?.signal(nix::sys::signal::Signal::SIGCONT)
    }

    /// True while its process is there.
    pub fn is_running(&self) -> bool {
        self.lock().as_ref().is_some_and(Process::is_running)
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.lock().as_ref().context("not running")?.pid())
    }

    fn channel(&self) -> Result<Channel> {
        Ok(Endpoint::from_shared(self.url())?.connect_timeout(Duration::from_secs(5)).connect_lazy())
    }

    /// A client.
    pub fn status(&self) -> Result<StatusServiceClient<Calls>> {
        let client = StatusServiceClient::with_interceptor(self.channel()?, self.token.clone());
        Ok(client.max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// A client.
    pub fn config(&self) -> Result<ConfigServiceClient<Calls>> {
        let client = ConfigServiceClient::with_interceptor(self.channel()?, self.token.clone());
        Ok(client.max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// A client.
    pub fn node(&self) -> Result<NodeServiceClient<Calls>> {
        let client = NodeServiceClient::with_interceptor(self.channel()?, self.token.clone());
        Ok(client.max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The revision in force; 0 for none.
    pub async fn revision(&self) -> Result<i64> {
        match self.config()?.get_config(GetConfigRequest::default()).await {
            Ok(found) => Ok(found.into_inner().revision.context("no revision")?.revision),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(0),
            Err(status) => Err(status.into()),
        }
    }

    /// Puts a configuration in force.
    pub async fn apply(&self, config: &SyncJson) -> Result<Revision> {
        let document = config.document(&[]).to_string();
        let expected_revision = self.revision().await?;
        let request = ApplyConfigRequest { document, expected_revision, ..ApplyConfigRequest::default() };
        let applied = self.config()?.apply_config(request).await?.into_inner();
        applied.revision.context("no revision")
    }

    /// Puts a configuration in force and waits until `nodes` workers have it.
    pub async fn apply_everywhere(&self, config: &SyncJson, nodes: usize) -> Result<Revision> {
        let revision = self.apply(config).await?;
        self.wait_synced(nodes).await?;
        Ok(revision)
    }

    /// Waits until `nodes` workers are there and have the configuration in force.
    pub async fn wait_synced(&self, nodes: usize) -> Result<()> {
        wait::until("all nodes to be synced", CONVERGENCE_LIMIT, async || {
            let found = self.nodes().await?;
            let synced = found.iter().filter(|node| node.state() == NodeState::Synced).count();
            ensure!(synced == nodes, "{synced} of {nodes}: {found:?}");
            Ok(())
        })
        .await
    }

    /// All nodes.
    pub async fn nodes(&self) -> Result<Vec<swift_s3_proto::v1::NodeStatus>> {
        Ok(self
            .status()?
            .list_nodes(swift_s3_proto::v1::ListNodesRequest::default())
            .await?
            .into_inner()
            .nodes)
    }

    /// All mappings.
    pub async fn mappings(&self) -> Result<Vec<swift_s3_proto::v1::MappingStatus>> {
        let request = swift_s3_proto::v1::ListMappingsRequest::default();
        Ok(self.status()?.list_mappings(request).await?.into_inner().mappings)
    }

    /// The one mapping there is.
    pub async fn mapping(&self) -> Result<swift_s3_proto::v1::MappingStatus> {
        let mappings = self.mappings().await?;
        ensure!(mappings.len() == 1, "{} mappings", mappings.len());
        mappings.into_iter().next().context("no mapping")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("control.log")
    }

    fn take(&self) -> Result<Process> {
        self.lock().take().context("the control plane is not running")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program of the control crate.
///
/// # Errors
/// When it was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = built_program(name)?;
    ensure!(Path::new(&path).exists(), "{} is missing: run cargo build -p swift-s3-control", path.display());
    Ok(path)
}
