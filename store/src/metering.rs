//! Counts of the requests that a store has sent, by operation. Remote stores bill by request, so operators watch these.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that were sent since the store was opened, retries included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// HEAD of an object.
    pub head: u64,
    /// PUT of an object.
    pub put: u64,
    /// Copies of an object onto itself.
    pub copy: u64,
    /// DELETE of an object.
    pub delete: u64,
    /// Pages of a listing, checks of the bucket included.
    pub list: u64,
    /// Reads and writes of the bucket's lifecycle rules.
    pub lifecycle: u64,
}

impl RequestCounts {
    /// The sum over all operations.
    pub fn total(&self) -> u64 {
        self.head + self.put + self.copy + self.delete + self.list + self.lifecycle
    }
}

/// What is being asked of the remote; names the operation in counts and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Head,
    Put,
    Copy,
    Delete,
    List,
    ReadLifecycle,
    WriteLifecycle,
}

impl Operation {
    /// The word used in error texts.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Delete => "delete",
            Self::List => "list",
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
    copy: AtomicU64,
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
            Operation::Copy => &self.copy,
            Operation::Delete => &self.delete,
            Operation::List => &self.list,
            Operation::ReadLifecycle | Operation::WriteLifecycle => &self.lifecycle,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts as they are now.
    pub(crate) fn counts(&self) -> RequestCounts {
        RequestCounts {
            head: self.head.load(Ordering::Relaxed),
            put: self.put.load(Ordering::Relaxed),
            copy: self.copy.load(Ordering::Relaxed),
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
