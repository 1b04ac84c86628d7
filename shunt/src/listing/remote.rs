//! Walks the names that a remote holds, as a listing of Swift would show them.
//!
//! A Swift cluster is asked for just that. S3 knows no end, no way back, and its servers disagree about a start that lies within a
//! folder; so it is asked for pages in a way that all of them understand, and the rest is done here.

mod folders;
mod s3;
mod swift;

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use swift_s3_policy::KeyMapping;
use swift_s3_store::{ObjectStore, StoreError};

use super::params::Level;
use super::rows::RemoteRow;
use s3::S3Walk;
use swift::SwiftWalk;

/// The longest name that Swift takes, in bytes. Source: swift/common/constraints.py, `MAX_OBJECT_NAME_LENGTH`.
const MAX_NAME_BYTES: usize = 1024;

/// Lines in their order, some at a time, none of them empty; ends behind the last line or the first failure.
pub(super) type Pages = BoxStream<'static, Result<Vec<RemoteRow>, WalkError>>;

/// A walk that did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    /// The remote refused, or broke off.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It would take more requests than one page is worth.
    #[error("the page takes too many requests")]
    Costly,
}

/// Begins to list what `store` holds for the container of `keys`. `limit` is how many lines are wanted: no promise that no more
/// come, but it bounds what is held here.
///
/// Sends nothing before it is polled, and one request at a time. Dropping it ends the walk.
pub(super) fn walk(store: Arc<dyn ObjectStore>, keys: KeyMapping, level: Level, limit: usize) -> Pages {
    if limit == 0 || level.is_empty() {
        return stream::empty().boxed();
    }
    if store.swift().is_some() {
        return SwiftWalk::new(store, keys, level, limit).pages();
    }
    let reverse = level.reverse;
    let walk = S3Walk::new(store, keys, level, limit);
    if reverse { walk.backwards(limit) } else { walk.pages() }
}

/// Whether Swift could hold an object of this name.
fn is_possible(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains('\0')
}

#[cfg(test)]
mod tests;
