//! Listings by remotes that speak the old version, ignore where to start, repeat themselves, or mix things up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use percent_encoding::percent_decode_str;
use support::{Answer, Captured, open_at, serve};
use swift_s3_store::{Entry, EntryQuery, EntryStart, ErrorKind, ListPage};

fn parameter(request: &Captured, name: &str) -> Option<String> {
    request.query().split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| percent_decode_str(value).decode_utf8().unwrap().into_owned())
    })
}

fn document(keys: &[&str], more: &str) -> Answer {
    let contents: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2015-10-21T07:28:00.123Z</LastModified>\
                 <ETag>&quot;e-{key}&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        })
        .collect();
    Answer::new(200).body(format!("<ListBucketResult>{more}{contents}</ListBucketResult>"))
}

fn keys(page: &ListPage) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.key.as_str()).collect()
}

#[tokio::test]
async fn a_page_is_asked_for_with_prefix_start_and_size() {
    let server = serve(|_, _| document(&["p/b", "p/c"], "<IsTruncated>true</IsTruncated>")).await;
    let store = open_at(&server).await;
    let page = store.list("p/", Some("p/a"), 2).await.unwrap();
    assert_eq!(keys(&page), ["p/b", "p/c"]);
    assert!(page.truncated);
    let entry = &page.entries[0];
    assert_eq!(entry.etag.as_deref(), Some("e-p/b"));
    assert_eq!(entry.length, 7);
    assert_eq!(entry.storage_class.as_deref(), Some("STANDARD"));
    assert!(entry.last_modified.is_some());
    let request = server.only();
    assert_eq!(request.method, "GET");
    assert_eq!(request.path().trim_end_matches('/'), "/bucket");
    assert_eq!(parameter(&request, "list-type").as_deref(), Some("2"));
    assert_eq!(parameter(&request, "prefix").as_deref(), Some("p/"));
    assert_eq!(parameter(&request, "start-after").as_deref(), Some("p/a"));
    assert_eq!(parameter(&request, "max-keys").as_deref(), Some("2"));
    assert_eq!(parameter(&request, "encoding-type").as_deref(), Some("url"));
    assert_eq!(parameter(&request, "delimiter"), None);
}

#[tokio::test]
async fn sizes_beyond_what_remotes_give_are_cut() {
    let server = serve(|_, _| document(&[], "<IsTruncated>false</IsTruncated>")).await;
    let store = open_at(&server).await;
    store.list("", None, u16::MAX).await.unwrap();
    store.list("", None, 0).await.unwrap();
    let requests = server.captured();
    assert_eq!(parameter(&requests[0], "max-keys").as_deref(), Some("1000"));
    assert_eq!(parameter(&requests[1], "max-keys").as_deref(), Some("1"));
    assert_eq!(parameter(&requests[0], "prefix"), None);
}

#[tokio::test]
async fn encoded_keys_are_decoded_once() {
    let server = serve(|_, _| {
        document(
            &["p/a%2520b", "p/c+d", "p/e%2Bf", "p/g%0Ah", "p/%C3%A9"],
            "<EncodingType>url</EncodingType>",
        )
    })
    .await;
    let page = open_at(&server).await.list("p/", None, 10).await.unwrap();
    assert_eq!(keys(&page), ["p/a%20b", "p/c d", "p/e+f", "p/g\nh", "p/é"]);
}

#[tokio::test]
async fn a_remote_that_knows_only_version_1_is_asked_so_from_then_on() {
    let server = serve(|request, _| {
        if parameter(request, "list-type").is_some() {
            return Answer::error(501, "NotImplemented", "version 2");
        }
        match parameter(request, "marker").as_deref() {
            None => document(&["a", "b"], "<IsTruncated>true</IsTruncated>"),
            _ => document(&["c"], "<IsTruncated>false</IsTruncated>"),
        }
    })
    .await;
    let store = open_at(&server).await;
    let page = store.list("", None, 2).await.unwrap();
    assert_eq!(keys(&page), ["a", "b"]);
    let page = store.list("", Some("b"), 2).await.unwrap();
    assert_eq!(keys(&page), ["c"]);
    assert!(!page.truncated);
    store.check().await.unwrap();
    let asked: Vec<bool> =
        server.captured().iter().map(|request| parameter(request, "list-type").is_some()).collect();
    let new = asked.iter().take_while(|new| **new).count();
    assert!((1..=3).contains(&new), "{asked:?}");
    assert!(asked[new..].iter().all(|new| !new), "{asked:?}");
    assert_eq!(server.captured().last().map(|request| parameter(request, "marker")), Some(None));
}

#[tokio::test]
async fn a_start_that_the_remote_ignores_is_reached_by_its_own_marks() {
    let server = serve(|request, _| match parameter(request, "continuation-token").as_deref() {
        None => document(
            &["a", "b"],
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>",
        ),
        Some("t1") => document(
            &["c", "d"],
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t2</NextContinuationToken>",
        ),
        _ => document(&["e"], "<IsTruncated>false</IsTruncated>"),
    })
    .await;
    let store = open_at(&server).await;
    let page = store.list("", Some("b"), 2).await.unwrap();
    assert_eq!(keys(&page), ["c", "d"]);
    assert!(page.truncated);
    let page = store.list("", Some("c"), 2).await.unwrap();
    assert_eq!(keys(&page), ["d"]);
    assert!(page.truncated);
    let page = store.list("", Some("e"), 2).await.unwrap();
    assert!(page.entries.is_empty());
    assert!(!page.truncated);
}

#[tokio::test]
async fn a_remote_that_repeats_a_page_for_ever_is_a_failure() {
    let server = serve(|_, _| {
        document(
            &["a", "b"],
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
        )
    })
    .await;
    let store = open_at(&server).await;
    let error = store.list("", Some("b"), 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("does not advance"), "{error}");
    assert!(server.captured().len() <= 3);

    // Without marks of its own the last key serves; that it does not help is noticed as well.
    let server = serve(|_, _| document(&["a", "b"], "<IsTruncated>true</IsTruncated>")).await;
    let store = open_at(&server).await;
    let error = store.list("", Some("b"), 2).await.unwrap_err();
    assert!(error.to_string().contains("does not advance"), "{error}");
    assert!(server.captured().len() <= 3);

    let server = serve(|_, _| document(&[], "<IsTruncated>true</IsTruncated>")).await;
    let error = open_at(&server).await.list("", None, 2).await.unwrap_err();
    assert!(error.to_string().contains("does not advance"), "{error}");
}

#[tokio::test]
async fn a_page_is_sorted_and_free_of_what_was_not_asked_for() {
    let server = serve(|_, _| document(&["p/b", "p/a", "q/x", "p/b", "o"], "")).await;
    let store = open_at(&server).await;
    let page = store.list("p/", None, 10).await.unwrap();
    assert_eq!(keys(&page), ["p/a", "p/b"]);
}

fn folders(names: &[&str], keys: &[&str], more: &str) -> Answer {
    let prefixes: String = names
        .iter()
        .map(|name| format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"))
        .collect();
    document(keys, &format!("{more}{prefixes}"))
}

fn browse(from: EntryStart) -> EntryQuery<'static> {
    EntryQuery { prefix: "p/", delimiter: Some("/"), from, max_entries: 10, ..EntryQuery::default() }
}

#[tokio::test]
async fn folders_are_asked_for_and_come_in_order_among_the_keys() {
    let server = serve(|_, _| {
        folders(
            &["p/b/", "p/a/"],
            &["p/c", "p/a.x"],
            "<KeyCount>4</KeyCount><IsTruncated>false</IsTruncated>",
        )
    })
    .await;
    let page = open_at(&server).await.list_entries(&browse(EntryStart::First)).await.unwrap();
    let texts: Vec<&str> = page.entries.iter().map(Entry::key).collect();
    assert_eq!(texts, ["p/a.x", "p/a/", "p/b/", "p/c"]);
    assert!(matches!(page.entries[1], Entry::Folder(_)));
    assert_eq!(page.next, None);
    let request = server.only();
    assert_eq!(parameter(&request, "delimiter").as_deref(), Some("/"));
    assert_eq!(parameter(&request, "max-keys").as_deref(), Some("10"));
}

#[tokio::test]
async fn a_page_of_entries_goes_on_by_the_remotes_mark_or_behind_its_last_folder() {
    let mark = "<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>";
    let server = serve(move |_, _| folders(&["p/a/"], &[], mark)).await;
    let store = open_at(&server).await;
    let page = store.list_entries(&browse(EntryStart::First)).await.unwrap();
    assert_eq!(page.next, Some(EntryStart::Mark("t1".to_owned())));
    let _ = store.list_entries(&browse(page.next.unwrap())).await;
    assert_eq!(parameter(&server.captured()[1], "continuation-token").as_deref(), Some("t1"));

    let server = serve(|_, _| folders(&["p/a/"], &[], "<IsTruncated>true</IsTruncated>")).await;
    let page = open_at(&server).await.list_entries(&browse(EntryStart::First)).await.unwrap();
    assert_eq!(page.next, Some(EntryStart::After("p/a/\u{10ffff}".to_owned())));
}

#[tokio::test]
async fn entries_of_a_remote_that_repeats_itself_or_breaks_off_are_a_failure() {
    let server = serve(|_, _| {
        folders(
            &["p/a/"],
            &[],
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
        )
    })
    .await;
    let store = open_at(&server).await;
    let error = store.list_entries(&browse(EntryStart::After("p/z".to_owned()))).await.unwrap_err();
    assert!(error.to_string().contains("does not advance"), "{error}");

    let server = serve(|_, _| folders(&["p/a/"], &[], "<KeyCount>2</KeyCount>")).await;
    let error = open_at(&server).await.list_entries(&browse(EntryStart::First)).await.unwrap_err();
    assert!(error.to_string().contains("expected 2 keys"), "{error}");
}

#[tokio::test]
async fn keys_that_are_not_utf_8_do_not_end_the_listing() {
    let server = serve(|request, _| match parameter(request, "continuation-token").as_deref() {
        None => document(
            &["p/%80"],
            "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
        ),
        Some(_) => document(&["p/z"], "<IsTruncated>false</IsTruncated>"),
    })
    .await;
    let page = open_at(&server).await.list_entries(&browse(EntryStart::First)).await.unwrap();
    let texts: Vec<&str> = page.entries.iter().map(Entry::key).collect();
    assert_eq!(texts, ["p/z"]);
}

#[tokio::test]
async fn what_only_swift_can_is_not_tried() {
    let server = serve(|_, _| document(&[], "")).await;
    let store = open_at(&server).await;
    let first = || browse(EntryStart::First);
    let queries = [
        EntryQuery { reverse: true, ..first() },
        EntryQuery { one_level: true, ..first() },
        EntryQuery { until: Some("p/z"), ..first() },
    ];
    for query in queries {
        assert_eq!(store.list_entries(&query).await.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert!(server.captured().is_empty());
}
