//! Every listing is compared with Swift's own of a container that holds all the names.

use anyhow::{Context, Result};
use swift_s3_tests::s3_servers::S3ServerKind;

use super::{Merged, get, lines};

/// In Swift only, in both, and at the remote only.
pub(super) const LOCAL: [&str; 12] =
    ["a", "a-1", "b/1", "b/c/1", "d--x", "photos/2020/a", "unicodé/x", "z", "é", "%41", "same", "folder/"];
pub(super) const REMOTE: [&str; 15] = [
    "A",
    "a/x",
    "a1",
    "b/2",
    "b/c/2",
    "b/d/1",
    "d--y--z",
    "e f",
    "photos/2020/b",
    "photos/2021/a",
    "same",
    "unicodé/y",
    "zz/1",
    "😀",
    "photos/2020/c",
];

pub(super) const QUERIES: [&str; 42] = [
    "",
    "limit=3",
    "limit=0",
    "prefix=photos/",
    "prefix=b",
    "prefix=none",
    "delimiter=/",
    "delimiter=/&limit=4",
    "delimiter=--",
    "delimiter=a",
    "delimiter=%C3%A9",
    "prefix=photos/&delimiter=/",
    "prefix=photos/20&delimiter=/2",
    "prefix=b/&delimiter=/&marker=b/1",
    "delimiter=/&marker=b/",
    "delimiter=/&marker=b/c",
    "delimiter=/&marker=b/zzz",
    "delimiter=/&marker=a",
    "marker=b/c/1",
    "marker=%F0%9F%98%80",
    "end_marker=b",
    "end_marker=b/c/2&delimiter=/",
    "marker=a&end_marker=photos",
    "reverse=true",
    "reverse=true&limit=3",
    "reverse=on&marker=photos/2020/b",
    "reverse=true&end_marker=d",
    "reverse=true&delimiter=/",
    "reverse=true&delimiter=/&marker=photos/2020/b",
    "reverse=true&delimiter=/&end_marker=photos/2020/b",
    "reverse=true&delimiter=/&limit=2&marker=e",
    "reverse=true&delimiter=/&prefix=photos/",
    "path=",
    "path=b",
    "path=photos/2020",
    "path=photos&reverse=true",
    "path=b&limit=1",
    "path=/",
    "marker=z&end_marker=a",
    "prefix=b&marker=c",
    "limit=5&marker=&delimiter=",
    "limit=-3&prefix=a&prefix=b/",
];

async fn is_swifts_own(server: S3ServerKind) -> Result<()> {
    let merged = Merged::start(server).await?;
    merged.site.swift.put_container("all").await?;
    merged.put_local("c", LOCAL).await?;
    merged.put_remote(REMOTE).await?;
    merged.put_local("all", LOCAL.into_iter().chain(REMOTE)).await?;
    for query in QUERIES {
        let expected = get(&merged.site.swift, "all", query, &[]).await?;
        let answer = merged.get(query).await.with_context(|| format!("?{query}"))?;
        assert_eq!(answer.status, expected.status, "?{query}: {:?}", answer.body);
        assert_eq!(lines(&answer)?, lines(&expected)?, "?{query}");
        for name in ["content-type", "vary"] {
            assert_eq!(answer.header(name), expected.header(name), "{name} of ?{query}");
        }
        // A 204 has none by RFC 9110; Swift sends a zero.
        if answer.status == 200 {
            assert_eq!(answer.header("content-length"), expected.header("content-length"), "?{query}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_listing_is_swifts_own_over_all_names() -> Result<()> {
    is_swifts_own(S3ServerKind::Memory).await
}

/// moto has a mind of its own about starts within folders.
#[tokio::test]
async fn a_listing_is_swifts_own_over_all_names_with_moto() -> Result<()> {
    is_swifts_own(S3ServerKind::Moto).await
}

#[tokio::test]
async fn pages_walked_by_marker_have_no_gaps_and_no_repeats() -> Result<()> {
    for server in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let merged = Merged::start(server).await?;
        merged.put_local("c", LOCAL).await?;
        merged.put_remote(REMOTE).await?;
        for query in [
            "",
            "delimiter=/",
            "reverse=true",
            "reverse=true&delimiter=/",
            "prefix=photos/&delimiter=/",
            "delimiter=--",
        ] {
            let whole = merged.names(query).await?;
            for limit in [1, 4] {
                let mut walked: Vec<String> = Vec::new();
                loop {
                    let marker = super::encode(walked.last().map_or("", String::as_str));
                    let page = merged.names(&format!("{query}&limit={limit}&marker={marker}")).await?;
                    if page.is_empty() {
                        break;
                    }
                    walked.extend(page);
                    assert!(walked.len() <= whole.len(), "{query}: {walked:?}");
                }
                assert_eq!(walked, whole, "{query} by {limit}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_swift_refuses_is_refused_in_its_words() -> Result<()> {
    let merged = Merged::start(S3ServerKind::Memory).await?;
    merged.put_remote(["a"]).await?;
    for (query, accept, status) in [
        ("limit=10001", "", 412),
        ("limit=99999999999999999999999", "", 412),
        ("marker=%ff", "", 400),
        ("delimiter=%80", "", 400),
        ("", "image/png", 406),
        ("", "nonsense", 400),
    ] {
        let headers: &[(&str, &str)] = if accept.is_empty() { &[] } else { &[("Accept", accept)] };
        let expected = get(&merged.site.swift, "c", query, headers).await?;
        let answer = merged.get_with(query, headers).await?;
        assert_eq!((answer.status, &answer.body), (expected.status, &expected.body), "?{query} {accept}");
        assert_eq!(answer.status, status, "?{query} {accept}");
    }
    Ok(())
}
