//! The way of a node to the control plane, as the worker goes it.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::control_message::Message as Order;
use swift_s3_proto::v1::node_message::Message;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::v1::{ControlMessage, Hello, NodeMessage};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::control_process::Token;

/// As the worker: an answer to the registration takes no longer.
const WELCOME_LIMIT: Duration = Duration::from_secs(10);
/// As the worker: the first pause is random up to this, later ones up to twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// As the worker: no pause is longer.
pub const LAST_PAUSE: Duration = Duration::from_secs(30);
/// As the worker: messages that wait to be sent.
pub const OUTGOING: usize = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A registered node's stream. Dropped, the connection ends.
#[derive(Debug)]
pub struct Session {
    /// What control asks for.
    pub orders: Streaming<ControlMessage>,
    /// How often control wants signs of life.
    pub heartbeat: Duration,
    sender: mpsc::Sender<NodeMessage>,
}

impl Session {
    /// Connects and registers.
    ///
    /// # Errors
    /// When there is no connection, or no welcome within 10 s.
    pub async fn open(endpoint: &Endpoint, token: &Token, hello: Hello) -> Result<Self> {
        let channel = endpoint.connect().await?;
        let client = NodeServiceClient::with_interceptor(channel, token.clone());
        let mut client = client.max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        send(&sender, Message::Hello(hello)).await?;
        let orders = timeout(WELCOME_LIMIT, client.session(ReceiverStream::new(outgoing))).await??;
        let mut orders = orders.into_inner();
        let welcome = match timeout(WELCOME_LIMIT, orders.message()).await?? {
            Some(ControlMessage { message: Some(Order::Welcome(welcome)) }) => welcome,
            other => bail!("the first answer was no welcome: {other:?}"),
        };
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_milliseconds));
        Ok(Self { orders, heartbeat, sender })
    }

    /// Sends a message; waits while too many wait already.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn send(&self, message: Message) -> Result<()> {
        send(&self.sender, message).await
    }
}

async fn send(sender: &mpsc::Sender<NodeMessage>, message: Message) -> Result<()> {
    let sent = sender.send(NodeMessage { message: Some(message) }).await;
    sent.map_err(|_| anyhow!("the connection is closed"))
}

/// Where control is, with the worker's settings.
///
/// # Errors
/// When it is no URL.
pub fn endpoint(url: &str) -> Result<Endpoint> {
    Ok(Endpoint::from_shared(url.to_owned())?
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// The worker's rule for the time until the next try: random up to a second at first, then up to twice as long each time, and at
/// least half of that. `spread` is random, from 0 to 1.
#[must_use]
pub fn pause(failures: u32, spread: f64) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LAST_PAUSE);
    if failures == 0 { most.mul_f64(spread) } else { most.mul_f64(0.5 + spread / 2.0) }
}
