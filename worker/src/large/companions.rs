//! Which containers have companions at the remote, so that plain objects, which are most, need no request more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use swift_s3_store::ObjectStore;

/// Containers that are remembered; beyond that everything is asked anew.
const MAX_REMEMBERED: usize = 10_000;

/// What is known of companions, by the beginning of their keys. Clones share it.
///
/// A companion that another node writes later is not noticed here. It is one of a name that the other node has, and left behind it does no
/// harm: whoever reads an object looks at the object's own metadata first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Companions(Arc<Mutex<HashMap<(String, String), bool>>>);

impl Companions {
    /// A companion is about to be written.
    pub(crate) fn expect(&self, bucket: &str, prefix: &str) {
        self.remember(bucket, prefix, true);
    }

    /// False when the remote has no key that starts with `prefix`. Asks once for each.
    pub(crate) async fn may_exist(&self, store: &dyn ObjectStore, bucket: &str, prefix: &str) -> bool {
        let key = (bucket.to_owned(), prefix.to_owned());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some(known) = known {
            return known;
        }
        // Whoever may not list must take it that there are some.
        let found = store.list(prefix, None, 1).await.map_or(true, |page| !page.entries.is_empty());
        self.remember(bucket, prefix, found);
        found
    }

    fn remember(&self, bucket: &str, prefix: &str, found: bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        let known = known.entry((bucket.to_owned(), prefix.to_owned())).or_default();
        *known = *known || found;
    }
}
