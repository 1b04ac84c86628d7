//! A prefix that is followed: what is there, then every change, then again what is there whenever the thread is lost.

use std::time::Duration;

use etcd_client::{EventType, KeyValue, WatchOptions};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::error::{ErrorKind, EtcdError};
use crate::requests::{Etcd, Repeat};

/// Changes that wait to be taken; the follower waits when there are more.
const WAITING: usize = 256;
/// A watch is to begin within this time.
const WATCH_LIMIT: Duration = Duration::from_secs(2);
/// A watch is asked for a sign of life this often, and is taken for lost if none has come by the next time: the member may hang.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// The pause after a lost thread.
const PAUSE: Duration = Duration::from_millis(300);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key. Keys that are not UTF-8 are not ours; they are shown with replacement characters.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision at which the key was created: tells a key from a later one of the same name.
    pub created: i64,
    /// The revision at which it last changed.
    pub modified: i64,
    /// The lease that holds it; 0: none.
    pub lease: i64,
}

impl From<&KeyValue> for Entry {
    fn from(pair: &KeyValue) -> Self {
        Self {
            key: String::from_utf8_lossy(pair.key()).into_owned(),
            value: pair.value().to_vec(),
            created: pair.create_revision(),
            modified: pair.mod_revision(),
            lease: pair.lease(),
        }
    }
}

/// What is under a prefix at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision.
    pub revision: i64,
    /// In the order of their keys.
    pub entries: Vec<Entry>,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// It was written.
    Put(Entry),
    /// It went; its whole name, and the revision.
    Deleted(String, i64),
}

/// What a follower tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Everything that is there; what was told before is void.
    Snapshot(Snapshot),
    /// Changes since, in their order.
    Events(Vec<KeyEvent>),
    /// The thread is lost; a snapshot follows when etcd answers again.
    Lost(EtcdError),
}

/// Follows a prefix until it is dropped.
#[derive(Debug)]
pub struct Follower {
    changes: mpsc::Receiver<Change>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Begins. `most` bounds how many keys are expected.
    #[must_use]
    pub fn start(etcd: &Etcd, prefix: String, most: usize) -> Self {
        let (sender, changes) = mpsc::channel(WAITING);
        let task = tokio::spawn(run(etcd.clone(), prefix, most, sender));
        Self { changes, task }
    }

    /// The next change.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Change {
        match self.changes.recv().await {
            Some(change) => change,
            // The task never ends by itself.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(etcd: Etcd, prefix: String, most: usize, sender: mpsc::Sender<Change>) {
    loop {
        let lost = match follow(&etcd, &prefix, most, &sender).await {
            Ok(()) => return,
            Err(lost) => lost,
        };
        if sender.send(Change::Lost(lost)).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Comes back without an error when nobody listens any more.
async fn follow(
    etcd: &Etcd,
    prefix: &str,
    most: usize,
    sender: &mpsc::Sender<Change>,
) -> Result<(), EtcdError> {
    let snapshot = etcd.list(prefix, most).await?;
    let from = snapshot.revision.saturating_add(1);
    let mut stream = etcd
        .call("watching keys", Repeat::Freely, WATCH_LIMIT, |mut client| async move {
            let options = WatchOptions::new().with_prefix().with_start_revision(from);
            client.watch(prefix, Some(options)).await
        })
        .await?;
    if sender.send(Change::Snapshot(snapshot)).await.is_err() {
        return Ok(());
    }
    let mut signs = tokio::time::interval(SIGN_OF_LIFE);
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_alive = true;
    loop {
        let message = tokio::select! {
            biased;
            message = stream.message() => message.map_err(|error| EtcdError::of("watching keys", &error))?,
            () = sender.closed() => return Ok(()),
            _ = signs.tick() => {
                if !std::mem::take(&mut is_alive) {
                    return Err(EtcdError::timed_out("watching keys"));
                }
                stream.request_progress().await.map_err(|error| EtcdError::of("watching keys", &error))?;
                continue;
            }
        };
        is_alive = true;
        let Some(message) = message else {
            return Err(EtcdError::new(
                ErrorKind::Unavailable,
                "watching keys",
                "the member ended the watch",
            ));
        };
        // A watch that begins before what is kept is ended by etcd in this way.
        if message.compact_revision() > 0 {
            return Err(EtcdError::new(ErrorKind::Compacted, "watching keys", "the revision is gone"));
        }
        if message.canceled() {
            return Err(EtcdError::new(
                ErrorKind::Unavailable,
                "watching keys",
                message.cancel_reason().to_owned(),
            ));
        }
        let events: Vec<KeyEvent> = message.events().iter().filter_map(event).collect();
        if !events.is_empty() && sender.send(Change::Events(events)).await.is_err() {
            return Ok(());
        }
    }
}

fn event(event: &etcd_client::Event) -> Option<KeyEvent> {
    let entry = Entry::from(event.kv()?);
    Some(match event.event_type() {
        EventType::Put => KeyEvent::Put(entry),
        EventType::Delete => KeyEvent::Deleted(entry.key, entry.modified),
    })
}
