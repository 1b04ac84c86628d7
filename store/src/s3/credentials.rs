//! Credentials that sign requests: fixed ones, or those of the AWS default chain, kept until shortly before they expire.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future,
};
use aws_smithy_runtime_api::client::identity::Identity;
use tokio::sync::Mutex as AsyncMutex;

use crate::s3::StaticCredentials;
use crate::s3::classify::NoCredentials;

/// Renewed this long before they expire, so that a request that is just being sent is not refused.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(60);

/// The one place that knows the credentials of a bucket; the SDK asks it too.
pub(crate) struct CredentialCache {
    current: Mutex<Option<Identity>>,
    /// `None` for fixed credentials. The lock lets one caller renew while the others wait for the outcome.
    provider: Option<AsyncMutex<SharedCredentialsProvider>>,
}

impl fmt::Debug for CredentialCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CredentialCache(***)")
    }
}

impl CredentialCache {
    pub(crate) fn fixed(credentials: &StaticCredentials) -> Self {
        let credentials = Credentials::new(
            &credentials.identity,
            &credentials.secret,
            credentials.session_token.clone(),
            None,
            "configuration",
        );
        Self { current: Mutex::new(Some(credentials.into())), provider: None }
    }

    pub(crate) fn provided(provider: SharedCredentialsProvider) -> Self {
        Self { current: Mutex::new(None), provider: Some(AsyncMutex::new(provider)) }
    }

    /// Nothing to sign with: every request fails.
    pub(crate) fn none() -> Self {
        Self { current: Mutex::new(None), provider: None }
    }

    /// The credentials to sign with at `now`.
    pub(crate) async fn identity(&self, now: SystemTime) -> Result<Identity, NoCredentials> {
        if let Some(identity) = self.usable(now) {
            return Ok(identity);
        }
        let Some(provider) = &self.provider else {
            return Err(NoCredentials("none configured".to_owned()));
        };
        let provider = provider.lock().await;
        if let Some(identity) = self.usable(now) {
            return Ok(identity);
        }
        let credentials =
            provider.provide_credentials().await.map_err(|error| NoCredentials(error.to_string()))?;
        let identity = Identity::from(credentials);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity.clone());
        Ok(identity)
    }

    fn usable(&self, now: SystemTime) -> Option<Identity> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = current.as_ref()?;
        let fresh = self.provider.is_none()
            || identity.expiration().is_none_or(|expiry| now + RENEW_BEFORE_EXPIRY < expiry);
        fresh.then(|| identity.clone())
    }

    /// Asks the chain anew next time: the remote called the credentials expired.
    pub(crate) fn forget(&self) {
        if self.provider.is_some() {
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// [`CredentialCache`] as the SDK wants it.
#[derive(Clone, Debug)]
pub(crate) struct CachedProvider(pub(crate) std::sync::Arc<CredentialCache>);

impl ProvideCredentials for CachedProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let identity =
                self.0.identity(SystemTime::now()).await.map_err(CredentialsError::provider_error)?;
            identity
                .data::<Credentials>()
                .cloned()
                .ok_or_else(|| CredentialsError::unhandled("identity without credentials"))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Gives keys `key-1`, `key-2`, … that live for an hour.
    #[derive(Debug)]
    struct Hourly {
        given: Arc<AtomicU64>,
        now: SystemTime,
    }

    impl ProvideCredentials for Hourly {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.given.fetch_add(1, Ordering::Relaxed) + 1;
            let lifetime = Duration::from_secs(3600) * u32::try_from(number).unwrap();
            future::ProvideCredentials::ready(Ok(Credentials::new(
                format!("key-{number}"),
                "secret",
                None,
                Some(self.now + lifetime),
                "test",
            )))
        }
    }

    fn key(identity: &Identity) -> &str {
        identity.data::<Credentials>().unwrap().access_key_id()
    }

    #[tokio::test]
    async fn renews_shortly_before_expiry_and_not_earlier() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let given = Arc::new(AtomicU64::new(0));
        let cache = CredentialCache::provided(SharedCredentialsProvider::new(Hourly {
            given: Arc::clone(&given),
            now,
        }));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(key(&cache.identity(now).await.unwrap()), "key-1");
        assert_eq!(key(&cache.identity(later(3500)).await.unwrap()), "key-1");
        assert_eq!(key(&cache.identity(later(3541)).await.unwrap()), "key-2");
        cache.forget();
        assert_eq!(key(&cache.identity(later(3541)).await.unwrap()), "key-3");
        assert_eq!(given.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn fixed_credentials_are_never_forgotten() {
        let cache = CredentialCache::fixed(&StaticCredentials {
            identity: "key".to_owned(),
            secret: "hidden".to_owned(),
            session_token: None,
        });
        cache.forget();
        let identity = cache.identity(SystemTime::now()).await.unwrap();
        assert_eq!(key(&identity), "key");
        assert!(!format!("{cache:?}").contains("hidden"));
    }
}
