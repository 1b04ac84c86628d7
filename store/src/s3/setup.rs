//! Opening a bucket: from settings to a store that is ready to send.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Endpoint, EndpointFuture, Params, ResolveEndpoint};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Config, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::{Client, config};
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_types::SdkConfig;

use crate::error::{ErrorKind, StoreError};
use crate::observing::Observer;
use crate::s3::credentials::{CachedProvider, CredentialCache};
use crate::s3::direct_put::DirectPut;
use crate::s3::listing::Lister;
use crate::s3::style::{FALLBACK_REGION, RequestStyle};
use crate::s3::transport::Transport;
use crate::s3::{S3Settings, S3Store};

/// One attempt at a request without a body to speak of.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// The first try and two more: what fails longer is better repeated later, with the work that waits for it.
const MAX_ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// See [`crate::s3::open_with_style`].
pub(crate) async fn build(
    settings: &S3Settings,
    style: RequestStyle,
    observer: Observer,
) -> Result<S3Store, StoreError> {
    let remote = &settings.remote;
    if remote.bucket.is_empty() {
        return Err(invalid("expected a bucket, got an empty name"));
    }
    let surroundings = Surroundings::look(settings, &style).await;
    let bucket_endpoint = resolve(settings, &style, &surroundings).await?;
    let transport = Transport::new(settings, bucket_endpoint.url(), &style.user_agent, observer)?;
    let (region, signing_name) = signing_scope(&bucket_endpoint, &surroundings.region)?;
    let client = Client::from_conf(sdk_config(settings, &surroundings, &bucket_endpoint, &transport));
    let uploads = DirectPut::new(
        transport.clone(),
        surroundings.credentials,
        bucket_endpoint.url(),
        &region,
        &signing_name,
        style.encrypts,
    );
    Ok(S3Store {
        bucket: remote.bucket.clone(),
        lister: Lister::new(client.clone(), &remote.bucket, style.encodes_listings),
        client,
        transport,
        uploads,
        encrypts: style.encrypts,
        keeps_content_encoding: style.keeps_content_encoding,
        encodes_listings: style.encodes_listings,
    })
}

/// A client that asks about no bucket in particular.
pub(crate) async fn service_client(settings: &S3Settings) -> Result<Client, StoreError> {
    let mut settings = settings.clone();
    settings.remote.bucket.clear();
    let style = RequestStyle::of(&settings.remote);
    let surroundings = Surroundings::look(&settings, &style).await;
    let endpoint = resolve(&settings, &style, &surroundings).await?;
    let transport = Transport::new(&settings, endpoint.url(), &style.user_agent, Observer::default())?;
    Ok(Client::from_conf(sdk_config(&settings, &surroundings, &endpoint, &transport)))
}

fn invalid(message: &str) -> StoreError {
    StoreError::named(ErrorKind::Invalid, "open").with_message(Some(message))
}

/// What comes from the machine rather than from the settings, where those leave it open.
struct Surroundings {
    region: String,
    credentials: Arc<CredentialCache>,
    use_fips: bool,
    use_dual_stack: bool,
}

impl Surroundings {
    async fn look(settings: &S3Settings, style: &RequestStyle) -> Self {
        let chain = if settings.credentials.is_some() && style.region.is_some() {
            None
        } else {
            Some(load_chain(style.region.clone()).await)
        };
        let region = style
            .region
            .clone()
            .or_else(|| Some(chain.as_ref()?.region()?.as_ref().to_owned()))
            .unwrap_or_else(|| FALLBACK_REGION.to_owned());
        let credentials = match &settings.credentials {
            Some(credentials) => CredentialCache::fixed(credentials),
            None => match chain.as_ref().and_then(SdkConfig::credentials_provider) {
                Some(provider) => CredentialCache::provided(provider),
                None => CredentialCache::none(),
            },
        };
        let amazon = settings.remote.is_amazon();
        let flag =
            |read: fn(&SdkConfig) -> Option<bool>| amazon && chain.as_ref().and_then(read).unwrap_or(false);
        Self {
            region,
            credentials: Arc::new(credentials),
            use_fips: flag(SdkConfig::use_fips),
            use_dual_stack: flag(SdkConfig::use_dual_stack),
        }
    }
}

/// The AWS default chain: environment, profiles, container and instance roles.
async fn load_chain(region: Option<String>) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    let loader = match region {
        Some(region) => loader.region(Region::new(region)),
        None => loader,
    };
    loader.load().await
}

/// The URL of the bucket, by the SDK's own rules: they know of partitions, buckets that cannot be host names, and
/// access points.
async fn resolve(
    settings: &S3Settings,
    style: &RequestStyle,
    surroundings: &Surroundings,
) -> Result<Endpoint, StoreError> {
    let remote = &settings.remote;
    let endpoint = remote.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
    let params = Params::builder()
        .set_bucket(Some(remote.bucket.clone()).filter(|bucket| !bucket.is_empty()))
        .region(&surroundings.region)
        .set_endpoint(endpoint.map(str::to_owned))
        .force_path_style(style.path_style)
        .use_fips(surroundings.use_fips)
        .use_dual_stack(surroundings.use_dual_stack)
        .build()
        .map_err(|error| invalid(&error.to_string()))?;
    let resolved = DefaultResolver::new()
        .resolve_endpoint(&params)
        .await
        .map_err(|error| invalid(&format!("no URL for the bucket: {error}")))?;
    let is_usable = resolved.url().parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| !host.is_empty()) && matches!(uri.scheme_str(), Some("http" | "https"))
    });
    if !is_usable {
        return Err(invalid("expected an http or https endpoint with a host"));
    }
    Ok(resolved)
}

/// Region and service name to sign with.
fn signing_scope(endpoint: &Endpoint, region: &str) -> Result<(String, String), StoreError> {
    let Some(schemes) = endpoint.properties().get("authSchemes").and_then(|schemes| schemes.as_array())
    else {
        return Ok((region.to_owned(), "s3".to_owned()));
    };
    let scheme = schemes
        .iter()
        .filter_map(|scheme| scheme.as_object())
        .find(|scheme| scheme.get("name").and_then(|name| name.as_string()) == Some("sigv4"))
        .ok_or_else(|| invalid("expected a bucket that takes version 4 signatures"))?;
    let text = |name: &str, fallback: &str| {
        scheme.get(name).and_then(|value| value.as_string()).unwrap_or(fallback).to_owned()
    };
    Ok((text("signingRegion", region), text("signingName", "s3")))
}

/// Gives the bucket's URL without working it out again for every request.
#[derive(Debug)]
struct Settled(Endpoint);

impl ResolveEndpoint for Settled {
    fn resolve_endpoint<'a>(&'a self, _params: &'a Params) -> EndpointFuture<'a> {
        EndpointFuture::ready(Ok(self.0.clone()))
    }
}

fn sdk_config(
    settings: &S3Settings,
    surroundings: &Surroundings,
    endpoint: &Endpoint,
    transport: &Transport,
) -> Config {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    let retries = RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(LONGEST_BACKOFF);
    // A budget of retries of its own: the SDK would share one among all buckets of a region.
    let partition =
        RetryPartition::custom(Cow::Owned(format!("{} {}", endpoint.url(), settings.remote.bucket)))
            .token_bucket(TokenBucket::default())
            .build();
    config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(surroundings.region.clone()))
        .credentials_provider(CachedProvider(Arc::clone(&surroundings.credentials)))
        .identity_cache(IdentityCache::no_cache())
        .endpoint_resolver(Settled(endpoint.clone()))
        .http_client(transport.sdk_client())
        .timeout_config(timeouts)
        .retry_config(retries)
        .retry_partition(partition)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build()
}
