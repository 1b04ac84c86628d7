//! Where copies go: a bucket that speaks S3, or the account of another Swift cluster.
//!
//! Built by [`crate::sync_config`] from one element of `containers`.

use std::time::Duration;

use url::Url;

use crate::mapping::ContainerSelector;
use crate::secret::CredentialSource;
use crate::sync_config::without_credentials;

/// What a mapping with one container appends to its remote container's name to keep segments.
const SEGMENTS_SUFFIX: &str = "_segments";

/// The target of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Amazon S3, Google Cloud Storage, or a clone.
    S3(S3Remote),
    /// Another Swift cluster.
    Swift(SwiftRemote),
}

impl Remote {
    /// The bucket, if that is what it is.
    pub fn s3(&self) -> Option<&S3Remote> {
        match self {
            Self::S3(remote) => Some(remote),
            Self::Swift(_) => None,
        }
    }

    /// The Swift account, if that is what it is.
    pub fn swift(&self) -> Option<&SwiftRemote> {
        match self {
            Self::S3(_) => None,
            Self::Swift(remote) => Some(remote),
        }
    }

    /// As configured: `None` for Amazon; the authentication URL for Swift.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::S3(remote) => remote.endpoint.as_deref(),
            Self::Swift(remote) => Some(&remote.auth_url),
        }
    }

    /// The endpoint in one spelling, to tell whether two remotes are the same place. Empty for Amazon: its buckets have names of their own in
    /// all its regions.
    pub fn endpoint_key(&self) -> String {
        if self.s3().is_some_and(S3Remote::is_amazon) {
            return String::new();
        }
        let endpoint = self.endpoint().unwrap_or_default();
        let spelled = Url::parse(endpoint).map_or_else(|_| endpoint.to_owned(), String::from);
        spelled.trim_end_matches('/').to_owned()
    }

    /// `aws_bucket`: the bucket; for Swift the container, or what the names of containers begin with.
    pub fn bucket(&self) -> &str {
        match self {
            Self::S3(remote) => &remote.bucket,
            Self::Swift(remote) => &remote.container,
        }
    }

    /// The target in clients' listings, where programs look for it: endpoint, bucket and key prefix, or endpoint, user and container,
    /// with semicolons between. `key_prefix` is that of [`crate::KeyMapping`]; `identity` the user. Shows no password.
    pub fn content_location(&self, identity: &str, key_prefix: &str) -> String {
        match self {
            Self::S3(remote) => {
                let endpoint = match remote.endpoint.as_deref() {
                    None => "AWS S3".to_owned(),
                    Some(_) if remote.is_google() => "Google Cloud Storage".to_owned(),
                    Some(endpoint) => without_credentials(endpoint),
                };
                let separator = if key_prefix.is_empty() { "" } else { ";" };
                format!("{endpoint};{}{separator}{key_prefix}", remote.bucket)
            }
            Self::Swift(remote) => {
                let container = key_prefix.strip_suffix('/').unwrap_or(key_prefix);
                format!("{};{identity};{container}", without_credentials(&remote.auth_url))
            }
        }
    }

    /// Where the credentials come from.
    pub fn credentials(&self) -> &CredentialSource {
        match self {
            Self::S3(remote) => &remote.credentials,
            Self::Swift(remote) => &remote.credentials,
        }
    }

    /// The target for people, such as `https://s3.example.org/bucket` or `AWS S3/bucket`. Shows no credentials.
    pub fn label(&self) -> String {
        let endpoint = self.endpoint().map(without_credentials);
        let endpoint = endpoint.as_deref().map_or("AWS S3", |endpoint| endpoint.trim_end_matches('/'));
        format!("{endpoint}/{}", self.bucket())
    }
}

/// An S3 bucket and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Remote {
    /// An `http` or `https` URL as configured, or `None` for Amazon.
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// The region requests are signed for.
    pub region: Option<String>,
    /// How the bucket is named in a request.
    pub addressing: Addressing,
    /// Where the credentials come from.
    pub credentials: CredentialSource,
    /// Whether server-side encryption is asked for, where the remote is known to have it.
    pub encryption: bool,
    /// The class that new objects are stored in; `None` leaves that to the bucket.
    pub storage_class: Option<String>,
    /// What a change of metadata alone does to an object that lies in an archive class.
    pub archived_metadata: ArchivedMetadata,
}

/// What to do when only the metadata of an object changed that cannot be copied in place, because it lies in a class such as
/// `GLACIER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ArchivedMetadata {
    /// Send the whole object again.
    #[default]
    Upload,
    /// Leave the remote object as it is.
    Keep,
}

/// How a request names the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// The SDK's choice for Amazon, the path for everything else.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    VirtualHost,
}

impl S3Remote {
    /// Whether the remote is Amazon's: no endpoint, or one below `amazonaws.com`.
    pub fn is_amazon(&self) -> bool {
        let Some(endpoint) = &self.endpoint else {
            return true;
        };
        let Ok(url) = Url::parse(endpoint) else {
            return false;
        };
        url.host_str().is_some_and(|host| host == "amazonaws.com" || host.ends_with(".amazonaws.com"))
    }

    /// Whether the remote is Google Cloud Storage, which has a layout of its own for large objects.
    pub fn is_google(&self) -> bool {
        self.endpoint.as_deref() == Some("https://storage.googleapis.com")
    }

    /// Whether writes ask for server-side encryption. Clones are never asked: many refuse the header.
    pub fn sends_sse(&self) -> bool {
        self.encryption && self.is_amazon()
    }

    /// Whether requests name the bucket in the path.
    pub fn uses_path_style(&self) -> bool {
        match self.addressing {
            Addressing::Auto => !self.is_amazon(),
            Addressing::Path => true,
            Addressing::VirtualHost => false,
        }
    }
}

/// A container of another Swift cluster's account, or all those whose names begin alike, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwiftRemote {
    /// Where tokens come from, an `http` or `https` URL as configured.
    pub auth_url: String,
    /// How tokens are asked for.
    pub auth: SwiftAuth,
    /// The user and the key or password; always [`CredentialSource::Static`].
    pub credentials: CredentialSource,
    /// The remote container; for a mapping of all containers what is put in front of the local container's name.
    pub container: String,
    /// The account to work in, if it is not the user's own.
    pub remote_account: Option<String>,
    /// The policy of containers that are created.
    pub storage_policy: Option<String>,
    /// Whether dynamic large objects become static ones.
    pub convert_dlo: bool,
    /// Segments smaller than this are joined; 0 joins none.
    pub min_segment_size: u64,
    /// Whether containers' `X-Container-Meta-*` are carried.
    pub container_metadata: bool,
    /// Whether containers' ACLs are carried too.
    pub container_acl: bool,
    /// Seconds to add to a local `X-Delete-At` that is carried; `None`: none is.
    pub expiration_offset: Option<i64>,
    /// How much longer than the object its segments live, when copies expire.
    pub segments_live_longer: Duration,
}

/// How a Swift cluster hands out tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwiftAuth {
    /// `X-Auth-User` and `X-Auth-Key`, as TempAuth has it.
    V1,
    /// Keystone's second API.
    KeystoneV2 {
        /// The tenant.
        tenant_name: String,
    },
    /// Keystone's third API.
    KeystoneV3 {
        /// The project.
        project_name: String,
        /// The project's domain, by name.
        project_domain_name: String,
        /// The user's domain, by name.
        user_domain_name: String,
    },
}

impl SwiftRemote {
    /// The remote container for the objects of a local one.
    pub fn object_container(&self, selector: &ContainerSelector, local: &str) -> String {
        match selector {
            ContainerSelector::One(_) => self.container.clone(),
            ContainerSelector::All => format!("{}{local}", self.container),
        }
    }

    /// The remote container for segments that lie in the local container `segments`.
    pub fn segments_container(&self, selector: &ContainerSelector, segments: &str) -> String {
        match selector {
            ContainerSelector::One(_) => format!("{}{SEGMENTS_SUFFIX}", self.container),
            ContainerSelector::All => format!("{}{segments}", self.container),
        }
    }
}
