//! Writing archived objects back to Swift while a client reads them.
//!
//! | module | does |
//! |---|---|
//! | [`plan`], [`headers`] | decide what is written: pure |
//! | [`tee`], `source` | the content: a copy of what the client gets, and the remote itself once the client is ahead |
//! | `job` | one restore |
//! | [`restores`] | how many at once, one per object |
//! | [`internal_url`] | a way into Swift: a proxy without authentication, and with a filter behind its gatekeeper |
//!
//! # What makes it safe
//!
//! * **Never over a user's write.** What is written has the timestamp of the archiver's tombstone and the next offset (see
//!   [`swift_s3_policy::restored`]), so Swift itself lets every write of a user win, whether it began before or ends after. A tombstone of
//!   a user's is never written over.
//! * **Never half.** Each PUT has the exact length and the MD5; a source that breaks off breaks the request off, and Swift stores nothing.
//!   Manifests go last. A segment that is there already is used if it is equal, and stops the restore otherwise.
//! * **Never at the client's cost.** See [`tee`].
//!
//! A restore that fails leaves at most whole segments behind, which the next one uses.

mod channel_body;
pub mod headers;
pub mod internal_url;
mod job;
pub mod plan;
pub mod restores;
mod source;
pub mod tee;

use std::fmt::Debug;

use async_trait::async_trait;

pub use internal_url::InternalUrl;
pub use restores::{Archived, Restores};
pub use tee::Tee;

use crate::{Body, BoxError};

/// A way into Swift below authentication and gatekeeper: timestamps and system metadata of requests are taken, and those of answers seen.
///
/// # Cancel safety
/// Dropping [`SwiftWriter::send`] before the request's body has ended makes Swift store nothing.
#[async_trait]
pub trait SwiftWriter: Send + Sync + Debug {
    /// Sends a request and waits for the head of its answer. The path is `/v1/account/container/object`, encoded, perhaps with a query;
    /// there is no host. An error in the request's body breaks the request off.
    ///
    /// # Errors
    /// When no answer came.
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, BoxError>;

    /// Whether timestamps and system metadata get through, as far as can be told from this container. Never asked for by the client.
    async fn is_below_gatekeeper(&self, account: &str, container: &str) -> bool {
        let _ = (account, container);
        true
    }
}

/// The words for how restores end, for metrics.
pub(crate) const OUTCOMES: [&str; 16] = [
    "restored",
    "client_gone",
    "too_many",
    "gatekeeper",
    "superseded",
    "segment_differs",
    "manifest",
    "remote",
    "refused",
    "swift",
    "metadata",
    "expired",
    "converted",
    "unknown_home",
    "versioned",
    "out_of_order",
];

/// Why an object is not restored, whatever Swift says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has metadata that no request can give it.
    #[error("its metadata cannot be sent again")]
    Metadata,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// The copy has other segments than the object had.
    #[error("its segments were joined or converted")]
    Converted,
    /// Nobody knows where its segments belong.
    #[error("the local containers of its segments are not known")]
    UnknownHome,
    /// Swift keeps the versions of its container, and would take what is written back for another one.
    #[error("its container keeps versions")]
    Versioned,
    /// Its segments are scattered over the content.
    #[error("its segments do not follow each other in the content")]
    OutOfOrder,
}

impl Unfit {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        // As in `OUTCOMES`.
        match self {
            Self::Metadata => "metadata",
            Self::Expired => "expired",
            Self::Converted => "converted",
            Self::UnknownHome => "unknown_home",
            Self::Versioned => "versioned",
            Self::OutOfOrder => "out_of_order",
        }
    }
}
