//! One suite for every kind of server: what the store promises has to hold on each, but for what a server is known not
//! to do. The exceptions are listed by server, and checked too: one that has gone away has to be taken off the list.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/multipart_suite.rs"]
mod multipart_suite;
#[path = "support/servers.rs"]
mod servers;
mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use servers::{FileServer, IDENTITY, MotoServer, SECRET};
use support::{hex_md5, metadata, put_of, settings};
use swift_s3_policy::{LifecyclePlan, Rates};
use swift_s3_store::{
    Entry, EntryQuery, EntryStart, ErrorKind, Limited, ObjectStore, PutObject, RateGate, S3Settings,
    StaticCredentials, body,
};

/// What a server is known not to do.
struct Quirks {
    checks_credentials: bool,
    /// Refuses an upload to a bucket that is not there.
    checks_bucket: bool,
    /// Compares Content-MD5 with what arrived.
    checks_md5: bool,
    /// Keeps the object although its Content-MD5 was wrong.
    stores_despite_bad_md5: bool,
    /// Copies only what has the expected ETag.
    checks_copy_condition: bool,
    lists_etags: bool,
    /// Folders end behind the whole delimiter, however long it is.
    knows_long_delimiters: bool,
    has_lifecycle: bool,
    /// Keys that the server refuses or mixes up with others.
    unusable_keys: &'static [&'static str],
    /// About parts, reads and classes.
    parts: multipart_suite::Quirks,
}

const FILE_SERVER: Quirks = Quirks {
    checks_credentials: true,
    checks_bucket: false,
    checks_md5: true,
    stores_despite_bad_md5: true,
    checks_copy_condition: true,
    lists_etags: false,
    knows_long_delimiters: false,
    has_lifecycle: false,
    // It calls its listings encoded and does not encode them; and it maps keys to paths of files.
    unusable_keys: &["plus+sign", "a%2Fb", "/lead", "trail/", "a//b", "./dot", "a/../b"],
    parts: multipart_suite::Quirks {
        checks_md5: false,
        checks_copy_condition: false,
        checks_part_size: true,
        checks_part_etags: false,
        has_usual_etag: true,
        keeps_metadata: true,
        lists_uploads: false,
        forgets_ended_uploads: false,
        lists_parts: true,
        has_classes: false,
    },
};

const MOTO: Quirks = Quirks {
    checks_credentials: false,
    checks_bucket: true,
    checks_md5: false,
    stores_despite_bad_md5: false,
    checks_copy_condition: false,
    lists_etags: true,
    knows_long_delimiters: true,
    has_lifecycle: true,
    unusable_keys: &["new\nline"],
    parts: multipart_suite::Quirks {
        checks_md5: false,
        checks_copy_condition: false,
        checks_part_size: true,
        checks_part_etags: true,
        has_usual_etag: true,
        keeps_metadata: true,
        lists_uploads: true,
        forgets_ended_uploads: false,
        // Its document has another name than S3's.
        lists_parts: false,
        has_classes: true,
    },
};

fn credentials(secret: &str) -> Option<StaticCredentials> {
    Some(StaticCredentials { identity: IDENTITY.to_owned(), secret: secret.to_owned(), session_token: None })
}

fn settings_of(url: &str, bucket: &str) -> S3Settings {
    let mut settings = settings(url);
    settings.remote.bucket = bucket.to_owned();
    settings.credentials = credentials(SECRET);
    settings
}

async fn open(url: &str, bucket: &str) -> Arc<dyn ObjectStore> {
    swift_s3_store::open(&settings_of(url, bucket)).await.unwrap()
}

#[tokio::test]
async fn s3s_fs_conforms() {
    let server = FileServer::start().await;
    server.create_bucket("conformance");
    conforms(&server.url, &FILE_SERVER, |store| store).await;
}

#[tokio::test]
async fn a_store_behind_gates_conforms() {
    let server = FileServer::start().await;
    server.create_bucket("conformance");
    let rates =
        Rates { requests_per_second: Some(5_000), bytes_per_second: Some(50_000_000), ..Rates::default() };
    let behind_gates = |store| -> Arc<dyn ObjectStore> {
        let gates = vec![Arc::new(RateGate::new(rates)), Arc::new(RateGate::default())];
        Arc::new(Limited::new(store, gates))
    };
    conforms(&server.url, &FILE_SERVER, behind_gates).await;
}

#[tokio::test]
async fn moto_conforms() {
    let server = MotoServer::start().await;
    create_bucket(&server.url, "conformance").await;
    conforms(&server.url, &MOTO, |store| store).await;
}

/// The store creates no buckets, so the SDK does.
async fn create_bucket(url: &str, bucket: &str) {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version_latest()
        .region(aws_sdk_s3::config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_s3::config::Credentials::new(IDENTITY, SECRET, None, None, "test"))
        .endpoint_url(url)
        .force_path_style(true)
        .build();
    aws_sdk_s3::Client::from_conf(config).create_bucket().bucket(bucket).send().await.unwrap();
}

/// Checks everything with what `wrap` makes of the store.
async fn conforms(url: &str, quirks: &Quirks, wrap: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) {
    let store = wrap(open(url, "conformance").await);
    let store = &*store;
    tells_apart_what_can_be_reached(url, quirks).await;
    stores_and_describes(store).await;
    streams_large_objects(store).await;
    refuses_bad_digests(store, quirks).await;
    keeps_the_old_object_when_a_source_fails(store).await;
    replaces_metadata(store, quirks).await;
    keeps_every_key(store, quirks).await;
    lists_in_order(store, quirks).await;
    lists_folders(store, quirks).await;
    sets_expiration(store, quirks).await;
    multipart_suite::conforms(store, quirks.parts).await;
}

async fn tells_apart_what_can_be_reached(url: &str, quirks: &Quirks) {
    open(url, "conformance").await.check().await.unwrap();
    let absent = open(url, "absent").await;
    let error = absent.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BucketMissing, "{error}");
    match absent.put("k", put_of("x")).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::BucketMissing, "{error}"),
        Ok(_) => assert!(!quirks.checks_bucket, "a bucket was made"),
    }

    let mut wrong = settings_of(url, "conformance");
    wrong.credentials = credentials("another secret");
    let checked = swift_s3_store::open(&wrong).await.unwrap().check().await;
    match checked {
        Err(error) if quirks.checks_credentials => assert_eq!(error.kind(), ErrorKind::Denied),
        Ok(()) => assert!(!quirks.checks_credentials, "wrong credentials were taken"),
        Err(error) => panic!("{error}"),
    }
}

async fn stores_and_describes(store: &dyn ObjectStore) {
    assert!(store.head("d/object").await.unwrap().is_none());
    let user = [
        ("colour", "sky blue,  really"),
        ("mtime", "1400000000.00000"),
        ("encoded", "=?UTF-8?B?w6k=?="),
        ("x-object-manifest", "c%2Fprefix"),
    ];
    let mut put = put_of("hello world");
    put.metadata = metadata("text/x-test; charset=utf-8", &user);
    let receipt = store.put("d/object", put).await.unwrap();
    let etag = hex_md5(b"hello world");
    assert_eq!(receipt.etag.as_deref(), Some(etag.as_str()));
    let found = store.head("d/object").await.unwrap().unwrap();
    assert_eq!(found.etag, etag);
    assert_eq!(found.length, 11);
    assert_eq!(found.metadata, metadata("text/x-test; charset=utf-8", &user));
    assert!(found.last_modified.is_some());
    assert!(!found.kms);

    store.put("d/object", put_of("")).await.unwrap();
    let found = store.head("d/object").await.unwrap().unwrap();
    assert_eq!(found.length, 0);
    assert_eq!(found.etag, hex_md5(b""));
    assert!(found.metadata.user.is_empty());

    store.delete("d/object").await.unwrap();
    store.delete("d/object").await.unwrap();
    assert!(store.head("d/object").await.unwrap().is_none());
}

async fn streams_large_objects(store: &dyn ObjectStore) {
    let chunks: Vec<Bytes> = (0..50u8).map(|i| Bytes::from(vec![i; 100_000])).collect();
    let content = chunks.concat();
    let put = PutObject {
        length: content.len() as u64,
        content_md5: Some(support::md5(&content)),
        metadata: metadata("application/octet-stream", &[]),
        body: body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>))),
        storage_class: None,
    };
    store.put("large", put).await.unwrap();
    let found = store.head("large").await.unwrap().unwrap();
    assert_eq!(found.length, 5_000_000);
    assert_eq!(found.etag, hex_md5(&content));
    store.delete("large").await.unwrap();
}

async fn refuses_bad_digests(store: &dyn ObjectStore, quirks: &Quirks) {
    let mut put = put_of("what arrives");
    put.content_md5 = Some(support::md5(b"what was meant"));
    let answer = store.put("damaged", put).await;
    let stored = store.head("damaged").await.unwrap().is_some();
    match answer {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::BadDigest, "{error}");
            assert!(quirks.checks_md5);
            assert_eq!(stored, quirks.stores_despite_bad_md5);
        }
        Ok(_) => assert!(!quirks.checks_md5, "damaged content was taken"),
    }
    store.delete("damaged").await.unwrap();
}

async fn keeps_the_old_object_when_a_source_fails(store: &dyn ObjectStore) {
    store.put("kept", put_of("old content")).await.unwrap();
    for chunks in [
        vec![Ok(Bytes::from("new con"))],
        vec![Ok(Bytes::from("new con")), Err(std::io::Error::other("gone"))],
        vec![Ok(Bytes::from("new content and more"))],
    ] {
        let put = PutObject {
            length: 11,
            content_md5: None,
            metadata: metadata("a/b", &[]),
            body: body::from_stream(stream::iter(chunks)),
            storage_class: None,
        };
        let error = store.put("kept", put).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Body, "{error}");
        let found = store.head("kept").await.unwrap().unwrap();
        assert_eq!(found.etag, hex_md5(b"old content"));
    }
    store.delete("kept").await.unwrap();
}

async fn replaces_metadata(store: &dyn ObjectStore, quirks: &Quirks) {
    let key = "meta/o bj +é";
    let mut put = put_of("content");
    put.metadata = metadata("text/old", &[("gone", "1"), ("kept", "old")]);
    store.put(key, put).await.unwrap();
    let etag = hex_md5(b"content");
    let new = metadata("text/new", &[("kept", "new value"), ("added", "x")]);
    store.replace_metadata(key, &etag, &new, None).await.unwrap();
    let found = store.head(key).await.unwrap().unwrap();
    assert_eq!(found.metadata, new);
    assert_eq!((found.etag.as_str(), found.length), (etag.as_str(), 7));

    let newer = metadata("text/newer", &[]);
    let answer = store.replace_metadata(key, "00000000000000000000000000000000", &newer, None).await;
    match answer {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
            assert!(quirks.checks_copy_condition);
            let found = store.head(key).await.unwrap().unwrap();
            assert_eq!(found.metadata, new);
        }
        Ok(()) => assert!(!quirks.checks_copy_condition, "the condition was ignored"),
    }
    store.delete(key).await.unwrap();
    let error = store.replace_metadata(key, &etag, &new, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

const KEYS: [&str; 17] = [
    "plain",
    "with space",
    " edge ",
    "plus+sign",
    "per%25cent%",
    "a%2Fb",
    "unicodé/تcl/日本",
    "q?u&e=r#y;",
    "q\"uote'<&>",
    "back\\slash",
    "~-_.!*()",
    "new\nline",
    "/lead",
    "trail/",
    "a//b",
    "./dot",
    "a/../b",
];

async fn keys_under(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let page = store.list(prefix, None, 1000).await.unwrap();
    page.entries.into_iter().map(|entry| entry.key).collect()
}

async fn keeps_every_key(store: &dyn ObjectStore, quirks: &Quirks) {
    let mut unusable = Vec::new();
    for key in KEYS {
        let kept = async {
            let receipt = store.put(key, put_of(key)).await;
            let found = store.head(key).await;
            let listed = keys_under(store, "").await;
            let deleted = store.delete(key).await;
            let left = keys_under(store, "").await;
            receipt.is_ok()
                && deleted.is_ok()
                && found.is_ok_and(|found| found.is_some_and(|found| found.length == key.len() as u64))
                && listed == [key]
                && left.is_empty()
        }
        .await;
        if !kept {
            unusable.push(key);
        }
        for rest in keys_under(store, "").await {
            let _ = store.delete(&rest).await;
        }
    }
    assert_eq!(unusable, quirks.unusable_keys);
}

/// Folders among keys, on pages of any size, from any start that is no folder's own.
async fn lists_folders(store: &dyn ObjectStore, quirks: &Quirks) {
    for key in
        ["by/a", "by/b/1", "by/b/2/x", "by/b.x", "by/c", "by/d/1", "by/é/1", "byte", "by/f--1", "by/f--2"]
    {
        store.put(key, put_of("x")).await.unwrap();
    }
    let by_slash = ["by/a", "by/b.x", "by/b/", "by/c", "by/d/", "by/f--1", "by/f--2", "by/é/"];
    let by_dashes = ["by/a", "by/b.x", "by/b/1", "by/b/2/x", "by/c", "by/d/1", "by/f--", "by/é/1"];
    for (delimiter, expected) in [("/", by_slash), ("--", by_dashes)] {
        if delimiter.len() > 1 && !quirks.knows_long_delimiters {
            let query = EntryQuery {
                prefix: "by/",
                delimiter: Some(delimiter),
                max_entries: 1000,
                ..EntryQuery::default()
            };
            let page = store.list_entries(&query).await.unwrap();
            assert!(page.entries.iter().any(|entry| entry.key() == "by/f-"), "{page:?}");
            continue;
        }
        for max_entries in [1, 3, 1000] {
            assert_eq!(
                entries(store, delimiter, EntryStart::First, max_entries).await,
                expected,
                "{max_entries}"
            );
        }
    }
    for (after, expected) in
        [("by/a", &by_slash[1..]), ("by/b/\u{10ffff}", &by_slash[3..]), ("by/zz", &by_slash[7..])]
    {
        assert_eq!(entries(store, "/", EntryStart::After(after.to_owned()), 2).await, expected, "{after}");
    }
    for key in keys_under(store, "").await {
        store.delete(&key).await.unwrap();
    }
}

/// All entries under `by/`, page by page.
async fn entries(
    store: &dyn ObjectStore,
    delimiter: &str,
    from: EntryStart,
    max_entries: u16,
) -> Vec<String> {
    let mut query =
        EntryQuery { prefix: "by/", delimiter: Some(delimiter), from, max_entries, ..EntryQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = store.list_entries(&query).await.unwrap();
        assert!(page.entries.len() <= usize::from(max_entries));
        for entry in &page.entries {
            assert_eq!(matches!(entry, Entry::Folder(_)), entry.key().ends_with(delimiter));
            found.push(entry.key().to_owned());
        }
        match page.next {
            Some(next) => query.from = next,
            None => return found,
        }
        assert!(found.len() < 100, "no end: {found:?}");
    }
}

async fn lists_in_order(store: &dyn ObjectStore, quirks: &Quirks) {
    let mut expected = Vec::new();
    let encodes = !quirks.unusable_keys.contains(&"plus+sign");
    for name in ["B", "a", "a b", "a+b", "b", "c%20d", "z", "é"] {
        if name.contains(['+', '%']) && !encodes {
            continue;
        }
        let key = format!("list/{name}");
        store.put(&key, put_of(name)).await.unwrap();
        expected.push((key, name.len() as u64));
    }
    store.put("listless", put_of("x")).await.unwrap();
    for page_size in [1, 3, 8, 1000] {
        let mut listed = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = store.list("list/", after.as_deref(), page_size).await.unwrap();
            assert!(page.entries.len() <= usize::from(page_size));
            for entry in &page.entries {
                assert_eq!(entry.etag.is_some(), quirks.lists_etags);
                assert!(entry.last_modified.is_some());
                listed.push((entry.key.clone(), entry.length));
            }
            after = page.entries.last().map(|entry| entry.key.clone());
            if !page.truncated {
                break;
            }
        }
        assert_eq!(listed, expected, "pages of {page_size}");
    }
    let page = store.list("list/", Some("list/a a"), 1).await.unwrap();
    assert_eq!(page.entries[0].key, "list/a b");
    assert!(page.truncated);
    let page = store.list("list/", Some("list/é"), 10).await.unwrap();
    assert!(page.entries.is_empty() && !page.truncated);
    for key in keys_under(store, "").await {
        store.delete(&key).await.unwrap();
    }
}

async fn sets_expiration(store: &dyn ObjectStore, quirks: &Quirks) {
    if !quirks.has_lifecycle {
        let error = store.set_expiration("p/", 3).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        return;
    }
    assert!(store.lifecycle_rules().await.unwrap().is_empty());
    let plan = store.set_expiration("p/", 3).await.unwrap();
    assert_eq!(plan, LifecyclePlan::Write { replace_index: None });
    let plan = store.set_expiration("q/", 4).await.unwrap();
    assert_eq!(plan, LifecyclePlan::Write { replace_index: None });
    assert_eq!(store.set_expiration("p/", 3).await.unwrap(), LifecyclePlan::Keep);
    let plan = store.set_expiration("p/", 5).await.unwrap();
    assert_eq!(plan, LifecyclePlan::Write { replace_index: Some(0) });
    let rules = store.lifecycle_rules().await.unwrap();
    let told: Vec<_> = rules.iter().map(|rule| (rule.prefix.as_deref(), rule.enabled, rule.days)).collect();
    assert_eq!(told, [(Some("p/"), true, Some(5)), (Some("q/"), true, Some(4))]);
    let plan = store.set_expiration("p/below/", 6).await.unwrap();
    assert!(matches!(plan, LifecyclePlan::Conflict { .. }), "{plan:?}");
}
