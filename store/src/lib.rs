//! Remote object stores behind one trait: Amazon S3, Google Cloud Storage, S3 clones and OpenStack Swift.
//!
//! * [`multipart`], [`swift_account`]: what only S3, and only Swift, can do beside that trait
//! * [`object_store`]: the [`ObjectStore`] trait and what its methods take and give
//! * [`body`]: the streamed body of an upload
//! * [`entries`]: listings by folder
//! * [`error`]: [`StoreError`] and its [`ErrorKind`]
//! * [`limited`]: a store that keeps to rates, and sends nothing without permission
//! * [`metering`]: counts of requests sent, by operation
//! * [`observing`]: what becomes of each request, for metrics and traces
//! * [`remotes`]: the open stores of a process, shared by mappings, and whether they are worth asking
//! * [`secrets`]: reads credentials from where the configuration says they are
//! * [`s3`]: the provider for everything that speaks the S3 protocol
//! * [`swift`]: the provider for OpenStack Swift
//! * [`verify`]: proves that a remote can be used
//!
//! Called by the worker and, for [`verify`], by the operators' tools. Knows nothing of rings, container databases or the
//! rules that choose what is copied; it carries out one request at a time, says precisely how that ended, and never
//! repeats an upload on its own.

pub mod body;
pub mod entries;
pub mod error;
pub mod limited;
pub mod metering;
pub mod multipart;
pub mod object_store;
pub mod observing;
pub mod remotes;
pub mod s3;
pub mod secrets;
pub mod swift;
pub mod swift_account;
pub mod verify;

pub use body::{Body, BoxError};
pub use entries::{Entry, EntryPage, EntryQuery, EntryStart, ObjectEntry};
pub use error::{ErrorKind, StoreError};
pub use limited::{Limited, Permission, RateGate};
pub use metering::{Meter, RequestCounts, Usage};
pub use multipart::{
    CompletedPart, CopyPart, Multipart, NewUpload, PendingUpload, PutPart, StoredPart, UploadMark, UploadPage,
};
pub use object_store::{
    AnswerNotes, GetObject, IN_ARCHIVE, ListEntry, ListPage, ObjectStore, PutObject, PutReceipt,
    RemoteObject, Thaw,
};
pub use observing::{EndedRequest, RequestObserver};
pub use remotes::{RemoteStore, Remotes};
pub use s3::{S3Settings, StaticCredentials, open};
pub use swift::{SwiftCredentials, SwiftSettings};
pub use swift_account::{ContainerHead, SloSegment, SwiftAccount};
