//! The walk over buckets of many habits, against Swift's own listing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use proptest::prelude::*;
use swift_s3_policy::{KeyMapping, LifecyclePlan, LifecycleRule, RemoteMetadata};
use swift_s3_store::{
    Entry, EntryPage, EntryQuery, EntryStart, GetObject, ListPage, Multipart, ObjectEntry, ObjectStore,
    PutObject, PutReceipt, RemoteObject, RequestCounts, StoreError, SwiftAccount,
};

use super::{WalkError, walk};
use crate::listing::model::{self, ModelRow};
use crate::listing::params::Params;
use crate::listing::tests::{name, names, params};

/// What servers are known to do each in their own way.
#[derive(Clone, Copy, Debug)]
struct Habits {
    page_keys: usize,
    /// A start within a folder hides the folder (moto), or not.
    start_hides_folders: bool,
    /// Delimiters are not known.
    ignores_delimiter: bool,
    /// Of a delimiter only the first character becomes part of the folder (s3s-fs).
    cuts_delimiter: bool,
    /// Pages end with a mark of the server's own.
    gives_marks: bool,
}

fn habits() -> impl Strategy<Value = Habits> {
    (1..6_usize, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2), any::<bool>()).prop_map(
        |(page_keys, start_hides_folders, ignores_delimiter, cuts_delimiter, gives_marks)| Habits {
            page_keys,
            start_hides_folders,
            ignores_delimiter,
            cuts_delimiter,
            gives_marks,
        },
    )
}

/// A bucket in memory that can only be listed.
#[derive(Debug)]
struct Bucket {
    keys: BTreeSet<String>,
    habits: Habits,
    pages: AtomicUsize,
}

impl Bucket {
    fn folder_part(&self, delimiter: &str) -> usize {
        if self.habits.cuts_delimiter {
            delimiter.chars().next().unwrap().len_utf8()
        } else {
            delimiter.len()
        }
    }

    /// All entries behind the start.
    fn entries(&self, query: &EntryQuery<'_>) -> Vec<Entry> {
        let start = match &query.from {
            EntryStart::First => "",
            EntryStart::After(key) | EntryStart::Mark(key) => key,
        };
        let delimiter = query.delimiter.filter(|_| !self.habits.ignores_delimiter);
        let mut found: Vec<Entry> = Vec::new();
        for key in self.keys.iter().filter(|key| key.starts_with(query.prefix)) {
            let rest = &key[query.prefix.len()..];
            let folder = delimiter
                .and_then(|delimiter| rest.find(delimiter).map(|at| at + self.folder_part(delimiter)))
                .map(|end| &key[..query.prefix.len() + end]);
            let is_behind = match folder {
                // A mark, or a start that names a folder, has seen all of it.
                Some(folder) if self.habits.start_hides_folders || folder == start => folder > start,
                _ => key.as_str() > start,
            };
            if !is_behind {
                continue;
            }
            let entry = match folder {
                Some(folder) => Entry::Folder(folder.to_owned()),
                None => Entry::Object(ObjectEntry { key: key.clone(), ..ObjectEntry::default() }),
            };
            if found.last().is_none_or(|last| last.key() != entry.key()) {
                found.push(entry);
            }
        }
        found
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn list_entries(&self, query: &EntryQuery<'_>) -> Result<EntryPage, StoreError> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        assert!(query.until.is_none() && !query.reverse && !query.one_level, "{query:?}");
        let mut entries = self.entries(query);
        let size = self.habits.page_keys.min(usize::from(query.max_entries));
        let is_cut = entries.len() > size;
        entries.truncate(size);
        let next = entries.last().filter(|_| is_cut).map(|last| match (last, self.habits.gives_marks) {
            (Entry::Folder(folder), _) => EntryStart::After(format!("{folder}\u{10ffff}")),
            (Entry::Object(object), true) => EntryStart::Mark(object.key.clone()),
            (Entry::Object(object), false) => EntryStart::After(object.key.clone()),
        });
        Ok(EntryPage { entries, next })
    }
    async fn head(&self, key: &str) -> Result<Option<RemoteObject>, StoreError> {
        Ok(self.keys.contains(key).then(|| RemoteObject {
            etag: String::new(),
            length: 0,
            metadata: RemoteMetadata::default(),
            storage_class: None,
            archived: false,
            last_modified: None,
            kms: false,
        }))
    }
    async fn list(&self, _: &str, _: Option<&str>, _: u16) -> Result<ListPage, StoreError> {
        unreachable!()
    }
    async fn put(&self, _: &str, _: PutObject) -> Result<PutReceipt, StoreError> {
        unreachable!()
    }
    async fn replace_metadata(
        &self,
        _: &str,
        _: &str,
        _: &RemoteMetadata,
        _: Option<&str>,
    ) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn delete(&self, _: &str) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn check(&self) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn lifecycle_rules(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        unreachable!()
    }
    async fn set_expiration(&self, _: &str, _: u32) -> Result<LifecyclePlan, StoreError> {
        unreachable!()
    }
    async fn clear_expiration(&self, _: &str) -> Result<bool, StoreError> {
        unreachable!()
    }
    async fn get(&self, _: &str, _: Option<Range<u64>>) -> Result<Option<GetObject>, StoreError> {
        unreachable!()
    }
    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }
    fn swift(&self) -> Option<&dyn SwiftAccount> {
        None
    }
    fn requests(&self) -> RequestCounts {
        unreachable!()
    }
}

/// The first `limit` lines of a bucket that holds the names, and other things beside them; and the pages it took.
fn listed(
    names: &BTreeSet<String>,
    custom: Option<&str>,
    habits: Habits,
    params: &Params,
) -> (Vec<ModelRow>, usize) {
    let keys = KeyMapping::new("AUTH_a", "c", custom);
    let mut stored: BTreeSet<String> = names.iter().map(|name| keys.object_key(name)).collect();
    stored.extend(["a", "b/a", "a--"].iter().filter_map(|slo| keys.manifest_key(slo)));
    if custom != Some("") {
        stored.extend([keys.key_prefix().to_owned(), "0/other".to_owned(), "zz/other".to_owned()]);
    }
    stored.remove("");
    listed_keys(stored, keys, habits, params)
}

fn listed_keys(
    stored: BTreeSet<String>,
    keys: KeyMapping,
    habits: Habits,
    params: &Params,
) -> (Vec<ModelRow>, usize) {
    let bucket = Arc::new(Bucket { keys: stored, habits, pages: AtomicUsize::new(0) });
    let store: Arc<dyn ObjectStore> = Arc::<Bucket>::clone(&bucket);
    let pages = walk(store, keys, params.level(), params.limit);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pages: Vec<_> = runtime.block_on(pages.try_collect()).unwrap();
    let rows = pages.into_iter().inspect(|page: &Vec<_>| assert!(!page.is_empty())).flatten();
    let rows = rows.map(|row| (row.text().to_owned(), matches!(row.entry(), Entry::Folder(_))));
    (rows.take(params.limit).collect(), bucket.pages.load(Ordering::Relaxed))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bucket_is_listed_as_swift_would(
        names in names(25),
        custom in prop_oneof![Just(None), Just(Some("")), Just(Some("pre"))],
        habits in habits(),
        params in params(),
    ) {
        let (rows, _) = listed(&names, custom, habits, &params);
        prop_assert_eq!(rows, model::list(&names, &params));
    }

    #[test]
    fn a_bucket_is_walked_by_marker_line_by_line(names in names(25), habits in habits(), params in params(), limit in 1..4_usize) {
        let whole = model::list(&names, &Params { limit: usize::MAX, ..params.clone() });
        let mut seen = Vec::new();
        let mut params = Params { limit, ..params };
        loop {
            let (rows, _) = listed(&names, None, habits, &params);
            let Some((last, _)) = rows.last() else { break };
            params.marker = last.clone();
            seen.extend(rows);
            prop_assert!(seen.len() <= whole.len(), "{:?} is more than {:?}", seen, whole);
        }
        prop_assert_eq!(seen, whole);
    }

    #[test]
    fn names_that_swift_cannot_hold_are_passed_over(names in names(10), odd in prop::collection::vec(name(), 0..10), habits in habits()) {
        let params = Params::parse("").unwrap();
        let keys = KeyMapping::new("AUTH_a", "c", None);
        let mut stored: BTreeSet<String> = names.iter().map(|name| keys.object_key(name)).collect();
        stored.extend(odd.iter().map(|name| keys.object_key(&format!("{name}\0"))));
        stored.extend(odd.iter().map(|name| keys.object_key(&format!("{name}{}", "x".repeat(1024)))));
        let (rows, _) = listed_keys(stored, keys, habits, &params);
        prop_assert_eq!(rows, model::list(&names, &params));
    }
}

const USUAL: Habits = Habits {
    page_keys: 1000,
    start_hides_folders: false,
    ignores_delimiter: false,
    cuts_delimiter: false,
    gives_marks: true,
};

fn query(query: &str) -> Params {
    Params::parse(query).unwrap()
}

#[test]
fn a_page_takes_as_many_requests_as_it_must() {
    let names: BTreeSet<String> = (0..2_500).map(|number| format!("{number:05}")).collect();
    for (text, pages) in
        [("", 3), ("limit=1000", 1), ("limit=10", 1), ("marker=02000", 1), ("limit=0", 0), ("prefix=x", 1)]
    {
        let keys = KeyMapping::new("AUTH_a", "c", None);
        let stored = names.iter().map(|name| keys.object_key(name)).collect();
        let (rows, taken) = listed_keys(stored, keys, USUAL, &query(text));
        assert_eq!(rows, model::list(&names, &query(text)));
        assert_eq!(taken, pages, "{text}");
    }
}

#[test]
fn thousands_of_companions_do_not_stall_a_page() {
    let keys = KeyMapping::new("AUTH_a", "c", Some(""));
    let companions = (0..30_000).filter_map(|number| keys.manifest_key(&format!("slo-{number}")));
    let names: BTreeSet<String> = ["-", "a/b", "z", ".manifests/zebra"].map(str::to_owned).into();
    let stored: BTreeSet<String> = companions.chain(names.iter().cloned()).collect();
    for text in ["", "delimiter=/", "delimiter=/&reverse=true", "prefix=.", "prefix=.manifests/"] {
        let (rows, pages) = listed_keys(stored.clone(), keys.clone(), USUAL, &query(text));
        assert_eq!(rows, model::list(&names, &query(text)), "{text}");
        assert!(pages < 20, "{text}: {pages} pages");
    }
    let without: BTreeSet<String> = stored.iter().filter(|key| !key.contains("zebra")).cloned().collect();
    let (rows, _) = listed_keys(without, keys, USUAL, &query("delimiter=/"));
    let texts: Vec<&str> = rows.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["-", "a/", "z"]);
}

#[test]
fn a_page_that_takes_too_many_requests_is_given_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let listed = |count: usize, text: &str, habits: Habits| {
        let keys = KeyMapping::new("AUTH_a", "c", None);
        let stored = (0..count).map(|number| keys.object_key(&format!("{number:06}/x"))).collect();
        let store = Arc::new(Bucket { keys: stored, habits, pages: AtomicUsize::new(0) });
        let pages = walk(Arc::<Bucket>::clone(&store), keys, query(text).level(), 100);
        let answer = runtime.block_on(pages.try_collect::<Vec<_>>());
        (answer, store.pages.load(Ordering::Relaxed))
    };
    let small = Habits { page_keys: 2, ..USUAL };
    let (answer, _) = listed(900, "reverse=true", small);
    assert_eq!(answer.unwrap().len(), 1);
    let (answer, pages) = listed(1_100, "reverse=true", small);
    assert!(matches!(answer, Err(WalkError::Costly)), "{answer:?}");
    assert!(pages <= 500, "{pages}");
    // Each of them might be an object.
    let (answer, _) = listed(4_000, "path=", USUAL);
    assert!(answer.unwrap().is_empty());
    let (answer, pages) = listed(20_000, "path=", USUAL);
    assert!(matches!(answer, Err(WalkError::Costly)), "{answer:?}");
    assert!(pages <= 60, "{pages}");
}
