//! Notices changes of container databases the moment they happen.
//!
//! A container server first appends a row to `<hash>.db.pending`, so the folder of each database is watched. Where the kernel gives no
//! more watches, the poll still finds every change.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

/// Room for this many bytes of events at a time; each takes 16 bytes and the file's name (some 50 bytes).
const EVENT_BUFFER: usize = 32 * 1024;

/// The folders that are watched.
pub struct Watcher {
    watches: Watches,
    events: EventStream<Vec<u8>>,
    by_descriptor: HashMap<WatchDescriptor, PathBuf>,
    by_folder: HashMap<PathBuf, WatchDescriptor>,
    full: bool,
}

impl Watcher {
    /// A watcher without folders.
    ///
    /// # Errors
    /// When the kernel gives no inotify instance.
    pub fn new() -> std::io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let events = inotify.into_event_stream(vec![0; EVENT_BUFFER])?;
        Ok(Self { watches, events, by_descriptor: HashMap::new(), by_folder: HashMap::new(), full: false })
    }

    /// Watches a folder; does nothing when it is watched already.
    pub fn add(&mut self, folder: &Path) {
        if self.by_folder.contains_key(folder) {
            return;
        }
        let mask = WatchMask::MODIFY
            | WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::ONLYDIR;
        match self.watches.add(folder, mask) {
            Ok(descriptor) => {
                self.by_descriptor.insert(descriptor.clone(), folder.to_owned());
                self.by_folder.insert(folder.to_owned(), descriptor);
                self.full = false;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                if !self.full {
                    tracing::warn!(%error, watched = self.by_folder.len(),
                        "could not watch a container folder (see fs.inotify.max_user_watches); its changes wait for the poll");
                }
                self.full = true;
            }
        }
    }

    /// Stops watching every folder that `keep` does not name.
    pub fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        let gone: Vec<PathBuf> = self.by_folder.keys().filter(|folder| !keep(folder)).cloned().collect();
        for folder in gone {
            if let Some(descriptor) = self.by_folder.remove(&folder) {
                self.by_descriptor.remove(&descriptor);
                // A folder that was removed has lost its watch already.
                drop(self.watches.remove(descriptor));
            }
        }
    }

    /// Waits for a change that concerns a database, and answers its folder; `None` stands for any folder, when the kernel
    /// has lost events.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn changed(&mut self) -> Option<PathBuf> {
        loop {
            let event = match self.events.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) => {
                    tracing::warn!(%error, "reading file events failed");
                    return None;
                }
                // Never ends while the instance is open; without it the poll does the work.
                None => std::future::pending().await,
            };
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                return None;
            }
            if event.mask.intersects(EventMask::IGNORED | EventMask::DELETE_SELF) {
                if let Some(folder) = self.by_descriptor.remove(&event.wd) {
                    self.by_folder.remove(&folder);
                    return Some(folder);
                }
                continue;
            }
            if event.name.as_deref().is_some_and(concerns_database)
                && let Some(folder) = self.by_descriptor.get(&event.wd)
            {
                return Some(folder.clone());
            }
        }
    }
}

/// SQLite's journals and Swift's lock files come and go in the same folder, also for reads.
fn concerns_database(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.ends_with(b".db") || name.ends_with(b".db.pending")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn next(watcher: &mut Watcher) -> Option<PathBuf> {
        tokio::time::timeout(Duration::from_secs(10), watcher.changed()).await.unwrap()
    }

    #[tokio::test]
    async fn tells_of_databases_and_pending_rows_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::new().unwrap();
        watcher.add(folder.path());
        std::fs::write(folder.path().join(".lock"), "x").unwrap();
        std::fs::write(folder.path().join("x.db-journal"), "x").unwrap();
        std::fs::write(folder.path().join("x.db.pending"), "x").unwrap();
        assert_eq!(next(&mut watcher).await.as_deref(), Some(folder.path()));
    }

    #[tokio::test]
    async fn a_removed_folder_is_told_and_can_be_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("hash");
        std::fs::create_dir(&folder).unwrap();
        let mut watcher = Watcher::new().unwrap();
        watcher.add(&folder);
        std::fs::remove_dir(&folder).unwrap();
        assert_eq!(next(&mut watcher).await.as_deref(), Some(folder.as_path()));
        std::fs::create_dir(&folder).unwrap();
        watcher.add(&folder);
        std::fs::write(folder.join("x.db"), "x").unwrap();
        assert_eq!(next(&mut watcher).await.as_deref(), Some(folder.as_path()));
    }
}
