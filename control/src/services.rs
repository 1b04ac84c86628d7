//! The gRPC services. Each only translates between the contract and the rest of the crate.

use tonic::{Request, Status};

use crate::access::Caller;
use crate::store::StoreError;

pub mod audit;
pub mod config;
pub mod node;
pub mod page;
pub mod policy;
mod session;
pub mod status;

/// What a failure of the store is in gRPC.
pub(crate) fn store_status(error: &StoreError) -> Status {
    let message = error.to_string();
    match error {
        StoreError::Conflict { .. } => Status::aborted(message),
        StoreError::Full(_) => Status::resource_exhausted(message),
        StoreError::Refused(_) | StoreError::Unknown { .. } => Status::invalid_argument(message),
        StoreError::Failed(_)
        | StoreError::Etcd(_)
        | StoreError::Unclear(_)
        | StoreError::Deposed
        | StoreError::Stopping => Status::unavailable(message),
    }
}

/// Who called, for history and log.
pub(crate) fn caller<T>(request: &Request<T>) -> String {
    request.extensions().get::<Caller>().map(|caller| caller.name.clone()).unwrap_or_default()
}
