//! Pages of entries: keys and the folders that a delimiter makes of them.

use std::borrow::Cow;

use aws_sdk_s3::types::Object;
use percent_encoding::percent_decode_str;

use crate::entries::{Entry, EntryPage, EntryQuery, EntryStart, ObjectEntry};
use crate::error::{ErrorKind, StoreError};
use crate::metering::Operation;
use crate::s3::listing::{
    Lister, MAX_PAGE, MAX_SKIPPED_PAGES, Position, RawPage, Scope, is_encoded, stuck, system_time,
};

/// No key of a folder sorts behind the folder with this appended, but for those that go on with this very character: the last one there
/// is, and no character at all by Unicode's word.
const LAST_CHARACTER: char = '\u{10ffff}';

impl Lister {
    /// See [`crate::ObjectStore::list_entries`].
    pub(crate) async fn entries(&self, query: &EntryQuery<'_>) -> Result<EntryPage, StoreError> {
        if query.reverse || query.one_level || query.until.is_some() {
            return Err(StoreError::new(ErrorKind::Unsupported, Operation::List)
                .with_message(Some("listings go forward, to the end")));
        }
        let max_keys = i32::from(query.max_entries.clamp(1, MAX_PAGE));
        let scope = Scope { prefix: query.prefix, delimiter: query.delimiter, max_keys };
        let (after, mut position) = match &query.from {
            EntryStart::First => (None, Position::Start),
            EntryStart::After(key) => (Some(key.as_str()), Position::After(key.clone())),
            EntryStart::Mark(token) => (None, Position::Token(token.clone())),
        };
        for _ in 0..MAX_SKIPPED_PAGES {
            let raw = self.fetch(&scope, &position).await?;
            let (entries, last) = read_page(&raw, &scope, after);
            if !raw.truncated {
                return Ok(EntryPage { entries, next: None });
            }
            let next = match (raw.next_token, raw.next_marker, last) {
                (Some(token), _, _) => Position::Token(token),
                (None, Some(marker), last) => match decode_strictly(&marker, raw.encoded) {
                    Some(marker) => Position::After(behind(&marker, &scope)),
                    None => Position::After(last.ok_or_else(|| stuck("the page is empty"))?),
                },
                (None, None, Some(last)) => Position::After(last),
                (None, None, None) => return Err(stuck("the page is empty")),
            };
            if next == position {
                return Err(stuck("the same page again"));
            }
            if !entries.is_empty() {
                let next = match next {
                    Position::Start => EntryStart::First,
                    Position::After(key) => EntryStart::After(key),
                    Position::Token(token) => EntryStart::Mark(token),
                };
                return Ok(EntryPage { entries, next: Some(next) });
            }
            position = next;
        }
        Err(stuck("too many pages without a new key"))
    }
}

/// The page's entries behind `after`, in order, each once; and from where to go on if the remote does not tell.
fn read_page(raw: &RawPage, scope: &Scope<'_>, after: Option<&str>) -> (Vec<Entry>, Option<String>) {
    let texts = || raw.objects.iter().filter_map(Object::key).chain(raw.folders.iter().map(String::as_str));
    let encoded = raw.encoded && texts().all(is_encoded);
    let objects = raw.objects.iter().filter_map(|object| {
        let key = decode_strictly(object.key()?, encoded)?;
        Some(Entry::Object(ObjectEntry {
            etag: object.e_tag().filter(|etag| !etag.is_empty()).map(super::bare_etag),
            slo_etag: None,
            length: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            content_type: None,
            last_modified: object.last_modified().and_then(system_time),
            key,
        }))
    });
    let folders = raw.folders.iter().filter_map(|folder| decode_strictly(folder, encoded).map(Entry::Folder));
    let mut entries: Vec<Entry> = objects.chain(folders).collect();
    let last = entries.iter().map(Entry::key).max().map(|last| behind(last, scope));
    entries.retain(|entry| {
        entry.key().starts_with(scope.prefix) && after.is_none_or(|after| entry.key() > after)
    });
    entries.sort_by(|left, right| left.key().cmp(right.key()));
    entries.dedup_by(|later, earlier| later.key() == earlier.key());
    (entries, last)
}

/// The key behind which the listing goes on after an entry. Servers disagree about a start that is a folder itself.
fn behind(text: &str, scope: &Scope<'_>) -> String {
    let is_folder = scope.delimiter.is_some_and(|delimiter| {
        text.strip_prefix(scope.prefix).is_some_and(|rest| rest.ends_with(delimiter))
    });
    let mut key = text.to_owned();
    if is_folder {
        key.push(LAST_CHARACTER);
    }
    key
}

/// A key as it is; `None` when it is not UTF-8.
fn decode_strictly(text: &str, encoded: bool) -> Option<String> {
    if !encoded {
        return Some(text.to_owned());
    }
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope { prefix: "p/", delimiter: Some("--"), max_keys: 1000 };

    fn page(keys: &[&str], folders: &[&str], encoded: bool) -> RawPage {
        RawPage {
            objects: keys.iter().map(|key| Object::builder().key(*key).size(1).build()).collect(),
            folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
            encoded,
            truncated: false,
            next_token: None,
            next_marker: None,
        }
    }

    fn keys(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(Entry::key).collect()
    }

    #[test]
    fn keys_and_folders_are_one_sorted_list() {
        let raw = page(&["p/b", "p/é", "q/z", "p/b"], &["p/a--", "p/c--", "p/a--"], false);
        let (entries, last) = read_page(&raw, &SCOPE, None);
        assert_eq!(keys(&entries), ["p/a--", "p/b", "p/c--", "p/é"]);
        assert_eq!(last.as_deref(), Some("q/z"));
    }

    #[test]
    fn a_page_that_ends_with_a_folder_goes_on_behind_all_of_it() {
        let (entries, last) = read_page(&page(&["p/b"], &["p/c--"], false), &SCOPE, Some("p/b"));
        assert_eq!(keys(&entries), ["p/c--"]);
        assert_eq!(last.as_deref(), Some("p/c--\u{10ffff}"));
        let plain = Scope { delimiter: None, ..SCOPE };
        let (_, last) = read_page(&page(&["p/c--"], &[], false), &plain, None);
        assert_eq!(last.as_deref(), Some("p/c--"));
    }

    #[test]
    fn keys_that_are_not_utf_8_are_left_out() {
        let raw = page(&["p/a", "p/%80b", "p/c+d"], &["p/%FF--", "p/e%2B--"], true);
        let (entries, _) = read_page(&raw, &SCOPE, None);
        assert_eq!(keys(&entries), ["p/a", "p/c d", "p/e+--"]);
    }
}
