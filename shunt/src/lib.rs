//! The shunt: in front of Swift, it gives on-line access to objects that are only on the remote any more.
//!
//! | module | does |
//! |---|---|
//! | [`cli`] | the command line and the life of the process |
//! | [`policy`] | which containers are merged, from a file or the control plane; the last good one holds |
//! | [`request`] | what a request is about, by its path |
//! | [`proxy`] | the door for clients: a streaming HTTP/1.1 proxy in front of Swift |
//! | [`filter`] | the door for the filter in Swift's own pipeline |
//! | [`upstream`] | the connections to Swift |
//! | [`read`] | GET and HEAD of archived objects |
//! | [`listing`] | listings of local and archived names together |
//! | [`restore`] | archived objects written back |
//! | [`write`] | DELETE and POST of archived objects |
//! | [`copy`] | copies of archived objects |
//! | [`glacier`] | objects in an archive of their remote |
//! | [`remote`] | requests to remotes, and what clients are told when they fail |
//! | `exchange`, `swift_call` | requests of clients, and those to Swift, as spans and figures |
//! | [`readiness`], [`metrics`] | whether it may be sent requests, and figures |
//!
//! Local first, always: the remote is asked only after Swift itself has answered 404 to the client's own request, which it does only to those who
//! may read the object. Nothing is kept on disk but the last good configuration.

pub mod body;
pub mod cli;
pub mod context;
pub mod copy;
mod exchange;
pub mod filter;
pub mod glacier;
pub mod listing;
pub mod metrics;
pub mod policy;
pub mod proxy;
pub mod read;
pub mod readiness;
pub mod remote;
pub mod request;
pub mod restore;
mod swift_call;
mod swift_path;
pub mod upstream;
pub mod write;

pub use body::{Body, BoxError, Response};
pub use exchange::TraceContext;
