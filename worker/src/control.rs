//! The worker's side of the control plane.
//!
//! | module | does |
//! |---|---|
//! | [`session`] | the connection: fail-over, registration, heartbeats, reports and their acknowledgements |
//! | [`link`] | what the rest of the worker sees of it |
//! | [`load`] | what the process takes of its machine |
//! | [`memory`] | progress kept there, and here while it is away |
//! | [`configuration`] | takes a pushed configuration, checks what is new in it, puts it in force, answers |
//! | [`effective`] | the document that is in force when some of its mappings are refused |
//! | [`reporter`] | how far every feed is |
//! | [`explain`] | what this node knows of one object |
//! | `usage` | what was asked of remotes |
//! | [`wire`] | types of the contract |

pub mod configuration;
pub mod effective;
pub mod explain;
pub mod link;
pub mod load;
pub mod memory;
pub mod reporter;
pub mod session;
mod usage;
pub mod wire;

pub use link::Link;
pub use memory::ControlMemory;
