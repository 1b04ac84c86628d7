//! The ways in which remotes that speak S3 want to be spoken to.
//!
//! Pure: decided once from a mapping's settings, and then followed by every request.

use std::net::IpAddr;

use swift_s3_policy::{Addressing, S3Remote};

/// Region named in signatures when nothing tells another. Clones take any; Amazon's oldest region has no other name.
pub(crate) const FALLBACK_REGION: &str = "us-east-1";

/// Put before the name of this program for Google, whose partner reports know older installations by it.
const GOOGLE_USER_AGENT: &str = "CloudSync/5.0 (GPN:SwiftStack) ";

/// How requests to one remote look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestStyle {
    /// The bucket is the first part of the path. Otherwise it is part of the host name, unless host or bucket
    /// cannot be joined so (addresses, dots in the bucket under https), which then use the path too.
    pub path_style: bool,
    /// Listings ask for percent-encoded keys. XML cannot carry every character, so this is the rule.
    pub encodes_listings: bool,
    /// Whether the remote gives back what it was given whatever it is encoded in. Google unpacks `gzip` for who asks
    /// without `Accept-Encoding`, so that lengths and digests no longer fit. Source: Google Cloud Storage, "Transcoding of
    /// gzip-compressed files".
    pub keeps_content_encoding: bool,
    /// Uploads and copies ask for encryption at rest (`AES256`).
    pub encrypts: bool,
    /// Sent with every request.
    pub user_agent: String,
    /// Region for signatures; `None` asks the AWS default chain.
    pub region: Option<String>,
}

impl RequestStyle {
    /// The style that suits `remote`.
    pub fn of(remote: &S3Remote) -> Self {
        let google = remote.is_google();
        let user_agent = concat!("swift-s3-sync/", env!("CARGO_PKG_VERSION"));
        Self {
            path_style: match remote.addressing {
                Addressing::Path => true,
                Addressing::VirtualHost => false,
                Addressing::Auto => !remote.is_amazon(),
            },
            encodes_listings: !google,
            keeps_content_encoding: !google,
            encrypts: remote.sends_sse(),
            user_agent: if google {
                format!("{GOOGLE_USER_AGENT}{user_agent}")
            } else {
                user_agent.to_owned()
            },
            region: region_of(remote),
        }
    }
}

/// The configured region, else what the endpoint says, else a fallback where one is harmless.
fn region_of(remote: &S3Remote) -> Option<String> {
    if let Some(region) = remote.region.as_deref().filter(|region| !region.is_empty()) {
        return Some(region.to_owned());
    }
    if !remote.is_amazon() {
        return Some(FALLBACK_REGION.to_owned());
    }
    amazon_region(&endpoint_host(remote.endpoint.as_deref()?)?).map(str::to_owned)
}

/// The region in a host name of Amazon S3, such as `eu-west-1` in `s3.dualstack.eu-west-1.amazonaws.com`; `None` when
/// it names none.
///
/// Source: AWS General Reference, "Amazon Simple Storage Service endpoints and quotas".
fn amazon_region(host: &str) -> Option<&str> {
    let before_domain = host.split(".amazonaws.com").next()?;
    let last = before_domain.rsplit('.').next()?;
    let region = last.strip_prefix("s3-fips-").or_else(|| last.strip_prefix("s3-")).unwrap_or(last);
    // `us-east-1`, `us-gov-west-1`: words and a number. `s3`, `external-1` (an old name of us-east-1) are none.
    let mut words = region.split('-');
    let is_region = words.clone().count() >= 3
        && words.next().is_some_and(|area| area.len() == 2)
        && region.rsplit('-').next().is_some_and(|number| number.parse::<u8>().is_ok());
    is_region.then_some(region)
}

/// The host of an endpoint, lower case, without brackets and port.
pub(crate) fn endpoint_host(endpoint: &str) -> Option<String> {
    let uri: http::Uri = endpoint.parse().ok()?;
    let host = uri.host()?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase())
}

/// Whether a host is this machine itself; proxies are never asked for such.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use swift_s3_policy::CredentialSource;

    fn remote(endpoint: Option<&str>) -> S3Remote {
        S3Remote {
            endpoint: endpoint.map(str::to_owned),
            bucket: "bucket".to_owned(),
            region: None,
            addressing: Addressing::Auto,
            credentials: CredentialSource::DefaultChain,
            encryption: true,
            storage_class: None,
            archived_metadata: swift_s3_policy::ArchivedMetadata::default(),
        }
    }

    #[test]
    fn amazon_is_addressed_by_host_and_asked_to_encrypt() {
        for endpoint in [None, Some("https://s3.eu-west-1.amazonaws.com")] {
            let style = RequestStyle::of(&remote(endpoint));
            assert!(!style.path_style);
            assert!(style.encrypts);
            assert!(style.encodes_listings);
        }
    }

    #[test]
    fn amazon_without_encryption_is_not_asked_to_encrypt() {
        let style = RequestStyle::of(&S3Remote { encryption: false, ..remote(None) });
        assert!(!style.encrypts);
    }

    #[test]
    fn clones_are_addressed_by_path_in_a_fixed_region_and_never_asked_to_encrypt() {
        let style = RequestStyle::of(&remote(Some("http://clone.example:8080")));
        assert!(style.path_style);
        assert!(!style.encrypts);
        assert!(style.encodes_listings);
        assert_eq!(style.region.as_deref(), Some("us-east-1"));
        assert!(style.user_agent.starts_with("swift-s3-sync/"));
    }

    #[test]
    fn google_gets_its_partner_name_and_no_encoded_listings() {
        let style = RequestStyle::of(&remote(Some("https://storage.googleapis.com")));
        assert!(style.user_agent.starts_with("CloudSync/5.0 (GPN:SwiftStack) swift-s3-sync/"));
        assert!(!style.encodes_listings);
        assert!(!style.encrypts);
        assert!(style.path_style);
    }

    #[test]
    fn configured_addressing_and_region_win() {
        let style = RequestStyle::of(&S3Remote {
            addressing: Addressing::VirtualHost,
            region: Some("moon-1".to_owned()),
            ..remote(Some("http://clone.example"))
        });
        assert!(!style.path_style);
        assert_eq!(style.region.as_deref(), Some("moon-1"));
        let style = RequestStyle::of(&S3Remote { addressing: Addressing::Path, ..remote(None) });
        assert!(style.path_style);
    }

    #[test]
    fn amazon_regions_are_read_from_host_names() {
        let table = [
            ("s3.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("s3-eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("s3.dualstack.ap-southeast-2.amazonaws.com", Some("ap-southeast-2")),
            ("s3-fips-us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("s3.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("s3.amazonaws.com", None),
            ("s3-external-1.amazonaws.com", None),
            ("s3-accelerate.amazonaws.com", None),
        ];
        for (host, region) in table {
            assert_eq!(amazon_region(host), region, "{host}");
        }
    }

    #[test]
    fn loopback_hosts_are_recognised() {
        for endpoint in ["http://127.0.0.1:8000", "http://127.1.2.3", "http://[::1]:1/", "http://LOCALHOST"] {
            assert!(endpoint_host(endpoint).is_some_and(|host| is_loopback(&host)), "{endpoint}");
        }
        for endpoint in ["http://10.0.0.1", "http://localhost.example", "nonsense"] {
            assert!(!endpoint_host(endpoint).is_some_and(|host| is_loopback(&host)), "{endpoint}");
        }
    }
}
