//! Pages of entries, as Swift itself gives them: all its parameters are passed on.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use http::Method;
use serde::Deserialize;

use crate::entries::{Entry, EntryPage, EntryQuery, EntryStart, ObjectEntry};
use crate::error::{ErrorKind, StoreError};
use crate::swift::classify::failure;
use crate::swift::listing::{bare_etag, time};
use crate::swift::request::{Call, Target};
use crate::swift::{MAX_LISTING_BYTES, SwiftStore, unreadable};

/// What a cluster says that gives fewer entries at once than were asked for. Source: swift/common/request_helpers.py,
/// `constrain_req_limit`.
const LIMIT_MESSAGE: &str = "Maximum limit is ";

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subdir: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    hash: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    slo_etag: Option<Cow<'a, str>>,
    #[serde(default)]
    bytes: u64,
    #[serde(borrow, default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    last_modified: Option<Cow<'a, str>>,
}

/// See [`crate::ObjectStore::list_entries`].
pub(super) async fn list(store: &SwiftStore, query: &EntryQuery<'_>) -> Result<EntryPage, StoreError> {
    let (container, _) = query.prefix.split_once('/').ok_or_else(|| {
        invalid(query.prefix).with_message(Some("expected a prefix that begins with container/"))
    })?;
    let known = store.page_limit.load(Ordering::Relaxed);
    let mut limit = query.max_entries.max(1);
    if known > 0 {
        limit = limit.min(known);
    }
    let answer = ask(store, container, query, limit).await;
    let Err(error) = &answer else { return answer };
    match allowed_limit(error).filter(|allowed| *allowed < limit) {
        Some(allowed) => {
            store.page_limit.store(allowed, Ordering::Relaxed);
            ask(store, container, query, allowed).await
        }
        None => answer,
    }
}

async fn ask(
    store: &SwiftStore,
    container: &str,
    query: &EntryQuery<'_>,
    limit: u16,
) -> Result<EntryPage, StoreError> {
    let target =
        Target::container(container).map_err(|error| invalid(query.prefix).with_message(Some(error)))?;
    let name_of =
        |key: &str| key.strip_prefix(container).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
    let elsewhere =
        |key: &str| invalid(key).with_message(Some("expected a key of the container that is listed"));
    let name_prefix = name_of(query.prefix).unwrap_or_default();
    let mut parameters = vec![("format", "json".to_owned()), ("limit", limit.to_string())];
    if query.one_level {
        parameters.push(("path", name_prefix));
    } else {
        parameters.extend((!name_prefix.is_empty()).then_some(("prefix", name_prefix)));
        parameters.extend(query.delimiter.map(|delimiter| ("delimiter", delimiter.to_owned())));
    }
    if let EntryStart::After(key) | EntryStart::Mark(key) = &query.from {
        parameters.push(("marker", name_of(key).ok_or_else(|| elsewhere(key))?));
    }
    if let Some(key) = query.until {
        parameters.push(("end_marker", name_of(key).ok_or_else(|| elsewhere(key))?));
    }
    parameters.extend(query.reverse.then_some(("reverse", "true".to_owned())));
    let call = parameters
        .iter()
        .fold(Call::new("list", Method::GET, target), |call, (name, value)| call.parameter(name, value));
    let body = store.read_page(&call, MAX_LISTING_BYTES).await?;
    let entries = read(&body, container).map_err(|error| unreadable(&call, &error))?;
    let is_full = entries.len() >= usize::from(limit);
    let next = entries.last().filter(|_| is_full).map(|last| EntryStart::After(last.key().to_owned()));
    if let (Some(EntryStart::After(next)), EntryStart::After(before)) = (&next, &query.from)
        && next == before
    {
        return Err(failure(&call, ErrorKind::Other).with_message(Some("listing does not advance")));
    }
    Ok(EntryPage { entries, next })
}

fn invalid(key: &str) -> StoreError {
    StoreError::named(ErrorKind::Invalid, "list").with_key(key)
}

/// The limit that a refusal names.
fn allowed_limit(error: &StoreError) -> Option<u16> {
    if error.status() != Some(412) {
        return None;
    }
    let (_, after) = error.message()?.split_once(LIMIT_MESSAGE)?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|limit| *limit > 0)
}

fn not_empty(text: Option<Cow<'_, str>>) -> Option<Cow<'_, str>> {
    text.filter(|text| !text.is_empty())
}

/// Reads a page.
///
/// # Errors
/// When it is no listing.
fn read(body: &[u8], container: &str) -> Result<Vec<Entry>, String> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let lines: Vec<Line<'_>> =
        serde_json::from_slice(body).map_err(|error| format!("expected a JSON listing: {error}"))?;
    let key = |name: &str| format!("{container}/{name}");
    Ok(lines
        .into_iter()
        .filter_map(|line| match (line.name, line.subdir) {
            (Some(name), _) => Some(Entry::Object(ObjectEntry {
                key: key(&name),
                etag: not_empty(line.hash).as_deref().map(bare_etag),
                slo_etag: not_empty(line.slo_etag).as_deref().map(bare_etag),
                length: line.bytes,
                content_type: not_empty(line.content_type).map(Cow::into_owned),
                last_modified: line.last_modified.as_deref().and_then(time),
            })),
            (None, Some(subdir)) => Some(Entry::Folder(key(&subdir))),
            (None, None) => None,
        })
        .collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_objects_and_folders() {
        let body = br#"[{"bytes": 7, "hash": "aaa", "name": "a \u00e9", "content_type": "text/x", "last_modified": "2024-02-29T10:11:12.345670"},
            {"subdir": "x/"}, {"name": "big", "hash": "aaa", "slo_etag": "\"bbb\"", "bytes": 9, "content_type": "t/t", "new": [1]}]"#;
        let entries = read(body, "c").unwrap();
        assert_eq!(entries.len(), 3);
        let Entry::Object(first) = &entries[0] else { panic!("{entries:?}") };
        assert_eq!((first.key.as_str(), first.length), ("c/a é", 7));
        assert_eq!(first.content_type.as_deref(), Some("text/x"));
        assert!(first.last_modified.is_some());
        assert_eq!(entries[1], Entry::Folder("c/x/".to_owned()));
        let Entry::Object(big) = &entries[2] else { panic!("{entries:?}") };
        assert_eq!((big.etag.as_deref(), big.slo_etag.as_deref()), (Some("aaa"), Some("bbb")));
    }

    #[test]
    fn what_is_no_listing_is_an_error() {
        for body in [&b"<html>"[..], b"{}", b"[1]", b"[{\"bytes\": -1}]", b"\xff"] {
            assert!(read(body, "c").is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_cluster_with_shorter_pages_is_understood() {
        let refusal = |status, message| {
            StoreError::named(ErrorKind::Invalid, "list").with_status(status).with_message(Some(message))
        };
        assert_eq!(allowed_limit(&refusal(412, "Maximum limit is 5000")), Some(5000));
        for (status, message) in [(412, "other"), (400, "Maximum limit is 5000"), (412, "Maximum limit is x")]
        {
            assert_eq!(allowed_limit(&refusal(status, message)), None);
        }
    }
}
