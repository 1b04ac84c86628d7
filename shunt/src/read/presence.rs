//! Whether the place where archived objects lie is there at all.
//!
//! A bucket that was removed, or whose name is wrong, answers 404 to a HEAD of any object, and so does a container. That is not what "gone" means.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use swift_s3_policy::ContainerSelector;
use swift_s3_store::{ErrorKind, StoreError};

use crate::metrics::Metrics;
use crate::policy::Route;
use crate::remote::{self, Failure};

/// How long it is believed.
const KEEP: Duration = Duration::from_secs(60);
const MAX_PLACES: u64 = 10_000;

/// Buckets and containers that were there a moment ago.
#[derive(Debug)]
pub(super) struct Presence {
    seen: Cache<(String, String), ()>,
}

impl Default for Presence {
    fn default() -> Self {
        Self { seen: Cache::builder().max_capacity(MAX_PLACES).time_to_live(KEEP).build() }
    }
}

impl Presence {
    /// That the remote has nothing under a name can be believed.
    ///
    /// # Errors
    /// [`Failure::NoPlace`] when the bucket or container is missing; others when it cannot be asked for.
    pub(super) async fn confirm(&self, metrics: &Metrics, route: &Route) -> Result<(), Failure> {
        let container = match (route.store().swift(), &route.mapping.container) {
            (Some(_), ContainerSelector::One(_)) => {
                route.keys.key_prefix().split('/').next().unwrap_or_default()
            }
            // Each container comes into being with its first object.
            (Some(_), ContainerSelector::All) => return Ok(()),
            (None, _) => "",
        };
        let place = (route.remote.label.clone(), container.to_owned());
        let mut was_there = true;
        let asking = async {
            was_there = false;
            match remote::ask(metrics, &route.remote, "check", is_there(route, container)).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::NoPlace),
                // Whoever may not list the bucket cannot be told; the 404 was about the object.
                Err(Failure::Store(error)) if error.kind() == ErrorKind::Denied => Ok(()),
                Err(failure) => Err(failure),
            }
        };
        let asked = self.seen.try_get_with(place, asking).await;
        metrics.looked_up("presence", was_there);
        // Others wait for the same answer.
        asked.map_err(|failure| Arc::try_unwrap(failure).unwrap_or(Failure::NoPlace))
    }
}

async fn is_there(route: &Route, container: &str) -> Result<bool, StoreError> {
    if let Some(swift) = route.store().swift() {
        return Ok(swift.head_container(container).await?.is_some());
    }
    match route.store().check().await {
        Err(error) if matches!(error.kind(), ErrorKind::BucketMissing | ErrorKind::NotFound) => Ok(false),
        answer => answer.map(|()| true),
    }
}
