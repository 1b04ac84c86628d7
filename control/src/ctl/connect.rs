//! Finds a server that answers, and holds the clients.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::audit_service_client::AuditServiceClient;
use swift_s3_proto::v1::config_service_client::ConfigServiceClient;
use swift_s3_proto::v1::status_service_client::StatusServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::failure::{Failure, UNREACHABLE, chain};
use super::settings::{Settings, Token, label, read_small};

/// With several servers, a silent one is left for the next after this time.
const PATIENCE_WITH_ONE_OF_MANY: Duration = Duration::from_secs(3);
/// A watch must notice that its server is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Adds the token to each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(token: Option<&Token>) -> Result<Self, Failure> {
        let Some(token) = token else { return Ok(Self(None)) };
        let mut value: MetadataValue<Ascii> = token
            .header()
            .parse()
            .map_err(|_| Failure::usage("the token cannot be sent: expected visible ASCII"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Authorised = InterceptedService<Channel, Bearer>;

/// A server that answered.
#[derive(Clone)]
pub struct Connection {
    channel: Authorised,
    url: String,
    timeout: Duration,
}

impl Connection {
    /// Connects to the first of `settings.controls` that answers.
    ///
    /// # Errors
    /// Names each server and why it is not used.
    pub async fn open(settings: &Settings) -> Result<Self, Failure> {
        let bearer = Bearer::new(settings.token.as_ref())?;
        let tls = tls(settings)?;
        let is_only = settings.controls.len() == 1;
        let mut reasons = Vec::new();
        for uri in &settings.controls {
            let patience =
                if is_only { settings.timeout } else { settings.timeout.min(PATIENCE_WITH_ONE_OF_MANY) };
            match reach(uri, tls.clone(), patience, is_only).await {
                Ok(channel) => {
                    let channel = InterceptedService::new(channel, bearer);
                    return Ok(Self { channel, url: label(uri), timeout: settings.timeout });
                }
                Err(reason) => reasons.push(format!("cannot reach {}: {reason}", label(uri))),
            }
        }
        Err(Failure::failed(reasons.join("; ")).hint(UNREACHABLE))
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same connection with more patience.
    #[must_use]
    pub fn patient(mut self, more: Duration) -> Self {
        self.timeout = self.timeout.saturating_add(more);
        self
    }

    /// For configuration.
    #[must_use]
    pub fn config(&self) -> ConfigServiceClient<Authorised> {
        ConfigServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// For whole containers.
    #[must_use]
    pub fn audit(&self) -> AuditServiceClient<Authorised> {
        AuditServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// For status.
    #[must_use]
    pub fn status(&self) -> StatusServiceClient<Authorised> {
        StatusServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Awaits an answer, but not for ever.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub async fn call<T>(
        &self,
        do_what: &str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let status = match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(format!("no answer within {:?}", self.timeout)),
        };
        Err(Failure::answered(do_what, &self.url, &status))
    }
}

fn tls(settings: &Settings) -> Result<ClientTlsConfig, Failure> {
    let read = |path: &Path, what| read_small(path, what);
    let mut tls = match &settings.ca_cert {
        Some(path) => {
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path, "CA certificate")?))
        }
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((certificate, key)) = &settings.identity {
        tls = tls
            .identity(Identity::from_pem(read(certificate, "client certificate")?, read(key, "client key")?));
    }
    Ok(tls)
}

/// A connected channel. If there are others to turn to, the server must also say that it serves.
async fn reach(
    uri: &Uri,
    tls: ClientTlsConfig,
    patience: Duration,
    is_only: bool,
) -> Result<Channel, String> {
    let attempt = async {
        let mut endpoint = Endpoint::from(uri.clone())
            .user_agent(concat!("swift-s3ctl/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| chain(&error))?
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if uri.scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(tls).map_err(|error| chain(&error))?;
        }
        let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
        if !is_only {
            probe(channel.clone()).await?;
        }
        Ok(channel)
    };
    tokio::time::timeout(patience, attempt)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
}

async fn probe(channel: Channel) -> Result<(), String> {
    match HealthClient::new(channel).check(HealthCheckRequest::default()).await {
        Ok(answer) if answer.get_ref().status() == ServingStatus::NotServing => {
            Err("it is stopping, or no control process leads".to_owned())
        }
        Err(status) if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) => {
            Err(chain(&status))
        }
        // Any other answer, even a refusal, comes from a server that is there.
        _ => Ok(()),
    }
}
