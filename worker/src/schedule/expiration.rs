//! Keeps the lifecycle rules of buckets in line with `remote_delete_after`: one rule for each container that asks for it, and none of
//! ours for the others.

use std::sync::{Mutex, PoisonError};

use swift_s3_policy::{
    ContainerSelector, LifecyclePlan, Remote, SyncConfig, expiration_days, own_expiration,
};
use swift_s3_store::{ErrorKind, StoreError};

use super::*;

/// Lifecycle rules are looked at this often: other nodes write them too, and all rules of a bucket are written as one document.
const LIFECYCLE_INTERVAL: Duration = Duration::from_secs(3600);
/// A bucket that could not be asked for rules that are to go is asked again after this long.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// What the containers that are followed ask of their buckets. Made anew with every configuration.
#[derive(Default)]
pub(super) struct Expirations {
    /// By the address of the remote: one bucket may be reached with several credentials, not all of which may write rules.
    buckets: BTreeMap<usize, Bucket>,
}

struct Bucket {
    remote: Arc<RemoteStore>,
    /// By key prefix.
    wanted: BTreeMap<String, Wanted>,
    /// Prefixes that are not to expire and were not looked at yet.
    unwanted: Arc<Mutex<Unwanted>>,
}

/// A rule that is to be there.
#[derive(Clone)]
struct Wanted {
    days: u32,
    /// The mapping that asks.
    mapping_id: String,
    looked_at: Option<Instant>,
}

#[derive(Default)]
struct Unwanted {
    prefixes: BTreeSet<String>,
    again_at: Option<Instant>,
}

impl Expirations {
    /// Notes what the mapping of `route`, whose id is `id`, asks of its bucket. `config` has all mappings, also those of other nodes.
    pub(super) fn wish(&mut self, id: &str, remote: &Arc<RemoteStore>, route: &Route, config: &SyncConfig) {
        if route.mapping.remote.s3().is_none() {
            return;
        }
        let prefix = route.keys.key_prefix().to_owned();
        let bucket = self.buckets.entry(Arc::as_ptr(remote).addr()).or_insert_with(|| Bucket {
            remote: Arc::clone(remote),
            wanted: BTreeMap::new(),
            unwanted: Arc::default(),
        });
        let Some(after) = route.mapping.remote_delete_after else {
            // Somebody may ask for what this mapping does not want, perhaps on another node or with other credentials.
            if !is_asked_for(config, &route.mapping.remote, &prefix, &route.container) {
                lock(&bucket.unwanted).prefixes.insert(prefix);
            }
            return;
        };
        let wanted = Wanted { days: expiration_days(after), mapping_id: id.to_owned(), looked_at: None };
        bucket.wanted.insert(prefix, wanted);
    }
}

/// Whether any mapping asks that keys below `prefix`, which is that of some container named `container`, expire.
fn is_asked_for(config: &SyncConfig, remote: &Remote, prefix: &str, container: &str) -> bool {
    config.mappings.iter().filter(|mapping| mapping.remote_delete_after.is_some()).any(|mapping| {
        let container = match &mapping.container {
            ContainerSelector::One(name) => name,
            ContainerSelector::All => container,
        };
        mapping.remote.s3().is_some()
            && mapping.remote.bucket() == remote.bucket()
            && mapping.remote.endpoint_key() == remote.endpoint_key()
            && mapping.key_mapping(container).key_prefix() == prefix
    })
}

impl Bucket {
    /// What is to be looked at now, if anything.
    fn due(&mut self, now: Instant) -> Option<Work> {
        let mut wanted = Vec::new();
        for (prefix, rule) in &mut self.wanted {
            if rule.looked_at.is_none_or(|at| now.duration_since(at) >= LIFECYCLE_INTERVAL) {
                rule.looked_at = Some(now);
                wanted.push((prefix.clone(), rule.clone()));
            }
        }
        let mut waiting = lock(&self.unwanted);
        let mut unwanted = BTreeSet::new();
        if waiting.again_at.is_none_or(|at| at <= now) {
            unwanted = std::mem::take(&mut waiting.prefixes);
            unwanted.retain(|prefix| !self.wanted.contains_key(prefix));
        }
        drop(waiting);
        let has_work = !wanted.is_empty() || !unwanted.is_empty();
        has_work.then(|| Work {
            remote: Arc::clone(&self.remote),
            wanted,
            unwanted,
            waiting: Arc::clone(&self.unwanted),
        })
    }
}

fn lock(unwanted: &Mutex<Unwanted>) -> std::sync::MutexGuard<'_, Unwanted> {
    unwanted.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scheduler {
    /// Sees to the rules of all buckets that are due. Objects are carried meanwhile, whatever comes of it.
    pub(super) fn keep_expirations(&mut self) {
        let now = Instant::now();
        let due: Vec<Work> =
            self.expirations.buckets.values_mut().filter_map(|bucket| bucket.due(now)).collect();
        for work in due {
            let (stop, board) = (self.stop.clone(), Arc::clone(&self.board));
            self.passes.spawn(async move {
                tokio::select! {
                    () = work.carry_out(&board) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

/// What one bucket is to be asked for.
struct Work {
    remote: Arc<RemoteStore>,
    wanted: Vec<(String, Wanted)>,
    unwanted: BTreeSet<String>,
    waiting: Arc<Mutex<Unwanted>>,
}

impl Work {
    async fn carry_out(self, board: &Board) {
        let _turn = self.remote.lifecycle.lock().await;
        for (prefix, rule) in &self.wanted {
            let outcome = self.remote.store.set_expiration(prefix, rule.days).await;
            self.tell(board, prefix, rule, outcome);
        }
        if self.unwanted.is_empty() {
            return;
        }
        let Err(error) = self.clear().await else { return };
        // Whoever never asked for an expiration need not be allowed to ask for rules, and need not hear of it.
        tracing::debug!(remote = %self.remote.label, %error, "could not look for lifecycle rules that are to go");
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Throttled) {
            let mut waiting = lock(&self.waiting);
            waiting.prefixes.extend(self.unwanted);
            waiting.again_at = Some(Instant::now() + RETRY_INTERVAL);
        }
    }

    /// Takes our rules for prefixes that are not to expire any more out of the bucket. Costs one request where there is none.
    async fn clear(&self) -> Result<(), StoreError> {
        let rules = self.remote.store.lifecycle_rules().await?;
        let ours = rules.iter().filter_map(|rule| rule.id.as_ref());
        for prefix in ours.filter(|id| self.unwanted.contains(*id)) {
            if own_expiration(&rules, prefix).is_some() && self.remote.store.clear_expiration(prefix).await? {
                tracing::info!(remote = %self.remote.label, prefix, "removed the lifecycle rule of the bucket");
            }
        }
        Ok(())
    }

    /// Tells how it went, when that is news.
    fn tell(&self, board: &Board, prefix: &str, rule: &Wanted, outcome: Result<LifecyclePlan, StoreError>) {
        let (remote, days) = (&self.remote.label, rule.days);
        let trouble = match outcome {
            Ok(LifecyclePlan::Keep) => None,
            Ok(LifecyclePlan::Write { .. }) => {
                tracing::info!(%remote, prefix, days, "set the lifecycle rule of the bucket");
                None
            }
            Ok(LifecyclePlan::Conflict { rule }) => Some(format!(
                "lifecycle rule {rule:?} covers the prefix too; remote_delete_after is not in force"
            )),
            Ok(LifecyclePlan::TooShort) => {
                Some("remote_delete_after is less than half a day; S3 counts in days".to_owned())
            }
            // The same words for the same fault, whatever the request was called.
            Err(error) => {
                tracing::debug!(%remote, prefix, %error, "could not set the lifecycle rule of the bucket");
                let why = error.code().unwrap_or_else(|| error.kind().as_str());
                Some(format!("could not set the lifecycle rule of the bucket: {why}"))
            }
        };
        let is_news = board.set_trouble(&rule.mapping_id, prefix, trouble.as_deref());
        match trouble {
            Some(trouble) if is_news => {
                tracing::warn!(%remote, prefix, trouble, "copies do not expire; they are made all the same");
            }
            None if is_news => tracing::info!(%remote, prefix, "copies expire as configured"),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Whether the second mapping keeps the rule for the first, which maps `a/c` to bucket `b` and asks for none.
    fn keeps(second: &[(&str, Value)]) -> bool {
        let mut mappings = [
            json!({"account": "a", "container": "c", "aws_bucket": "b", "aws_identity": "i", "aws_secret": "s"}),
            json!({"account": "a", "container": "c", "aws_bucket": "b", "aws_identity": "j", "aws_secret": "t",
                "remote_delete_after": 864_000}),
        ];
        for (key, value) in second {
            match value {
                Value::Null => drop(mappings[1].as_object_mut().unwrap().remove(*key)),
                value => mappings[1][*key] = value.clone(),
            }
        }
        let document = json!({ "containers": mappings }).to_string();
        let config = swift_s3_policy::parse_document(&document).unwrap().config;
        let first = &config.mappings[0];
        is_asked_for(&config, &first.remote, first.key_mapping("c").key_prefix(), "c")
    }

    #[test]
    fn a_rule_stays_as_long_as_any_mapping_of_the_configuration_asks_for_it() {
        assert!(keeps(&[]), "with other credentials");
        assert!(keeps(&[("container", json!("/*"))]), "as one container of an account");
        assert!(keeps(&[("aws_endpoint", json!("https://s3.eu-west-1.amazonaws.com/"))]));
        for other in [
            ("container", json!("d")),
            ("account", json!("x")),
            ("aws_bucket", json!("other")),
            ("aws_endpoint", json!("http://127.0.0.1:9000")),
            ("custom_prefix", json!("p")),
            ("remote_delete_after", Value::Null),
        ] {
            assert!(!keeps(std::slice::from_ref(&other)), "{other:?}");
        }
    }
}
