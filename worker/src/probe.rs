//! Asks the remote about many keys with few listing pages.
//!
//! A page of 1,000 keys costs as much as a dozen HEADs, so listings pay where the keys in question lie close together, and HEADs where they
//! are scattered. The walk decides page by page.

use std::collections::HashMap;

use swift_s3_store::{ListPage, ObjectStore, StoreError};

use crate::transfer::Hint;

/// A listing request is priced like this many HEADs. Source: Amazon S3 pricing, requests, us-east-1 standard class
/// (LIST $0.005 and HEAD $0.0004 per 1,000).
pub const PAGE_COST_IN_HEADS: usize = 12;
/// The largest page S3 gives.
const PAGE_KEYS: u16 = 1_000;

/// Asks about `keys` under `key_prefix`, in any order. The answer has one hint per key, in the same order;
/// [`Hint::Unknown`] where a HEAD is cheaper.
///
/// # Errors
/// When a listing fails; callers then do without hints.
pub async fn probe(
    store: &dyn ObjectStore,
    key_prefix: &str,
    keys: &[&str],
) -> Result<Vec<Hint>, StoreError> {
    let mut hints = vec![Hint::Unknown; keys.len()];
    let mut order: Vec<usize> = (0..keys.len()).collect();
    let key = |index: &usize| keys.get(*index).copied().unwrap_or_default();
    order.sort_by_key(key);
    let mut rest = order.as_slice();
    let mut after: Option<String> = None;
    while rest.len() >= PAGE_COST_IN_HEADS {
        let Some(first) = rest.first().map(key) else { break };
        let start = start_in_front_of(key_prefix, first, after.as_deref());
        let page = store.list(key_prefix, start.as_deref(), PAGE_KEYS).await?;
        let Some(end) = reach(&page) else { break };
        let covered = match end {
            Reach::Everything => rest.len(),
            Reach::UpTo(last) => rest.partition_point(|index| key(index) <= last),
        };
        let entries: HashMap<&str, _> =
            page.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
        let (answered, unanswered) = rest.split_at(covered);
        for index in answered {
            let hint = match entries.get(key(index)) {
                Some(entry) => Hint::Listed {
                    etag: entry.etag.clone(),
                    length: entry.length,
                    last_modified: entry.last_modified,
                },
                None => Hint::Absent,
            };
            if let Some(slot) = hints.get_mut(*index) {
                *slot = hint;
            }
        }
        rest = unanswered;
        after = page.entries.last().map(|entry| entry.key.clone());
        if covered < PAGE_COST_IN_HEADS {
            break;
        }
    }
    Ok(hints)
}

enum Reach<'a> {
    /// No key follows the page.
    Everything,
    /// Keys up to and including this one are settled.
    UpTo(&'a str),
}

/// How far a page speaks; `None` when it is not in order and so says nothing about what is missing.
fn reach(page: &ListPage) -> Option<Reach<'_>> {
    let sorted = page.entries.is_sorted_by(|one, other| one.key < other.key);
    match (sorted, page.truncated, page.entries.last()) {
        (false, _, _) | (true, true, None) => None,
        (true, true, Some(last)) => Some(Reach::UpTo(&last.key)),
        (true, false, _) => Some(Reach::Everything),
    }
}

/// The key after which a listing must start to show `first`: where the last page ended, or a little before `first` when that is further on.
fn start_in_front_of(key_prefix: &str, first: &str, after: Option<&str>) -> Option<String> {
    let mut before = first.to_owned();
    before.pop();
    let before = (before.len() > key_prefix.len()).then_some(before);
    match (before, after) {
        (Some(before), Some(after)) if before.as_str() < after => Some(after.to_owned()),
        (None, after) => after.map(str::to_owned),
        (before, _) => before,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use swift_s3_policy::{LifecyclePlan, LifecycleRule, RemoteMetadata};
    use swift_s3_store::{
        EntryPage, EntryQuery, GetObject, ListEntry, Multipart, PutObject, PutReceipt, RemoteObject,
        RequestCounts, SwiftAccount,
    };

    /// A bucket in memory that can only be listed: the walk is pure logic over pages.
    #[derive(Debug)]
    struct Listing {
        keys: BTreeSet<String>,
        pages: AtomicUsize,
        page_keys: usize,
    }

    #[async_trait]
    impl ObjectStore for Listing {
        async fn list(&self, prefix: &str, after: Option<&str>, _: u16) -> Result<ListPage, StoreError> {
            self.pages.fetch_add(1, Ordering::Relaxed);
            let mut found = self
                .keys
                .iter()
                .filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
            let entries: Vec<ListEntry> = found
                .by_ref()
                .take(self.page_keys)
                .map(|key| ListEntry {
                    key: key.clone(),
                    etag: None,
                    length: 0,
                    last_modified: None,
                    storage_class: None,
                })
                .collect();
            Ok(ListPage { truncated: found.next().is_some(), entries })
        }
        async fn list_entries(&self, _: &EntryQuery<'_>) -> Result<EntryPage, StoreError> {
            unreachable!()
        }
        async fn head(&self, _: &str) -> Result<Option<RemoteObject>, StoreError> {
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

    fn run(keys: &BTreeSet<String>, page_keys: usize, asked: &[String]) -> (Vec<Hint>, usize) {
        let store = Listing { keys: keys.clone(), pages: AtomicUsize::new(0), page_keys };
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hints = runtime.block_on(probe(&store, "p/", &asked)).unwrap();
        (hints, store.pages.load(Ordering::Relaxed))
    }

    fn names(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|number| format!("p/{number:06}")).collect()
    }

    #[test]
    fn an_empty_bucket_takes_one_page() {
        let (hints, pages) = run(&BTreeSet::new(), 1_000, &names(0..5_000));
        assert!(hints.iter().all(|hint| *hint == Hint::Absent));
        assert_eq!(pages, 1);
    }

    #[test]
    fn neighbours_take_one_page_per_thousand() {
        let keys: BTreeSet<String> = names(0..100_000).into_iter().collect();
        let (hints, pages) = run(&keys, 1_000, &names(50_000..53_000));
        assert!(hints.iter().all(|hint| matches!(hint, Hint::Listed { .. })));
        assert!(pages <= 5, "{pages} pages");
    }

    #[test]
    fn scattered_keys_are_left_to_heads_after_one_page() {
        let keys: BTreeSet<String> = names(0..100_000).into_iter().collect();
        let asked: Vec<String> = (0..50).map(|number| format!("p/{:06}", number * 2_000)).collect();
        let (hints, pages) = run(&keys, 1_000, &asked);
        assert_eq!(pages, 1);
        assert!(hints.iter().filter(|hint| **hint == Hint::Unknown).count() >= 45);
    }

    #[test]
    fn few_keys_are_left_to_heads() {
        let (hints, pages) = run(&BTreeSet::new(), 1_000, &names(0..5));
        assert_eq!((pages, hints), (0, vec![Hint::Unknown; 5]));
    }

    proptest! {
        #[test]
        fn never_says_a_wrong_thing(
            stored in proptest::collection::btree_set("p/[ab/é]{0,5}", 0..80),
            asked in proptest::collection::btree_set("p/[ab/é]{0,5}", 0..80),
            page_keys in 1..40_usize,
        ) {
            let asked: Vec<String> = asked.into_iter().collect();
            let (hints, _) = run(&stored, page_keys, &asked);
            for (key, hint) in asked.iter().zip(&hints) {
                match hint {
                    Hint::Absent => prop_assert!(!stored.contains(key), "{key} is there"),
                    Hint::Listed { .. } => prop_assert!(stored.contains(key), "{key} is not there"),
                    _ => {}
                }
            }
        }
    }
}
