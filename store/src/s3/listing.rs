//! Pages of a listing, whatever dialect the remote speaks and however well it does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};
use percent_encoding::percent_decode_str;

use crate::error::{ErrorKind, StoreError};
use crate::metering::Operation;
use crate::object_store::{ListEntry, ListPage};
use crate::s3::classify;

/// S3 never gives more keys at once.
pub(super) const MAX_PAGE: u16 = 1000;

/// Pages without a new key that are skipped before giving up. They occur where a remote does not know `start-after`
/// and begins at the first key; 1000 pages are a million keys.
pub(super) const MAX_SKIPPED_PAGES: u32 = 1000;

/// Lists one bucket.
#[derive(Debug)]
pub(crate) struct Lister {
    client: Client,
    bucket: String,
    encodes: bool,
    /// The remote does not know version 2 of the listing.
    speaks_old: AtomicBool,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Start,
    After(String),
    /// The remote's own mark (version 2).
    Token(String),
}

/// A page as the remote gave it.
pub(super) struct RawPage {
    pub(super) objects: Vec<Object>,
    /// Common prefixes, as they were written.
    pub(super) folders: Vec<String>,
    pub(super) encoded: bool,
    pub(super) truncated: bool,
    pub(super) next_token: Option<String>,
    pub(super) next_marker: Option<String>,
}

/// What all pages of a listing are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) max_keys: i32,
}

impl Lister {
    pub(crate) fn new(client: Client, bucket: &str, encodes: bool) -> Self {
        Self { client, bucket: bucket.to_owned(), encodes, speaks_old: AtomicBool::new(false) }
    }

    /// See [`crate::ObjectStore::list`].
    pub(crate) async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max_keys: u16,
    ) -> Result<ListPage, StoreError> {
        let start_after = start_after.filter(|key| !key.is_empty());
        let max_keys = i32::from(max_keys.clamp(1, MAX_PAGE));
        let scope = Scope { prefix, delimiter: None, max_keys };
        let mut position = start_after.map_or(Position::Start, |key| Position::After(key.to_owned()));
        for _ in 0..MAX_SKIPPED_PAGES {
            let raw = self.fetch(&scope, &position).await?;
            let (entries, last_key) = read_entries(&raw, prefix, start_after);
            if !raw.truncated || !entries.is_empty() {
                return Ok(ListPage { truncated: raw.truncated, entries });
            }
            let next = match (raw.next_token, raw.next_marker, last_key) {
                (Some(token), _, _) => Position::Token(token),
                (None, Some(marker), _) => Position::After(decode(&marker, raw.encoded)),
                (None, None, Some(last_key)) => Position::After(last_key),
                (None, None, None) => return Err(stuck("the page is empty")),
            };
            if next == position {
                return Err(stuck("the same page again"));
            }
            position = next;
        }
        Err(stuck("too many pages without a new key"))
    }

    pub(super) async fn fetch(&self, scope: &Scope<'_>, position: &Position) -> Result<RawPage, StoreError> {
        if !self.speaks_old.load(Ordering::Relaxed) {
            match self.fetch_new(scope, position).await {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    tracing::debug!(bucket = %self.bucket, "remote knows only version 1 of listings");
                    self.speaks_old.store(true, Ordering::Relaxed);
                }
                answer => return answer,
            }
        }
        self.fetch_old(scope, position).await
    }

    async fn fetch_new(&self, scope: &Scope<'_>, position: &Position) -> Result<RawPage, StoreError> {
        let (start_after, token) = match position {
            Position::Start => (None, None),
            Position::After(key) => (Some(key.clone()), None),
            Position::Token(token) => (None, Some(token.clone())),
        };
        let page = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .set_prefix(some_text(scope.prefix))
            .set_delimiter(scope.delimiter.and_then(some_text))
            .set_start_after(start_after)
            .set_continuation_token(token)
            .max_keys(scope.max_keys)
            .set_encoding_type(self.encodes.then_some(EncodingType::Url))
            .send()
            .await
            .map_err(|error| classify::sdk_error(Operation::List, None, error))?;
        if page.is_truncated.is_none()
            && page.name.is_none()
            && page.contents.is_none()
            && page.common_prefixes.is_none()
        {
            return Err(no_listing());
        }
        // The SDK reads a document that was cut short as far as it goes, without a word.
        let announced = usize::try_from(page.key_count().unwrap_or(0)).unwrap_or(0);
        let got = page.contents().len() + page.common_prefixes().len();
        if got < announced && page.is_truncated() != Some(true) {
            return Err(incomplete(announced, got));
        }
        Ok(RawPage {
            encoded: page.encoding_type() == Some(&EncodingType::Url),
            truncated: page.is_truncated().unwrap_or(false),
            next_token: page.next_continuation_token,
            next_marker: None,
            folders: folders(page.common_prefixes),
            objects: page.contents.unwrap_or_default(),
        })
    }

    async fn fetch_old(&self, scope: &Scope<'_>, position: &Position) -> Result<RawPage, StoreError> {
        let marker = match position {
            Position::After(key) => Some(key.clone()),
            Position::Start | Position::Token(_) => None,
        };
        let page = self
            .client
            .list_objects()
            .bucket(&self.bucket)
            .set_prefix(some_text(scope.prefix))
            .set_delimiter(scope.delimiter.and_then(some_text))
            .set_marker(marker)
            .max_keys(scope.max_keys)
            .set_encoding_type(self.encodes.then_some(EncodingType::Url))
            .send()
            .await
            .map_err(|error| classify::sdk_error(Operation::List, None, error))?;
        if page.is_truncated.is_none()
            && page.name.is_none()
            && page.contents.is_none()
            && page.common_prefixes.is_none()
        {
            return Err(no_listing());
        }
        Ok(RawPage {
            encoded: page.encoding_type() == Some(&EncodingType::Url),
            truncated: page.is_truncated().unwrap_or(false),
            next_token: None,
            next_marker: page.next_marker,
            folders: folders(page.common_prefixes),
            objects: page.contents.unwrap_or_default(),
        })
    }
}

fn folders(listed: Option<Vec<CommonPrefix>>) -> Vec<String> {
    listed.unwrap_or_default().into_iter().filter_map(|folder| folder.prefix).collect()
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The SDK takes an answer without a body for an empty listing. An empty bucket says more than nothing, and what is
/// not listed counts as not there.
fn no_listing() -> StoreError {
    StoreError::new(ErrorKind::Other, Operation::List)
        .with_message(Some("expected a listing, got an answer without content"))
}

fn incomplete(announced: usize, got: usize) -> StoreError {
    StoreError::new(ErrorKind::Other, Operation::List)
        .with_message(Some(&format!("expected {announced} keys as announced, got {got}")))
}

pub(super) fn stuck(why: &str) -> StoreError {
    StoreError::new(ErrorKind::Other, Operation::List)
        .with_message(Some(&format!("listing does not advance: {why}")))
}

/// The entries behind `start_after`, sorted, each key once; and the last key of the page, asked for or not.
fn read_entries(raw: &RawPage, prefix: &str, start_after: Option<&str>) -> (Vec<ListEntry>, Option<String>) {
    let encoded = raw.encoded && raw.objects.iter().filter_map(Object::key).all(is_encoded);
    let mut last_key: Option<String> = None;
    let mut entries = Vec::with_capacity(raw.objects.len());
    for object in &raw.objects {
        let Some(key) = object.key().map(|key| decode(key, encoded)) else {
            continue;
        };
        if last_key.as_ref().is_none_or(|last| *last < key) {
            last_key = Some(key.clone());
        }
        let is_asked_for = key.starts_with(prefix) && start_after.is_none_or(|start| *key > *start);
        if is_asked_for {
            entries.push(ListEntry {
                etag: object.e_tag().filter(|etag| !etag.is_empty()).map(super::bare_etag),
                length: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                last_modified: object.last_modified().and_then(system_time),
                storage_class: object.storage_class().map(|class| class.as_str().to_owned()),
                key,
            });
        }
    }
    entries.sort_by(|left, right| left.key.cmp(&right.key));
    entries.dedup_by(|later, earlier| later.key == earlier.key);
    (entries, last_key)
}

/// A key as it is. Encoded ones are decoded once: a `%` in a key is encoded itself. Amazon writes a space as `+` and
/// a plus sign as `%2B`.
pub(crate) fn decode(text: &str, encoded: bool) -> String {
    if !encoded {
        return text.to_owned();
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Whether `text` can be the outcome of percent-encoding. Some servers promise it and then do not do it.
pub(crate) fn is_encoded(text: &str) -> bool {
    let is_hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(i, byte)| match byte {
        b'%' => is_hex(bytes.get(i + 1)) && is_hex(bytes.get(i + 2)),
        byte => byte.is_ascii_graphic(),
    })
}

/// A remote's time of day; `None` for what this machine cannot express.
pub(crate) fn system_time(time: &DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str], encoded: bool) -> RawPage {
        RawPage {
            objects: keys.iter().map(|key| Object::builder().key(*key).size(1).build()).collect(),
            folders: Vec::new(),
            encoded,
            truncated: false,
            next_token: None,
            next_marker: None,
        }
    }

    fn keys(entries: &[ListEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.key.as_str()).collect()
    }

    #[test]
    fn drops_what_is_not_behind_the_start_or_not_under_the_prefix() {
        let raw = page(&["p/a", "p/b", "p/c", "q/a"], false);
        let (entries, last) = read_entries(&raw, "p/", Some("p/a"));
        assert_eq!(keys(&entries), ["p/b", "p/c"]);
        assert_eq!(last.as_deref(), Some("q/a"));
    }

    #[test]
    fn sorts_by_bytes_and_gives_each_key_once() {
        let raw = page(&["b", "é", "a", "b", "Z"], false);
        let (entries, _) = read_entries(&raw, "", None);
        assert_eq!(keys(&entries), ["Z", "a", "b", "é"]);
    }

    #[test]
    fn decodes_once_and_only_what_the_remote_calls_encoded() {
        let raw = page(&["a%2520b", "c+d", "e%2Bf", "g%0Ah"], true);
        let (entries, _) = read_entries(&raw, "", None);
        assert_eq!(keys(&entries), ["a%20b", "c d", "e+f", "g\nh"]);
        let raw = page(&["a%20b", "c+d"], false);
        let (entries, _) = read_entries(&raw, "", None);
        assert_eq!(keys(&entries), ["a%20b", "c+d"]);
    }

    #[test]
    fn a_page_that_is_not_encoded_as_promised_is_taken_as_it_is() {
        for keys_as_sent in [["a%20b", "c d"], ["a%20b", "é"], ["a%20b", "100%"], ["a%20b", "%zz"]] {
            let raw = page(&keys_as_sent, true);
            let (mut entries, _) = read_entries(&raw, "", None);
            entries.sort_by_key(|entry| entry.key != "a%20b");
            assert_eq!(keys(&entries), keys_as_sent);
        }
    }

    #[test]
    fn a_negative_size_is_no_size() {
        let mut raw = page(&["a"], false);
        raw.objects = vec![Object::builder().key("a").size(-1).build()];
        let (entries, _) = read_entries(&raw, "", None);
        assert_eq!(entries.first().map(|entry| entry.length), Some(0));
    }
}
