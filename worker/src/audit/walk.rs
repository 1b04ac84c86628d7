//! Both listings of one container, read ahead by a page each, so that neither waits for the other. A walk is kept for a while between two
//! questions; without it, the next question begins at its name anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swift_s3_policy::KeyMapping;
use swift_s3_store::ObjectStore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Refusal;
use super::merge::{Merge, Step, Which};
use super::verdict::RemoteEntry;
use crate::swift::container_server::ContainerServers;
use crate::swift::container_server::objects::{ListedObject, ObjectRows, Outline};
use crate::transfer::Route;

/// Pages that wait to be taken, beside the one that is being read.
const READ_AHEAD: usize = 1;
/// The largest page of S3.
const S3_PAGE: u16 = 1_000;
/// The largest page of Swift as it is usually configured.
const SWIFT_PAGE: u16 = 10_000;
/// Walks that wait for their next question.
const MOST_KEPT: usize = 4;
/// A walk that nobody asks for is dropped after this time.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// A page that takes longer has failed.
const PAGE_LIMIT: Duration = Duration::from_secs(45);

/// A page of a listing; empty at its end.
type Page<T> = Result<Vec<T>, String>;

/// One walk over a container.
#[derive(Debug)]
pub struct Walk {
    merge: Merge<ListedObject, RemoteEntry>,
    local: mpsc::Receiver<Page<ListedObject>>,
    remote: mpsc::Receiver<Page<RemoteEntry>>,
    /// Ends both readers when the walk is dropped.
    readers: JoinSet<()>,
    /// What the container's servers said at the beginning.
    pub outline: Outline,
    /// The last name that was taken out.
    pub position: String,
    /// Listing requests to the remote since this was last taken.
    pub requests: u64,
}

impl Walk {
    /// Begins behind `after`.
    ///
    /// # Errors
    /// [`Refusal::NoContainer`]; or when too few container servers answer.
    pub async fn begin(servers: &ContainerServers, route: &Arc<Route>, after: &str) -> Result<Self, Refusal> {
        let opened = ObjectRows::open(servers, &route.account, &route.container, after).await?;
        let (rows, outline) = opened.ok_or(Refusal::NoContainer)?;
        let mut readers = JoinSet::new();
        let (local_pages, local) = mpsc::channel(READ_AHEAD);
        let (remote_pages, remote) = mpsc::channel(READ_AHEAD);
        readers.spawn(read_local(rows, local_pages));
        readers.spawn(read_remote(Arc::clone(route), after.to_owned(), remote_pages));
        Ok(Self {
            merge: Merge::new(),
            local,
            remote,
            readers,
            outline,
            position: after.to_owned(),
            requests: 0,
        })
    }

    /// True when the next step needs no waiting.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.merge.is_ready()
    }

    /// The next name, or [`Step::End`]; never [`Step::Wants`].
    ///
    /// # Errors
    /// When a listing fails. The walk is then of no further use.
    ///
    /// # Cancel safety
    /// May be dropped while it waits; nothing is lost.
    pub async fn step(&mut self) -> Result<Step<ListedObject, RemoteEntry>, Refusal> {
        loop {
            match self.merge.step() {
                Step::Wants(Which::Local) => {
                    let page = next(&mut self.local).await.map_err(|why| failed("the container", &why))?;
                    self.merge.add_local(page);
                }
                Step::Wants(Which::Remote) => {
                    let page = next(&mut self.remote).await.map_err(|why| failed("the remote", &why))?;
                    self.requests += u64::from(!page.is_empty());
                    self.merge.add_remote(page);
                }
                step => {
                    match &step {
                        Step::Both(local, _) | Step::Local(local) => self.position.clone_from(&local.name),
                        Step::Remote(remote) => self.position.clone_from(&remote.name),
                        Step::Wants(_) | Step::End => {}
                    }
                    return Ok(step);
                }
            }
        }
    }

    /// True while a reader has something to read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        !self.readers.is_empty()
    }
}

fn failed(what: &str, why: &str) -> Refusal {
    Refusal::Failed(format!("could not list {what}: {why}"))
}

/// The next page; a reader that is at its end has closed the channel after an empty page.
async fn next<T>(pages: &mut mpsc::Receiver<Page<T>>) -> Page<T> {
    match tokio::time::timeout(PAGE_LIMIT, pages.recv()).await {
        Ok(Some(page)) => page,
        Ok(None) => Err("the reader broke off".to_owned()),
        Err(_) => Err(format!("no page within {} s", PAGE_LIMIT.as_secs())),
    }
}

async fn read_local(mut rows: ObjectRows, pages: mpsc::Sender<Page<ListedObject>>) {
    loop {
        let page = rows.next_page().await.map_err(|error| error.to_string());
        let is_last = page.as_ref().map_or(true, Vec::is_empty);
        // Nobody is there any more, or nothing is left.
        if pages.send(page).await.is_err() || is_last {
            return;
        }
    }
}

async fn read_remote(route: Arc<Route>, after: String, pages: mpsc::Sender<Page<RemoteEntry>>) {
    let prefix = route.keys.key_prefix();
    let mut start = (!after.is_empty()).then(|| route.keys.object_key(&after));
    let size = if route.store.swift().is_some() { SWIFT_PAGE } else { S3_PAGE };
    loop {
        let page = remote_page(&*route.store, &route, prefix, &mut start, size).await;
        let (page, is_last) = match page {
            Ok((entries, is_last)) => (Ok(entries), is_last),
            Err(error) => (Err(error), true),
        };
        // An empty page is the end: one that held only what is not the container's is passed over.
        let is_silent = page.as_ref().is_ok_and(Vec::is_empty) && !is_last;
        let is_empty = page.as_ref().is_ok_and(Vec::is_empty);
        if !is_silent && pages.send(page).await.is_err() {
            return;
        }
        if is_last {
            if !is_empty {
                drop(pages.send(Ok(Vec::new())).await);
            }
            return;
        }
    }
}

/// One listing request. True: nothing follows.
async fn remote_page(
    store: &dyn ObjectStore,
    route: &Route,
    prefix: &str,
    start: &mut Option<String>,
    size: u16,
) -> Result<(Vec<RemoteEntry>, bool), String> {
    let page = store.list(prefix, start.as_deref(), size).await.map_err(|error| error.to_string())?;
    let in_order = page.entries.is_sorted_by(|one, other| one.key < other.key);
    let moves_on =
        page.entries.first().is_none_or(|first| start.as_ref().is_none_or(|start| first.key > *start));
    if !in_order || !moves_on {
        return Err("its keys come out of order".to_owned());
    }
    let is_last = !page.truncated || page.entries.is_empty();
    if let Some(last) = page.entries.last() {
        *start = Some(last.key.clone());
        let is_manifests = page.entries.iter().all(|entry| route.keys.is_manifest_key(&entry.key));
        if is_manifests && let Some(behind) = behind_manifests(&route.keys, &last.key) {
            *start = Some(behind);
        }
    }
    let of_container = page.entries.into_iter().filter_map(|entry| {
        if route.keys.is_manifest_key(&entry.key) {
            return None;
        }
        let name = route.keys.object_name(&entry.key)?.to_owned();
        Some(RemoteEntry { name, etag: entry.etag, bytes: entry.length })
    });
    Ok((of_container.collect(), is_last))
}

/// Where the companions of large objects end: with a custom prefix those of all its containers lie among the objects, and there may be
/// more of them than of these. Names of objects that have a companion's beginning are passed over too; a closer look finds them.
fn behind_manifests(keys: &KeyMapping, last: &str) -> Option<String> {
    // They are called by digests in lower-case hexadecimal digits.
    let behind = format!("{}f~", keys.manifest_prefix()?);
    (behind.as_str() > last).then_some(behind)
}

/// Walks that wait for their next question.
#[derive(Debug, Default)]
pub struct Walks {
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    route: Arc<Route>,
    walk: Walk,
    at: Instant,
}

impl Walks {
    /// The walk that waits for this question, if it is still there.
    #[must_use]
    pub fn take(&self, route: &Arc<Route>, position: &str) -> Option<Walk> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.at.elapsed() < KEPT_FOR);
        let is_it = |kept: &Kept| Arc::ptr_eq(&kept.route, route) && kept.walk.position == position;
        let index = kept.iter().position(is_it)?;
        Some(kept.swap_remove(index).walk)
    }

    /// Keeps a walk for its next question. The oldest one goes when there are too many.
    pub fn keep(&self, route: &Arc<Route>, walk: Walk) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.at.elapsed() < KEPT_FOR);
        if kept.len() >= MOST_KEPT {
            kept.remove(0);
        }
        kept.push(Kept { route: Arc::clone(route), walk, at: Instant::now() });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_passed_over_and_nothing_behind_them() {
        let keys = KeyMapping::new("a", "c", Some("p"));
        let companion = keys.manifest_key("o").unwrap();
        let behind = behind_manifests(&keys, &companion).unwrap();
        for object in ["o", "another", "~"] {
            assert!(keys.manifest_key(object).unwrap() < behind);
        }
        for object in ["\u{e9}", "o", ".manifests/g", ".manifestsa"] {
            assert!(keys.object_key(object) > behind, "{object}");
        }
        assert_eq!(behind_manifests(&keys, "p/.manifests/g"), None, "never back");
    }
}
