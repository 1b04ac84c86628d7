use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use swift_s3_control::access::Access;
use swift_s3_control::transport::TlsFiles;
use swift_s3_proto::v1::config_service_client::ConfigServiceClient;
use swift_s3_proto::v1::node_service_client::NodeServiceClient;
use swift_s3_proto::v1::status_service_client::StatusServiceClient;
use swift_s3_proto::v1::*;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Server, document};

const FILE: &str = r#"
[[access]]
name = "worker-1"
role = "node"
token = "token-of-nodes-0123"
[[access]]
name = "eyes"
role = "viewer"
token = "token-of-viewers-0123"
[[access]]
name = "ops"
role = "operator"
token = "token-of-operators-0123"
[[access]]
name = "by-certificate"
role = "viewer"
certificate_cn = "eyes.example"
"#;

fn enforce(server: &Server) {
    let access = Access::parse(FILE, |_| unreachable!("no token files")).unwrap();
    server.doors.access.send_replace(Arc::new(access));
}

type Tokened<'a> =
    InterceptedService<Channel, Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send + 'a>>;

fn with_token(channel: Channel, token: &str) -> Tokened<'static> {
    let header: Option<MetadataValue<_>> =
        (!token.is_empty()).then(|| format!("Bearer {token}").parse().unwrap());
    InterceptedService::new(
        channel,
        Box::new(move |mut request: Request<()>| {
            if let Some(header) = &header {
                request.metadata_mut().insert("authorization", header.clone());
            }
            Ok(request)
        }),
    )
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn each_role_reaches_its_services_over_the_wire() {
    let server = Server::start().await;
    server.apply(&document(&["c"]), 0).await.unwrap();
    enforce(&server);
    use Code::{Ok, PermissionDenied as Denied, Unauthenticated as Unknown};
    for (token, load, read, status, change) in [
        ("", Unknown, Unknown, Unknown, Unknown),
        ("token-of-nobody-0123456", Unknown, Unknown, Unknown, Unknown),
        ("token-of-nodes-0123", Ok, Denied, Denied, Denied),
        ("token-of-viewers-0123", Denied, Ok, Ok, Denied),
        ("token-of-operators-0123", Denied, Ok, Ok, Ok),
    ] {
        let channel = server.channel().await;
        let mut nodes = NodeServiceClient::new(with_token(channel.clone(), token));
        let mut config = ConfigServiceClient::new(with_token(channel.clone(), token));
        let mut client = StatusServiceClient::new(with_token(channel.clone(), token));
        assert_eq!(code(nodes.load_progress(LoadProgressRequest::default()).await), load, "{token}");
        assert_eq!(code(config.get_config(GetConfigRequest::default()).await), read, "{token}");
        assert_eq!(code(client.get_status(GetStatusRequest {}).await), status, "{token}");
        let resume = ResumeMappingRequest { mapping: "AUTH_a/c".to_owned() };
        assert_eq!(code(client.resume_mapping(resume).await), change, "{token}");
        let mut health = HealthClient::new(channel);
        assert_eq!(code(health.check(HealthCheckRequest::default()).await), Ok);
    }
    server.stop().await;
}

#[tokio::test]
async fn callers_are_told_who_they_are() {
    let server = Server::start().await;
    let ask = async |token: &str| {
        let mut client = StatusServiceClient::new(with_token(server.channel().await, token));
        client.get_caller(GetCallerRequest {}).await.map(|answer| {
            let answer = answer.into_inner();
            (answer.name.clone(), answer.role())
        })
    };
    assert_eq!(ask("").await.unwrap(), (String::new(), CallerRole::Operator), "access control is off");
    enforce(&server);
    assert_eq!(ask("token-of-operators-0123").await.unwrap(), ("ops".to_owned(), CallerRole::Operator));
    assert_eq!(ask("token-of-viewers-0123").await.unwrap().1, CallerRole::Viewer);
    assert_eq!(code(ask("token-of-nodes-0123").await), Code::PermissionDenied);
    assert_eq!(code(ask("token-of-nobody-0123456").await), Code::Unauthenticated);
    server.stop().await;
}

#[tokio::test]
async fn the_author_of_a_revision_is_who_the_token_belongs_to() {
    let server = Server::start().await;
    enforce(&server);
    let mut config = ConfigServiceClient::new(with_token(server.channel().await, "token-of-operators-0123"));
    let request = ApplyConfigRequest { document: document(&["c"]), ..ApplyConfigRequest::default() };
    let applied = config.apply_config(request).await.unwrap().into_inner();
    assert_eq!(applied.revision.unwrap().author, "ops");
    // The file is read again while the server runs: whoever is no longer in it is out at the next call.
    let fewer = FILE.replace("token-of-operators-0123", "another-token-0123456");
    server.doors.access.send_replace(Arc::new(Access::parse(&fewer, |_| unreachable!()).unwrap()));
    assert_eq!(code(config.get_config(GetConfigRequest::default()).await), Code::Unauthenticated);
    server.stop().await;
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Certificate and key, PEM.
    fn sign(&self, common_name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn encrypt(server: &Server, authority: &Authority, client_authority: &Authority, requires_certificate: bool) {
    let folder = server.folder.path();
    let (certificate, key) = authority.sign("server");
    let files = TlsFiles {
        certificate: write(folder, "server.pem", &certificate),
        key: write(folder, "server.key", &key),
        client_ca: Some(write(folder, "clients.pem", &client_authority.pem())),
        requires_certificate,
    };
    server.doors.tls.store(Some(files.load().unwrap()));
}

async fn connect(
    server: &Server,
    authority: &Authority,
    identity: Option<(String, String)>,
) -> Option<Channel> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint =
        Endpoint::from_shared(format!("https://{}", server.address)).unwrap().tls_config(tls).unwrap();
    endpoint.connect().await.ok()
}

async fn get_status(channel: Option<Channel>) -> Code {
    match channel {
        None => Code::Unavailable,
        Some(channel) => code(StatusServiceClient::new(channel).get_status(GetStatusRequest {}).await),
    }
}

#[tokio::test]
async fn certificates_name_callers_and_strangers_certificates_are_turned_away() {
    let server = Server::start().await;
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    encrypt(&server, &ours, &ours, false);
    enforce(&server);
    for (identity, expected) in [
        (Some(ours.sign("eyes.example")), Code::Ok),
        (Some(ours.sign("somebody.else")), Code::Unauthenticated),
        (None, Code::Unauthenticated),
    ] {
        assert_eq!(get_status(connect(&server, &ours, identity).await).await, expected);
    }
    let stranger = get_status(connect(&server, &ours, Some(strangers.sign("eyes.example"))).await).await;
    assert!(!matches!(stranger, Code::Ok | Code::Unauthenticated), "the handshake fails, got {stranger:?}");
    let channel = connect(&server, &ours, None).await.unwrap();
    let mut tokened = StatusServiceClient::new(with_token(channel, "token-of-viewers-0123"));
    tokened.get_status(GetStatusRequest {}).await.unwrap();
    assert!(connect(&server, &strangers, None).await.is_none(), "a client knows its server");
    server.stop().await;
}

#[tokio::test]
async fn without_an_access_file_a_certificate_is_the_key() {
    let server = Server::start().await;
    let ours = Authority::new("ours");
    encrypt(&server, &ours, &ours, true);
    assert_eq!(get_status(connect(&server, &ours, Some(ours.sign("anybody"))).await).await, Code::Ok);
    assert_ne!(get_status(connect(&server, &ours, None).await).await, Code::Ok);
    server.stop().await;
}

#[test]
fn certificates_that_do_not_fit_are_refused_with_their_file_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let ((certificate, _), (_, other_key)) = (ours.sign("a"), ours.sign("b"));
    let certificate = write(folder.path(), "server.pem", &certificate);
    let files = |certificate: &Path, key: &str, client_ca: Option<PathBuf>| TlsFiles {
        certificate: certificate.to_owned(),
        key: write(folder.path(), "server.key", key),
        client_ca,
        requires_certificate: false,
    };
    let empty = write(folder.path(), "empty.pem", "");
    for (files, expected) in [
        (files(&certificate, &other_key, None), "server.pem: does not go with the key"),
        (files(&certificate, "", None), "server.key: no private key"),
        (files(&empty, &other_key, None), "empty.pem: no certificate"),
        (files(Path::new("/nowhere.pem"), &other_key, None), "/nowhere.pem"),
    ] {
        std::fs::write(&files.key, if expected.contains("private") { "" } else { other_key.as_str() })
            .unwrap();
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn reflection_tells_the_whole_contract() {
    use prost_reflect::DescriptorPool;
    let pool = DescriptorPool::decode(swift_s3_proto::FILE_DESCRIPTOR_SET).unwrap();
    assert_eq!(pool.services().count(), 5);
    let server = Server::start().await;
    // Both versions are there: any grpcurl finds one of them.
    for path in ["/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"] {
        let mut client = tonic::client::Grpc::new(server.channel().await);
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_maybe_shared(format!("{path}ServerReflectionInfo")).unwrap();
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
        let stream = tokio_stream::iter(Vec::<HealthCheckRequest>::new());
        let answer = client.streaming(Request::new(stream), path, codec).await;
        assert_eq!(code(answer), Code::Ok);
    }
    server.stop().await;
}
