//! Uploads in parts and reads, as a remote sees them, and remotes that fail at them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use support::{Answer, Captured, metadata, open, open_at, serve, settings};
use swift_s3_store::{
    CompletedPart, CopyPart, ErrorKind, Multipart, NewUpload, ObjectStore, PutPart, StoreError, UploadMark,
    body,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What remotes give as ids: not all of it may stand in a query as it is.
const ID: &str = "2~a+b/c=.d&e f";
const ID_IN_QUERY: &str = "2~a%2Bb%2Fc%3D.d%26e%20f";
const COMPLETED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n      \n <CompleteMultipartUploadResult>\
    <Bucket>bucket</Bucket><Key>k</Key><ETag>&quot;abc-2&quot;</ETag></CompleteMultipartUploadResult>";

fn parts(store: &dyn ObjectStore) -> &dyn Multipart {
    store.multipart().unwrap()
}

fn part(number: u16, content: &'static str) -> PutPart {
    PutPart {
        number,
        length: content.len() as u64,
        content_md5: Some(support::md5(content.as_bytes())),
        body: body::from_bytes(content),
    }
}

fn named() -> Vec<CompletedPart> {
    [(1, "aa"), (2, "bb")].map(|(number, etag)| CompletedPart { number, etag: etag.to_owned() }).to_vec()
}

async fn completed(
    answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
) -> Result<Option<String>, StoreError> {
    let server = serve(move |_, number| answer(number)).await;
    let store = open_at(&server).await;
    parts(&*store).complete("k", ID, &named()).await.map(|receipt| receipt.etag)
}

#[tokio::test]
async fn a_part_goes_the_way_of_whole_objects_without_what_belongs_to_the_upload() {
    let proxy = serve(|_, _| Answer::new(200).header("etag", "\"e1\"")).await;
    let mut settings = settings("http://s3.eu-west-1.amazonaws.com");
    settings.http_proxy = Some(proxy.url.clone());
    let store = open(&settings).await;
    let etag = parts(&*store).put_part("a b", ID, part(7, "hello world")).await.unwrap();
    assert_eq!(etag, "e1");
    let request = proxy.only();
    assert_eq!(request.method, "PUT");
    assert_eq!(request.path(), "http://bucket.s3.eu-west-1.amazonaws.com/a%20b");
    assert_eq!(request.query(), format!("partNumber=7&uploadId={ID_IN_QUERY}"));
    assert_eq!(request.body, b"hello world");
    assert_eq!(request.header("content-md5"), Some("XrY7u+Ae7tCTyyK7j1rNww=="));
    assert_eq!(request.header("content-length"), Some("11"));
    for absent in ["x-amz-server-side-encryption", "x-amz-storage-class", "content-type", "transfer-encoding"]
    {
        assert_eq!(request.header(absent), None, "{absent}");
    }
    assert_eq!((store.requests().part, store.requests().total()), (1, 1));
}

#[tokio::test]
async fn an_upload_begins_with_everything_that_the_object_is_to_have() {
    let answer = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
    let proxy = serve(move |_, _| Answer::new(200).body(answer)).await;
    let mut settings = settings("http://s3.eu-west-1.amazonaws.com");
    settings.http_proxy = Some(proxy.url.clone());
    let store = open(&settings).await;
    let upload = NewUpload {
        metadata: metadata("text/x", &[("colour", "sky blue")]),
        storage_class: Some("GLACIER_IR".to_owned()),
    };
    assert_eq!(parts(&*store).create("k", &upload).await.unwrap(), "id");
    let request = proxy.only();
    assert_eq!((request.method.as_str(), request.query()), ("POST", "uploads"));
    assert_eq!(request.header("content-type"), Some("text/x"));
    assert_eq!(request.header("x-amz-meta-colour"), Some("sky blue"));
    assert_eq!(request.header("x-amz-storage-class"), Some("GLACIER_IR"));
    assert_eq!(request.header("x-amz-server-side-encryption"), Some("AES256"));
    assert_eq!(store.requests().multipart, 1);
}

#[tokio::test]
async fn a_piece_is_copied_by_range_and_on_condition() {
    let answer = "<CopyPartResult><ETag>\"e2\"</ETag></CopyPartResult>";
    let server = serve(move |_, _| Answer::new(200).body(answer)).await;
    let store = open_at(&server).await;
    let copy = CopyPart { number: 2, source_key: "s o/é", range: 5..15, expected_etag: "abc-3" };
    assert_eq!(parts(&*store).copy_part("k", ID, &copy).await.unwrap(), "e2");
    let request = server.only();
    assert_eq!(request.header("x-amz-copy-source"), Some("bucket/s%20o/%C3%A9"));
    assert_eq!(request.header("x-amz-copy-source-range"), Some("bytes=5-14"));
    assert_eq!(request.header("x-amz-copy-source-if-match"), Some("\"abc-3\""));
    assert!(request.query().contains("partNumber=2"), "{}", request.query());
    assert_eq!((store.requests().copy, store.requests().total()), (1, 1));
    let empty = CopyPart { range: 5..5, ..copy };
    assert_eq!(parts(&*store).copy_part("k", ID, &empty).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_upload_is_completed_when_the_document_says_so_and_not_before() {
    let etag = completed(|_| Answer::new(200).body(COMPLETED)).await.unwrap();
    assert_eq!(etag.as_deref(), Some("abc-2"));
    // White space may come before the document too.
    let etag = completed(|_| Answer::new(200).body(format!("\n  \n{}", &COMPLETED[39..]))).await.unwrap();
    assert_eq!(etag.as_deref(), Some("abc-2"));
    let kinds = [
        (Answer::error(200, "InternalError", "We encountered an internal error"), ErrorKind::Unavailable),
        (Answer::error(200, "SlowDown", "wait"), ErrorKind::Throttled),
        (Answer::error(404, "NoSuchUpload", "gone"), ErrorKind::NotFound),
        (Answer::error(400, "InvalidPart", "another"), ErrorKind::Precondition),
        (Answer::error(400, "EntityTooSmall", "small"), ErrorKind::Invalid),
        // Nothing, only white space, and half of a document.
        (Answer::new(200), ErrorKind::Unavailable),
        (Answer::new(200).body("     \n  "), ErrorKind::Unavailable),
        (Answer::new(200).body("<CompleteMultipartUploadResult><Bucket>b</Bucket>"), ErrorKind::Unavailable),
    ];
    for (answer, kind) in kinds {
        let shown = format!("{answer:?}");
        let error = completed(move |_| answer.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}: {shown}");
    }
}

#[tokio::test]
async fn the_parts_are_named_in_their_order_with_their_etags() {
    let server = serve(|_, _| Answer::new(200).body(COMPLETED)).await;
    let store = open_at(&server).await;
    parts(&*store).complete("k", ID, &named()).await.unwrap();
    let request = server.only();
    assert_eq!(request.method, "POST");
    assert!(request.query().contains(ID_IN_QUERY), "{}", request.query());
    let document = String::from_utf8(request.body).unwrap().replace("&quot;", "\"");
    let places: Vec<_> = ["<ETag>\"aa\"</ETag>", "<PartNumber>1<", "<ETag>\"bb\"</ETag>", "<PartNumber>2<"]
        .map(|text| document.find(text).expect(text))
        .to_vec();
    assert!(places[0].max(places[1]) < places[2].min(places[3]), "{document}");
}

#[tokio::test]
async fn giving_up_what_is_gone_is_success_and_a_refusal_is_not() {
    for (answer, kind) in [
        (Answer::new(204), None),
        (Answer::error(404, "NoSuchUpload", "gone"), None),
        (Answer::error(403, "AccessDenied", "no"), Some(ErrorKind::Denied)),
        (Answer::error(404, "NoSuchBucket", "no"), Some(ErrorKind::BucketMissing)),
    ] {
        let server = serve(move |_, _| answer.clone()).await;
        let store = open_at(&server).await;
        let ended = parts(&*store).abort("k", ID).await;
        assert_eq!(ended.err().map(|error| error.kind()), kind);
        let request = server.only();
        assert_eq!(request.method, "DELETE");
        assert!(request.query().contains(ID_IN_QUERY), "{}", request.query());
    }
}

#[tokio::test]
async fn refusals_of_a_part_are_told_by_kind_and_never_sent_again() {
    for (status, code, kind) in [
        (404, "NoSuchUpload", ErrorKind::NotFound),
        (400, "BadDigest", ErrorKind::BadDigest),
        (503, "SlowDown", ErrorKind::Throttled),
        (200, "InternalError", ErrorKind::Unavailable),
    ] {
        let server = serve(move |_, _| Answer::error(status, code, "no")).await;
        let store = open_at(&server).await;
        let error = parts(&*store).put_part("k", ID, part(1, "x")).await.unwrap_err();
        assert_eq!((error.kind(), error.operation(), error.key()), (kind, "put part", Some("k")), "{error}");
        assert_eq!(server.captured().len(), 1, "{code} was sent again");
    }
    // A part without an ETag could never be named.
    let server = serve(|_, _| Answer::new(200)).await;
    let error = parts(&*open_at(&server).await).put_part("k", ID, part(1, "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other, "{error}");
}

#[tokio::test]
async fn a_part_whose_source_ends_early_late_or_badly_is_not_taken() {
    let chunks: [Vec<Result<Bytes, std::io::Error>>; 3] = [
        vec![Ok(Bytes::from("four"))],
        vec![Ok(Bytes::from("four and more"))],
        vec![Ok(Bytes::from("four")), Err(std::io::Error::other("gone"))],
    ];
    for chunks in chunks {
        let server = serve(|_, _| Answer::new(200).header("etag", "\"e\"")).await;
        let store = open_at(&server).await;
        let body = body::from_stream(stream::iter(chunks));
        let put = PutPart { number: 1, length: 5, content_md5: None, body };
        let error = parts(&*store).put_part("k", ID, put).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Body, "{error}");
        assert!(server.captured().iter().all(|request| !request.complete));
    }
}

fn uploads_page(request: &Captured) -> Answer {
    let upload = |key: &str, id: &str| {
        format!(
            "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>"
        )
    };
    let page = |uploads: String, next: &str| {
        let document = format!(
            "<ListMultipartUploadsResult><Bucket>bucket</Bucket><EncodingType>url</EncodingType>{next}{uploads}\
             </ListMultipartUploadsResult>"
        );
        Answer::new(200).body(document)
    };
    if request.query().contains("upload-id-marker=9") {
        return page(upload("p/c", "1") + &upload("q/not-ours", "2"), "<IsTruncated>false</IsTruncated>");
    }
    let next = "<IsTruncated>true</IsTruncated><NextKeyMarker>p/b%20b</NextKeyMarker>\
                <NextUploadIdMarker>9</NextUploadIdMarker>";
    page(upload("p/a", "1") + &upload("p/b%20b", "9"), next)
}

#[tokio::test]
async fn uploads_are_listed_page_by_page_and_only_under_the_prefix() {
    let server = serve(|request, _| uploads_page(request)).await;
    let store = open_at(&server).await;
    let first = parts(&*store).list_uploads("p/", None).await.unwrap();
    let mark = UploadMark { key: "p/b b".to_owned(), upload_id: "9".to_owned() };
    assert_eq!(first.next, Some(mark.clone()));
    assert!(first.uploads[0].initiated.is_some());
    let second = parts(&*store).list_uploads("p/", Some(&mark)).await.unwrap();
    assert_eq!(second.next, None);
    let keys: Vec<_> =
        first.uploads.iter().chain(&second.uploads).map(|upload| upload.key.as_str()).collect();
    assert_eq!(keys, ["p/a", "p/b b", "p/c"]);
    let requests = server.captured();
    assert!(requests[0].query().contains("max-uploads=1000") && requests[0].query().contains("prefix=p%2F"));
    assert!(requests[1].query().contains("key-marker=p%2Fb%20b"), "{}", requests[1].query());
    assert_eq!(store.requests().list, 2);
    for answer in [Answer::new(200), Answer::error(403, "AccessDenied", "no")] {
        let server = serve(move |_, _| answer.clone()).await;
        assert!(parts(&*open_at(&server).await).list_uploads("p/", None).await.is_err());
    }
}

#[tokio::test]
async fn all_parts_are_listed_and_a_listing_that_does_not_end_is_an_error() {
    let page = |parts: std::ops::RangeInclusive<u16>, truncated: bool| {
        let parts: String = parts
            .map(|number| {
                format!(
                    "<Part><PartNumber>{number}</PartNumber><ETag>\"e{number}\"</ETag><Size>5</Size></Part>"
                )
            })
            .collect();
        Answer::new(200).body(format!(
            "<ListPartsResult><UploadId>u</UploadId><IsTruncated>{truncated}</IsTruncated>{parts}</ListPartsResult>"
        ))
    };
    let server = serve(move |request, _| match request.query().contains("part-number-marker=1000") {
        true => page(1001..=1003, false),
        false => page(1..=1000, true),
    })
    .await;
    let store = open_at(&server).await;
    let found = parts(&*store).list_parts("k", ID).await.unwrap();
    assert_eq!(found.len(), 1003);
    assert_eq!((found[1002].number, found[1002].etag.as_str(), found[1002].length), (1003, "e1003", 5));
    let server = serve(move |_, _| page(1..=3, true)).await;
    assert_eq!(
        parts(&*open_at(&server).await).list_parts("k", ID).await.unwrap_err().kind(),
        ErrorKind::Other
    );
}

#[tokio::test]
async fn a_read_asks_for_its_range_and_tells_what_the_whole_is() {
    let server = serve(|request, _| {
        assert_eq!(request.header("range"), Some("bytes=3-6"));
        Answer::new(206)
            .header("content-range", "bytes 3-6/10")
            .header("etag", "\"e\"")
            .header("x-amz-storage-class", "STANDARD_IA")
            .header("x-amz-meta-colour", "red")
            .header("x-unread", b"\xff\xfe")
            .body("3456")
    })
    .await;
    let store = open_at(&server).await;
    let found = store.get("k", Some(3..7)).await.unwrap().unwrap();
    assert_eq!((found.content_length, found.object.length), (4, 10));
    assert_eq!(found.object.metadata.user["colour"], "red");
    assert_eq!(found.object.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(&found.body.collect().await.unwrap().to_bytes()[..], b"3456");
    assert_eq!((store.requests().get, store.requests().total()), (1, 1));
}

#[tokio::test]
async fn another_range_than_asked_for_is_refused() {
    let answers = [
        Answer::new(206).header("content-range", "bytes 0-3/10").body("0123"),
        Answer::new(206).header("content-range", "bytes 3-5/10").body("345"),
        Answer::new(206).header("content-range", "bytes 3-6/10").body("345"),
        Answer::new(206).header("content-range", "nonsense").body("3456"),
        Answer::new(206).body("3456"),
        // The whole, for a remote that knows no ranges: not what was asked for.
        Answer::new(200).body("0123456789"),
    ];
    for answer in answers {
        let shown = format!("{answer:?}");
        let server = serve(move |_, _| answer.clone()).await;
        let error = open_at(&server).await.get("k", Some(3..7)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other, "{shown}: {error}");
    }
}

#[tokio::test]
async fn a_content_that_breaks_off_is_an_error_of_the_body() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        }
    });
    let found = open(&settings(&url)).await.get("k", None).await.unwrap().unwrap();
    assert_eq!(found.content_length, 10);
    assert!(found.body.collect().await.is_err());
}

#[tokio::test]
async fn what_lies_in_an_archive_is_told_by_class_restore_and_status() {
    let table: [(&[(&'static str, &str)], bool); 6] = [
        (&[], false),
        (&[("x-amz-storage-class", "GLACIER_IR")], false),
        (&[("x-amz-storage-class", "GLACIER")], true),
        (&[("x-amz-storage-class", "DEEP_ARCHIVE"), ("x-amz-restore", "ongoing-request=\"true\"")], true),
        (
            &[("x-amz-restore", "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2040 00:00:00 GMT\"")],
            true,
        ),
        (&[("x-amz-storage-class", "INTELLIGENT_TIERING"), ("x-amz-archive-status", "ARCHIVE_ACCESS")], true),
    ];
    for (headers, archived) in table {
        let headers: Vec<(&'static str, String)> =
            headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let shown = format!("{headers:?}");
        let server = serve(move |_, _| {
            headers.iter().fold(Answer::new(200), |answer, (name, value)| answer.header(name, value))
        })
        .await;
        let found = open_at(&server).await.head("k").await.unwrap().unwrap();
        assert_eq!(found.archived, archived, "{shown}");
    }
}

#[tokio::test]
async fn classes_are_sent_with_uploads_and_copies_but_for_the_standard_one_of_copies() {
    let server =
        serve(|_, _| Answer::new(200).body("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>")).await;
    let store = open_at(&server).await;
    let mut put = support::put_of("x");
    put.storage_class = Some("ONEZONE_IA".to_owned());
    // The answer is a document that is none of an error.
    store.put("k", put).await.unwrap();
    for class in [Some("STANDARD_IA"), Some("STANDARD"), None] {
        store.replace_metadata("k", "e", &metadata("a/b", &[]), class).await.unwrap();
    }
    let sent: Vec<_> = server
        .captured()
        .iter()
        .map(|request| request.header("x-amz-storage-class").map(str::to_owned))
        .collect();
    assert_eq!(sent, [Some("ONEZONE_IA".to_owned()), Some("STANDARD_IA".to_owned()), None, None]);
}

/// Memory must not grow with a part: it is as large as a part may be, and its remote reads slowly.
#[tokio::test]
async fn a_large_part_is_streamed_and_not_collected() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    const LENGTH: u64 = 5 << 30;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut read = 0u64;
        while read < 4 << 20 {
            read += stream.read(&mut buffer).await.unwrap() as u64;
        }
        // From here on it takes nothing more.
        std::future::pending::<()>().await;
    });
    let given = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&given);
    let block = Bytes::from(vec![7; 1 << 16]);
    let source = stream::repeat_with(move || {
        counted.fetch_add(1 << 16, Ordering::Relaxed);
        Ok::<_, std::io::Error>(block.clone())
    });
    let store = open(&settings(&url)).await;
    let put = PutPart { number: 1, length: LENGTH, content_md5: None, body: body::from_stream(source) };
    let sent = tokio::time::timeout(Duration::from_secs(2), parts(&*store).put_part("k", ID, put)).await;
    assert!(sent.is_err(), "the remote never answered");
    let given = given.load(Ordering::Relaxed);
    assert!((4 << 20..64 << 20).contains(&given), "{given} bytes were taken from the source");
}
