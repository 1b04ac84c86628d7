//! Counts of the requests that a store has sent, by operation. Remote stores bill by request, so operators watch these.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that were sent since the store was opened, retries included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// HEAD of an object.
    pub head: u64,
    /// PUT of an object.
    pub put: u64,
    /// Parts sent to a multipart upload.
    pub part: u64,
    /// Copies of an object onto itself, and of its pieces to parts.
    pub copy: u64,
    /// Multipart uploads begun, completed and aborted: requests, not uploads.
    pub multipart: u64,
    /// GET of an object.
    pub get: u64,
    /// DELETE of an object.
    pub delete: u64,
    /// Pages of a listing, of keys, uploads or parts; checks of the bucket included.
    pub list: u64,
    /// Reads and writes of the bucket's lifecycle rules.
    pub lifecycle: u64,
}

impl RequestCounts {
    /// The sum over all operations.
    pub fn total(&self) -> u64 {
        self.head
            + self.put
            + self.part
            + self.copy
            + self.multipart
            + self.get
            + self.delete
            + self.list
            + self.lifecycle
    }
}

/// What is being asked of the remote; names the operation in counts and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Head,
    Get,
    /// To bring an object out of an archive for a time.
    Thaw,
    Put,
    Copy,
    Delete,
    List,
    CreateUpload,
    PutPart,
    CopyPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
    ListParts,
    ReadLifecycle,
    WriteLifecycle,
}

impl Operation {
    /// What it counts as, for those who bill and those who watch: see [`RequestCounts`].
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Get => "get",
            Self::Put => "put",
            Self::PutPart => "part",
            Self::Copy | Self::CopyPart | Self::Thaw => "copy",
            Self::CreateUpload | Self::CompleteUpload | Self::AbortUpload => "multipart",
            Self::Delete => "delete",
            Self::List | Self::ListUploads | Self::ListParts => "list",
            Self::ReadLifecycle | Self::WriteLifecycle => "lifecycle",
        }
    }

    /// The word used in error texts.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Get => "get",
            Self::Thaw => "thaw",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Delete => "delete",
            Self::List => "list",
            Self::CreateUpload => "create upload",
            Self::PutPart => "put part",
            Self::CopyPart => "copy part",
            Self::CompleteUpload => "complete upload",
            Self::AbortUpload => "abort upload",
            Self::ListUploads => "list uploads",
            Self::ListParts => "list parts",
            Self::ReadLifecycle => "read lifecycle",
            Self::WriteLifecycle => "write lifecycle",
        }
    }
}

/// The live counters behind [`RequestCounts`]. Relaxed: the numbers stand on their own.
#[derive(Debug, Default)]
pub(crate) struct RequestCounter {
    head: AtomicU64,
    put: AtomicU64,
    part: AtomicU64,
    copy: AtomicU64,
    multipart: AtomicU64,
    get: AtomicU64,
    delete: AtomicU64,
    list: AtomicU64,
    lifecycle: AtomicU64,
}

impl RequestCounter {
    /// Counts one request that is about to be sent.
    pub(crate) fn count(&self, operation: Operation) {
        let counter = match operation {
            Operation::Head => &self.head,
            Operation::Put => &self.put,
            Operation::PutPart => &self.part,
            // Little asked for; a copy is what the remote makes.
            Operation::Copy | Operation::CopyPart | Operation::Thaw => &self.copy,
            Operation::CreateUpload | Operation::CompleteUpload | Operation::AbortUpload => &self.multipart,
            Operation::Get => &self.get,
            Operation::Delete => &self.delete,
            Operation::List | Operation::ListUploads | Operation::ListParts => &self.list,
            Operation::ReadLifecycle | Operation::WriteLifecycle => &self.lifecycle,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        // Nobody's meter where nobody asked for one.
        let _ = METER.try_with(|meter| meter.request(operation));
    }

    /// The counts as they are now.
    pub(crate) fn counts(&self) -> RequestCounts {
        RequestCounts {
            head: self.head.load(Ordering::Relaxed),
            put: self.put.load(Ordering::Relaxed),
            part: self.part.load(Ordering::Relaxed),
            copy: self.copy.load(Ordering::Relaxed),
            multipart: self.multipart.load(Ordering::Relaxed),
            get: self.get.load(Ordering::Relaxed),
            delete: self.delete.load(Ordering::Relaxed),
            list: self.list.load(Ordering::Relaxed),
            lifecycle: self.lifecycle.load(Ordering::Relaxed),
        }
    }
}

tokio::task_local! {
    /// On whose behalf this task asks the remote. Both providers count where they send, in the task of whoever called them:
    /// so what they repeat counts, for the right one of several that share a store.
    static METER: Arc<Meter>;
}

/// What was asked of remotes on behalf of one mapping, as remotes bill it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that write: PUT, POST, COPY, parts, and those that begin, complete or abort an upload.
    pub writes: u64,
    /// Requests that list.
    pub lists: u64,
    /// Requests that read: GET and HEAD.
    pub reads: u64,
    /// Requests that delete.
    pub deletes: u64,
    /// Bytes of bodies sent.
    pub bytes_sent: u64,
    /// Bytes of bodies received.
    pub bytes_received: u64,
}

impl Usage {
    /// How much more this is than `before`, which is of the same meter.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            writes: self.writes.saturating_sub(before.writes),
            lists: self.lists.saturating_sub(before.lists),
            reads: self.reads.saturating_sub(before.reads),
            deletes: self.deletes.saturating_sub(before.deletes),
            bytes_sent: self.bytes_sent.saturating_sub(before.bytes_sent),
            bytes_received: self.bytes_received.saturating_sub(before.bytes_received),
        }
    }
}

/// Counts what is asked on behalf of one mapping. Relaxed: the numbers stand on their own.
#[derive(Debug, Default)]
pub struct Meter {
    writes: AtomicU64,
    lists: AtomicU64,
    reads: AtomicU64,
    deletes: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

impl Meter {
    /// Counts what `work` asks of stores. What it leaves to other tasks is not counted.
    pub async fn count<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        METER.scope(Arc::clone(self), work).await
    }

    /// Everything since it was made.
    #[must_use]
    pub fn total(&self) -> Usage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            writes: read(&self.writes),
            lists: read(&self.lists),
            reads: read(&self.reads),
            deletes: read(&self.deletes),
            bytes_sent: read(&self.bytes_sent),
            bytes_received: read(&self.bytes_received),
        }
    }

    fn request(&self, operation: Operation) {
        let counter = match operation {
            Operation::Head | Operation::Get | Operation::ReadLifecycle => &self.reads,
            Operation::Put
            | Operation::Copy
            | Operation::Thaw
            | Operation::CreateUpload
            | Operation::PutPart
            | Operation::CopyPart
            | Operation::CompleteUpload
            | Operation::AbortUpload
            | Operation::WriteLifecycle => &self.writes,
            Operation::Delete => &self.deletes,
            Operation::List | Operation::ListUploads | Operation::ListParts => &self.lists,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of a body that went to the remote.
    pub fn sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_operation_on_its_own() {
        let counter = RequestCounter::default();
        counter.count(Operation::Put);
        counter.count(Operation::Put);
        counter.count(Operation::WriteLifecycle);
        assert_eq!(counter.counts(), RequestCounts { put: 2, lifecycle: 1, ..RequestCounts::default() });
        assert_eq!(counter.counts().total(), 3);
    }

    #[tokio::test]
    async fn each_request_counts_for_whoever_it_is_made_for() {
        let counter = RequestCounter::default();
        let (one, two) = (Arc::new(Meter::default()), Arc::new(Meter::default()));
        let ask = async |operation| {
            tokio::task::yield_now().await;
            counter.count(operation);
        };
        tokio::join!(
            one.count(async { ask(Operation::Put).await }),
            two.count(async {
                ask(Operation::List).await;
                ask(Operation::Head).await;
            }),
            ask(Operation::Delete),
        );
        assert_eq!(one.total(), Usage { writes: 1, ..Usage::default() });
        assert_eq!(two.total(), Usage { lists: 1, reads: 1, ..Usage::default() });
        let before = two.total();
        two.count(ask(Operation::PutPart)).await;
        assert_eq!(two.total().since(&before), Usage { writes: 1, ..Usage::default() });
    }
}
