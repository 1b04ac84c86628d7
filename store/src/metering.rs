//! Counts of the requests that a store has sent, by operation. Remote stores bill by request, so operators watch these.

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
}
