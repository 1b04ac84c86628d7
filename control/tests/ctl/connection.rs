//! Which server is used, how a caller proves who calls, and what is said when it fails.

use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::canned::CannedServer;
use crate::program::Home;

/// An address where nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_server_that_answers_is_used() {
    let server = CannedServer::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let all = format!("{},{silent},{}", nowhere().await, server.url());
    let shown = Home::new(&all).run(&["status", "--timeout", "2s"]).await.exits(0);
    assert!(shown.stdout.contains(&server.url()), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_named_with_what_to_try() {
    let url = nowhere().await;
    let shown = Home::new(&url).run(&["status"]).await.exits(1);
    assert_eq!(shown.stdout, "");
    assert!(shown.stderr.contains(&format!("cannot reach {url}: ")), "{shown:?}");
    assert!(shown.stderr.contains("refused") && shown.stderr.contains("try: "), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_not_waited_for_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = Home::new(&format!("http://{}", silent.local_addr().unwrap()));
    let start = Instant::now();
    let shown = home.run(&["status", "--timeout", "300ms"]).await.exits(1);
    assert!(shown.stderr.contains("within 300ms"), "{shown:?}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_from_the_environment_a_flag_or_the_settings() {
    let server = CannedServer::start().await;
    *server.canned.token.lock().unwrap() = Some("planted-token".into());
    let home = Home::new(&server.url());
    let refused = home.run(&["status"]).await.exits(1);
    assert!(
        refused.stderr.contains("UNAUTHENTICATED") && refused.stderr.contains("--token-file"),
        "{refused:?}"
    );
    let home = home.set("SWIFT_S3_TOKEN", "wrong");
    let refused = home.run(&["status"]).await.exits(1);
    assert!(!refused.stderr.contains("wrong"), "{refused:?}");

    let path = home.write("token", "planted-token\n");
    home.run(&["status", "--token-file", path.to_str().unwrap()]).await.exits(0);
    Home::new(&server.url()).set("SWIFT_S3_TOKEN", "planted-token").run(&["status"]).await.exits(0);

    let home = Home::new("");
    std::fs::create_dir_all(home.folder.path().join(".config/swift-s3-sync")).unwrap();
    home.write(".config/swift-s3-sync/token", "planted-token");
    home.write(
        ".config/swift-s3-sync/ctl.toml",
        &format!("control = '{}'\ntoken_file = 'token'\noutput = 'json'\n", server.url()),
    );
    assert_eq!(home.run(&["status"]).await.exits(0).json()["revision"], 0);
    home.write("other.toml", "contrl = 'x'\n");
    assert!(home.run(&["status", "--ctl-config", "other.toml"]).await.exits(2).stderr.contains("contrl"));
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_checks_both_sides() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("localhost");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authority.0.pem()));
    let server = CannedServer::start_with(Some(tls)).await;
    let home = Home::new(&format!("https://localhost:{}", server.address.port()));
    home.write("ca.pem", &authority.0.pem());
    let (certificate, key) = authority.issue("operator");
    home.write("me.pem", &certificate);
    home.write("me.key", &key);

    let with_all = ["status", "--ca-cert", "ca.pem", "--client-cert", "me.pem", "--client-key", "me.key"];
    home.run(&with_all).await.exits(0);
    home.run(&with_all[..3]).await.exits(1);
    let untrusted = home.run(&["status", "--client-cert", "me.pem", "--client-key", "me.key"]).await.exits(1);
    assert!(untrusted.stderr.contains("cannot reach https://localhost:"), "{untrusted:?}");
    assert!(untrusted.stderr.contains("certificate"), "{untrusted:?}");
    home.run(&["status", "--client-cert", "me.pem"]).await.exits(2);
    let plain =
        Home::new(&format!("http://localhost:{}", server.address.port())).run(&["status"]).await.exits(1);
    assert!(plain.stderr.contains("wants https://"), "{plain:?}");
}
