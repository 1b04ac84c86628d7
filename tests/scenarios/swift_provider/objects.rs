//! Objects: what is stored is what was given, under exactly that name.

use anyhow::{Context, Result};
use swift_s3_store::{Entry, EntryQuery, ErrorKind, swift};

use super::{content, md5_hex, metadata, put_of, remote};

#[tokio::test]
async fn an_object_keeps_its_content_and_its_metadata_byte_for_byte() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    let given = metadata(
        &[("colour", "MixedCase grün"), ("empty-ish", " x ")],
        &[
            ("content-encoding", "gzip"),
            ("content-disposition", "attachment; filename=\"ä.txt\""),
            ("x-delete-at", "4102444800"),
        ],
    );
    let receipt = store.put("c/o", put_of("hello", given)).await?;
    assert_eq!(receipt.etag.as_deref(), Some(md5_hex(b"hello").as_str()));

    let found = store.head("c/o").await?.context("nothing there")?;
    assert_eq!((found.etag.as_str(), found.length), (md5_hex(b"hello").as_str(), 5));
    assert_eq!(found.metadata.content_type, "Text/X-Mixed");
    assert_eq!(found.metadata.user["colour"], "MixedCase grün");
    assert_eq!(found.metadata.headers["content-encoding"], "gzip");
    assert_eq!(found.metadata.headers["content-disposition"], "attachment; filename=\"ä.txt\"");
    assert_eq!(found.metadata.headers["x-delete-at"], "4102444800");
    assert!(found.last_modified.is_some());
    let raw = remote.swift.head_object("c", "o").await?;
    assert_eq!(raw.header("x-object-meta-colour"), Some("MixedCase grün"));
    assert_eq!(&content(&*store, "c/o", None).await?[..], b"hello");
    Ok(())
}

#[tokio::test]
async fn names_are_sent_byte_for_byte() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("çontainer").await?;
    let names = [
        "a b",
        "a/../b",
        "//a//",
        "a%2Fb",
        "zwei\nZeilen",
        "é?x=1&y#z",
        ".",
        "..",
        "\u{10ffff}",
        "ends/",
        "+~*'()",
    ];
    for name in names {
        let key = format!("çontainer/{name}");
        store.put(&key, put_of(name.to_owned(), metadata(&[], &[]))).await.with_context(|| key.clone())?;
        assert_eq!(content(&*store, &key, None).await?, name, "{name:?}");
    }
    let mut stored: Vec<String> =
        remote.swift.list("çontainer").await?.into_iter().map(|entry| entry.name).collect();
    let mut expected: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    stored.sort();
    expected.sort();
    assert_eq!(stored, expected);
    for name in names {
        store.delete(&format!("çontainer/{name}")).await?;
        store.delete(&format!("çontainer/{name}")).await?;
    }
    assert!(store.list("çontainer/", None, 10).await?.entries.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_cannot_be() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    assert_eq!(store.head("c/none").await?, None);
    assert_eq!(store.head("none/none").await?, None);
    assert!(store.get("c/none", None).await?.is_none());
    store.delete("c/none").await?;
    store.delete("none/none").await?;
    let error = store.list("none/", None, 10).await.expect_err("no container, but a listing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = store.put("none/o", put_of("x", metadata(&[], &[]))).await.expect_err("stored nowhere");
    assert_eq!(
        (error.kind(), error.code(), error.status()),
        (ErrorKind::NotFound, Some("ContainerMissing"), Some(404))
    );
    let error = store.put("c", put_of("x", metadata(&[], &[]))).await.expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    Ok(())
}

#[tokio::test]
async fn metadata_is_replaced_and_content_type_changed() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.put("c/o", put_of("x", metadata(&[("old", "1")], &[("x-delete-at", "4102444800")]))).await?;
    let mut new = metadata(&[("new", "Zwei")], &[]);
    new.content_type = "image/PNG".to_owned();
    store.replace_metadata("c/o", "", &new, None).await?;
    let found = store.head("c/o").await?.context("gone")?;
    assert_eq!(found.metadata, new);
    let error = store.replace_metadata("c/none", "", &new, None).await.expect_err("nothing to change");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_range_is_exactly_what_was_asked_for() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.put("c/o", put_of("0123456789", metadata(&[], &[]))).await?;
    assert_eq!(&content(&*store, "c/o", Some(2..5)).await?[..], b"234");
    assert_eq!(&content(&*store, "c/o", Some(8..50)).await?[..], b"89");
    let got = store.get("c/o", Some(2..5)).await?.context("gone")?;
    assert_eq!((got.object.length, got.content_length), (10, 3));
    for range in [10..20, 3..3] {
        let error = store.get("c/o", Some(range)).await.expect_err("no such bytes");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    Ok(())
}

#[tokio::test]
async fn listings_are_paged_and_ordered() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    for name in ["b", "a/1", "a/2", "é", "a"] {
        store.put(&format!("c/{name}"), put_of(name.to_owned(), metadata(&[], &[]))).await?;
    }
    let mut keys = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list("c/", after.as_deref(), 2).await?;
        keys.extend(page.entries.iter().map(|entry| entry.key.clone()));
        after = keys.last().cloned();
        if !page.truncated {
            break;
        }
        assert!(!page.entries.is_empty());
    }
    assert_eq!(keys, ["c/a", "c/a/1", "c/a/2", "c/b", "c/é"]);
    let page = store.list("c/a/", None, 10).await?;
    assert_eq!(page.entries.len(), 2);
    assert_eq!(page.entries[0].etag.as_deref(), Some(md5_hex(b"a/1").as_str()));
    assert_eq!(page.entries[0].length, 3);
    assert!(page.entries[0].last_modified.is_some());
    // Keys of other containers, as marks, stand before or behind all of this one.
    assert_eq!(store.list("c/", Some("b/zzz"), 10).await?.entries.len(), 5);
    assert_eq!(store.list("c/", Some("d/a"), 10).await?.entries.len(), 0);
    Ok(())
}

#[tokio::test]
async fn entries_come_by_folder_from_either_end_with_their_type() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    for name in ["a", "b/1", "b/2", "c--x", "d/", "é"] {
        store.put(&format!("c/{name}"), put_of(name.to_owned(), metadata(&[], &[]))).await?;
    }
    let base = EntryQuery { prefix: "c/", delimiter: Some("/"), max_entries: 2, ..EntryQuery::default() };
    for (reverse, expected) in
        [(false, ["c/a", "c/b/", "c/c--x", "c/d/", "c/é"]), (true, ["c/é", "c/d/", "c/c--x", "c/b/", "c/a"])]
    {
        let mut query = EntryQuery { reverse, ..base.clone() };
        let mut keys = Vec::new();
        loop {
            let page = store.list_entries(&query).await?;
            keys.extend(page.entries.iter().map(|entry| entry.key().to_owned()));
            let Some(next) = page.next else { break };
            query.from = next;
        }
        assert_eq!(keys, expected);
    }
    let whole = EntryQuery { max_entries: 100, ..base };
    let keys = async |query: &EntryQuery<'_>| -> Result<Vec<String>> {
        Ok(store.list_entries(query).await?.entries.iter().map(|entry| entry.key().to_owned()).collect())
    };
    assert_eq!(
        keys(&EntryQuery { one_level: true, ..whole.clone() }).await?,
        ["c/a", "c/c--x", "c/d/", "c/é"]
    );
    assert_eq!(keys(&EntryQuery { until: Some("c/c"), ..whole.clone() }).await?, ["c/a", "c/b/"]);
    assert_eq!(keys(&EntryQuery { delimiter: Some("--"), ..whole.clone() }).await?.len(), 6);
    let page = store.list_entries(&whole).await?;
    let Entry::Object(object) = &page.entries[0] else { panic!("{page:?}") };
    assert_eq!(object.content_type.as_deref(), Some("Text/X-Mixed"));
    assert_eq!((object.length, object.etag.as_deref()), (1, Some(md5_hex(b"a").as_str())));
    let absent = EntryQuery { prefix: "none/", ..whole };
    assert_eq!(store.list_entries(&absent).await.expect_err("a listing").kind(), ErrorKind::NotFound);
    Ok(())
}

#[tokio::test]
async fn an_upload_with_another_content_is_refused_and_the_old_one_stays() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    store.put("c/o", put_of("old", metadata(&[], &[]))).await?;
    let mut wrong = put_of("new", metadata(&[], &[]));
    wrong.content_md5 = Some([7; 16]);
    let error = store.put("c/o", wrong).await.expect_err("wrong digest taken");
    assert_eq!(error.kind(), ErrorKind::BadDigest);
    for length in [2, 4] {
        let mut wrong = put_of("new", metadata(&[], &[]));
        wrong.length = length;
        wrong.content_md5 = None;
        let error = store.put("c/o", wrong).await.expect_err("wrong length taken");
        assert_eq!(error.kind(), ErrorKind::Body);
    }
    assert_eq!(&content(&*store, "c/o", None).await?[..], b"old");
    // The connections are still good for something.
    store.put("c/empty", put_of("", metadata(&[], &[]))).await?;
    assert_eq!(store.head("c/empty").await?.context("gone")?.length, 0);
    Ok(())
}

#[tokio::test]
async fn refusals_carry_the_servers_own_words() -> Result<()> {
    let (remote, store) = remote().await?;
    remote.swift.put_container("c").await?;
    let long = "x".repeat(300);
    let error = store.put("c/o", put_of("x", metadata(&[("long", &long)], &[]))).await.expect_err("too long");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Invalid, Some(400)));
    assert!(error.to_string().contains("Metadata value longer than 256"), "{error}");
    assert!(error.request_id().is_some_and(|id| id.starts_with("tx")), "{error}");
    remote.swift.post_container("c", &[("X-Container-Meta-Quota-Bytes", "10")]).await?;
    let name = format!("c/{}", "n".repeat(1100));
    let error = store.put(&name, put_of("x", metadata(&[], &[]))).await.expect_err("name too long");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    Ok(())
}

#[tokio::test]
async fn ninety_values_of_metadata_are_read_back() -> Result<()> {
    let (remote, _) = remote().await?;
    // Past the fault proxy, which takes no more than a hundred headers.
    let mut settings = remote.settings();
    settings.remote.auth_url = format!("{}/auth/v1.0", remote.cluster.proxy_url());
    let store = swift::open(&settings).await?;
    remote.swift.put_container("c").await?;
    let many: Vec<(String, String)> = (0..90).map(|n| (format!("n{n}"), format!("v{n}"))).collect();
    let pairs: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let given = metadata(
        &pairs,
        &[
            ("content-encoding", "a"),
            ("content-disposition", "b"),
            ("cache-control", "c"),
            ("content-language", "d"),
            ("expires", "e"),
            ("x-robots-tag", "f"),
            ("x-delete-at", "4102444800"),
        ],
    );
    store.put("c/o", put_of("x", given.clone())).await?;
    assert_eq!(store.head("c/o").await?.context("gone")?.metadata, given);
    Ok(())
}
