//! What processes tell of themselves: traces, metrics, the admin endpoint.

mod shunt;
mod traces;
mod worker;
