//! An HTTP proxy between a worker and a server (S3, or one of Swift's) that counts requests and does harm on demand.
//!
//! Path, query and `Host` go through byte for byte, so signatures stay valid. It runs in a thread of its own: a test that
//! blocks does not stop it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use http::header::{CONNECTION, HeaderName, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::operation::{Operation, RequestCounts, key_of};
use crate::ports::{Neighbourhood, free_port};

mod gate;
mod rule;
mod shaped_body;

pub use gate::Gate;
pub use rule::{Fault, Rule, Seen};
use shaped_body::{Body, Shape, full, shaped};

/// Requests that are remembered; later ones are only counted.
const REMEMBERED: usize = 100_000;

/// Tries to find a port that stays free.
const START_TRIES: usize = 5;

/// What the network as a whole does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Works.
    #[default]
    Up,
    /// Nothing listens; open connections are cut.
    Refuse,
    /// Connections are accepted and reset at once; open ones are cut.
    Reset,
    /// Connections are accepted, and nothing ever comes back.
    Stall,
}

/// Names a rule that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u64);

#[derive(Debug, Default)]
struct State {
    rules: Vec<(RuleId, Rule)>,
    next_rule: u64,
    counts: RequestCounts,
    seen: Vec<Seen>,
    /// How often `seen` was emptied: requests under way then must not find another's place.
    forgotten: u64,
}

/// Where a request is remembered.
#[derive(Debug, Clone, Copy)]
struct Place {
    forgotten: u64,
    index: usize,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    client: Client<HttpConnector, Body>,
}

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    network: watch::Sender<Network>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts on an address of its own, in front of `http://address:port`.
    pub async fn start(upstream: &str) -> Result<Self> {
        let upstream = upstream
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .parse()
            .with_context(|| format!("{upstream} is not http://address:port"))?;
        Self::start_at(IpAddr::V4(Neighbourhood::random().address(1)), upstream).await
    }

    /// Starts on a given address, at a port of its choice: a stand-in for a Swift server must have its node's address.
    pub async fn start_at(ip: IpAddr, upstream: SocketAddr) -> Result<Self> {
        // Somebody else may take a free port before it is bound here.
        for _ in 1..START_TRIES {
            if let Ok(started) = Self::try_start_at(ip, upstream).await {
                return Ok(started);
            }
        }
        Self::try_start_at(ip, upstream).await
    }

    async fn try_start_at(ip: IpAddr, upstream: SocketAddr) -> Result<Self> {
        let address = SocketAddr::new(ip, free_port(ip)?);
        // No pool: a connection that the server closed meanwhile would be a fault that nobody asked for.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .build_http();
        let shared = Arc::new(Shared { upstream, state: Mutex::default(), client });
        let (network, modes) = watch::channel(Network::Up);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(address, for_thread, modes, ready) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        if is_ready.await.is_err() {
            bail!("the fault proxy did not start at {address}");
        }
        Ok(Self { address, shared, network, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule. When several apply, the one added last does.
    pub fn inject(&self, rule: Rule) -> RuleId {
        let mut state = self.shared.lock();
        let id = RuleId(state.next_rule);
        state.next_rule += 1;
        state.rules.push((id, rule));
        id
    }

    /// Removes a rule.
    pub fn remove(&self, id: RuleId) {
        self.shared.lock().rules.retain(|(candidate, _)| *candidate != id);
    }

    /// Removes all rules and lets the network work.
    pub fn heal(&self) {
        self.shared.lock().rules.clear();
        self.set_network(Network::Up);
    }

    /// Changes what the network as a whole does.
    pub fn set_network(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Requests so far, those that met a fault included.
    pub fn requests(&self) -> RequestCounts {
        self.shared.lock().counts.clone()
    }

    /// The requests themselves, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Forgets counts and requests, not rules.
    pub fn forget(&self) {
        let mut state = self.shared.lock();
        state.counts = RequestCounts::default();
        state.seen.clear();
        state.forgotten += 1;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request and picks its fault; also tells where it is remembered.
    fn arrive(&self, mut seen: Seen) -> (Option<Fault>, Option<Place>) {
        let mut state = self.lock();
        state.counts.add(seen.operation, 1);
        let struck = state
            .rules
            .iter_mut()
            .rev()
            .find_map(|(_, rule)| rule.strikes(&seen).then(|| rule.fault.clone()));
        seen.fault = struck.as_ref().map(|fault| format!("{fault:?}"));
        let place = (state.seen.len() < REMEMBERED)
            .then_some(Place { forgotten: state.forgotten, index: state.seen.len() });
        if place.is_some() {
            state.seen.push(seen);
        }
        (struck, place)
    }

    fn answered(&self, place: Option<Place>, status: u16) {
        self.change(place, |seen| seen.status = Some(status));
    }

    fn change(&self, place: Option<Place>, change: impl FnOnce(&mut Seen)) {
        let mut state = self.lock();
        if let Some(place) = place
            && place.forgotten == state.forgotten
            && let Some(seen) = state.seen.get_mut(place.index)
        {
            change(seen);
        }
    }
}

/// Tells when a request is over, also when its connection was cut and nobody is left to answer.
struct UnderWay<'a> {
    shared: &'a Shared,
    place: Option<Place>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.change(self.place, |seen| seen.over = true);
    }
}

async fn accept(
    address: SocketAddr,
    shared: Arc<Shared>,
    mut modes: watch::Receiver<Network>,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Network::Refuse {
            if modes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            // At the start there is no way on; later it is the old listener's end that is waited for.
            Err(_) if ready.is_some() => return,
            Err(_) => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                continue;
            }
        };
        if let Some(ready) = ready.take() {
            let _ = ready.send(());
        }
        while *modes.borrow_and_update() != Network::Refuse {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(connection(stream, Arc::clone(&shared), modes.clone()));
                    }
                }
                changed = modes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, mut modes: watch::Receiver<Network>) {
    let _ = stream.set_nodelay(true);
    let mode = *modes.borrow_and_update();
    match mode {
        Network::Reset => {
            let _ = stream.set_zero_linger();
            return;
        }
        Network::Stall => {
            let _held = stream;
            // The next change of the network ends it.
            let _ = modes.changed().await;
            return;
        }
        Network::Up | Network::Refuse => {}
    }
    let for_requests = modes.clone();
    let answer = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        let modes = for_requests.clone();
        async move { answer(request, &shared, modes).await }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer);
    let cut = async {
        // A stall lets open connections hang instead of cutting them.
        let cuts = |mode: &Network| matches!(mode, Network::Refuse | Network::Reset);
        let _ = modes.wait_for(cuts).await;
    };
    tokio::select! {
        // The caller sees how the connection ended; nobody here needs to.
        _ = serving => {}
        () = cut => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    mut modes: watch::Receiver<Network>,
) -> io::Result<Response<Body>> {
    let (fault, place) = shared.arrive(describe(&request));
    let _under_way = UnderWay { shared, place };
    let _ = modes.wait_for(|mode| *mode != Network::Stall).await;
    let fault = fault.unwrap_or(Fault::Delay(std::time::Duration::ZERO));
    match &fault {
        Fault::Error { status, code } => {
            let status = *status;
            let response = error_answer(request, status, code).await?;
            shared.answered(place, status);
            return Ok(response);
        }
        Fault::Reset => return Err(io::Error::other("reset")),
        Fault::Stall => std::future::pending().await,
        Fault::Delay(pause) => tokio::time::sleep(*pause).await,
        Fault::Hold(gate) => gate.pass().await,
        _ => {}
    }
    let (mut parts, body) = request.into_parts();
    parts.uri = upstream_uri(&parts.uri, shared.upstream)?;
    let request = Request::from_parts(parts, shaped(body, Shape::of_request(&fault)));
    let response = shared.client.request(request).await.map_err(io::Error::other)?;
    if fault == Fault::LoseAnswer {
        response.into_body().collect().await.map_err(io::Error::other)?;
        return Err(io::Error::other("answer lost"));
    }
    let (mut parts, body) = response.into_parts();
    shared.answered(place, parts.status.as_u16());
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    if let Fault::AnswerHeader(name, value) = &fault {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
        let value = HeaderValue::from_str(value).map_err(io::Error::other)?;
        parts.headers.insert(name, value);
    }
    Ok(Response::from_parts(parts, shaped(body, Shape::of_answer(&fault))))
}

fn describe(request: &Request<Incoming>) -> Seen {
    Seen {
        method: request.method().to_string(),
        target: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        operation: Operation::of(request.method(), request.uri(), request.headers()),
        key: key_of(request.uri()).unwrap_or_default(),
        headers: told_headers(request.headers()),
        status: None,
        over: false,
        fault: None,
    }
}

/// Everything but what could be a secret.
fn told_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    const TOLD: [&str; 7] =
        ["x-amz-", "content-", "if-", "x-backend-", "x-timestamp", "user-agent", "traceparent"];
    headers
        .iter()
        .filter(|(name, _)| TOLD.iter().any(|start| name.as_str().starts_with(start)))
        .filter(|(name, _)| name.as_str() != "x-amz-security-token")
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

async fn error_answer(request: Request<Incoming>, status: u16, code: &str) -> io::Result<Response<Body>> {
    let is_head = request.method() == http::Method::HEAD;
    // As servers do, take the body first; the connection stays usable.
    request.into_body().collect().await.map_err(io::Error::other)?;
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>by the fault proxy</Message>\
         <RequestId>fault-proxy</RequestId></Error>"
    );
    Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .header("x-amz-request-id", "fault-proxy")
        .body(full(if is_head { String::new() } else { text }))
        .map_err(io::Error::other)
}

fn upstream_uri(uri: &Uri, upstream: SocketAddr) -> io::Result<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    let authority = upstream.to_string().parse::<Authority>();
    parts.authority = Some(authority.map_err(io::Error::other)?);
    Uri::from_parts(parts).map_err(io::Error::other)
}
