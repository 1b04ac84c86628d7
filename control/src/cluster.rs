//! Several control processes with one state, which is in etcd.
//!
//! One of them leads: it holds the key `control/leader`, bound to a lease, has a working copy of the state, and answers. The
//! others hand every call on to it. All of them stand for election whenever nobody leads.
//!
//! | module | job |
//! |---|---|
//! | `board` | who leads, as every call looks it up; sends a call to the services here or to the relay |
//! | `relay` | hands calls on to the leader, with a proof of who asks |
//! | `life` | follows the leader's key, campaigns |
//! | `lead` | what a leader does from its election to its end |
//!
//! No leader answers, writes, or pushes anything after its lease is over by its own clock. A write that was under way then
//! is refused by etcd, see `store::mirror`.

mod board;
mod lead;
mod life;
mod relay;

pub use board::{Board, Role, Switch};
pub(crate) use lead::new_number;
pub use life::{Cluster, ClusterError, LeaderRecord, PeerTls, run};
pub(crate) use relay::Relayed;
