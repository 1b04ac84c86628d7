//! `NodeService`: sessions of workers and shunts, and what is remembered of feeds.

use std::sync::Arc;

use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::node_service_server::NodeService;
use swift_s3_proto::v1::{LoadProgressRequest, LoadProgressResponse, NodeMessage};
use tonic::{Request, Response, Status, Streaming};

use super::session::{self, Replies};
use super::store_status;
use crate::control::Control;
use crate::store::StoreError;

/// Feeds that one question may be about.
const MAX_KEYS: usize = 1_000;
/// Room in a message for what is around the feeds.
const MESSAGE_MARGIN: usize = 64 * 1024;

/// The service.
#[derive(Clone, Debug)]
pub struct Nodes(pub Arc<Control>);

#[tonic::async_trait]
impl NodeService for Nodes {
    type SessionStream = Replies;

    async fn session(&self, request: Request<Streaming<NodeMessage>>) -> Result<Response<Replies>, Status> {
        // The stream is opened before the greeting, because many clients send nothing until it is.
        Ok(Response::new(session::start(Arc::clone(&self.0), request.into_inner())))
    }

    async fn load_progress(
        &self,
        request: Request<LoadProgressRequest>,
    ) -> Result<Response<LoadProgressResponse>, Status> {
        let keys = request.into_inner().keys;
        if keys.len() > MAX_KEYS {
            let message = format!("{} keys; at most {MAX_KEYS} at a time", keys.len());
            return Err(Status::invalid_argument(message));
        }
        // A report that was handed in before the question is part of the answer.
        self.0.store.settle().await.map_err(|error| store_status(&error))?;
        let feeds = self.0.store.reader().progress(keys, MAX_MESSAGE_BYTES - MESSAGE_MARGIN).await;
        let feeds = feeds.map_err(|error| match error {
            // Leaving feeds out would say that nothing is known of them.
            StoreError::Refused(why) => Status::resource_exhausted(why),
            error => store_status(&error),
        })?;
        Ok(Response::new(LoadProgressResponse { feeds }))
    }
}
