//! Shows the node's token with every call.

use swift_s3_policy::Secret;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A channel that shows the token.
pub type Authorized = InterceptedService<Channel, ShowToken>;

/// Adds the token to requests.
#[derive(Clone)]
pub struct ShowToken(Option<MetadataValue<Ascii>>);

impl ShowToken {
    /// A token with characters that a header cannot hold is as good as none: the control plane then says that it wants one.
    pub fn new(token: Option<&Secret>) -> Self {
        let value = token.and_then(|token| format!("Bearer {}", token.expose()).parse().ok());
        Self(value.map(|mut value: MetadataValue<Ascii>| {
            value.set_sensitive(true);
            value
        }))
    }
}

impl Interceptor for ShowToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
