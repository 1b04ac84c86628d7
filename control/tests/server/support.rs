//! A server in this process, its clients, and a node that does what a test tells it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use swift_s3_control::control::{Control, Settings};
use swift_s3_control::history::History;
use swift_s3_control::server::{self, Doors};
use swift_s3_control::store::{DataDirectory, Store};
use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::config_service_client::ConfigServiceClient;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::v1::policy_service_client::PolicyServiceClient;
use swift_s3_proto::v1::status_service_client::StatusServiceClient;
use swift_s3_proto::v1::{
    ApplyConfigRequest, ConfigAnswer, ConfigOutcome, ControlMessage, FeedKey, FeedProgress, FeedStatus,
    Heartbeat, Hello, Lag, NodeMessage, ParkedRow, ProgressReport, Role, Snapshot, control_message,
    node_message,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Every log line of this process, whatever its level.
pub(crate) static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn capture_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(|| LogWriter)
            .init();
    });
}

/// Times short enough for tests.
pub(crate) fn settings() -> Settings {
    Settings {
        heartbeat: Duration::from_millis(500),
        silence: Duration::from_secs(60),
        worker_count_pause: Duration::from_millis(50),
        worker_absence: Duration::from_millis(50),
        slow_node: Duration::from_secs(1),
        explain: Duration::from_secs(1),
        // A status that was just added up is used again; tests ask what is so now.
        figures: Duration::from_secs(3_600),
        ..Settings::default()
    }
}

pub(crate) struct Server {
    pub(crate) control: Arc<Control>,
    pub(crate) address: SocketAddr,
    pub(crate) folder: Arc<TempDir>,
    pub(crate) doors: Doors,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Arc::new(tempfile::tempdir().unwrap()), settings(), None).await
    }

    pub(crate) async fn start_with(folder: Arc<TempDir>, settings: Settings, max_pages: Option<u32>) -> Self {
        Self::start_all(folder, settings, max_pages, History::off()).await
    }

    /// With a history. Samples are taken by the test.
    pub(crate) async fn start_keeping(folder: Arc<TempDir>, history: History) -> Self {
        Self::start_all(folder, settings(), None, history).await
    }

    async fn start_all(
        folder: Arc<TempDir>,
        settings: Settings,
        max_pages: Option<u32>,
        history: History,
    ) -> Self {
        capture_log();
        let directory = DataDirectory::lock(&folder.path().join("data")).unwrap();
        let store = Store::open_limited(&directory, max_pages).unwrap();
        let control = Control::start_with(store, settings, history).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let doors = Doors { metrics: control.settings.metrics.clone(), ..Doors::default() };
        let serving = server::serve(Arc::clone(&control), listener, doors.clone());
        let task = tokio::spawn(async move {
            serving.await.unwrap();
            drop(directory);
        });
        Self { control, address, folder, doors, task }
    }

    /// Stops it as SIGTERM does, and starts another on the same data.
    pub(crate) async fn restart(self) -> Self {
        let (folder, settings) = (Arc::clone(&self.folder), self.control.settings.clone());
        self.stop().await;
        Self::start_with(folder, settings, None).await
    }

    pub(crate) async fn stop(self) {
        self.control.stopping.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server stops").unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn config(&self) -> ConfigServiceClient<Channel> {
        ConfigServiceClient::new(self.channel().await).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) async fn status(&self) -> StatusServiceClient<Channel> {
        StatusServiceClient::new(self.channel().await).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) async fn policy(&self) -> PolicyServiceClient<Channel> {
        PolicyServiceClient::new(self.channel().await).max_decoding_message_size(MAX_MESSAGE_BYTES)
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
        let response = self.config().await.apply_config(request).await?.into_inner();
        Ok(response.revision.unwrap().revision)
    }

    /// The ids of the mappings in force.
    pub(crate) fn mapping_ids(&self) -> Vec<String> {
        self.control.push.current().mappings.iter().map(|mapping| mapping.id.clone()).collect()
    }

    /// A worker that is connected and has its first configuration.
    pub(crate) async fn worker(&self, node_id: &str) -> Node {
        let mut node = Node::connect(self, hello(node_id, "p")).await;
        node.welcome().await;
        node.snapshot().await;
        node
    }
}

pub(crate) const SECRET: &str = "planted-secret-0123456789";

/// A document with one mapping for each container.
pub(crate) fn document(containers: &[&str]) -> String {
    let mappings: Vec<_> = containers
        .iter()
        .map(|container| {
            serde_json::json!({
                "account": "AUTH_a", "container": container, "aws_bucket": "bucket", "aws_identity": "id",
                "aws_secret": SECRET, "aws_endpoint": "http://127.0.0.1:9000", "aws_region": "us-east-1"
            })
        })
        .collect();
    serde_json::json!({ "containers": mappings }).to_string()
}

pub(crate) fn hello(node_id: &str, instance_id: &str) -> Hello {
    Hello {
        node_id: node_id.to_owned(),
        role: Role::Worker.into(),
        version: "0.1.0".to_owned(),
        instance_id: instance_id.to_owned(),
        host: "test-host".to_owned(),
        capabilities: vec!["explain".to_owned()],
        ..Hello::default()
    }
}

pub(crate) fn key(database: &str) -> FeedKey {
    FeedKey { mapping_identity: format!("identity-{database}"), database_id: database.to_owned() }
}

pub(crate) fn progress(database: &str, container: &str, cursor: i64) -> FeedProgress {
    FeedProgress {
        key: Some(key(database)),
        mapping_id: "m".to_owned(),
        account: "AUTH_a".to_owned(),
        container: container.to_owned(),
        cursors: [("own".to_owned(), cursor)].into(),
        replicas: vec![0],
        nodes: 1,
        delete_valve: "{\"n\":1}".to_owned(),
        is_complete: true,
        ..FeedProgress::default()
    }
}

pub(crate) fn parked(object: &str, attempts: u32) -> ParkedRow {
    ParkedRow {
        object: object.to_owned(),
        rowid: 5,
        share: "own".to_owned(),
        deleted: false,
        timestamp: "1700000000.00000".to_owned(),
        reason: if attempts > 0 { "remote_refused" } else { "future_timestamp" }.to_owned(),
        message: "no".to_owned(),
        attempts,
        next_try: 1_700_000_100,
    }
}

pub(crate) fn feed(database: &str, mapping_id: &str, container: &str, rows: u64) -> FeedStatus {
    FeedStatus {
        key: Some(key(database)),
        mapping_id: mapping_id.to_owned(),
        account: "AUTH_a".to_owned(),
        container: container.to_owned(),
        lag: Some(Lag { rows, bytes: rows * 10, seconds: 7.0, ..Lag::default() }),
        replicas: vec![0],
        nodes: 1,
        ..FeedStatus::default()
    }
}

pub(crate) struct Node {
    out: mpsc::Sender<NodeMessage>,
    incoming: Streaming<ControlMessage>,
    sequence: u64,
}

impl Node {
    pub(crate) async fn connect(server: &Server, hello: Hello) -> Self {
        Self::connect_through(server.nodes().await, hello).await
    }

    pub(crate) async fn connect_through(mut client: NodeServiceClient<Channel>, hello: Hello) -> Self {
        let (out, messages) = mpsc::channel(64);
        out.send(message(node_message::Message::Hello(hello))).await.unwrap();
        let incoming = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { out, incoming, sequence: 0 }
    }

    pub(crate) async fn send(&self, message_: node_message::Message) {
        self.out.send(message(message_)).await.unwrap();
    }

    /// The next message, or the status that ended the stream.
    pub(crate) async fn next(&mut self) -> Result<control_message::Message, Status> {
        let next = tokio::time::timeout(PATIENCE, self.incoming.message()).await.expect("a message");
        next.map(|message| message.expect("no clean end").message.expect("a known message"))
    }

    pub(crate) async fn welcome(&mut self) -> swift_s3_proto::v1::Welcome {
        match self.next().await.unwrap() {
            control_message::Message::Welcome(welcome) => welcome,
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    /// The next configuration; other messages are skipped.
    pub(crate) async fn snapshot(&mut self) -> Snapshot {
        loop {
            if let control_message::Message::Config(snapshot) = self.next().await.unwrap() {
                return snapshot;
            }
        }
    }

    /// The next configuration of this revision.
    pub(crate) async fn snapshot_of(&mut self, revision: i64) -> Snapshot {
        loop {
            let snapshot = self.snapshot().await;
            if snapshot.revision == revision {
                return snapshot;
            }
        }
    }

    /// Reports feeds; returns the failure, empty when they are durable. Configurations that come between are skipped.
    pub(crate) async fn report(&mut self, feeds: Vec<FeedProgress>) -> String {
        self.try_report(feeds).await.unwrap()
    }

    /// The same; fails when the stream ends before the answer.
    pub(crate) async fn try_report(&mut self, feeds: Vec<FeedProgress>) -> Result<String, Status> {
        self.sequence += 1;
        let report = node_message::Message::Progress(ProgressReport {
            sequence: self.sequence,
            feeds,
            ..ProgressReport::default()
        });
        self.out.send(message(report)).await.map_err(|_| Status::unavailable("the stream has ended"))?;
        loop {
            if let control_message::Message::ProgressAck(ack) = self.next().await? {
                assert_eq!(ack.sequence, self.sequence);
                return Ok(ack.failure);
            }
        }
    }

    pub(crate) async fn heartbeat(&self, feeds: Vec<FeedStatus>) {
        let sent_at = Some(std::time::SystemTime::now().into());
        let heartbeat = Heartbeat { sent_at, feeds, is_complete: true, ..Heartbeat::default() };
        self.send(node_message::Message::Heartbeat(heartbeat)).await;
    }

    pub(crate) async fn answer(&self, snapshot: &Snapshot, outcome: ConfigOutcome) {
        let answer = ConfigAnswer {
            nonce: snapshot.nonce.clone(),
            revision: snapshot.revision,
            outcome: outcome.into(),
            problems: Vec::new(),
        };
        self.send(node_message::Message::ConfigAnswer(answer)).await;
    }
}

pub(crate) fn message(message: node_message::Message) -> NodeMessage {
    NodeMessage { message: Some(message) }
}

/// Asks again until the answer is as expected: for what happens a moment after a message was sent.
pub(crate) async fn eventually<T, F: Future<Output = T>>(
    mut ask: impl FnMut() -> F,
    mut is_so: impl FnMut(&T) -> bool,
) -> T
where
    T: std::fmt::Debug,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if is_so(&answer) {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
