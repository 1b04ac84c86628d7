//! The remote that the arguments name.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use swift_s3_policy::{
    Addressing, ArchivedMetadata, CredentialSource, S3Remote, Secret, SecretSource, SwiftRemote,
};
use swift_s3_store::verify::Service;
use swift_s3_store::{
    ObjectStore, S3Settings, StaticCredentials, StoreError, SwiftAccount, SwiftCredentials, SwiftSettings,
    s3, swift,
};

use super::arguments::{Protocol, VerifyArguments};

/// Opens the remote. Sends nothing.
pub(super) async fn open(arguments: &VerifyArguments) -> Result<Box<dyn Service>, String> {
    let secret = arguments.secret()?;
    match arguments.protocol {
        Protocol::S3 => Ok(Box::new(S3Service { settings: s3_settings(arguments, secret) })),
        Protocol::Swift => {
            let settings = swift_settings(arguments, secret)?;
            let store = swift::open(&settings).await.map_err(|error| error.to_string())?;
            Ok(Box::new(SwiftService { store }))
        }
    }
}

struct S3Service {
    settings: S3Settings,
}

#[async_trait]
impl Service for S3Service {
    async fn containers(&self) -> Result<Vec<String>, StoreError> {
        s3::list_buckets(&self.settings).await
    }

    async fn open(&self, container: &str) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut settings = self.settings.clone();
        settings.remote.bucket = container.to_owned();
        s3::open(&settings).await
    }
}

struct SwiftService {
    store: Arc<dyn ObjectStore>,
}

#[async_trait]
impl Service for SwiftService {
    async fn containers(&self) -> Result<Vec<String>, StoreError> {
        match self.store.swift() {
            Some(account) => SwiftAccount::list_containers(account, "", None, 1).await,
            None => Ok(Vec::new()),
        }
    }

    async fn open(&self, _container: &str) -> Result<Arc<dyn ObjectStore>, StoreError> {
        Ok(Arc::clone(&self.store))
    }
}

fn s3_settings(arguments: &VerifyArguments, secret: String) -> S3Settings {
    let mut remote = S3Remote {
        endpoint: Some(arguments.endpoint.clone()),
        bucket: String::new(),
        region: None,
        addressing: Addressing::Auto,
        credentials: literal(&arguments.username, &secret),
        encryption: true,
        storage_class: None,
        archived_metadata: ArchivedMetadata::default(),
    };
    if remote.is_amazon() {
        remote.region = amazon_region(&arguments.endpoint);
        remote.endpoint = None;
    }
    S3Settings {
        remote,
        credentials: Some(StaticCredentials {
            identity: arguments.username.clone(),
            secret,
            session_token: None,
        }),
        http_proxy: None,
        https_proxy: None,
        max_connections: 1,
    }
}

/// `eu-west-1` of `https://s3.eu-west-1.amazonaws.com`.
fn amazon_region(endpoint: &str) -> Option<String> {
    let (_, rest) = endpoint.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    let label = host.strip_suffix(".amazonaws.com")?.rsplit('.').next()?;
    let label = label.strip_prefix("s3-").unwrap_or(label);
    let is_region = label.split('-').count() >= 3 && label.ends_with(|end: char| end.is_ascii_digit());
    is_region.then(|| label.to_owned())
}

fn swift_settings(arguments: &VerifyArguments, secret: String) -> Result<SwiftSettings, String> {
    Ok(SwiftSettings {
        remote: SwiftRemote {
            auth_url: arguments.endpoint.clone(),
            auth: arguments.auth()?,
            credentials: literal(&arguments.username, &secret),
            container: String::new(),
            remote_account: arguments.account.clone(),
            storage_policy: arguments.storage_policy.clone(),
            convert_dlo: false,
            min_segment_size: 0,
            container_metadata: false,
            container_acl: false,
            expiration_offset: None,
            segments_live_longer: Duration::ZERO,
        },
        credentials: SwiftCredentials { user: arguments.username.clone(), key: secret },
        container: None,
        http_proxy: None,
        https_proxy: None,
        max_connections: 1,
    })
}

fn literal(identity: &str, secret: &str) -> CredentialSource {
    let inline = |text: &str| SecretSource::Inline(Secret::new(text));
    CredentialSource::Static { identity: inline(identity), secret: inline(secret), session_token: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_read_from_amazons_names() {
        let table = [
            ("https://s3.amazonaws.com", None),
            ("https://s3.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://s3-us-gov-west-1.amazonaws.com:443/", Some("us-gov-west-1")),
            ("https://my-own-bucket.s3.amazonaws.com", None),
            ("https://example.org", None),
        ];
        for (endpoint, region) in table {
            assert_eq!(amazon_region(endpoint).as_deref(), region, "{endpoint}");
        }
    }
}
