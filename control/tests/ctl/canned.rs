//! A server with canned answers that remembers what it was asked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swift_s3_proto::v1::audit_service_server::AuditServiceServer;
use swift_s3_proto::v1::config_service_server::ConfigServiceServer;
use swift_s3_proto::v1::status_service_server::StatusServiceServer;
use swift_s3_proto::v1::{
    Activity, ClusterStatus, CompareContainerResponse, ContainerStatus, CursorStatus, FailureStatus,
    MappingStatus, NodeStatus, Revision,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Status};

/// What the server answers, and what it was asked.
#[derive(Default)]
pub(crate) struct Canned {
    pub(crate) status: Mutex<ClusterStatus>,
    pub(crate) nodes: Mutex<Vec<NodeStatus>>,
    pub(crate) mappings: Mutex<Vec<MappingStatus>>,
    pub(crate) containers: Mutex<Vec<ContainerStatus>>,
    pub(crate) failures: Mutex<Vec<FailureStatus>>,
    pub(crate) cursors: Mutex<Vec<CursorStatus>>,
    pub(crate) activities: Mutex<Vec<Activity>>,
    pub(crate) revisions: Mutex<Vec<(Revision, String)>>,
    /// What nodes become when a configuration is applied.
    pub(crate) nodes_after_apply: Mutex<Option<Vec<NodeStatus>>>,
    /// Pages of comparisons, each given once.
    pub(crate) pages: Mutex<Vec<Result<CompareContainerResponse, Status>>>,
    pub(crate) token: Mutex<Option<String>>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// Peers, each connection once.
    pub(crate) peers: Mutex<BTreeSet<SocketAddr>>,
}

impl Canned {
    pub(crate) fn note<T: std::fmt::Debug>(&self, request: &T) {
        self.asked.lock().unwrap().push(format!("{request:?}"));
    }

    pub(crate) fn asked(&self, part: &str) -> Vec<String> {
        self.asked.lock().unwrap().iter().filter(|text| text.contains(part)).cloned().collect()
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revisions.lock().unwrap().last().map_or(0, |(revision, _)| revision.revision)
    }

    /// Puts a document in force as operators of before did.
    pub(crate) fn put(&self, document: &str, comment: &str) -> Revision {
        let revision = Revision {
            revision: self.revision() + 1,
            applied_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            author: "ops".into(),
            comment: comment.into(),
            mappings: 1,
            rolled_back_to: 0,
        };
        self.revisions.lock().unwrap().push((revision.clone(), document.to_owned()));
        revision
    }
}

/// A page of `all`: as the contract says, but with opaque tokens of our own.
pub(crate) fn page<T: Clone>(all: &[T], size: u32, token: &str) -> Result<(Vec<T>, String), Status> {
    let from: usize = match token {
        "" => 0,
        token => token.parse().map_err(|_| Status::invalid_argument("no such page"))?,
    };
    let size = if size == 0 { 100 } else { size.min(1000) };
    let end = all.len().min(from + usize::try_from(size).unwrap());
    let next = if end < all.len() { end.to_string() } else { String::new() };
    Ok((all[from..end].to_vec(), next))
}

#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Canned>);

pub(crate) struct CannedServer {
    pub(crate) canned: Arc<Canned>,
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for CannedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl CannedServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(tls: Option<ServerTlsConfig>) -> Self {
        let canned = Arc::new(Canned::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let checked = canned.clone();
        let check = move |request: Request<()>| {
            checked.peers.lock().unwrap().extend(request.remote_addr());
            let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            match (checked.token.lock().unwrap().as_deref(), shown) {
                (None, _) => Ok(request),
                (Some(token), Some(shown)) if shown == format!("Bearer {token}") => Ok(request),
                _ => Err(Status::unauthenticated("no token that is known here")),
            }
        };
        let service = Service(canned.clone());
        // A client that does not answer pings is left soon.
        let mut builder = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_millis(300)))
            .http2_keepalive_timeout(Some(Duration::from_millis(300)));
        if let Some(tls) = tls {
            builder = builder.tls_config(tls).unwrap();
        }
        let served = builder
            .add_service(StatusServiceServer::with_interceptor(service.clone(), check.clone()))
            .add_service(AuditServiceServer::with_interceptor(service.clone(), check.clone()))
            .add_service(ConfigServiceServer::with_interceptor(service, check))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { served.await.unwrap() });
        Self { canned, address, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
