//! Who is let in where: tokens, certificates, and what processes tell each other about callers.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use swift_s3_proto::v1::config_service_client::ConfigServiceClient;
use swift_s3_proto::v1::*;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::etcd::EtcdProcess;
use crate::processes::Process;
use crate::support::{document, eventually};

fn access(folder: &Path, entries: &[(&str, &str, &str)]) -> String {
    let text: String = entries
        .iter()
        .map(|(name, role, token)| {
            format!("[[access]]\nname = \"{name}\"\nrole = \"{role}\"\ntoken = \"{token}\"\n")
        })
        .collect();
    let path = folder.join("access.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn apply(channel: Channel, token: &str, headers: &[(&'static str, &str)]) -> Result<Revision, Status> {
    let mut request = Request::new(ApplyConfigRequest {
        document: document(&["c"]),
        expected_revision: 0,
        ..ApplyConfigRequest::default()
    });
    let bearer: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let applied = ConfigServiceClient::new(channel).apply_config(request).await?;
    Ok(applied.into_inner().revision.unwrap())
}

async fn answers_with(process: &Process, token: &str) {
    let ask = || async {
        let mut request = Request::new(ListRevisionsRequest::default());
        let bearer: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        ConfigServiceClient::new(process.channel().await).list_revisions(request).await
    };
    eventually(ask, Result::is_ok).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_has_its_own_access_file_and_the_leader_believes_it() {
    let etcd = EtcdProcess::start().await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let here = access(one.path(), &[("here", "operator", "token-of-here-0123")]);
    let there = access(
        other.path(),
        &[("Ops ö", "operator", "token-of-there-012"), ("eyes", "viewer", "token-of-eyes-0123")],
    );
    let leader = Process::start(&etcd.url(), &["--access", &here]);
    answers_with(&leader, "token-of-here-0123").await;
    let follower = Process::start(&etcd.url(), &["--access", &there]);
    answers_with(&follower, "token-of-there-012").await;

    let refused = apply(leader.channel().await, "token-of-there-012", &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = apply(follower.channel().await, "token-of-eyes-0123", &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // What a client says of itself in the relay's words counts nowhere.
    let lies = [("swift-s3-relay-role", "operator"), ("swift-s3-relay-caller", "root")];
    for process in [&leader, &follower] {
        let refused = apply(process.channel().await, "token-of-eyes-0123", &lies).await.unwrap_err();
        assert!(matches!(refused.code(), Code::PermissionDenied | Code::Unauthenticated), "{refused:?}");
        let lies = [lies[0], lies[1], ("swift-s3-relay-secret", "guessed")];
        let refused = apply(process.channel().await, "token-of-eyes-0123", &lies).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }
    // The name in the history is the one that the follower knows.
    let applied = apply(follower.channel().await, "token-of-there-012", &lies).await.unwrap();
    assert_eq!((applied.revision, applied.author.as_str()), (1, "Ops ö"));
    // Taken off there, a stream ends there.
    let mut request = Request::new(WatchStatusRequest::default());
    let bearer: MetadataValue<_> = "Bearer token-of-eyes-0123".parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let mut watched = follower.status().await.watch_status(request).await.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();
    access(other.path(), &[("Ops ö", "operator", "token-of-there-012")]);
    follower.signal(nix::sys::signal::Signal::SIGHUP);
    let ended = loop {
        match watched.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated);
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(parameters, key) }
    }

    fn write(&self, folder: &Path, usages: &[rcgen::ExtendedKeyUsagePurpose]) -> [String; 3] {
        let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        parameters.extended_key_usages = usages.to_vec();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let file = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        [
            file("cert.pem", certificate.pem()),
            file("key.pem", key.serialize_pem()),
            file("ca.pem", self.certificate.pem()),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_processes_know_each_other_by_the_configured_authority() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let etcd = EtcdProcess::start().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [certificate, key, ca] = authority.write(folder.path(), &[ServerAuth, ClientAuth]);
    let token = "token-of-ops-01234";
    let access = access(folder.path(), &[("ops", "operator", token)]);
    let ask = |address: String| {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority.certificate.pem()))
            .identity(tonic::transport::Identity::from_pem(
                std::fs::read(&certificate).unwrap(),
                std::fs::read(&key).unwrap(),
            ));
        async move {
            let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
            let channel = endpoint.tls_config(tls).unwrap().connect().await;
            let channel = channel.map_err(|error| Status::unknown(error.to_string()))?;
            let mut request = Request::new(ListRevisionsRequest::default());
            let bearer: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", bearer);
            ConfigServiceClient::new(channel).list_revisions(request).await
        }
    };
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    for more in [
        // Tokens; the others' certificates are checked.
        &["--access", access.as_str(), "--peer-ca", ca.as_str()][..],
        // Certificates of clients instead, so that processes show theirs to each other.
        &["--client-ca", ca.as_str()],
        &["--client-ca", ca.as_str(), "--access", access.as_str()],
    ] {
        let arguments: Vec<&str> = tls.iter().chain(more).copied().collect();
        let leader = Process::start(&etcd.url(), &arguments);
        eventually(|| ask(leader.address.clone()), Result::is_ok).await.unwrap();
        let follower = Process::start(&etcd.url(), &arguments);
        eventually(|| ask(follower.address.clone()), Result::is_ok).await.unwrap();
        assert!(!follower.is_leading());
    }
    // Nobody whom the authority did not sign for is believed to be the leader.
    let stranger = tempfile::tempdir().unwrap();
    let [_, _, other_ca] = Authority::new().write(stranger.path(), &[ServerAuth]);
    let arguments = [&tls[..], &["--access", &access]].concat();
    let leader = Process::start(&etcd.url(), &[&arguments[..], &["--peer-ca", &ca]].concat());
    eventually(|| ask(leader.address.clone()), Result::is_ok).await.unwrap();
    let follower = Process::start(&etcd.url(), &[&arguments[..], &["--peer-ca", &other_ca]].concat());
    let refused = |answer: &Result<_, Status>| {
        answer.as_ref().is_err_and(|status| status.message().contains("does not answer"))
    };
    let status = eventually(|| ask(follower.address.clone()), refused).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}
