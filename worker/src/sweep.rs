//! Gives up uploads in parts that nobody completes any more: those of workers that were killed. They keep their parts, and cost money,
//! for ever.
//!
//! Called by the scheduler, for buckets of containers of which this node has the first replica. Only uploads under the key prefixes of
//! those containers are ever touched, and none to which something was added lately: whoever adds to one, on whatever node, is at work.
//! What is decided wrongly costs a transfer that begins again, never an object: an upload that was completed is no upload any more.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use swift_s3_store::{Multipart, ObjectStore, PendingUpload, StoreError, StoredPart, UploadMark};

/// Up to this many prefixes are listed one by one. For more, all uploads of the bucket are listed: there are few of them at any time,
/// and a request for each container of a large account would cost more.
const MAX_LISTED_PREFIXES: usize = 16;
/// Pages of one listing at most; a listing that goes on is left for the next sweep.
const MAX_PAGES: usize = 1000;

/// A bucket, and what in it is ours.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The bucket, behind the gates of one of its mappings.
    pub store: Arc<dyn ObjectStore>,
    /// For logs.
    pub label: String,
    /// Our prefixes.
    pub prefixes: Prefixes,
}

/// Key prefixes, none of which lies below another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(BTreeSet<String>);

impl Prefixes {
    /// Adds a prefix. Only one that ends with a slash is a folder of its own; without one, keys of others could be meant.
    pub fn add(&mut self, prefix: &str) {
        if !prefix.ends_with('/') || self.covers(prefix) {
            return;
        }
        self.0.retain(|known| !known.starts_with(prefix));
        self.0.insert(prefix.to_owned());
    }

    /// Whether a key lies under one of them.
    #[must_use]
    pub fn covers(&self, key: &str) -> bool {
        // None is below another, so the one before the key in order is the only one that can be its beginning.
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        self.0.range::<str, _>(up_to_key).next_back().is_some_and(|prefix| key.starts_with(prefix.as_str()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What to list, so that all of them are seen.
    fn listed(&self) -> Vec<&str> {
        if self.0.len() > MAX_LISTED_PREFIXES {
            vec![""]
        } else {
            self.0.iter().map(String::as_str).collect()
        }
    }
}

/// Whether an upload may be given up: it was begun, and its newest part came, longer than `age` ago. What cannot be told counts as new.
fn is_stale(begun: Option<SystemTime>, parts: &[StoredPart], age: Duration, now: SystemTime) -> bool {
    let is_old = |time: Option<SystemTime>| {
        time.and_then(|time| now.duration_since(time).ok()).is_some_and(|passed| passed > age)
    };
    is_old(begun) && parts.iter().all(|part| is_old(part.last_modified))
}

/// Gives up what is older than `age`; answers how many uploads.
///
/// # Errors
/// When the bucket cannot be listed. An upload that cannot be looked at or given up is left for the next time.
///
/// # Cancel safety
/// May be dropped at any await: each upload is given up by one request, and what is left is found again.
pub async fn sweep(bucket: &Bucket, age: Duration) -> Result<usize, StoreError> {
    let Some(multipart) = bucket.store.multipart() else { return Ok(0) };
    let mut given_up = 0;
    for prefix in bucket.prefixes.listed() {
        let mut after: Option<UploadMark> = None;
        for _ in 0..MAX_PAGES {
            let page = multipart.list_uploads(prefix, after.as_ref()).await?;
            for upload in page.uploads.iter().filter(|upload| bucket.prefixes.covers(&upload.key)) {
                match give_up(multipart, upload, age).await {
                    Ok(false) => {}
                    Ok(true) => {
                        given_up += 1;
                        tracing::info!(remote = %bucket.label, key = upload.key, upload = upload.upload_id,
                            "gave up an upload that nobody completed");
                    }
                    Err(error) => tracing::debug!(remote = %bucket.label, key = upload.key, %error,
                        "could not look at an upload, or not give it up; later again"),
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(given_up)
}

/// True when the upload was stale and is gone.
async fn give_up(
    multipart: &dyn Multipart,
    upload: &PendingUpload,
    age: Duration,
) -> Result<bool, StoreError> {
    if !is_stale(upload.initiated, &[], age, SystemTime::now()) {
        return Ok(false);
    }
    let parts = match multipart.list_parts(&upload.key, &upload.upload_id).await {
        Ok(parts) => parts,
        // Completed or given up meanwhile.
        Err(error) if error.kind() == swift_s3_store::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !is_stale(upload.initiated, &parts, age, SystemTime::now()) {
        return Ok(false);
    }
    multipart.abort(&upload.key, &upload.upload_id).await.map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(added: &[&str]) -> Prefixes {
        let mut prefixes = Prefixes::default();
        for prefix in added {
            prefixes.add(prefix);
        }
        prefixes
    }

    #[test]
    fn only_keys_under_a_prefix_are_covered() {
        let ours = prefixes(&["e5/a/c/", "x/", "e5/a/c2/"]);
        for key in ["e5/a/c/o", "e5/a/c/", "x/y/z", "e5/a/c2/o", "e5/a/c/\u{10ffff}"] {
            assert!(ours.covers(key), "{key}");
        }
        for key in ["", "e5/a/c", "e5/a/cc/o", "e5/a/c0", "x", "xx/o", "y", "e5/a/c3/o", "a"] {
            assert!(!ours.covers(key), "{key}");
        }
    }

    #[test]
    fn a_prefix_below_another_adds_nothing_in_whatever_order() {
        for added in [["x/", "x/y/"], ["x/y/", "x/"]] {
            let ours = prefixes(&added);
            assert_eq!(ours, prefixes(&["x/"]));
            assert!(ours.covers("x/a") && ours.covers("x/y/z") && ours.covers("x/z"));
        }
    }

    #[test]
    fn what_is_no_folder_of_its_own_is_never_ours() {
        assert!(prefixes(&["", "x", "/x"]).is_empty());
    }

    #[test]
    fn many_prefixes_are_found_by_one_listing_of_the_bucket() {
        let few: Vec<String> = (0..16).map(|i| format!("{i:x}/")).collect();
        let mut ours = prefixes(&few.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ours.listed().len(), 16);
        ours.add("more/");
        assert_eq!(ours.listed(), [""]);
    }

    #[test]
    fn an_upload_is_stale_when_it_and_all_its_parts_are_old() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        let part = |last_modified| StoredPart { number: 1, etag: String::new(), length: 1, last_modified };
        let later = Some(now + Duration::from_secs(1));
        let table: [(_, Vec<_>, _); 9] = [
            (ago(101), vec![], true),
            (ago(100), vec![], false),
            (ago(1000), vec![ago(500), ago(101)], true),
            (ago(1000), vec![ago(500), ago(99)], false),
            (ago(1000), vec![ago(99), ago(500)], false),
            (None, vec![ago(1000)], false),
            (ago(1000), vec![None], false),
            (later, vec![], false),
            (ago(1000), vec![later], false),
        ];
        for (begun, parts, expected) in table {
            let parts: Vec<StoredPart> = parts.into_iter().map(part).collect();
            assert_eq!(
                is_stale(begun, &parts, Duration::from_secs(100), now),
                expected,
                "{begun:?} {parts:?}"
            );
        }
    }
}
