//! The remote stores of this process: opened once per target and credentials, shared by mappings, and left alone for a while when they
//! fail.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{
    ErrorKind, ObjectStore, S3Settings, StaticCredentials, StoreError, SwiftCredentials, SwiftSettings,
};
use swift_s3_policy::{ContainerSelector, CredentialSource, Mapping, Remote, S3Remote, SwiftRemote};
use tokio::time::Instant;

use crate::observing::{Observer, RequestObserver};
use crate::secrets::{SecretError, resolve};

/// This many failures in a row, each of them retried already, and the remote is taken to be down.
const FAILURES_TO_OPEN: u32 = 3;
/// The first pause of a failing remote; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Pauses never get longer than this, so that a remote that is back is used again within a minute.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// One remote store and its health.
#[derive(Debug)]
pub struct RemoteStore {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Whether it is worth asking.
    pub health: Health,
    /// A check has succeeded, or the configuration was in force before.
    pub proven: AtomicBool,
    /// For logs: endpoint and bucket.
    pub label: String,
    /// Held while the bucket's lifecycle rules are read, changed and written back as a whole.
    pub lifecycle: tokio::sync::Mutex<()>,
}

/// Circuit breaker of one remote. Failures of single objects do not count; see [`crate::ErrorKind::is_remote_wide`].
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<HealthState>,
}

#[derive(Debug, Default)]
struct HealthState {
    failures: u32,
    pauses: u32,
    paused_until: Option<Instant>,
}

impl Health {
    /// The end of the current pause, if the remote is taken to be down.
    #[must_use]
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.lock().paused_until.filter(|until| *until > now)
    }

    /// True when a pause was made since the last success.
    #[must_use]
    pub fn has_paused(&self) -> bool {
        self.lock().pauses > 0
    }

    /// Notes an answer. True when the remote had been down.
    pub fn succeeded(&self) -> bool {
        let mut state = self.lock();
        let was_down = state.pauses > 0;
        *state = HealthState::default();
        was_down
    }

    /// Notes a failure that speaks of the whole remote; `certain` when a check of the bucket failed too. Answers the length
    /// of the pause when one begins now.
    pub fn failed(&self, certain: bool, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.paused_until.is_some_and(|until| until > now)
            || !(certain || state.failures >= FAILURES_TO_OPEN)
        {
            return None;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << state.pauses.min(8)).min(LAST_PAUSE);
        state.pauses = state.pauses.saturating_add(1);
        state.paused_until = Some(now + pause);
        Some(pause)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a mapping's store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A credential cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The client cannot be made.
    #[error("could not open the remote store: {0}")]
    Store(#[from] StoreError),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    remote: String,
    credentials: Option<(String, String, Option<String>)>,
    proxies: (Option<String>, Option<String>),
}

/// Whether a mapping's remote answers to its credentials. Users of another Swift account may be let into one container, and not be
/// allowed to look at the account: then that container is asked for, which need not be there yet.
///
/// # Errors
/// Those of [`ObjectStore::check`].
pub async fn check(store: &dyn ObjectStore, mapping: &Mapping) -> Result<(), StoreError> {
    let answer = store.check().await;
    let is_denied = matches!(&answer, Err(error) if error.kind() == ErrorKind::Denied);
    let (Some(account), Some(remote), ContainerSelector::One(_), true) =
        (store.swift(), mapping.remote.swift(), &mapping.container, is_denied)
    else {
        return answer;
    };
    account.head_container(&remote.container).await.map(|_| ())
}

/// What makes two remotes one store.
fn address(remote: &Remote) -> String {
    match remote {
        Remote::S3(remote) => format!(
            "{:?} {} {:?} {:?} {}",
            remote.endpoint, remote.bucket, remote.region, remote.addressing, remote.encryption
        ),
        // A store is an account: containers do not matter.
        Remote::Swift(remote) => format!("{} {:?} {:?}", remote.auth_url, remote.auth, remote.remote_account),
    }
}

async fn open_s3(
    remote: &S3Remote,
    target: &Target,
    max_connections: usize,
    observer: Observer,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let settings =
        S3Settings {
            remote: remote.clone(),
            credentials: target.credentials.clone().map(|(identity, secret, session_token)| {
                StaticCredentials { identity, secret, session_token }
            }),
            http_proxy: target.proxies.0.clone(),
            https_proxy: target.proxies.1.clone(),
            max_connections,
        };
    crate::s3::open_observed(&settings, observer).await
}

fn open_swift(
    remote: &SwiftRemote,
    target: &Target,
    max_connections: usize,
    observer: Observer,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let (user, key, _) = target.credentials.clone().unwrap_or_default();
    let settings = SwiftSettings {
        remote: remote.clone(),
        credentials: SwiftCredentials { user, key },
        // Mappings share the account, and a container that is missing is created.
        container: None,
        http_proxy: target.proxies.0.clone(),
        https_proxy: target.proxies.1.clone(),
        max_connections,
    };
    crate::swift::open_observed(&settings, observer)
}

/// All stores of the process.
#[derive(Default)]
pub struct Remotes {
    open: Mutex<HashMap<Target, Arc<RemoteStore>>>,
    observer: Observer,
}

impl Remotes {
    /// No stores yet; `observer` is told of every request to those that are opened.
    #[must_use]
    pub fn observed(observer: Arc<dyn RequestObserver>) -> Self {
        Self { open: Mutex::default(), observer: Observer::new(Some(observer)) }
    }

    /// The store of `remote`, opened now or shared with whoever has the same target and credentials.
    ///
    /// # Errors
    /// When a secret cannot be read or the client cannot be made. Nothing is asked of the remote yet.
    pub async fn open(
        &self,
        remote: &Remote,
        proxies: (Option<&str>, Option<&str>),
        max_connections: usize,
    ) -> Result<Arc<RemoteStore>, OpenError> {
        let credentials = match remote.credentials() {
            CredentialSource::DefaultChain => None,
            CredentialSource::Static { identity, secret, session_token } => {
                Some((resolve(identity)?, resolve(secret)?, session_token.as_ref().map(resolve).transpose()?))
            }
        };
        let proxies = (proxies.0.map(str::to_owned), proxies.1.map(str::to_owned));
        let target = Target { remote: address(remote), credentials, proxies };
        if let Some(open) = self.lock().get(&target) {
            return Ok(Arc::clone(open));
        }
        let store = match remote {
            Remote::S3(remote) => open_s3(remote, &target, max_connections, self.observer.clone()).await?,
            Remote::Swift(remote) => open_swift(remote, &target, max_connections, self.observer.clone())?,
        };
        let opened = Arc::new(RemoteStore {
            store,
            health: Health::default(),
            proven: AtomicBool::new(false),
            label: remote.label(),
            lifecycle: tokio::sync::Mutex::new(()),
        });
        Ok(Arc::clone(self.lock().entry(target).or_insert(opened)))
    }

    /// Forgets stores that no route uses any more.
    pub fn tidy(&self) {
        self.lock().retain(|_, remote| Arc::strong_count(remote) > 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Target, Arc<RemoteStore>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys hold credentials; only how many stores there are is shown.
impl std::fmt::Debug for Remotes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Remotes").field("open", &self.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_failures_do_not_pause_a_remote() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(health.failed(false, now), None);
        assert_eq!(health.failed(false, now), None);
        health.succeeded();
        assert_eq!(health.failed(false, now), None);
        assert_eq!(health.paused_until(now), None);
    }

    #[test]
    fn pauses_grow_up_to_a_minute_and_end_with_success() {
        let health = Health::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let pause = health.failed(true, now).unwrap_or_default();
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(health.paused_until(now), None, "the pause is over");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(health.succeeded());
        assert!(!health.succeeded());
        assert_eq!(health.failed(true, now), Some(Duration::from_secs(1)));
    }

    #[test]
    fn failures_during_a_pause_do_not_prolong_it() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(health.failed(true, now), Some(Duration::from_secs(1)));
        assert_eq!(health.failed(true, now), None);
        assert_eq!(health.paused_until(now), Some(now + Duration::from_secs(1)));
    }
}
