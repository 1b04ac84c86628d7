//! Calls of the control plane, with the visitor's own token.

use std::convert::Infallible;
use std::time::Duration;

use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::config_service_client::ConfigServiceClient;
use swift_s3_proto::v1::status_service_client::StatusServiceClient;
use swift_s3_proto::v1::{
    CallerRole, GetCallerRequest, ListMappingsRequest, ListNodesRequest, MappingStatus, NodeState, NodeStatus,
};
use tonic::body::Body;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};
use tower::util::BoxCloneSyncService;

use crate::failure::Failure;

/// Answers gRPC calls: the control plane's own services, behind its gate.
pub type Backend = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// An answer that is not there by then is not waited for. Explanations take longest: workers may think for ten seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// In one question for mappings; the most that is allowed.
const PAGE: u32 = 1_000;
/// Mappings beyond these are not shown in one list.
const MAX_MAPPINGS: usize = 10_000;

/// Adds the visitor's token.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Authorised = InterceptedService<Backend, Bearer>;

/// The control plane, as one visitor sees it.
#[derive(Clone)]
pub struct Api {
    backend: Backend,
    bearer: Bearer,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The name that belongs to the token or certificate. Empty: access control is off.
    pub name: String,
    /// May change something.
    pub is_operator: bool,
}

impl Api {
    /// For a visitor with this token, or none. A token that no header can hold is nobody's.
    #[must_use]
    pub fn new(backend: Backend, token: Option<&str>) -> Self {
        let value = token.map(|token| {
            let mut value = MetadataValue::try_from(format!("Bearer {token}"))
                .unwrap_or_else(|_| MetadataValue::from_static("Bearer -"));
            value.set_sensitive(true);
            value
        });
        Self { backend, bearer: Bearer(value) }
    }

    /// Status, and the handles to change it.
    #[must_use]
    pub fn status(&self) -> StatusServiceClient<Authorised> {
        StatusServiceClient::with_interceptor(self.backend.clone(), self.bearer.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Configuration.
    #[must_use]
    pub fn config(&self) -> ConfigServiceClient<Authorised> {
        ConfigServiceClient::with_interceptor(self.backend.clone(), self.bearer.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Who asks.
    ///
    /// # Errors
    /// When nobody may ask with this token.
    pub async fn who(&self) -> Result<Who, Failure> {
        let answer = call(self.status().get_caller(GetCallerRequest {})).await?;
        Ok(Who { is_operator: answer.role() == CallerRole::Operator, name: answer.name })
    }

    /// Nodes in a state, by id; at most so many.
    ///
    /// # Errors
    /// What the control plane answered.
    pub async fn nodes_in(&self, state: NodeState, page_size: u32) -> Result<Vec<NodeStatus>, Failure> {
        let request = ListNodesRequest { page_size, page_token: String::new(), state: state.into() };
        Ok(call(self.status().list_nodes(request)).await?.nodes)
    }

    /// All mappings, in the order of the configuration; at most 10,000.
    ///
    /// # Errors
    /// What the control plane answered.
    pub async fn mappings(&self) -> Result<Vec<MappingStatus>, Failure> {
        let mut mappings = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListMappingsRequest { page_size: PAGE, page_token, account: String::new() };
            let mut answer = call(self.status().list_mappings(request)).await?;
            mappings.append(&mut answer.mappings);
            if answer.next_page_token.is_empty() || mappings.len() >= MAX_MAPPINGS {
                return Ok(mappings);
            }
            page_token = answer.next_page_token;
        }
    }
}

/// Awaits an answer, but not for ever.
///
/// # Errors
/// What the control plane answered, or that it did not.
pub async fn call<T>(answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Failure::from(status)),
        Err(_) => Err(Failure::from(Status::deadline_exceeded(format!("no answer within {PATIENCE:?}")))),
    }
}
