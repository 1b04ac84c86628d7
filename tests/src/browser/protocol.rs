//! Commands to the browser and what it tells of itself, over one WebSocket.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// No command of ours takes longer, on two cores that do everything at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Answer = std::result::Result<Value, String>;
/// Called with method and parameters of each event, in order, before the next message is read.
type Listener = Arc<dyn Fn(&str, &Value) + Send + Sync>;

#[derive(Default)]
struct Shared {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    listeners: HashMap<String, Listener>,
    is_closed: bool,
}

/// The connection to one browser. Dropped, nothing more is heard of it.
pub(super) struct Connection {
    outgoing: tokio::sync::Mutex<SplitSink<Socket, Message>>,
    shared: Arc<Mutex<Shared>>,
    next_id: AtomicU64,
    reader: JoinHandle<()>,
}

impl Connection {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let (socket, _) = connect_async(url).await.with_context(|| format!("connect to {url}"))?;
        let (outgoing, incoming) = socket.split();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let reader = tokio::spawn(read(incoming, Arc::clone(&shared)));
        Ok(Self { outgoing: tokio::sync::Mutex::new(outgoing), shared, next_id: AtomicU64::new(1), reader })
    }

    /// Has `listener` called with what happens in a session.
    pub(super) fn listen(&self, session: &str, listener: Listener) {
        lock(&self.shared).listeners.insert(session.to_owned(), listener);
    }

    /// Nothing more is to be heard of a session.
    pub(super) fn forget(&self, session: &str) {
        lock(&self.shared).listeners.remove(session);
    }

    pub(super) async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let (Some(session), Some(message)) = (session, message.as_object_mut()) {
            message.insert("sessionId".to_owned(), json!(session));
        }
        let (sender, answer) = oneshot::channel();
        {
            let mut shared = lock(&self.shared);
            if shared.is_closed {
                bail!("{method}: the browser is gone");
            }
            shared.waiting.insert(id, sender);
        }
        self.outgoing.lock().await.send(Message::text(message.to_string())).await?;
        let answer = tokio::time::timeout(ANSWER_LIMIT, answer)
            .await
            .with_context(|| format!("{method}: no answer within {ANSWER_LIMIT:?}"))?
            .with_context(|| format!("{method}: the browser is gone"))?;
        answer.map_err(|error| anyhow!("{method}: {error}"))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").finish_non_exhaustive()
    }
}

async fn read(mut incoming: SplitStream<Socket>, shared: Arc<Mutex<Shared>>) {
    while let Some(Ok(message)) = incoming.next().await {
        let Ok(text) = message.to_text() else { continue };
        if let Ok(message) = serde_json::from_str::<Value>(text) {
            take(&shared, &message);
        }
    }
    let mut shared = lock(&shared);
    shared.is_closed = true;
    // Whoever waits is told by the end of its channel.
    shared.waiting.clear();
}

fn take(shared: &Mutex<Shared>, message: &Value) {
    if let Some(id) = message.get("id").and_then(Value::as_u64) {
        let answer = match message.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(message.get("result").cloned().unwrap_or_default()),
        };
        if let Some(waiting) = lock(shared).waiting.remove(&id) {
            // Nobody waits any more: its time was up.
            let _ = waiting.send(answer);
        }
        return;
    }
    let text = |key: &str| message.get(key).and_then(Value::as_str);
    let (Some(session), Some(method)) = (text("sessionId"), text("method")) else { return };
    let listener = lock(shared).listeners.get(session).cloned();
    if let Some(listener) = listener {
        listener(method, message.get("params").unwrap_or(&Value::Null));
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
