//! What every server has to do with uploads in parts, with reads and with storage classes; also included by the suite
//! against the strict server in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use md5::{Digest, Md5};
use swift_s3_policy::RemoteMetadata;
use swift_s3_store::{
    Body, CompletedPart, CopyPart, ErrorKind, Multipart, NewUpload, ObjectStore, PutObject, PutPart, body,
};

/// The least that S3 takes for a part that is not the last.
const PART_BYTES: usize = 5 * 1024 * 1024;

/// What a server is known not to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quirks {
    /// Compares the Content-MD5 of a part with what arrived.
    pub(crate) checks_md5: bool,
    /// Copies pieces only of what has the expected ETag.
    pub(crate) checks_copy_condition: bool,
    /// Refuses to complete with a small part in the middle.
    pub(crate) checks_part_size: bool,
    /// Refuses to complete with a part that was replaced since.
    pub(crate) checks_part_etags: bool,
    /// Gives the object S3's ETag of uploads in parts.
    pub(crate) has_usual_etag: bool,
    /// Gives the object the metadata with which the upload began.
    pub(crate) keeps_metadata: bool,
    /// Lists uploads, with the time when they began.
    pub(crate) lists_uploads: bool,
    /// An upload that is completed or aborted is not there any more, and one that never was is not either.
    pub(crate) forgets_ended_uploads: bool,
    /// Lists the parts of an upload.
    pub(crate) lists_parts: bool,
    /// Has storage classes.
    pub(crate) has_classes: bool,
}

fn content(seed: u8, length: usize) -> Bytes {
    (0..length).map(|i| u8::try_from(i % 251).unwrap_or(0).wrapping_add(seed)).collect::<Vec<u8>>().into()
}

/// In pieces, as they come from a socket.
fn streamed(content: &Bytes) -> Body {
    let pieces: Vec<_> = content
        .chunks(64 * 1024)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    body::from_stream(stream::iter(pieces))
}

fn md5(content: &[u8]) -> [u8; 16] {
    Md5::digest(content).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn part(number: u16, content: &Bytes) -> PutPart {
    PutPart { number, length: content.len() as u64, content_md5: Some(md5(content)), body: streamed(content) }
}

fn described(content_type: &str, user: &[(&str, &str)]) -> RemoteMetadata {
    RemoteMetadata {
        content_type: content_type.to_owned(),
        user: user.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        headers: BTreeMap::new(),
    }
}

fn whole(content: &Bytes, storage_class: Option<&str>) -> PutObject {
    PutObject {
        length: content.len() as u64,
        content_md5: Some(md5(content)),
        metadata: described("a/b", &[]),
        body: streamed(content),
        storage_class: storage_class.map(str::to_owned),
    }
}

async fn read(store: &dyn ObjectStore, key: &str, range: Option<std::ops::Range<u64>>) -> Bytes {
    let found = store.get(key, range).await.unwrap().expect("an object");
    let content = found.body.collect().await.unwrap().to_bytes();
    assert_eq!(content.len() as u64, found.content_length);
    content
}

fn multipart(store: &dyn ObjectStore) -> &dyn Multipart {
    store.multipart().expect("uploads in parts")
}

/// Runs all of it; the bucket must be empty.
pub(crate) async fn conforms(store: &dyn ObjectStore, quirks: Quirks) {
    reads(store).await;
    uploads_in_parts(store, quirks).await;
    refuses_what_is_wrong(store, quirks).await;
    lists_uploads(store, quirks).await;
    keeps_storage_classes(store, quirks).await;
}

async fn reads(store: &dyn ObjectStore) {
    assert!(store.get("read/absent", None).await.unwrap().is_none());
    let stored = content(3, 300_000);
    store.put("read/o bj+é", whole(&stored, None)).await.unwrap();
    let found = store.get("read/o bj+é", None).await.unwrap().unwrap();
    assert_eq!((found.content_length, found.object.length), (300_000, 300_000));
    assert_eq!(found.object.etag, hex(&md5(&stored)));
    assert_eq!(found.object.metadata.content_type, "a/b");
    drop(found);
    assert!(read(store, "read/o bj+é", None).await == stored);
    for (first, end) in [(0, 1), (0, 300_000), (299_999, 300_000), (100_000, 200_001), (299_990, 400_000)] {
        let range = read(store, "read/o bj+é", Some(first..end)).await;
        let (first, end) = (usize::try_from(first).unwrap(), usize::try_from(end.min(300_000)).unwrap());
        assert!(range == stored.slice(first..end), "{first}..{end}");
    }
    let found = store.get("read/o bj+é", Some(5..10)).await.unwrap().unwrap();
    assert_eq!((found.content_length, found.object.length), (5, 300_000));
    let error = store.get("read/o bj+é", Some(300_000..300_001)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    store.put("read/empty", whole(&Bytes::new(), None)).await.unwrap();
    assert!(read(store, "read/empty", None).await.is_empty());
    store.delete("read/o bj+é").await.unwrap();
    store.delete("read/empty").await.unwrap();
}

async fn uploads_in_parts(store: &dyn ObjectStore, quirks: Quirks) {
    let parts = multipart(store);
    let key = "parts/o bj+é";
    let source = content(1, PART_BYTES + 1000);
    store.put("parts/source", whole(&source, None)).await.unwrap();
    let metadata = described("text/x-parts; charset=utf-8", &[("colour", "sky blue")]);
    let upload = NewUpload { metadata: metadata.clone(), storage_class: None };
    let id = parts.create(key, &upload).await.unwrap();
    assert!(!quirks.lists_parts || parts.list_parts(key, &id).await.unwrap().is_empty());
    assert!(store.head(key).await.unwrap().is_none());

    let (first, last) = (content(7, PART_BYTES), content(9, 10));
    // In any order, and one of them twice.
    let third = parts.put_part(key, &id, part(3, &last)).await.unwrap();
    parts.put_part(key, &id, part(1, &last)).await.unwrap();
    let replaced = parts.put_part(key, &id, part(1, &first)).await.unwrap();
    assert_eq!((replaced.as_str(), third.as_str()), (&*hex(&md5(&first)), &*hex(&md5(&last))));
    let piece = source.slice(1000..);
    let copy = CopyPart {
        number: 2,
        source_key: "parts/source",
        range: 1000..source.len() as u64,
        expected_etag: &hex(&md5(&source)),
    };
    let second = parts.copy_part(key, &id, &copy).await.unwrap();
    assert_eq!(second, hex(&md5(&piece)));

    if quirks.lists_parts {
        let listed = parts.list_parts(key, &id).await.unwrap();
        let told: Vec<_> = listed.iter().map(|part| (part.number, part.length)).collect();
        assert_eq!(told, [(1, PART_BYTES as u64), (2, PART_BYTES as u64), (3, 10)]);
        assert!(listed.iter().all(|part| part.last_modified.is_some()));
    }
    let named: Vec<_> = [(1, replaced), (2, second), (3, third)]
        .into_iter()
        .map(|(number, etag)| CompletedPart { number, etag })
        .collect();
    let receipt = parts.complete(key, &id, &named).await.unwrap();
    let found = store.head(key).await.unwrap().unwrap();
    assert_eq!(found.length, (2 * PART_BYTES + 10) as u64);
    if quirks.keeps_metadata {
        assert_eq!(found.metadata, metadata);
    }
    let sums = [md5(&first), md5(&piece), md5(&last)].concat();
    let usual = format!("{}-3", hex(&md5(&sums)));
    assert_eq!(found.etag == usual, quirks.has_usual_etag, "{}", found.etag);
    assert_eq!(receipt.etag.as_deref(), Some(found.etag.as_str()));
    let all = read(store, key, None).await;
    assert!(all == [first, piece, last].concat());

    if quirks.forgets_ended_uploads {
        let error = parts.complete(key, &id, &named).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let error = parts.put_part(key, &id, part(1, &Bytes::from("x"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let error = parts.list_parts(key, &id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        parts.abort(key, &id).await.unwrap();
    }
    store.delete(key).await.unwrap();
    store.delete("parts/source").await.unwrap();
}

async fn refuses_what_is_wrong(store: &dyn ObjectStore, quirks: Quirks) {
    let parts = multipart(store);
    let key = "wrong";
    let small = content(2, 1000);
    store.put("wrong-source", whole(&small, None)).await.unwrap();
    let id = parts.create(key, &NewUpload::default()).await.unwrap();

    let damaged = PutPart { content_md5: Some(md5(b"another")), ..part(1, &small) };
    match parts.put_part(key, &id, damaged).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::BadDigest, "{error}"),
        Ok(_) => assert!(!quirks.checks_md5, "damaged content was taken"),
    }
    let short = PutPart { length: 1001, ..part(1, &small) };
    let error = parts.put_part(key, &id, short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Body, "{error}");

    let other = "0".repeat(32);
    let copy = CopyPart { number: 1, source_key: "wrong-source", range: 0..1000, expected_etag: &other };
    match parts.copy_part(key, &id, &copy).await {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
            assert!(quirks.checks_copy_condition);
        }
        Ok(_) => assert!(!quirks.checks_copy_condition, "the condition was ignored"),
    }

    let etag = parts.put_part(key, &id, part(1, &small)).await.unwrap();
    let etag_2 = parts.put_part(key, &id, part(2, &small)).await.unwrap();
    let named = |first: &str| {
        let part = |number, etag: &str| CompletedPart { number, etag: etag.to_owned() };
        vec![part(1, first), part(2, &etag_2)]
    };
    if quirks.checks_part_etags {
        let error = parts.complete(key, &id, &named(&other)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
    }
    match parts.complete(key, &id, &named(&etag)).await {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(quirks.checks_part_size, "{error}");
            // What is refused is still there.
            assert!(!quirks.lists_parts || parts.list_parts(key, &id).await.unwrap().len() == 2);
            assert!(store.head(key).await.unwrap().is_none());
        }
        Ok(_) => assert!(!quirks.checks_part_size, "a small part was taken"),
    }
    // What is gone already is no failure, where a server says that it is gone.
    for _ in 0..2 {
        assert!(parts.abort(key, &id).await.is_ok() || !quirks.forgets_ended_uploads);
    }
    store.delete("wrong-source").await.unwrap();
    store.delete(key).await.unwrap();
}

async fn lists_uploads(store: &dyn ObjectStore, quirks: Quirks) {
    if !quirks.lists_uploads {
        return;
    }
    let parts = multipart(store);
    let mut begun = Vec::new();
    for key in ["ours/a b", "ours/a+b", "ours/c", "oursnot", "theirs/a"] {
        begun.push((key, parts.create(key, &NewUpload::default()).await.unwrap()));
    }
    let page = parts.list_uploads("ours/", None).await.unwrap();
    let mut found: Vec<_> = page.uploads.iter().map(|upload| upload.key.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["ours/a b", "ours/a+b", "ours/c"]);
    assert!(page.next.is_none());
    for upload in &page.uploads {
        assert!(upload.initiated.is_some());
        assert!(begun.iter().any(|(key, id)| upload.key == *key && upload.upload_id == *id));
        parts.abort(&upload.key, &upload.upload_id).await.unwrap();
    }
    assert!(parts.list_uploads("ours/", None).await.unwrap().uploads.is_empty());
    assert_eq!(parts.list_uploads("", None).await.unwrap().uploads.len(), 2);
    for (key, id) in begun {
        parts.abort(key, &id).await.unwrap();
    }
}

async fn keeps_storage_classes(store: &dyn ObjectStore, quirks: Quirks) {
    if !quirks.has_classes {
        return;
    }
    let parts = multipart(store);
    let some = content(5, 100);
    let class_of = |class: Option<String>| class.filter(|class| class != "STANDARD");
    for class in [None, Some("STANDARD_IA"), Some("DEEP_ARCHIVE")] {
        store.put("class", whole(&some, class)).await.unwrap();
        let found = store.head("class").await.unwrap().unwrap();
        assert_eq!(class_of(found.storage_class).as_deref(), class);
        assert_eq!(found.archived, class == Some("DEEP_ARCHIVE"));
        let listed = store.list("class", None, 10).await.unwrap().entries;
        let listed = listed.first().unwrap().storage_class.clone();
        assert_eq!(class_of(listed).as_deref(), class);

        let upload = NewUpload { storage_class: class.map(str::to_owned), ..NewUpload::default() };
        let id = parts.create("class-parts", &upload).await.unwrap();
        let etag = parts.put_part("class-parts", &id, part(1, &some)).await.unwrap();
        parts.complete("class-parts", &id, &[CompletedPart { number: 1, etag }]).await.unwrap();
        let found = store.head("class-parts").await.unwrap().unwrap();
        assert_eq!(class_of(found.storage_class).as_deref(), class);
    }
    // Archived: neither read nor copied.
    assert!(store.get("class", None).await.is_err());
    let etag = hex(&md5(&some));
    let metadata = described("text/new", &[]);
    assert!(store.replace_metadata("class", &etag, &metadata, None).await.is_err());
    // A copy onto itself stays in its class when it is told so.
    store.put("class", whole(&some, Some("STANDARD_IA"))).await.unwrap();
    store.replace_metadata("class", &etag, &metadata, Some("STANDARD_IA")).await.unwrap();
    let found = store.head("class").await.unwrap().unwrap();
    assert_eq!(found.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(found.metadata.content_type, "text/new");
    store.delete("class").await.unwrap();
    store.delete("class-parts").await.unwrap();
}
