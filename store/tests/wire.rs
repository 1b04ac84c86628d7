//! What goes over the wire: every request is looked at as a remote sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use futures_util::stream;
use support::{Answer, SESSION_TOKEN, metadata, open, open_at, open_in_style, put_of, serve, settings};
use swift_s3_policy::{Addressing, LifecyclePlan};
use swift_s3_store::{ErrorKind, PutObject, body};

const EMPTY_LIST: &str = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";

#[tokio::test]
async fn an_upload_is_one_plain_request_with_exact_length_and_no_checksum_trailer() {
    let server = serve(|_, _| Answer::new(200).header("etag", "\"abc\"")).await;
    let store = open_at(&server).await;
    let mut put = put_of("hello world");
    put.metadata = metadata("text/x-test", &[("colour", "sky blue"), ("x-object-manifest", "c/p")]);
    let receipt = store.put("a/b", put).await.unwrap();

    assert_eq!(receipt.etag.as_deref(), Some("abc"));
    let request = server.only();
    assert_eq!(request.method, "PUT");
    assert_eq!(request.target, "/bucket/a/b");
    assert_eq!(request.body, b"hello world");
    assert!(!request.had_trailers);
    assert_eq!(request.header("content-length"), Some("11"));
    assert_eq!(request.header("content-md5"), Some("XrY7u+Ae7tCTyyK7j1rNww=="));
    assert_eq!(request.header("content-type"), Some("text/x-test"));
    assert_eq!(request.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    assert_eq!(request.header("x-amz-meta-colour"), Some("sky blue"));
    assert_eq!(request.header("x-amz-meta-x-object-manifest"), Some("c/p"));
    let authorization = request.header("authorization").unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    assert!(authorization.contains("/us-east-1/s3/aws4_request"));
    for signed in ["content-md5", "content-type", "host", "x-amz-date", "x-amz-meta-colour"] {
        assert!(authorization.contains(signed), "{signed} is not signed: {authorization}");
    }
    for name in request.headers.keys() {
        let name = name.as_str();
        assert!(!name.starts_with("x-amz-checksum"), "{name}");
        assert!(
            ![
                "transfer-encoding",
                "content-encoding",
                "trailer",
                "x-amz-trailer",
                "x-amz-sdk-checksum-algorithm",
                "x-amz-decoded-content-length",
                "expect",
                "x-amz-server-side-encryption"
            ]
            .contains(&name),
            "{name}"
        );
    }
    assert_eq!(store.requests().put, 1);
    assert_eq!(store.requests().total(), 1);
}

#[tokio::test]
async fn an_upload_without_md5_sends_none() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open_at(&server).await;
    let mut put = put_of("x");
    put.content_md5 = None;
    let receipt = store.put("k", put).await.unwrap();
    assert_eq!(receipt.etag, None);
    assert_eq!(server.only().header("content-md5"), None);
}

#[tokio::test]
async fn an_empty_upload_announces_length_zero() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open_at(&server).await;
    store.put("k", put_of("")).await.unwrap();
    let request = server.only();
    assert_eq!(request.header("content-length"), Some("0"));
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(request.header("content-md5"), Some("1B2M2Y8AsgTpgAmY7PhCfg=="));
    assert!(request.body.is_empty());
}

#[tokio::test]
async fn a_streamed_upload_arrives_in_order_and_whole() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open_at(&server).await;
    let chunks: Vec<Vec<u8>> = (0..64u8).map(|i| vec![i; 40_000]).collect();
    let expected: Vec<u8> = chunks.concat();
    let body = body::from_stream(stream::iter(
        chunks.into_iter().map(|chunk| Ok::<_, std::io::Error>(chunk.into())),
    ));
    let put = PutObject {
        length: expected.len() as u64,
        content_md5: Some(support::md5(&expected)),
        metadata: metadata("a/b", &[]),
        body,
        storage_class: None,
    };
    store.put("k", put).await.unwrap();
    let request = server.only();
    assert!(request.complete);
    assert_eq!(request.header("content-length"), Some("2560000"));
    assert!(request.body == expected);
}

#[tokio::test]
async fn connections_are_used_again() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..read]);
                    if seen.ends_with(b"xyz") {
                        seen.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
        }
    });
    let store = open(&settings(&url)).await;
    for _ in 0..20 {
        store.put("k", put_of("xyz")).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

/// Keys and the path each must have on the wire.
const KEYS: [(&str, &str); 16] = [
    ("a/b", "/bucket/a/b"),
    ("o bj/é +%25", "/bucket/o%20bj/%C3%A9%20%2B%2525"),
    ("new\nline", "/bucket/new%0Aline"),
    ("a+b", "/bucket/a%2Bb"),
    ("a%2Fb", "/bucket/a%252Fb"),
    ("/lead", "/bucket//lead"),
    ("trail/", "/bucket/trail/"),
    ("a//b", "/bucket/a//b"),
    ("//", "/bucket///"),
    ("a/./b", "/bucket/a/./b"),
    ("a/../b", "/bucket/a/../b"),
    ("..", "/bucket/.."),
    (".", "/bucket/."),
    ("a?b#c&d=e", "/bucket/a%3Fb%23c%26d%3De"),
    ("~-_.!*'()", "/bucket/~-_.%21%2A%27%28%29"),
    ("\u{1}\u{7f}\u{10ffff}", "/bucket/%01%7F%F4%8F%BF%BF"),
];

#[tokio::test]
async fn keys_arrive_byte_for_byte_in_every_operation() {
    for (key, path) in KEYS {
        let server = serve(|request, _| {
            if request.header("x-amz-copy-source").is_some() {
                return Answer::new(200).body("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>");
            }
            Answer::new(200).header("etag", "\"abc\"")
        })
        .await;
        let store = open_at(&server).await;
        store.put(key, put_of("x")).await.unwrap();
        store.head(key).await.unwrap();
        store.delete(key).await.unwrap();
        store.replace_metadata(key, "e", &metadata("a/b", &[]), None).await.unwrap();
        let requests = server.captured();
        assert_eq!(requests.len(), 4);
        for request in &requests {
            assert_eq!(request.path(), path, "{} of {key:?}", request.method);
        }
        assert_eq!(
            requests[3].header("x-amz-copy-source"),
            Some(path.trim_start_matches('/')).filter(|_| path.starts_with("/bucket")),
            "{key:?}"
        );
    }
}

#[tokio::test]
async fn keys_that_would_name_the_bucket_itself_are_refused_unsent() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open_at(&server).await;
    for key in ["", " ", "\n"] {
        let refusals = [
            store.put(key, put_of("x")).await.unwrap_err(),
            store.head(key).await.unwrap_err(),
            store.delete(key).await.unwrap_err(),
            store.replace_metadata(key, "e", &metadata("a/b", &[]), None).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.kind(), ErrorKind::Invalid, "{refusal}");
        }
    }
    assert!(server.captured().is_empty());
}

#[tokio::test]
async fn a_session_token_is_sent_and_signed_with_every_request() {
    let server = serve(|request, _| match request.method.as_str() {
        "GET" => Answer::new(200).body(EMPTY_LIST),
        _ => Answer::new(200),
    })
    .await;
    let mut settings = settings(&server.url);
    settings.credentials.as_mut().unwrap().session_token = Some(SESSION_TOKEN.to_owned());
    let store = open(&settings).await;
    store.put("k", put_of("x")).await.unwrap();
    store.head("k").await.unwrap();
    store.delete("k").await.unwrap();
    store.check().await.unwrap();
    let requests = server.captured();
    assert_eq!(requests.len(), 4);
    for request in requests {
        assert_eq!(request.header("x-amz-security-token"), Some(SESSION_TOKEN));
        let authorization = request.header("authorization").unwrap();
        assert!(authorization.contains("x-amz-security-token"), "{authorization}");
    }
}

#[tokio::test]
async fn amazon_is_asked_by_host_name_through_the_proxy_and_told_to_encrypt() {
    let proxy = serve(|request, _| {
        if request.header("x-amz-copy-source").is_some() {
            return Answer::new(200).body("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>");
        }
        Answer::new(200)
    })
    .await;
    let mut settings = settings("http://s3.eu-west-1.amazonaws.com");
    settings.http_proxy = Some(proxy.url.clone());
    let store = open(&settings).await;
    store.put("a b", put_of("x")).await.unwrap();
    store.replace_metadata("a b", "e", &metadata("a/b", &[("n", "v")]), None).await.unwrap();
    store.head("a b").await.unwrap();
    let requests = proxy.captured();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!(request.path(), "http://bucket.s3.eu-west-1.amazonaws.com/a%20b");
        assert_eq!(request.header("host"), Some("bucket.s3.eu-west-1.amazonaws.com"));
        assert!(request.header("authorization").unwrap().contains("/eu-west-1/s3/"));
    }
    assert_eq!(requests[0].header("x-amz-server-side-encryption"), Some("AES256"));
    assert_eq!(requests[1].header("x-amz-server-side-encryption"), Some("AES256"));
    assert_eq!(requests[2].header("x-amz-server-side-encryption"), None);

    settings.remote.encryption = false;
    open(&settings).await.put("a b", put_of("x")).await.unwrap();
    let last = proxy.captured().pop().unwrap();
    assert_eq!(last.header("x-amz-server-side-encryption"), None);
}

#[tokio::test]
async fn a_proxy_gets_its_credentials_and_no_one_else_does() {
    let proxy = serve(|_, _| Answer::new(200)).await;
    let mut settings = settings("http://clone.example:8080");
    settings.http_proxy = Some(proxy.url.replace("http://", "http://user:open%20sesame@"));
    assert!(!format!("{settings:?}").contains("sesame"));
    let store = open(&settings).await;
    store.put("k", put_of("x")).await.unwrap();
    store.head("k").await.unwrap();
    for request in proxy.captured() {
        assert_eq!(request.path(), "http://clone.example:8080/bucket/k");
        assert_eq!(request.header("proxy-authorization"), Some("Basic dXNlcjpvcGVuIHNlc2FtZQ=="));
    }
}

#[tokio::test]
async fn an_endpoint_on_this_machine_is_reached_without_the_proxy() {
    let server = serve(|_, _| Answer::new(200)).await;
    let mut settings = settings(&server.url);
    settings.http_proxy = Some("http://127.0.0.1:9".to_owned());
    open(&settings).await.put("k", put_of("x")).await.unwrap();
    assert_eq!(server.only().target, "/bucket/k");
}

#[tokio::test]
async fn virtual_host_addressing_can_be_asked_for() {
    let proxy = serve(|_, _| Answer::new(200)).await;
    let mut settings = settings("http://clone.example:8080");
    settings.http_proxy = Some(proxy.url.clone());
    settings.remote.addressing = Addressing::VirtualHost;
    open(&settings).await.put("k", put_of("x")).await.unwrap();
    let request = proxy.only();
    assert_eq!(request.target, "http://bucket.clone.example:8080/k");
    assert_eq!(request.header("host"), Some("bucket.clone.example:8080"));
}

#[tokio::test]
async fn an_endpoint_may_have_a_path_of_its_own() {
    let server = serve(|_, _| Answer::new(200)).await;
    let store = open(&settings(&format!("{}/gateway/s3/", server.url))).await;
    store.put("a/b", put_of("x")).await.unwrap();
    store.head("a/b").await.unwrap();
    for request in server.captured() {
        assert_eq!(request.path(), "/gateway/s3/bucket/a/b");
    }
}

#[tokio::test]
async fn the_user_agent_names_this_program_behind_the_partner_name_where_wanted() {
    let answer = |request: &support::Captured, _| match request.method.as_str() {
        "GET" => Answer::new(200).body(EMPTY_LIST),
        _ => Answer::new(200),
    };
    let server = serve(answer).await;
    let store = open_in_style(&server, |style| {
        style.user_agent = "CloudSync/5.0 (GPN:SwiftStack) swift-s3-sync/x".to_owned();
        style.encodes_listings = false;
    })
    .await;
    store.put("k", put_of("x")).await.unwrap();
    store.head("k").await.unwrap();
    store.list("p", None, 5).await.unwrap();
    for request in server.captured() {
        assert_eq!(request.header("user-agent"), Some("CloudSync/5.0 (GPN:SwiftStack) swift-s3-sync/x"));
        assert!(!request.query().contains("encoding-type"));
    }
    let server = serve(answer).await;
    let store = open_at(&server).await;
    store.put("k", put_of("x")).await.unwrap();
    store.list("p", None, 5).await.unwrap();
    let requests = server.captured();
    assert!(requests[0].header("user-agent").unwrap().starts_with("swift-s3-sync/"));
    assert!(requests[1].query().contains("encoding-type=url"));
}

#[tokio::test]
async fn replacing_metadata_copies_the_object_onto_itself_on_condition() {
    let server =
        serve(|_, _| Answer::new(200).body("<CopyObjectResult><ETag>\"new\"</ETag></CopyObjectResult>"))
            .await;
    let store = open_at(&server).await;
    store.replace_metadata("a b", "0123", &metadata("text/x", &[("n", "v")]), None).await.unwrap();
    let request = server.only();
    assert_eq!(request.method, "PUT");
    assert_eq!(request.header("x-amz-copy-source"), Some("bucket/a%20b"));
    assert_eq!(request.header("x-amz-copy-source-if-match"), Some("\"0123\""));
    assert_eq!(request.header("x-amz-metadata-directive"), Some("REPLACE"));
    assert_eq!(request.header("content-type"), Some("text/x"));
    assert_eq!(request.header("x-amz-meta-n"), Some("v"));
    assert_eq!(store.requests().copy, 1);
    assert_eq!(store.requests().put, 0);
}

#[tokio::test]
async fn head_reads_what_the_remote_tells_of_an_object() {
    let server = serve(|_, _| {
        Answer::new(200)
            .header("etag", "W/\"abc-2\"")
            .header("content-type", "text/x")
            .header("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            .header("x-amz-storage-class", "GLACIER")
            .header("x-amz-server-side-encryption", "aws:kms")
            .header("x-amz-meta-colour", "blue")
            .header("x-amz-meta-utf8", "é")
            .header("x-amz-meta-latin1", b"caf\xe9")
            .header("x-amz-meta-twice", "one")
            .header("x-amz-meta-twice", "two")
            .header("x-strange", b"\xff\xfe")
            .body("0123456789")
    })
    .await;
    let store = open_at(&server).await;
    let found = store.head("k").await.unwrap().unwrap();
    assert_eq!(found.etag, "abc-2");
    assert_eq!(found.length, 10);
    assert_eq!(found.metadata.content_type, "text/x");
    assert_eq!(found.storage_class.as_deref(), Some("GLACIER"));
    assert!(found.kms);
    assert_eq!(
        found.last_modified,
        Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_445_412_480))
    );
    let user = &found.metadata.user;
    assert_eq!(user["colour"], "blue");
    assert_eq!(user["utf8"], "é");
    assert_eq!(user["latin1"], "caf\u{fffd}");
    assert!(user["twice"].starts_with("one"), "{user:?}");
    assert_eq!(user.len(), 4);
}

#[tokio::test]
async fn head_of_nothing_is_none_unless_the_remote_blames_the_bucket() {
    let server = serve(|_, number| match number {
        0 => Answer::new(404),
        1 => Answer::new(404).header("x-amz-error-code", "NoSuchBucket"),
        2 => Answer::new(404).header("x-minio-error-code", "NoSuchBucket"),
        _ => Answer::new(404).header("x-amz-error-code", "NoSuchKey"),
    })
    .await;
    let store = open_at(&server).await;
    assert!(store.head("k").await.unwrap().is_none());
    for _ in 0..2 {
        let error = store.head("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BucketMissing);
    }
    assert!(store.head("k").await.unwrap().is_none());
}

#[tokio::test]
async fn deleting_what_is_gone_is_success_and_a_missing_bucket_is_not() {
    let server = serve(|_, number| match number {
        0 => Answer::new(204),
        1 => Answer::error(404, "NoSuchKey", "gone"),
        2 => Answer::new(404),
        _ => Answer::error(404, "NoSuchBucket", "gone"),
    })
    .await;
    let store = open_at(&server).await;
    for _ in 0..3 {
        store.delete("k").await.unwrap();
    }
    let error = store.delete("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BucketMissing);
    assert_eq!(store.requests().delete, 4);
}

const RULES: &str = "<LifecycleConfiguration>\
    <Rule><ID>theirs</ID><Filter><And><Prefix>logs/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter>\
    <Status>Disabled</Status><Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>\
    <Rule><ID>old form</ID><Prefix>tmp/</Prefix><Status>Enabled</Status>\
    <Expiration><Days>3</Days></Expiration></Rule>\
    <Rule><ID>p/</ID><Filter><Prefix>p/</Prefix></Filter><Status>Enabled</Status>\
    <Expiration><Days>10</Days></Expiration>\
    <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>\
    </Rule></LifecycleConfiguration>";

fn element(text: &str, name: &str) -> Vec<String> {
    text.split(&format!("<{name}>"))
        .skip(1)
        .map(|rest| rest.split(&format!("</{name}>")).next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_expiration_changes_our_rule_and_leaves_the_others_as_they_are() {
    let server = serve(|request, _| match request.method.as_str() {
        "GET" => Answer::new(200)
            .header("x-amz-transition-default-minimum-object-size", "varies_by_storage_class")
            .body(RULES),
        _ => Answer::new(200),
    })
    .await;
    let store = open_at(&server).await;
    let plan = store.set_expiration("p/", 20).await.unwrap();
    assert_eq!(plan, LifecyclePlan::Write { replace_index: Some(2) });
    let requests = server.captured();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        requests[1].header("x-amz-transition-default-minimum-object-size"),
        Some("varies_by_storage_class")
    );
    assert!(requests[1].header("content-md5").is_some());
    let sent = String::from_utf8(requests[1].body.clone()).unwrap();
    let rules = element(&sent, "Rule");
    assert_eq!(rules.len(), 3, "{sent}");
    for kept in [
        "<ID>theirs</ID>",
        "<Key>k</Key>",
        "<Value>v</Value>",
        "<Prefix>logs/</Prefix>",
        "<Status>Disabled</Status>",
        "<Days>30</Days>",
        "<StorageClass>GLACIER</StorageClass>",
    ] {
        assert!(rules[0].contains(kept), "{kept}: {sent}");
    }
    for kept in ["<ID>old form</ID>", "<Prefix>tmp/</Prefix>", "<Days>3</Days>"] {
        assert!(rules[1].contains(kept), "{kept}: {sent}");
    }
    assert!(!rules[1].contains("Filter"), "{sent}");
    for ours in ["<ID>p/</ID>", "<Prefix>p/</Prefix>", "<Days>20</Days>", "<DaysAfterInitiation>1</"] {
        assert!(rules[2].contains(ours), "{ours}: {sent}");
    }
    assert_eq!(store.requests().lifecycle, 2);
}

#[tokio::test]
async fn an_expiration_that_is_there_or_is_in_anothers_way_is_not_written() {
    let server = serve(|_, _| Answer::new(200).body(RULES)).await;
    let store = open_at(&server).await;
    assert_eq!(store.set_expiration("p/", 10).await.unwrap(), LifecyclePlan::Keep);
    let plan = store.set_expiration("tmp/ours/", 10).await.unwrap();
    assert!(matches!(plan, LifecyclePlan::Conflict { .. }), "{plan:?}");
    assert_eq!(store.set_expiration("p/", 0).await.unwrap(), LifecyclePlan::TooShort);
    assert!(server.captured().iter().all(|request| request.method == "GET"));
    let rules = store.lifecycle_rules().await.unwrap();
    assert_eq!(rules.len(), 3);
    assert_eq!(rules[1].prefix.as_deref(), Some("tmp/"));
    assert_eq!(rules[2].days, Some(10));
    assert!(rules[2].enabled && !rules[0].enabled);
}

#[tokio::test]
async fn a_bucket_without_rules_gets_ours() {
    let server = serve(|request, _| match request.method.as_str() {
        "GET" => Answer::error(404, "NoSuchLifecycleConfiguration", "none"),
        _ => Answer::new(200),
    })
    .await;
    let store = open_at(&server).await;
    assert!(store.lifecycle_rules().await.unwrap().is_empty());
    let plan = store.set_expiration("p/", 7).await.unwrap();
    assert_eq!(plan, LifecyclePlan::Write { replace_index: None });
    let sent = server.captured().pop().unwrap();
    let text = String::from_utf8(sent.body).unwrap();
    let rules = element(&text, "Rule");
    assert_eq!(rules.len(), 1, "{text}");
    assert_eq!(element(&rules[0], "ID"), ["p/"]);
    assert_eq!(element(&rules[0], "Prefix"), ["p/"]);
    assert_eq!(element(&rules[0], "Days"), ["7"]);
    assert_eq!(element(&rules[0], "Status"), ["Enabled"]);
}

#[tokio::test]
async fn only_our_expiration_goes_and_the_rest_of_the_document_stays() {
    let server = serve(|request, _| match request.method.as_str() {
        "GET" => Answer::new(200).body(RULES),
        _ => Answer::new(200),
    })
    .await;
    let store = open_at(&server).await;
    // Neither a rule of another name nor one that covers only some of the keys is ours.
    for prefix in ["tmp/", "logs/", "p", "p/below/", ""] {
        assert!(!store.clear_expiration(prefix).await.unwrap(), "{prefix}");
    }
    assert!(server.captured().iter().all(|request| request.method == "GET"));
    assert!(store.clear_expiration("p/").await.unwrap());
    let sent = server.captured().pop().unwrap();
    assert!(sent.header("content-md5").is_some());
    let text = String::from_utf8(sent.body).unwrap();
    let rules = element(&text, "Rule");
    assert_eq!(rules.len(), 3, "{text}");
    // What somebody added to our rule stays, without the expiration.
    assert!(rules[2].contains("<ID>p/</ID>") && rules[2].contains("<DaysAfterInitiation>1</"), "{text}");
    assert!(!rules[2].contains("Expiration>"), "{text}");
    assert!(rules[0].contains("<Key>k</Key>") && rules[1].contains("<Days>3</Days>"), "{text}");
}

#[tokio::test]
async fn the_last_rule_goes_with_the_whole_configuration() {
    let rule = "<LifecycleConfiguration><Rule><ID>p/</ID><Filter><Prefix>p/</Prefix></Filter>\
        <Status>Enabled</Status><Expiration><Days>10</Days></Expiration></Rule></LifecycleConfiguration>";
    let server = serve(move |request, _| match request.method.as_str() {
        "GET" => Answer::new(200).body(rule),
        _ => Answer::new(204),
    })
    .await;
    let store = open_at(&server).await;
    assert!(store.clear_expiration("p/").await.unwrap());
    let sent = server.captured().pop().unwrap();
    assert_eq!((sent.method.as_str(), sent.query()), ("DELETE", "lifecycle"));
    assert_eq!((store.requests().lifecycle, store.requests().delete), (2, 0));

    let server = serve(|_, _| Answer::error(404, "NoSuchLifecycleConfiguration", "none")).await;
    assert!(!open_at(&server).await.clear_expiration("p/").await.unwrap());
    let server = serve(|_, _| Answer::error(501, "NotImplemented", "none")).await;
    let error = open_at(&server).await.clear_expiration("p/").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
