//! The lines of the two listings that are merged: Swift's page as it came, and what the remote listed.

use std::borrow::Cow;

use serde::Deserialize;
use swift_s3_store::Entry;

/// One line of Swift's page. Its JSON is kept as it is, whatever middlewares added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRow<'a> {
    /// The name, or the folder.
    pub text: Cow<'a, str>,
    /// It is a folder (`subdir`).
    pub is_folder: bool,
    /// The whole JSON object.
    pub raw: &'a str,
}

/// A page that is no listing as Swift writes them, such as that of a middleware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a listing in JSON")]
pub struct NotAListing;

/// A text that is borrowed from the page unless something in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    subdir: Option<Text<'a>>,
}

/// Reads Swift's page.
///
/// # Errors
/// When it is not a list of objects that have a `name` or a `subdir`.
pub fn read_page(body: &[u8]) -> Result<Vec<LocalRow<'_>>, NotAListing> {
    let text = std::str::from_utf8(body).map_err(|_| NotAListing)?;
    let mut rest = text.trim_ascii_start().strip_prefix('[').ok_or(NotAListing)?.trim_ascii_start();
    let mut rows = Vec::new();
    if let Some(end) = rest.strip_prefix(']') {
        return if end.trim_ascii().is_empty() { Ok(rows) } else { Err(NotAListing) };
    }
    loop {
        if !rest.starts_with('{') {
            return Err(NotAListing);
        }
        let mut lines = serde_json::Deserializer::from_str(rest).into_iter::<Line<'_>>();
        let line = lines.next().and_then(Result::ok).ok_or(NotAListing)?;
        let (raw, behind) = rest.split_at_checked(lines.byte_offset()).ok_or(NotAListing)?;
        let (text, is_folder) = match (line.subdir, line.name) {
            (Some(Text(folder)), _) => (folder, true),
            (None, Some(Text(name))) => (name, false),
            (None, None) => return Err(NotAListing),
        };
        rows.push(LocalRow { text, is_folder, raw });
        let behind = behind.trim_ascii_start();
        if let Some(next) = behind.strip_prefix(',') {
            rest = next.trim_ascii_start();
        } else {
            let end = behind.strip_prefix(']').ok_or(NotAListing)?;
            return if end.trim_ascii().is_empty() { Ok(rows) } else { Err(NotAListing) };
        }
    }
}

/// One line of the remote's listing.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteRow {
    entry: Entry,
    /// Bytes of the key that come before the name.
    skip: usize,
}

impl RemoteRow {
    /// The line of an entry whose key begins with `key_prefix`; `None` when it does not, or nothing follows.
    pub fn new(entry: Entry, key_prefix: &str) -> Option<Self> {
        let name = entry.key().strip_prefix(key_prefix)?;
        (!name.is_empty()).then_some(Self { skip: key_prefix.len(), entry })
    }

    /// The name, or the folder.
    pub fn text(&self) -> &str {
        self.entry.key().get(self.skip..).unwrap_or_default()
    }

    /// What is known of it.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_split_into_its_lines() {
        let page =
            br#" [{"bytes": 3, "hash": "x", "name": "a b", "content_type": "t/p", "extra": {"]": ["}"]}},
            {"subdir": "d\u00e9/"} , {"name":"\"q\"\n\ud83d\ude00"}] "#;
        let rows = read_page(page).unwrap();
        let texts: Vec<&str> = rows.iter().map(|row| &*row.text).collect();
        assert_eq!(texts, ["a b", "dé/", "\"q\"\n😀"]);
        assert_eq!(rows.iter().map(|row| row.is_folder).collect::<Vec<_>>(), [false, true, false]);
        assert!(matches!(rows[0].text, Cow::Borrowed(_)));
        assert!(rows[0].raw.starts_with("{\"bytes\"") && rows[0].raw.ends_with("}}"));
        assert_eq!(rows[1].raw, r#"{"subdir": "d\u00e9/"}"#);
        assert_eq!(read_page(b"[]").unwrap(), []);
        assert_eq!(read_page(b" [ ] ").unwrap(), []);
    }

    #[test]
    fn what_is_no_listing_is_told() {
        for page in [
            &b""[..],
            b"{}",
            b"[",
            b"[1]",
            b"[{}]",
            b"[{\"name\": 1}]",
            b"[{\"name\": \"a\"}",
            b"[{\"name\": \"a\"},]",
            b"[{\"name\": \"a\"} {\"name\": \"b\"}]",
            b"[] x",
            b"[{\"name\": \"a\"}] x",
            b"\xff",
            b"<html>",
            b"[\"name\"]",
            b"[{\"name\": \"\\ud800\"}]",
        ] {
            assert_eq!(read_page(page), Err(NotAListing), "{}", String::from_utf8_lossy(page));
        }
    }

    #[test]
    fn a_remote_line_is_named_without_the_key_prefix() {
        let folder = |key: &str| Entry::Folder(key.to_owned());
        assert_eq!(RemoteRow::new(folder("p/a/"), "p/").unwrap().text(), "a/");
        assert_eq!(RemoteRow::new(folder("p/"), "p/"), None);
        assert_eq!(RemoteRow::new(folder("q/a"), "p/"), None);
    }
}
