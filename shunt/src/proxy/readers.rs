//! Who was just let in to list a container. For them the remote is asked at the same time as Swift; others must wait until Swift has let them
//! in, or anybody could make the operator pay for listings.

use std::time::Duration;

use http::HeaderMap;
use moka::future::Cache;
use sha2::{Digest as _, Sha256};

/// What clients show who are somebody.
const CREDENTIALS: [&str; 4] = ["x-auth-token", "x-storage-token", "x-service-token", "authorization"];
/// Rights that end are noticed after this time at the latest: until then a listing is begun in vain.
const GOOD_FOR: Duration = Duration::from_secs(60);
const MOST: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Readers(Cache<[u8; 32], ()>);

/// Credentials and a container, as a digest: tokens are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader([u8; 32]);

impl Default for Readers {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MOST).time_to_live(GOOD_FOR).build())
    }
}

impl Reader {
    /// `None`: nobody in particular.
    pub(super) fn of(headers: &HeaderMap, account: &str, container: &str) -> Option<Self> {
        let mut digest = Sha256::new();
        let mut is_somebody = false;
        for name in CREDENTIALS {
            for value in headers.get_all(name) {
                is_somebody = true;
                digest.update(name);
                digest.update(value.len().to_be_bytes());
                digest.update(value.as_bytes());
            }
        }
        // Accounts and containers hold no slash.
        digest.update(format!("{account}/{container}"));
        is_somebody.then(|| Self(digest.finalize().into()))
    }
}

impl Readers {
    /// Whether Swift has just let them in.
    pub(super) async fn knows(&self, reader: Option<Reader>) -> bool {
        match reader {
            Some(Reader(digest)) => self.0.get(&digest).await.is_some(),
            None => false,
        }
    }

    /// Swift has let them in.
    pub(super) async fn remember(&self, reader: Option<Reader>) {
        if let Some(Reader(digest)) = reader {
            self.0.insert(digest, ()).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static("x-auth-token"), token.parse().unwrap())])
    }

    #[tokio::test]
    async fn only_who_was_let_in_to_that_container_is_known() {
        let readers = Readers::default();
        let reader = Reader::of(&with("t"), "a", "c");
        assert!(!readers.knows(reader).await);
        readers.remember(reader).await;
        assert!(readers.knows(reader).await);
        assert!(!readers.knows(Reader::of(&with("u"), "a", "c")).await);
        assert!(!readers.knows(Reader::of(&with("t"), "a", "d")).await);
        let nobody = Reader::of(&HeaderMap::new(), "a", "c");
        readers.remember(nobody).await;
        assert!(!readers.knows(nobody).await);
    }
}
