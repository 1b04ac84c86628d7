//! What the lines of a listing say.

use anyhow::{Context, Result};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;

use super::{Merged, header, lines, texts};

#[tokio::test]
async fn folders_of_both_sides_come_in_their_order() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    merged.put_local("c", ["a", "unicodé"]).await?;
    merged.put_remote(["a/1", "unicodé", "z/1", "z/2", "zzzzz"]).await?;
    assert_eq!(merged.names("delimiter=/&limit=4").await?, ["a", "a/", "unicodé", "z/"]);
    Ok(())
}

#[tokio::test]
async fn archived_entries_say_what_is_known_and_where_they_are() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    merged.put_remote(["o", "d/1"]).await?;
    let entries = merged.json("delimiter=/").await?;
    let [folder, object] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(*folder, json!({"subdir": "d/", "content_location": [merged.location()]}));
    assert_eq!(object["name"], "o");
    assert_eq!(object["bytes"], 2);
    assert_eq!(object["hash"], hex::encode(Md5::digest("oo")));
    assert_eq!(object["content_type"], "application/octet-stream");
    assert_eq!(object["content_location"], json!([merged.location()]));
    let modified = object["last_modified"].as_str().context("no time")?;
    assert!(modified.len() == 26 && modified.starts_with("20"), "{modified}");

    let text = merged.get("").await?.success()?;
    assert_eq!(&text.body[..], b"d/1\no\n");
    assert_eq!(header(&text.headers, "content-type"), "text/plain; charset=utf-8");
    let xml = merged.get("format=xml&delimiter=/").await?.success()?;
    let hash = hex::encode(Md5::digest("oo"));
    let expected = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<container name=\"c\"><subdir name=\"d/\"><name>d/</name></subdir>\
         <object><name>o</name><hash>{hash}</hash><bytes>2</bytes><content_type>application/octet-stream</content_type>\
         <last_modified>{modified}</last_modified></object></container>"
    );
    assert_eq!(std::str::from_utf8(&xml.body)?, expected);
    assert_eq!(header(&xml.headers, "content-type"), "application/xml; charset=utf-8");
    Ok(())
}

#[tokio::test]
async fn of_what_is_in_both_swifts_own_entry_is_listed_once() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    merged.site.swift.put_object("c", "both", "local", &[("Content-Type", "text/x-own")]).await?;
    merged.put_local("c", ["here", "f/1"]).await?;
    merged.put_remote(["both", "there", "f/2"]).await?;
    let entries = merged.json("delimiter=/").await?;
    assert_eq!(texts(&entries), ["both", "f/", "here", "there"]);
    let [both, folder, here, there] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((&both["bytes"], &both["content_type"]), (&json!(5), &json!("text/x-own")));
    assert_eq!(both["content_location"], json!([merged.location(), "swift"]));
    assert_eq!(folder["content_location"], json!([merged.location(), "swift"]));
    assert_eq!(here.get("content_location"), None);
    assert_eq!(there["content_location"], json!([merged.location()]));
    Ok(())
}

#[tokio::test]
async fn the_format_is_negotiated_as_by_swift() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    merged.put_remote(["o"]).await?;
    for (query, accept, kind) in [
        ("", "", "text/plain; charset=utf-8"),
        ("", "application/json", "application/json; charset=utf-8"),
        ("", "text/xml", "text/xml; charset=utf-8"),
        ("", "*/*;q=0.1, application/xml", "application/xml; charset=utf-8"),
        ("format=json", "text/plain", "application/json; charset=utf-8"),
        ("format=other", "application/json", "text/plain; charset=utf-8"),
    ] {
        let headers: &[(&str, &str)] = if accept.is_empty() { &[] } else { &[("Accept", accept)] };
        let answer = merged.get_with(query, headers).await?.success()?;
        assert_eq!(header(&answer.headers, "content-type"), kind, "?{query} {accept}");
        assert_eq!(answer.header("vary").is_some(), query.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn a_page_without_names_is_empty_in_each_format() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    let text = merged.get("").await?;
    assert_eq!((text.status, text.body.len()), (204, 0));
    let json = merged.get("format=json").await?;
    assert_eq!((json.status, &json.body[..]), (200, &b"[]"[..]));
    let xml = merged.get("format=xml").await?;
    assert!(xml.body.ends_with(b"<container name=\"c\" />"));
    // Swift's own figures stay: they are about what is local.
    assert_eq!(header(&text.headers, "x-container-object-count"), "0");
    Ok(())
}

#[tokio::test]
async fn names_are_listed_as_they_are() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    let names = ["%41", "a+b", "a\nb", "//", "<&>\"", "e\u{301}", "ü", "\u{ffff}", "\u{10ffff}"];
    merged.put_remote(names).await?;
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(texts(&merged.json("").await?), sorted);
    let text = merged.get("").await?.success()?;
    assert_eq!(std::str::from_utf8(&text.body)?, sorted.map(|name| format!("{name}\n")).concat());
    Ok(())
}

#[tokio::test]
async fn keys_that_are_no_objects_are_not_listed() -> Result<()> {
    for (custom, prefix) in [(Value::Null, None), (json!("pre"), Some("pre")), (json!(""), Some(""))] {
        let merged = Merged::with(S3ServerKind::Memory, &[], |mapping| {
            if custom.is_null() { mapping } else { mapping.set("custom_prefix", custom.clone()) }
        })
        .await?;
        let keys = KeyMapping::new(merged.site.swift.account(), "c", prefix);
        let companion = keys.manifest_key("big").context("no companion")?;
        let bucket = &merged.site.bucket;
        bucket.put(&companion, "[]", &[], None).await?;
        for name in ["a", "big", "x/1"] {
            bucket.put(&keys.object_key(name), name.to_owned(), &[], None).await?;
        }
        if !keys.key_prefix().is_empty() {
            bucket.put(keys.key_prefix(), "", &[], None).await?;
        }
        for (query, expected) in
            [("", vec!["a", "big", "x/1"]), ("delimiter=/", vec!["a", "big", "x/"]), ("limit=1", vec!["a"])]
        {
            assert_eq!(merged.names(query).await?, expected, "{custom} ?{query}");
        }
        assert!(merged.names("prefix=.").await?.is_empty());
        bucket.put(&keys.object_key(".manifests/own"), "x", &[], None).await?;
        assert_eq!(merged.names("prefix=.&delimiter=/").await?, [".manifests/"], "{custom}");
    }
    Ok(())
}

#[tokio::test]
async fn a_page_that_swift_fills_asks_the_remote_no_further_than_it_must() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    let local: Vec<String> = (0..40).map(|number| format!("{number:05}")).collect();
    let remote: Vec<String> = (0..60).map(|number| format!("{number:05}-archived")).collect();
    merged.put_local("c", local.iter().map(String::as_str)).await?;
    merged.put_remote(remote.iter().map(String::as_str)).await?;
    let before = merged.site.faults.requests();
    let page = merged.names("limit=20").await?;
    assert_eq!(page.len(), 20);
    let asked = merged.site.faults.requests().since(&before);
    assert_eq!(asked.of(Operation::List), 1, "{asked:?}");
    // HEAD and other requests about the container stay Swift's own.
    let path = format!("/v1/{}/c", merged.client.account());
    let head = merged.client.send_raw("HEAD", &path, &[], None).await?.success()?;
    assert_eq!(header(&head.headers, "x-container-object-count"), "40");
    assert_eq!(merged.site.faults.requests().since(&before).total(), 1);
    assert_eq!(
        lines(
            &merged
                .get_with("limit=1", &[("X-Cloud-Sync-Shunt-Bypass", "1"), ("Accept", "text/plain")])
                .await?
        )?,
        ["00000"]
    );
    assert_eq!(merged.site.faults.requests().since(&before).total(), 1);
    Ok(())
}
