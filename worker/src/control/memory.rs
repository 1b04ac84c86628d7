//! Progress in the control plane, and what to do while it is away.
//!
//! A save counts when the control plane has acknowledged it, or else when it is in the node's own status file. What is in the file is
//! handed over at the next contact and then removed. Both sides may know of a feed at once (a crash between the two steps, a start without
//! contact): each speaks the truth, so the further cursor with the rows set aside of both is the truth too; see
//! [`SavedFeed::merge`].

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::link::Link;
use super::wire;
use crate::memory::{FeedName, Origin, save_to_file};
use crate::status_file::{SavedFeed, StatusFile};

/// A control plane that is there but could not say what it knows of a feed is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The memory of one feed.
#[derive(Debug)]
pub struct ControlMemory {
    link: Link,
    file: Arc<StatusFile>,
    state: Mutex<State>,
    /// Set while the control plane may know more, because it could not be asked.
    blind: std::sync::Mutex<Option<Blind>>,
    /// Another feed has taken the place of this memory's.
    is_closed: AtomicBool,
}

/// When the control plane could not be asked.
#[derive(Clone, Copy, Debug)]
struct Blind {
    contact: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    name: FeedName,
    /// What the control plane has; none when that is not known.
    acknowledged: Option<Arc<SavedFeed>>,
    /// In which contact it acknowledged that.
    contact: u64,
    /// What was last loaded or saved, wherever it is kept.
    known: Option<Arc<SavedFeed>>,
    /// What waits in the file.
    unreported: Option<Arc<SavedFeed>>,
    /// The file says that the cursors of the original have had their day.
    is_settled: bool,
}

impl ControlMemory {
    /// A memory that has not been asked yet.
    #[must_use]
    pub fn new(link: Link, file: Arc<StatusFile>) -> Arc<Self> {
        let memory = Arc::new(Self {
            link,
            file,
            state: Mutex::default(),
            blind: std::sync::Mutex::default(),
            is_closed: AtomicBool::new(false),
        });
        memory.link.enlist(&memory);
        memory
    }

    /// See [`crate::memory::Memory::is_stale`].
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.blind().is_some_and(|blind| {
            self.link.is_connected()
                && (blind.contact != self.link.contact() || blind.since.elapsed() >= ASK_AGAIN)
        })
    }

    /// Leaves what is not reported yet to the memory that takes this one's place: it finds it in the file.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    fn blind(&self) -> std::sync::MutexGuard<'_, Option<Blind>> {
        self.blind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known here and there.
    pub async fn load(&self, name: &FeedName, origin: Origin<'_>) -> Option<SavedFeed> {
        let _turn = self.file.turn().await;
        let mut state = self.state.lock().await;
        let local = self.file.kept(&name.identity, &name.database);
        let contact = self.link.contact();
        let remote = self.link.load(name).await;
        *self.blind() = remote.is_err().then(|| Blind { contact, since: Instant::now() });
        let remote = remote
            .inspect_err(|error| {
                tracing::warn!(account = %name.account, container = %name.container, %error,
                    "could not ask the control plane for progress; going on with what is known here");
            })
            .ok()
            .flatten();
        *state = State {
            name: name.clone(),
            acknowledged: remote.clone().map(Arc::new),
            contact,
            known: None,
            unreported: local.clone().map(Arc::new),
            is_settled: false,
        };
        let Some(local) = local else {
            let known = remote.or_else(|| self.file.saved(name, origin));
            state.known = known.clone().map(Arc::new);
            return known;
        };
        let known = Arc::new(match remote {
            Some(remote) => local.merge(remote),
            None => local,
        });
        state.known = Some(Arc::clone(&known));
        if self.blind().is_none() {
            // It may be long before there is something new to save.
            if let Err(error) = self.report(&mut state, &known).await {
                tracing::debug!(container = %name.container, %error, "progress could not be handed over yet");
            }
        }
        Some(SavedFeed::clone(&known))
    }

    /// See [`crate::memory::Memory::save`].
    pub async fn save(&self, name: &FeedName, feed: &Arc<SavedFeed>) -> io::Result<()> {
        let _turn = self.file.turn().await;
        let mut state = self.state.lock().await;
        if state.name != *name {
            *state = State { name: name.clone(), ..State::default() };
        }
        state.known = Some(Arc::clone(feed));
        if self.blind().is_none() && self.link.is_connected() {
            match self.report(&mut state, feed).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(container = %name.container, %error, "progress is kept here for now")
                }
            }
        }
        save_to_file(&self.file, name, feed).await?;
        state.unreported = Some(Arc::clone(feed));
        Ok(())
    }

    /// See [`crate::memory::Memory::forget`].
    pub async fn forget(&self, name: FeedName) {
        let _turn = self.file.turn().await;
        self.link.forget(vec![name]).await;
    }

    /// Hands over what was kept here while there was no contact; everything, to a control process that was not spoken with before: it may have
    /// been restored from a backup.
    pub async fn flush(&self) {
        if self.blind().is_some() {
            // The feed loads again first: what it knows is not all there is.
            return;
        }
        let _turn = self.file.turn().await;
        if self.is_closed.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock().await;
        let is_new_contact = state.contact != self.link.contact();
        let feed = state.unreported.clone().or_else(|| state.known.clone().filter(|_| is_new_contact));
        let Some(feed) = feed else { return };
        if let Err(error) = self.report(&mut state, &feed).await {
            tracing::debug!(container = %state.name.container, %error, "progress could not be handed over yet");
        }
    }

    async fn report(&self, state: &mut State, feed: &Arc<SavedFeed>) -> Result<(), super::link::Away> {
        let contact = self.link.contact();
        if state.contact != contact {
            // Perhaps another control process, which gets everything.
            state.acknowledged = None;
        }
        let progress = wire::progress(&state.name, state.acknowledged.as_deref(), feed);
        // Until the answer comes, either may be what is stored.
        state.acknowledged = None;
        self.link.report(contact, progress).await?;
        state.acknowledged = Some(Arc::clone(feed));
        state.contact = contact;
        let was_here = state.unreported.take().is_some();
        if was_here || !std::mem::replace(&mut state.is_settled, true) {
            let (file, name) = (Arc::clone(&self.file), state.name.clone());
            let removed = tokio::task::spawn_blocking(move || {
                file.settle()?;
                file.forget(&name.identity, &name.database)
            })
            .await;
            if let Ok(Err(error)) = removed {
                // Harmless: it is merged with what the control plane has at the next start.
                tracing::warn!(container = %state.name.container, %error, "could not tidy a status file");
            }
        }
        Ok(())
    }
}
