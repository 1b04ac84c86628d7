//! Static and dynamic large objects.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use swift_s3_tests::fault_proxy::{Fault, Rule};

use super::Pair;

fn md5_hex(content: &[u8]) -> String {
    hex::encode(Md5::digest(content))
}

/// MD5 over the MD5s of contents: what Swift answers for a large object of them.
fn etag_of(contents: &[&[u8]]) -> String {
    let mut etags = String::new();
    for content in contents {
        let _ = write!(etags, "{}", md5_hex(content));
    }
    md5_hex(etags.as_bytes())
}

fn piece(number: usize, bytes: usize) -> Vec<u8> {
    let letter = b"abcdefghijklmnopqrstuvwxyz".get(number % 26).copied().unwrap_or(b'x');
    format!("{number:06}").into_bytes().into_iter().chain(std::iter::repeat(letter)).take(bytes).collect()
}

impl Pair {
    /// Uploads segments named `prefix` and a number to a local container; answers manifest entries for them.
    pub(super) async fn put_segments(
        &self,
        container: &str,
        prefix: &str,
        sizes: &[usize],
    ) -> Result<Vec<Value>> {
        self.site.swift.put_container(container).await?;
        let mut entries = Vec::new();
        for (number, bytes) in sizes.iter().enumerate() {
            let (name, content) = (format!("{prefix}{number:06}"), piece(number, *bytes));
            self.site.swift.put_object(container, &name, content, &[]).await?;
            entries.push(json!({"path": format!("/{container}/{name}")}));
        }
        Ok(entries)
    }

    pub(super) async fn put_slo(
        &self,
        name: &str,
        entries: &[Value],
        headers: &[(&str, &str)],
    ) -> Result<()> {
        let body = Bytes::from(serde_json::to_vec(entries)?);
        let query = "multipart-manifest=put";
        self.site.swift.object_request("PUT", "c", name, query, headers, Some(body)).await?.success()?;
        Ok(())
    }

    /// Runs every worker once; whether one of them sets rows aside and says this.
    async fn is_told(&self, text: &str) -> Result<bool> {
        let mut told = false;
        for worker in &self.site.workers {
            let outcome = worker.run_once().await?;
            told |= outcome.code == 1 && outcome.log.contains(text);
        }
        Ok(told)
    }

    /// The remote manifest.
    async fn manifest(&self, name: &str) -> Result<Vec<Value>> {
        let query = "multipart-manifest=get";
        let answer =
            self.remote.swift.object_request("GET", "copies", name, query, &[], None).await?.success()?;
        serde_json::from_slice(&answer.body).context("a manifest")
    }

    async fn timestamp(&self, container: &str, name: &str) -> Result<String> {
        let head = self.remote.swift.head_object(container, name).await?.success()?;
        Ok(head.header("x-timestamp").unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn static_large_objects_arrive_with_their_segments() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    for count in [1_usize, 3, 120] {
        let name = format!("slo{count}");
        let entries = pair.put_segments("parts", &format!("{name}/"), &vec![7 + count; count]).await?;
        pair.put_slo(&name, &entries, &[("X-Object-Meta-K", "MixedCase"), ("Content-Type", "A/B")]).await?;
    }
    pair.sync().await?;
    for count in [1_usize, 3, 120] {
        let name = format!("slo{count}");
        pair.expect_same(&name).await?;
        let contents: Vec<Vec<u8>> = (0..count).map(|number| piece(number, 7 + count)).collect();
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let etag = format!("\"{}\"", etag_of(&contents));
        assert_eq!(pair.copy(&name).await?.header("etag"), Some(etag.as_str()));
        assert_eq!(pair.manifest(&name).await?.len(), count);
    }
    assert_eq!(pair.names("copies_segments").await?.len(), 124);
    let asked = pair.sync().await?;
    assert!(!asked.iter().any(|request| request.starts_with('P')), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn segments_that_are_shared_are_sent_once_and_metadata_goes_by_one_post() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    let entries = pair.put_segments("parts", "p", &[100, 100, 50]).await?;
    pair.put_slo("one", &entries, &[]).await?;
    pair.sync().await?;
    let before = pair.timestamp("copies_segments", "p000000").await?;
    pair.put_slo("two", &entries, &[]).await?;
    let asked = pair.sync().await?;
    pair.expect_same("two").await?;
    assert_eq!(pair.timestamp("copies_segments", "p000000").await?, before, "{asked:?}");
    pair.site.swift.post_object("c", "one", &[("X-Object-Meta-New", "x")]).await?;
    let asked = pair.sync().await?;
    pair.expect_same("one").await?;
    assert_eq!(pair.timestamp("copies_segments", "p000000").await?, before);
    let writes: Vec<_> = asked.iter().filter(|request| request.starts_with('P')).collect();
    assert!(writes.len() == 1 && writes.iter().all(|request| request.starts_with("POST ")), "{writes:?}");
    Ok(())
}

#[tokio::test]
async fn parts_of_segments_nested_manifests_and_data_give_the_same_content() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    let entries = pair.put_segments("parts", "p", &[100, 200, 300]).await?;
    let inner = Bytes::from(serde_json::to_vec(entries.get(..2).unwrap_or_default())?);
    let query = "multipart-manifest=put";
    let swift = &pair.site.swift;
    swift.object_request("PUT", "parts", "inner", query, &[], Some(inner)).await?.success()?;
    let outer = [
        json!({"path": "/parts/p000002", "range": "10-49"}),
        json!({"path": "/parts/inner"}),
        json!({"data": "aGVsbG8gd29ybGQ="}),
        json!({"path": "/parts/p000002", "range": "-5"}),
    ];
    pair.put_slo("o", &outer, &[]).await?;
    pair.put_slo("ranged", outer.get(..2).unwrap_or_default(), &[]).await?;
    pair.sync().await?;
    pair.expect_same("o").await?;
    pair.expect_same("ranged").await?;
    let (local, copy) = (pair.local("ranged").await?, pair.copy("ranged").await?);
    assert_eq!(local.header("etag"), copy.header("etag"));
    let asked = pair.sync().await?;
    assert!(!asked.iter().any(|request| request.starts_with('P')), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn in_an_account_mapping_segments_keep_their_container() -> Result<()> {
    let pair = Pair::start().await?;
    pair.map("/*", "crazy-target:", |mapping| mapping.set("storage_policy", "silver"))?;
    let entries = pair.put_segments("segments", "part", &[10, 20]).await?;
    pair.put_slo("o", &entries, &[]).await?;
    pair.sync().await?;
    assert_eq!(pair.names("crazy-target:segments").await?, ["part000000", "part000001"]);
    let copy = pair.remote.swift.get_object("crazy-target:c", "o").await?.success()?;
    assert_eq!(copy.body, pair.local("o").await?.body);
    for container in ["crazy-target:segments", "crazy-target:c"] {
        let head = pair.remote.swift.head_container(container).await?;
        assert_eq!(head.header("x-storage-policy"), Some("silver"), "{container}");
    }
    Ok(())
}

#[tokio::test]
async fn small_segments_are_joined_under_names_of_their_own() -> Result<()> {
    let join = |mapping: swift_s3_tests::sync_json::MappingJson| {
        mapping.set("convert_dlo", true).set("min_segment_size", 1024)
    };
    let pair = Pair::mapped(join).await?;
    let sizes = [1024, 1024, 512, 512, 2048];
    let entries = pair.put_segments("c_segments", "p", &sizes).await?;
    pair.put_slo("o", &entries, &[]).await?;
    pair.sync().await?;
    pair.expect_same("o").await?;
    let names = pair.names("copies_segments").await?;
    let joined = names.iter().find(|name| name.starts_with("o/")).context("a joined segment")?;
    assert!(joined.ends_with("/000003") && names.len() == 4, "{names:?}");
    let head = pair.remote.swift.head_object("copies_segments", joined).await?;
    let expected = etag_of(&[&piece(2, 512), &piece(3, 512)]);
    assert_eq!(head.header("x-object-meta-combined-etag"), Some(expected.as_str()));
    let query = "multipart-manifest=get";
    let manifest = pair.site.swift.object_request("GET", "c", "o", query, &[], None).await?;
    let marker = pair.copy("o").await?.header("x-object-meta-swift-slo-etag").map(str::to_owned);
    assert_eq!(marker, Some(md5_hex(&manifest.body)));
    pair.site.swift.post_object("c", "o", &[("X-Object-Meta-New", "x")]).await?;
    let asked = pair.sync().await?;
    assert!(!asked.iter().any(|request| request.starts_with("PUT")), "{asked:?}");
    assert_eq!(pair.copy("o").await?.header("x-object-meta-swift-slo-etag").map(str::to_owned), marker);
    // The derived segment goes with the object.
    pair.site
        .swift
        .object_request("DELETE", "c", "o", "multipart-manifest=delete", &[], None)
        .await?
        .success()?;
    pair.sync().await?;
    assert_eq!(pair.names("copies").await?, [""; 0]);
    assert_eq!(pair.names("copies_segments").await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn dynamic_large_objects_arrive_as_they_are_or_as_static_ones() -> Result<()> {
    for (convert, minimum, segments) in [(false, 0, 10), (true, 0, 10), (true, 2000, 5)] {
        let pair =
            Pair::mapped(|mapping| mapping.set("convert_dlo", convert).set("min_segment_size", minimum))
                .await?;
        pair.put_segments("parts", "dlo/p", &[1024; 10]).await?;
        // A neighbour whose name merely begins alike.
        pair.site.swift.put_object("parts", "dlo", "no part of it", &[]).await?;
        pair.site
            .swift
            .put_object("c", "o", "", &[("X-Object-Manifest", "parts/dlo/"), ("Content-Length", "0")])
            .await?;
        pair.sync().await?;
        pair.expect_same("o").await?;
        assert_eq!(pair.names("copies_segments").await?.len(), segments);
        let contents: Vec<Vec<u8>> = (0..10).map(|number| piece(number, 1024)).collect();
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let check = async |what: &str| -> Result<()> {
            let copy = pair.copy("o").await?;
            let marker = copy.header("x-object-meta-swift-source-dlo-etag");
            ensure!(marker == Some(etag_of(&contents).as_str()), "{what}: {marker:?}");
            let is_static = copy.header("x-static-large-object").is_some();
            ensure!(is_static == convert, "{what}: {:?}", copy.headers);
            ensure!(convert || copy.header("x-object-manifest") == Some("copies_segments/dlo/"), "{what}");
            Ok(())
        };
        check("sent").await?;
        let posted = [("X-Object-Manifest", "parts/dlo/"), ("X-Object-Meta-New", "x")];
        pair.site.swift.post_object("c", "o", &posted).await?;
        let asked = pair.sync().await?;
        pair.expect_same("o").await?;
        check("metadata").await?;
        ensure!(!asked.iter().any(|request| request.starts_with("PUT")), "{asked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dynamic_large_object_without_segments_is_no_obstacle() -> Result<()> {
    for convert in [false, true] {
        let pair = Pair::mapped(|mapping| mapping.set("convert_dlo", convert)).await?;
        pair.site.swift.put_container("parts").await?;
        pair.site
            .swift
            .put_object("c", "o", "", &[("X-Object-Manifest", "parts/none/"), ("Content-Length", "0")])
            .await?;
        pair.sync().await?;
        pair.expect_same("o").await?;
        let asked = pair.sync().await?;
        assert!(!asked.iter().any(|request| request.starts_with('P')), "{asked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_segment_is_told_and_tried_again() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    let entries = pair.put_segments("parts", "p", &[10, 20]).await?;
    pair.put_slo("o", &entries, &[]).await?;
    pair.site.swift.delete_object("parts", "p000001").await?.success()?;
    let mut told = false;
    for worker in &pair.site.workers {
        let outcome = worker.run_once().await?;
        told |= outcome.code == 1 && outcome.log.contains("p000001");
    }
    assert!(told, "the segment is named");
    assert_eq!(pair.names("copies").await?, [""; 0]);
    pair.site.swift.put_object("parts", "p000001", piece(1, 20), &[]).await?;
    pair.sync().await?;
    pair.expect_same("o").await
}

#[tokio::test]
async fn a_remote_that_fails_halfway_is_gone_on_with() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    let entries = pair.put_segments("parts", "p", &[1000; 20]).await?;
    pair.put_slo("o", &entries, &[]).await?;
    let rule = Rule::new(Fault::Error { status: 503, code: "no".into() }).method("PUT").after(12);
    pair.remote.faults.inject(rule);
    for worker in &pair.site.workers {
        worker.run_once().await?;
    }
    let sent = pair.names("copies_segments").await?.len();
    assert!(sent > 0 && pair.names("copies").await?.is_empty(), "{sent}");
    pair.remote.faults.heal();
    let asked = pair.sync().await?;
    pair.expect_same("o").await?;
    let puts = asked.iter().filter(|request| request.starts_with("PUT")).count();
    assert!(puts <= 21 - sent.min(8), "what had arrived is not sent again: {puts} of 21, {sent} were there");
    Ok(())
}

#[tokio::test]
async fn objects_change_their_kind_and_leave_nothing_that_users_removed() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    let first = pair.put_segments("c_segments", "o/1/", &[100; 5]).await?;
    pair.put_slo("o", &first, &[]).await?;
    pair.sync().await?;
    // As `swift upload` does: the new segments, the manifest, then the old segments go.
    let second = pair.put_segments("c_segments", "o/2/", &[50; 2]).await?;
    pair.put_slo("o", &second, &[]).await?;
    for number in 0..5 {
        pair.site.swift.delete_object("c_segments", &format!("o/1/{number:06}")).await?.success()?;
    }
    pair.sync().await?;
    pair.expect_same("o").await?;
    assert_eq!(pair.names("copies_segments").await?, ["o/2/000000", "o/2/000001"]);
    pair.site.swift.put_object("c", "o", "plain now", &[]).await?;
    pair.sync().await?;
    pair.expect_same("o").await?;
    pair.put_segments("c_segments", "o/3/", &[10; 2]).await?;
    pair.site
        .swift
        .put_object("c", "o", "", &[("X-Object-Manifest", "c_segments/o/3/"), ("Content-Length", "0")])
        .await?;
    pair.sync().await?;
    pair.expect_same("o").await?;
    pair.put_slo("o", &second, &[]).await?;
    pair.sync().await?;
    pair.expect_same("o").await
}

#[tokio::test]
async fn segments_go_with_their_manifest_unless_they_are_still_here() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    let both = pair.put_segments("c_segments", "both", &[10; 2]).await?;
    let own = pair.put_segments("c_segments", "own", &[10; 3]).await?;
    let entries: Vec<Value> = both.iter().chain(&own).cloned().collect();
    pair.put_slo("one", &entries, &[]).await?;
    pair.put_slo("two", &both, &[]).await?;
    pair.put_segments("c_segments", "dlo/", &[10; 4]).await?;
    pair.site
        .swift
        .put_object("c", "dlo", "", &[("X-Object-Manifest", "c_segments/dlo/"), ("Content-Length", "0")])
        .await?;
    pair.sync().await?;
    for number in 0..3 {
        pair.site.swift.delete_object("c_segments", &format!("own{number:06}")).await?.success()?;
    }
    for number in 0..4 {
        pair.site.swift.delete_object("c_segments", &format!("dlo/{number:06}")).await?.success()?;
    }
    for name in ["one", "dlo"] {
        pair.site.swift.delete_object("c", name).await?.success()?;
    }
    let rule = Rule::new(Fault::Error { status: 500, code: "no".into() }).method("DELETE");
    pair.remote.faults.inject(rule.when(|seen| seen.target.contains("own000001")));
    for worker in &pair.site.workers {
        worker.run_once().await?;
    }
    assert_eq!(
        pair.names("copies").await?,
        ["one", "two"],
        "the manifest stays as long as a segment is owed"
    );
    pair.remote.faults.heal();
    pair.sync().await?;
    assert_eq!(pair.names("copies").await?, ["two"]);
    assert_eq!(pair.names("copies_segments").await?, ["both000000", "both000001"]);
    pair.expect_same("two").await
}

#[tokio::test]
async fn segments_live_longer_than_their_manifest() -> Result<()> {
    let pair = Pair::mapped(|mapping| {
        mapping.set("remote_delete_after", 100_000).set("remote_delete_after_addition", 172_800)
    })
    .await?;
    let entries = pair.put_segments("parts", "p", &[10, 20]).await?;
    pair.put_slo("o", &entries, &[]).await?;
    pair.sync().await?;
    let at = async |container: &str, name: &str| -> Result<u64> {
        let head = pair.remote.swift.head_object(container, name).await?.success()?;
        Ok(head.header("x-delete-at").context("an expiry")?.parse()?)
    };
    let difference = at("copies_segments", "p000000").await? - at("copies", "o").await?;
    assert!((172_700..=172_900).contains(&difference), "{difference}");
    let asked = pair.sync().await?;
    assert!(!asked.iter().any(|request| request.starts_with('P')), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn an_archived_large_object_is_whole_on_the_remote() -> Result<()> {
    let pair =
        Pair::mapped(|mapping| mapping.set("retain_local", false).set("propagate_delete", false)).await?;
    let entries = pair.put_segments("c_segments", "p", &[100, 200, 300]).await?;
    pair.put_slo("o", &entries, &[("X-Object-Meta-K", "V")]).await?;
    let before = pair.local("o").await?;
    pair.sync().await?;
    assert_eq!(pair.site.swift.get_object("c", "o").await?.status, 404);
    assert_eq!(pair.site.swift.list("c_segments").await?.len(), 0, "its segments went with it");
    let copy = pair.copy("o").await?;
    assert_eq!(copy.body, before.body);
    assert_eq!(copy.header("x-object-meta-k"), Some("V"));
    Ok(())
}

#[tokio::test]
async fn a_large_object_is_not_archived_while_a_remote_segment_is_missing() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping).await?;
    let entries = pair.put_segments("c_segments", "p", &[100, 200]).await?;
    pair.put_slo("o", &entries, &[]).await?;
    pair.sync().await?;
    // Somebody removes a segment there, and the mapping begins to archive.
    pair.remote.swift.delete_object("copies_segments", "p000001").await?.success()?;
    pair.map("c", "copies", |mapping| mapping.set("retain_local", false).set("propagate_delete", false))?;
    let before = pair.local("o").await?;
    pair.sync().await?;
    assert_eq!(pair.site.swift.get_object("c", "o").await?.status, 404);
    assert_eq!(pair.copy("o").await?.body, before.body, "what was missing was sent again first");
    Ok(())
}

#[tokio::test]
async fn the_only_copy_of_an_archived_segment_is_not_overwritten() -> Result<()> {
    let pair =
        Pair::mapped(|mapping| mapping.set("retain_local", false).set("propagate_delete", false)).await?;
    let entries = pair.put_segments("c_segments", "p", &[100, 200]).await?;
    pair.put_slo("first", &entries, &[]).await?;
    let first = pair.local("first").await?;
    pair.sync().await?;
    assert_eq!(pair.site.swift.get_object("c", "first").await?.status, 404);
    // Another large object, from another container, with segments of the same names.
    let entries = pair.put_segments("parts", "p", &[50, 60]).await?;
    pair.put_slo("second", &entries, &[]).await?;
    assert!(pair.is_told("it is not overwritten").await?);
    assert_eq!(pair.copy("first").await?.body, first.body);
    assert_eq!(pair.site.swift.get_object("c", "second").await?.status, 200, "it is set aside");
    Ok(())
}

#[tokio::test]
async fn empty_segments_are_left_out_of_a_static_copy() -> Result<()> {
    let pair = Pair::mapped(|mapping| mapping.set("convert_dlo", true)).await?;
    pair.put_segments("c_segments", "d/", &[10, 20]).await?;
    let empty = [("Content-Length", "0")];
    pair.site.swift.put_object("c_segments", "d/000000-empty", "", &empty).await?;
    let headers = [("X-Object-Manifest", "c_segments/d/"), ("Content-Length", "0")];
    pair.site.swift.put_object("c", "o", "", &headers).await?;
    pair.sync().await?;
    assert_eq!(pair.copy("o").await?.body, pair.local("o").await?.body);
    assert_eq!(pair.manifest("o").await?.len(), 2);
    let asked = pair.sync().await?;
    assert!(!asked.iter().any(|request| request.starts_with('P')), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_dynamic_large_object_over_a_container_that_is_archived_is_set_aside() -> Result<()> {
    let pair =
        Pair::mapped(|mapping| mapping.set("retain_local", false).set("propagate_delete", false)).await?;
    let headers = [("X-Object-Manifest", "c/part/"), ("Content-Length", "0")];
    pair.site.swift.put_object("c", "o", "", &headers).await?;
    for number in 0..3 {
        pair.site.swift.put_object("c", &format!("part/{number}"), "content", &[]).await?;
    }
    assert!(pair.is_told("this mapping archives objects from there").await?);
    assert!(
        !pair.names("copies").await?.contains(&"o".to_owned()),
        "not a copy that lacks what was archived"
    );
    assert_eq!(pair.site.swift.get_object("c", "o").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn segments_are_found_in_the_shards_of_their_container() -> Result<()> {
    let pair =
        Pair::mapped(|mapping| mapping.set("retain_local", false).set("propagate_delete", false)).await?;
    pair.put_segments("parts", "d/", &[10; 9]).await?;
    crate::follows_shards::shard(&pair.site, "parts", 3).await?;
    let headers = [("X-Object-Manifest", "parts/d/"), ("Content-Length", "0")];
    pair.site.swift.put_object("c", "o", "", &headers).await?;
    let before = pair.local("o").await?;
    assert_eq!(before.body.len(), 90);
    pair.sync().await?;
    assert_eq!(pair.copy("o").await?.body, before.body);
    assert_eq!(pair.site.swift.get_object("c", "o").await?.status, 404);
    Ok(())
}
