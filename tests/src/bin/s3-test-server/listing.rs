//! One page of a bucket listing.

use std::collections::BTreeMap;
use std::ops::Bound;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use s3s::dto::{CommonPrefix, EncodingType, Object, ObjectStorageClass};

use crate::object::StoredObject;

/// What S3 leaves as it is with `encoding-type=url`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) delimiter: Option<&'a str>,
    pub(crate) after: Option<&'a str>,
    pub(crate) max_keys: i32,
    pub(crate) encoding: Option<&'a EncodingType>,
}

#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) contents: Vec<Object>,
    pub(crate) common_prefixes: Vec<CommonPrefix>,
    pub(crate) truncated: bool,
    /// The last key or common prefix, not encoded.
    pub(crate) last: Option<String>,
}

impl Page {
    pub(crate) fn count(&self) -> i32 {
        i32::try_from(self.contents.len() + self.common_prefixes.len()).unwrap_or(i32::MAX)
    }
}

/// Lists in byte order of the keys; entries at or before `after` are left out, common prefixes too.
pub(crate) fn page(objects: &BTreeMap<String, StoredObject>, query: &Query<'_>) -> Page {
    let limit = usize::try_from(query.max_keys.clamp(0, 1000)).unwrap_or_default();
    let mut page = Page::default();
    let after = query.after.unwrap_or_default();
    let start = if after > query.prefix { Bound::Excluded(after) } else { Bound::Included(query.prefix) };
    for (key, object) in objects.range::<str, _>((start, Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(query.prefix) else {
            break;
        };
        if key.as_str() <= after && !after.is_empty() {
            continue;
        }
        let folder = query
            .delimiter
            .filter(|delimiter| !delimiter.is_empty())
            .and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()))
            .and_then(|end| key.get(..query.prefix.len() + end));
        // A folder that was listed already, on this page or an earlier one.
        if folder.is_some_and(|folder| page.last.as_deref() == Some(folder) || folder <= after) {
            continue;
        }
        if page.contents.len() + page.common_prefixes.len() == limit {
            page.truncated = limit > 0;
            break;
        }
        let name = folder.unwrap_or(key);
        page.last = Some(name.to_owned());
        if folder.is_some() {
            page.common_prefixes.push(CommonPrefix { prefix: Some(encoded(name, query.encoding)) });
        } else {
            page.contents.push(entry(name, object, query.encoding));
        }
    }
    page
}

pub(crate) fn encoded(text: &str, encoding: Option<&EncodingType>) -> String {
    if encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
        percent_encode(text.as_bytes(), ESCAPED).to_string()
    } else {
        text.to_owned()
    }
}

fn entry(key: &str, object: &StoredObject, encoding: Option<&EncodingType>) -> Object {
    let class = object.attributes.storage_class.as_deref().unwrap_or("STANDARD");
    Object {
        key: Some(encoded(key, encoding)),
        e_tag: Some(object.tag()),
        size: i64::try_from(object.length).ok(),
        last_modified: Some(object.modified()),
        storage_class: Some(ObjectStorageClass::from(class.to_owned())),
        ..Object::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::object::Attributes;

    fn objects(keys: &[&str]) -> BTreeMap<String, StoredObject> {
        let object = StoredObject {
            pieces: Vec::new(),
            length: 0,
            etag: String::new(),
            modified: std::time::SystemTime::UNIX_EPOCH,
            attributes: Attributes::default(),
        };
        keys.iter().map(|key| ((*key).to_owned(), object.clone())).collect()
    }

    fn all(keys: &[&str], prefix: &str, delimiter: Option<&str>, max_keys: i32) -> Vec<String> {
        let objects = objects(keys);
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let query = Query { prefix, delimiter, after: after.as_deref(), max_keys, encoding: None };
            let page = page(&objects, &query);
            found.extend(page.contents.iter().filter_map(|object| object.key.clone()));
            found.extend(page.common_prefixes.iter().filter_map(|folder| folder.prefix.clone()));
            if !page.truncated {
                return found;
            }
            after = page.last;
        }
    }

    #[test]
    fn pages_join_to_the_whole_listing() {
        let keys = ["a", "b/1", "b/2", "c", "p/x", "p/y/1", "p/y/2", "p/z"];
        for max_keys in 1..9 {
            assert_eq!(all(&keys, "", None, max_keys), keys, "{max_keys}");
            let mut folders = all(&keys, "", Some("/"), max_keys);
            folders.sort();
            assert_eq!(folders, ["a", "b/", "c", "p/"], "{max_keys}");
            let mut below = all(&keys, "p/", Some("/"), max_keys);
            below.sort();
            assert_eq!(below, ["p/x", "p/y/", "p/z"], "{max_keys}");
        }
    }
}
