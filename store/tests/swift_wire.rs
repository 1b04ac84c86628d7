//! The Swift provider on the wire: what it sends, what it makes of odd answers, where it does not go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use support::{Answer, Captured, SECRET, Server, put_of, serve};
use swift_s3_policy::{CredentialSource, Secret, SecretSource, SwiftAuth, SwiftRemote};
use swift_s3_store::{
    EntryPage, EntryQuery, EntryStart, ErrorKind, ObjectStore, SwiftCredentials, SwiftSettings, swift,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const TOKEN: &str = "token-never-shown";

fn settings(auth_url: &str, auth: SwiftAuth) -> SwiftSettings {
    let inline = |text: &str| SecretSource::Inline(Secret::new(text));
    SwiftSettings {
        remote: SwiftRemote {
            auth_url: auth_url.to_owned(),
            auth,
            credentials: CredentialSource::Static {
                identity: inline("user"),
                secret: inline(SECRET),
                session_token: None,
            },
            container: "c".to_owned(),
            remote_account: None,
            storage_policy: None,
            convert_dlo: false,
            min_segment_size: 0,
            container_metadata: false,
            container_acl: false,
            expiration_offset: None,
            segments_live_longer: Duration::ZERO,
        },
        credentials: SwiftCredentials { user: "user".to_owned(), key: SECRET.to_owned() },
        container: None,
        http_proxy: None,
        https_proxy: None,
        max_connections: 4,
    }
}

/// The answer to a login of version 1, which names an account on the server that was asked.
fn login(request: &Captured) -> Answer {
    let host = request.header("host").unwrap();
    Answer::new(200).header("x-storage-url", format!("http://{host}/v1/AUTH_a")).header("x-auth-token", TOKEN)
}

/// A server that lets everybody in and answers everything else with `answer`.
async fn cluster(answer: impl Fn(&Captured) -> Answer + Send + Sync + 'static) -> Server {
    serve(move |request, _| if request.target == "/auth" { login(request) } else { answer(request) }).await
}

async fn open(server: &Server) -> Arc<dyn ObjectStore> {
    swift::open(&settings(&format!("{}/auth", server.url), SwiftAuth::V1)).await.unwrap()
}

fn everything(error: &swift_s3_store::StoreError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn keystone_of_the_second_version_is_asked_for_the_tenant() {
    let server = serve(|request, _| {
        if request.target != "/v2.0/tokens" {
            assert_eq!(request.header("x-auth-token"), Some(TOKEN));
            assert_eq!(request.header("x-cloud-sync-shunt-bypass"), Some("true"));
            return Answer::new(200).header("etag", "abc").header("x-timestamp", "17.00001");
        }
        let host = request.header("host").unwrap();
        Answer::new(200).body(format!(
            r#"{{"access": {{"token": {{"id": "{TOKEN}", "expires": "2030-01-01T00:00:00Z"}}, "serviceCatalog": [
                {{"type": "object-store", "name": "swift",
                  "endpoints": [{{"region": "r", "publicURL": "http://{host}/v1/AUTH_t"}}]}}]}}}}"#
        ))
    })
    .await;
    let auth = SwiftAuth::KeystoneV2 { tenant_name: "tenant".to_owned() };
    let mut settings = settings(&format!("{}/v2.0/", server.url), auth);
    assert!(swift::open(&settings).await.unwrap().head("c/o").await.unwrap().is_some());
    settings.remote.remote_account = Some("AUTH_other".to_owned());
    assert!(swift::open(&settings).await.unwrap().head("c/o").await.unwrap().is_some());
    let captured = server.captured();
    let body: serde_json::Value = serde_json::from_slice(&captured[0].body).unwrap();
    assert_eq!(body["auth"]["tenantName"], "tenant");
    assert_eq!(body["auth"]["passwordCredentials"]["username"], "user");
    assert_eq!(captured[1].target, "/v1/AUTH_t/c/o");
    assert_eq!(captured[3].target, "/v1/AUTH_other/c/o");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_not_with_every_request() {
    let issued = Arc::new(Mutex::new(Vec::<Instant>::new()));
    let known = Arc::clone(&issued);
    let server = serve(move |request, _| {
        let mut issued = known.lock().unwrap();
        if request.target == "/auth" {
            issued.push(Instant::now());
            return login(request).header("x-auth-token-expires", "2");
        }
        assert!(
            issued.last().unwrap().elapsed() < Duration::from_secs(2),
            "sent with a token that is too old"
        );
        Answer::new(204)
    })
    .await;
    let store = open(&server).await;
    while issued.lock().unwrap().len() < 3 {
        store.head("c/o").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let issued = issued.lock().unwrap().clone();
    let pauses: Vec<Duration> = issued.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(1700)), "{pauses:?}");
}

#[tokio::test]
async fn an_upload_says_what_it_is() {
    let server = cluster(|_| Answer::new(201).header("etag", "\"5d41402abc4b2a76b9719d911017c592\"")).await;
    let mut put = put_of("hello");
    put.metadata.user.insert("colour".to_owned(), "Grün".to_owned());
    put.metadata.headers.insert("x-delete-at".to_owned(), "4102444800".to_owned());
    let receipt = open(&server).await.put("c/a b", put).await.unwrap();
    assert_eq!(receipt.etag.as_deref(), Some("5d41402abc4b2a76b9719d911017c592"));
    let request = &server.captured()[1];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/v1/AUTH_a/c/a%20b"));
    assert_eq!(request.header("etag"), Some("5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(request.header("content-length"), Some("5"));
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(request.headers["x-object-meta-colour"].as_bytes(), "Grün".as_bytes());
    assert_eq!(request.header("x-delete-at"), Some("4102444800"));
    assert!(request.header("user-agent").unwrap().starts_with("swift-s3-sync/"));
    assert_eq!(request.body, b"hello");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let elsewhere = serve(|_, _| Answer::new(200)).await;
    let target = elsewhere.url.clone();
    let to_elsewhere = target.clone();
    let server = cluster(move |_| Answer::new(302).header("location", &target)).await;
    let error = open(&server).await.head("c/o").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, Some(302)));
    let error = open(&server).await.put("c/o", put_of("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let server = serve(move |_, _| Answer::new(301).header("location", &to_elsewhere)).await;
    let error = open(&server).await.head("c/o").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, Some(301)));
    assert!(elsewhere.captured().is_empty(), "nobody else was told the password or the token");
}

#[tokio::test]
async fn logins_fail_as_what_they_are() {
    for (status, kind) in [
        (401, ErrorKind::Denied),
        (403, ErrorKind::Denied),
        (404, ErrorKind::Unavailable),
        (429, ErrorKind::Throttled),
        (498, ErrorKind::Throttled),
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
    ] {
        let server = serve(move |_, _| {
            Answer::new(status).header("retry-after", "7").body("<html><h1>No</h1><p>not you</p></html>")
        })
        .await;
        let error = open(&server).await.put("c/o", put_of("x")).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.to_string().contains("No not you"), "{error}");
        assert!(!everything(&error).contains(SECRET));
    }
    // 200 without a token is no login.
    let server = serve(|_, _| Answer::new(200)).await;
    assert_eq!(open(&server).await.head("c/o").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() {
    let server = cluster(|_| Answer::new(200).body("<html>not a listing</html>")).await;
    let store = open(&server).await;
    let error = store.list("c/", None, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(!everything(&error).contains(TOKEN));
    // A server that answers a range with everything.
    assert_eq!(store.get("c/o", Some(0..3)).await.unwrap_err().kind(), ErrorKind::Other);
    assert!(store.swift().unwrap().delete_slo("c/o").await.is_err());
}

#[tokio::test]
async fn entries_are_asked_for_in_swifts_own_parameters() {
    let server = cluster(|_| Answer::new(200).body("[]")).await;
    let store = open(&server).await;
    let query = EntryQuery {
        prefix: "c/a b",
        delimiter: Some("--"),
        from: EntryStart::After("c/a bz".to_owned()),
        until: Some("c/a ba"),
        reverse: true,
        one_level: false,
        max_entries: 7,
    };
    assert_eq!(store.list_entries(&query).await.unwrap(), EntryPage::default());
    let level = EntryQuery { prefix: "c/x/", one_level: true, max_entries: 1, ..EntryQuery::default() };
    store.list_entries(&level).await.unwrap();
    let targets: Vec<String> =
        server.captured().iter().skip(1).map(|request| request.target.clone()).collect();
    assert_eq!(
        targets,
        [
            "/v1/AUTH_a/c?format=json&limit=7&prefix=a%20b&delimiter=%2D%2D&marker=a%20bz&end_marker=a%20ba&reverse=true",
            "/v1/AUTH_a/c?format=json&limit=1&path=x%2F",
        ]
    );
    let elsewhere = EntryQuery { from: EntryStart::After("d/x".to_owned()), ..level };
    assert_eq!(store.list_entries(&elsewhere).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_cluster_that_gives_shorter_pages_is_asked_for_those() {
    let server = cluster(|request| {
        if request.query().contains("limit=10000") {
            return Answer::new(412).body("Maximum limit is 2");
        }
        match request.query().contains("marker=b") {
            false => Answer::new(200).body(r#"[{"name": "a", "bytes": 1}, {"name": "b", "bytes": 1}]"#),
            true => Answer::new(200).body(r#"[{"name": "c", "bytes": 1}]"#),
        }
    })
    .await;
    let store = open(&server).await;
    let mut query = EntryQuery { prefix: "c/", max_entries: 10_000, ..EntryQuery::default() };
    let first = store.list_entries(&query).await.unwrap();
    assert_eq!(first.entries.len(), 2);
    query.from = first.next.unwrap();
    let second = store.list_entries(&query).await.unwrap();
    assert_eq!((second.entries.len(), second.next), (1, None));
    let asked: Vec<bool> =
        server.captured().iter().skip(1).map(|request| request.query().contains("limit=10000")).collect();
    assert_eq!(asked, [true, false, false], "the refusal is remembered");
}

#[tokio::test]
async fn headers_that_are_not_text_are_replaced_and_odd_ones_left_out() {
    let server = cluster(|_| {
        Answer::new(200)
            .header("etag", "\"abc\"")
            .header("content-type", b"text/\xff")
            .header("x-object-meta-a", b"x\xffy")
            .header("x-timestamp", "never")
            .header("x-unknown", "1")
    })
    .await;
    let found = open(&server).await.head("c/o").await.unwrap().unwrap();
    assert_eq!(found.etag, "abc");
    assert_eq!(found.metadata.content_type, "text/\u{fffd}");
    assert_eq!(found.metadata.user["a"], "x\u{fffd}y");
    assert!(found.metadata.headers.is_empty());
    assert_eq!(found.last_modified, None);
}

#[tokio::test]
async fn a_proxy_is_asked_with_the_whole_url_and_told_who_we_are() {
    let proxy = cluster(|_| Answer::new(204)).await;
    let proxy_url = proxy.url.clone();
    // The proxy plays the cluster too: its storage URL has the host that was asked for.
    let server = serve(move |request, _| {
        let is_login = request.target.ends_with("/auth");
        if is_login { login(request) } else { Answer::new(204) }
    })
    .await;
    let mut settings = settings("http://swift.invalid:8080/auth", SwiftAuth::V1);
    settings.http_proxy = Some(server.url.replace("http://", "http://jane:doe@"));
    let store = swift::open(&settings).await.unwrap();
    store.head("c/o").await.unwrap();
    let captured = server.captured();
    assert_eq!(captured[0].target, "http://swift.invalid:8080/auth");
    assert_eq!(captured[1].target, "http://swift.invalid:8080/v1/AUTH_a/c/o");
    assert_eq!(captured[1].header("proxy-authorization"), Some("Basic amFuZTpkb2U="));
    assert!(!format!("{settings:?}").contains("doe"));

    // This machine is not reached through it.
    settings.remote.auth_url = format!("{proxy_url}/auth");
    swift::open(&settings).await.unwrap().head("c/o").await.unwrap();
    assert_eq!(proxy.captured().len(), 2);
    assert_eq!(server.captured().len(), 2);

    settings.http_proxy = Some("https://h:1".to_owned());
    let error = swift::open(&settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_is_no_success() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let storage_url = format!("{url}/v1/AUTH_a");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let storage_url = storage_url.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
                    head.push(byte[0]);
                }
                let answer = if head.starts_with(b"GET") {
                    format!(
                        "HTTP/1.1 200 OK\r\nX-Storage-Url: {storage_url}\r\nX-Auth-Token: t\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                } else {
                    "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n".to_owned()
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                // Takes no byte of the body, and does not close either.
                std::future::pending::<()>().await;
            });
        }
    });
    let store = swift::open(&settings(&format!("{url}/auth"), SwiftAuth::V1)).await.unwrap();
    // Piece by piece: what is given in one piece has left, as far as anybody can tell.
    let pieces =
        futures_util::stream::iter((0..1000).map(|_| Ok::<_, std::io::Error>(vec![7; 50_000].into())));
    let mut put = put_of("");
    (put.length, put.content_md5, put.body) = (50_000_000, None, swift_s3_store::body::from_stream(pieces));
    let error = store.put("c/o", put).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_content_of_another_length_than_announced_is_an_error() {
    let server = cluster(|request| {
        let answer = Answer::new(200).body("0123456789");
        if request.method == "HEAD" { Answer::new(200) } else { answer }
    })
    .await;
    let got = open(&server).await.get("c/o", None).await.unwrap().unwrap();
    assert_eq!((got.content_length, got.object.length), (10, 10));
    assert_eq!(&got.body.collect().await.unwrap().to_bytes()[..], b"0123456789");
}

#[test]
fn settings_and_stores_show_no_secret() {
    let text = format!("{:?}", settings("http://h/auth", SwiftAuth::V1));
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn an_object_of_unknown_length_is_not_taken_for_an_empty_one() {
    let server =
        raw_head(b"HTTP/1.1 200 OK\r\nX-Object-Manifest: c/segments\r\nConnection: close\r\n\r\n").await;
    let store = swift::open(&settings(&format!("{server}/auth"), SwiftAuth::V1)).await.unwrap();
    let error = store.look("c/o").await.unwrap_err();
    assert!(error.to_string().contains("Content-Length"), "{error}");
    assert_eq!(store.head("c/o").await.unwrap().unwrap().length, 0);
}

/// A server that lets everybody in and answers all else with these very bytes.
async fn raw_head(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let login = format!(
        "HTTP/1.1 200 OK\r\nX-Storage-Url: {url}/v1/AUTH_a\r\nX-Auth-Token: {TOKEN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                request.push(byte);
            }
            let is_login = request.starts_with(b"GET /auth");
            let _ = stream.write_all(if is_login { login.as_bytes() } else { answer }).await;
        }
    });
    url
}
