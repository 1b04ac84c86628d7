//! One mapping: which local containers go where, and under which policy.
//!
//! A mapping is built by [`crate::sync_config`] from one element of `containers` and never changes after that.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::delete_limit::DeleteLimit;
use crate::exclude::ExcludePattern;
use crate::key_mapping::{KeyMapping, effective_prefix};
use crate::limits::Limits;
use crate::remote::{Remote, S3Remote, SwiftRemote};
use crate::selection::SelectionCriteria;

/// How the configuration writes every container of an account.
pub(crate) const ALL_CONTAINERS: &str = "/*";

/// Hexadecimal digits of [`Mapping::id`].
const ID_DIGITS: usize = 12;
/// Hexadecimal digits of [`Mapping::identity`].
const IDENTITY_DIGITS: usize = 32;

/// One element of `containers`.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Where it stands in the configuration, such as `containers[3]`.
    pub path: String,
    /// The local account.
    pub account: String,
    /// Which of the account's containers.
    pub container: ContainerSelector,
    /// Where copies go.
    pub remote: Remote,
    /// As configured. `None` means the computed prefix, an empty one that keys are object names.
    pub custom_prefix: Option<String>,
    /// How old a row must be before it is copied, by its newest timestamp.
    pub copy_after: Duration,
    /// False: the local object is removed once its copy is proven.
    pub retain_local: bool,
    /// Whether the segments of an archived large object stay. Means nothing while `retain_local` is true.
    pub retain_local_segments: bool,
    /// Whether users' deletes are carried to the remote.
    pub propagate_delete: bool,
    /// Names that the mapping is not about.
    pub exclude: Option<ExcludePattern>,
    /// Headers an object must have to be copied.
    pub selection: SelectionCriteria,
    /// What the shunt does for the mapping; `None`: nothing, local and remote objects are two name spaces.
    pub merge: Option<Merge>,
    /// How long a copy lives.
    pub remote_delete_after: Option<Duration>,
    /// How fast the remote may be used, over all workers.
    pub limits: Limits,
    /// When deletes are held until somebody has looked; `None` lets all through.
    pub delete_limit: Option<DeleteLimit>,
    /// The part of its objects whose way is traced, 0 to 1; `None` is what the program was started with.
    pub trace_sample_ratio: Option<f64>,
    /// How many earlier mappings of the configuration differ from this one in nothing that makes its id.
    pub repetition: usize,
}

/// How the shunt shows what is on the remote only. Local and remote names are one name space then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// A full GET of an archived object also writes it back.
    pub restores: bool,
    /// DELETE and POST of archived objects reach the remote.
    pub writes: bool,
    /// What a listing is while the remote cannot be asked.
    pub failure: MergeFailure,
}

/// What a merged listing is while the remote cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergeFailure {
    /// An error: what is missing in a listing is taken for deleted by many a client.
    #[default]
    Error,
    /// The local names, with a header that says so.
    Local,
}

/// Which containers of an account a mapping is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContainerSelector {
    /// The container of this name.
    One(String),
    /// Every container of the account, `/*` in the configuration.
    All,
}

impl ContainerSelector {
    /// As it is written in the configuration.
    pub fn as_str(&self) -> &str {
        match self {
            Self::One(name) => name,
            Self::All => ALL_CONTAINERS,
        }
    }

    /// Whether the container is one of those selected.
    pub fn covers(&self, container: &str) -> bool {
        match self {
            Self::One(name) => name == container,
            Self::All => true,
        }
    }
}

impl Mapping {
    /// 32 hexadecimal digits that stand for everything that decides what is remote for a container.
    ///
    /// A cursor that was kept under another identity says nothing about this mapping. Credentials, region and
    /// addressing are left out: changing them changes no object.
    pub fn identity(&self, container: &str) -> String {
        let copy_after = self.copy_after.as_nanos().to_string();
        let delete_after = self.remote_delete_after.map(|after| after.as_nanos().to_string());
        let selection = self.selection.canonical();
        let (protocol, options) = match &self.remote {
            Remote::S3(remote) => ("s3", s3_options(remote)),
            Remote::Swift(remote) => ("swift", swift_options(remote)),
        };
        let fields = [
            Some(protocol),
            Some(self.account.as_str()),
            Some(container),
            self.remote.endpoint(),
            Some(self.remote.bucket()),
            self.custom_prefix.as_deref().map(effective_prefix),
            Some(selection.as_str()),
            self.exclude.as_ref().map(ExcludePattern::as_str),
            Some(options.as_str()),
            Some(copy_after.as_str()),
            Some(flag(self.retain_local)),
            Some(flag(self.propagate_delete)),
            delete_after.as_deref(),
        ];
        digest(&fields, IDENTITY_DIGITS)
    }

    /// The name of the mapping towards operators and the control plane: 12 hexadecimal digits that stand for local
    /// containers, endpoint, bucket and prefix. It survives every change of policy and of credentials.
    ///
    /// Mappings of one configuration that agree in all that (and differ in what they leave out, say) get `-2`, `-3` and
    /// so on behind it, in their order.
    pub fn id(&self) -> String {
        let id = self.id_digits();
        match self.repetition {
            0 => id,
            earlier => format!("{id}-{}", earlier + 1),
        }
    }

    /// The id without what tells repetitions apart.
    pub(crate) fn id_digits(&self) -> String {
        let fields = [
            Some(self.account.as_str()),
            Some(self.container.as_str()),
            self.remote.endpoint(),
            Some(self.remote.bucket()),
            self.custom_prefix.as_deref().map(effective_prefix),
        ];
        digest(&fields, ID_DIGITS)
    }

    /// Where it stands in `containers`, from 0.
    pub fn position(&self) -> usize {
        let digits: String = self.path.chars().filter(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_default()
    }

    /// Account and containers for people, such as `AUTH_test/photos` or `AUTH_test/*`.
    pub fn label(&self) -> String {
        label(&self.account, self.container.as_str())
    }

    /// The keys of one of the mapping's containers.
    pub fn key_mapping(&self, container: &str) -> KeyMapping {
        match &self.remote {
            Remote::S3(_) => KeyMapping::new(&self.account, container, self.custom_prefix.as_deref()),
            Remote::Swift(remote) => {
                KeyMapping::of_swift_container(&remote.object_container(&self.container, container))
            }
        }
    }
}

/// Account and containers for people.
pub(crate) fn label(account: &str, container: &str) -> String {
    format!("{account}/{}", container.trim_start_matches('/'))
}

/// The first hexadecimal digits of a digest. Absent and empty fields differ, and no field can run into the next.
fn digest(fields: &[Option<&str>], digits: usize) -> String {
    let mut digest = Sha256::new();
    for field in fields {
        match field {
            None => digest.update(b"-;"),
            Some(text) => digest.update(format!("{}:{text};", text.len())),
        }
    }
    let mut text = hex::encode(digest.finalize());
    text.truncate(digits);
    text
}

/// What decides how objects lie in a bucket. A class is left out: it is about objects to come.
fn s3_options(remote: &S3Remote) -> String {
    flag(remote.encryption).to_owned()
}

/// What decides what lies in a Swift account.
fn swift_options(remote: &SwiftRemote) -> String {
    format!(
        "{:?} {:?} {} {} {} {} {:?} {}",
        remote.remote_account,
        remote.auth,
        remote.convert_dlo,
        remote.min_segment_size,
        remote.container_metadata,
        remote.container_acl,
        remote.expiration_offset,
        remote.segments_live_longer.as_nanos(),
    )
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::remote::{Addressing, ArchivedMetadata};
    use crate::secret::{CredentialSource, Secret, SecretSource};

    fn remote(endpoint: Option<&str>) -> S3Remote {
        S3Remote {
            endpoint: endpoint.map(str::to_owned),
            bucket: "b".to_owned(),
            region: None,
            addressing: Addressing::Auto,
            credentials: CredentialSource::DefaultChain,
            encryption: true,
            storage_class: None,
            archived_metadata: ArchivedMetadata::default(),
        }
    }

    fn s3(mapping: &mut Mapping) -> &mut S3Remote {
        match &mut mapping.remote {
            Remote::S3(remote) => remote,
            Remote::Swift(_) => unreachable!("made for S3"),
        }
    }

    fn mapping() -> Mapping {
        Mapping {
            path: "containers[0]".to_owned(),
            account: "AUTH_test".to_owned(),
            container: ContainerSelector::All,
            remote: Remote::S3(remote(None)),
            custom_prefix: None,
            copy_after: Duration::ZERO,
            retain_local: true,
            retain_local_segments: false,
            propagate_delete: true,
            exclude: None,
            selection: SelectionCriteria::default(),
            merge: None,
            remote_delete_after: None,
            limits: Limits::default(),
            delete_limit: Some(DeleteLimit::default()),
            trace_sample_ratio: None,
            repetition: 0,
        }
    }

    #[test]
    fn providers_are_told_by_their_endpoint() {
        for (endpoint, amazon, google) in [
            (None, true, false),
            (Some("https://s3.eu-west-1.amazonaws.com"), true, false),
            (Some("http://S3.AMAZONAWS.COM:80/"), true, false),
            (Some("https://notamazonaws.com"), false, false),
            (Some("https://amazonaws.com.example"), false, false),
            (Some("https://storage.googleapis.com"), false, true),
            (Some("http://storage.googleapis.com"), false, false),
            (Some("http://127.0.0.1:9000"), false, false),
            (Some("no url"), false, false),
        ] {
            let remote = remote(endpoint);
            assert_eq!((remote.is_amazon(), remote.is_google()), (amazon, google), "{endpoint:?}");
            assert_eq!(remote.sends_sse(), amazon);
            assert_eq!(remote.uses_path_style(), !amazon);
        }
        let plain = S3Remote { encryption: false, ..remote(None) };
        assert!(!plain.sends_sse());
        let path = S3Remote { addressing: Addressing::Path, ..remote(None) };
        assert!(path.uses_path_style());
        let endpoint = Some("http://127.0.0.1:9000");
        let host = S3Remote { addressing: Addressing::VirtualHost, ..remote(endpoint) };
        assert!(!host.uses_path_style());
    }

    #[test]
    fn identity_changes_with_everything_that_decides_what_is_remote() {
        let changes: [fn(&mut Mapping); 14] = [
            |_| {},
            |mapping| mapping.account = "AUTH_other".to_owned(),
            |mapping| s3(mapping).endpoint = Some("http://a".to_owned()),
            |mapping| s3(mapping).bucket = "other".to_owned(),
            |mapping| mapping.custom_prefix = Some(String::new()),
            |mapping| mapping.custom_prefix = Some("p".to_owned()),
            |mapping| mapping.selection = SelectionCriteria::parse(&json!({"a": "b"})).unwrap(),
            |mapping| mapping.exclude = ExcludePattern::parse("a").unwrap(),
            |mapping| s3(mapping).encryption = false,
            |mapping| mapping.copy_after = Duration::from_secs(1),
            |mapping| mapping.retain_local = false,
            |mapping| mapping.propagate_delete = false,
            |mapping| mapping.remote_delete_after = Some(Duration::from_secs(1)),
            |mapping| mapping.remote_delete_after = Some(Duration::from_secs(2)),
        ];
        let mut identities = BTreeSet::from([mapping().identity("other")]);
        for change in changes {
            let mut mapping = mapping();
            change(&mut mapping);
            let identity = mapping.identity("c");
            assert_eq!(identity.len(), 32);
            assert!(identities.insert(identity), "{mapping:?}");
        }
    }

    #[test]
    fn identity_does_not_change_with_the_way_to_the_remote() {
        let mut other = mapping();
        other.path = "containers[7]".to_owned();
        s3(&mut other).region = Some("eu-west-1".to_owned());
        s3(&mut other).addressing = Addressing::Path;
        let secret = || SecretSource::Inline(Secret::new("s"));
        s3(&mut other).credentials =
            CredentialSource::Static { identity: secret(), secret: secret(), session_token: None };
        assert_eq!(other.identity("c"), mapping().identity("c"));
        let prefixed = |prefix: &str| Mapping { custom_prefix: Some(prefix.to_owned()), ..mapping() };
        assert_eq!(prefixed("/p/").identity("c"), prefixed("p").identity("c"));
    }

    #[test]
    fn ids_name_what_goes_where_and_outlive_every_change_of_policy() {
        // Operators' switches and the control plane's records are kept under it.
        assert_eq!(mapping().id(), "d4d7a638ff6b");
        let kept: [fn(&mut Mapping); 6] = [
            |mapping| mapping.path = "containers[7]".to_owned(),
            |mapping| mapping.exclude = ExcludePattern::parse("a").unwrap(),
            |mapping| mapping.retain_local = false,
            |mapping| mapping.copy_after = Duration::from_secs(1),
            |mapping| mapping.delete_limit = None,
            |mapping| s3(mapping).region = Some("eu-west-1".to_owned()),
        ];
        for change in kept {
            let mut other = mapping();
            change(&mut other);
            assert_eq!(other.id(), mapping().id(), "{other:?}");
        }
        let others: [fn(&mut Mapping); 6] = [
            |mapping| mapping.account = "AUTH_other".to_owned(),
            |mapping| mapping.container = ContainerSelector::One("c".to_owned()),
            |mapping| s3(mapping).endpoint = Some("http://a".to_owned()),
            |mapping| s3(mapping).bucket = "other".to_owned(),
            |mapping| mapping.custom_prefix = Some(String::new()),
            |mapping| mapping.repetition = 1,
        ];
        let mut ids = BTreeSet::from([mapping().id()]);
        for change in others {
            let mut other = mapping();
            change(&mut other);
            assert!(ids.insert(other.id()), "{other:?}");
        }
        assert!(ids.contains(&format!("{}-2", mapping().id())));
    }

    #[test]
    fn labels_are_for_people_and_show_no_credentials() {
        assert_eq!(mapping().label(), "AUTH_test/*");
        let one = Mapping { container: ContainerSelector::One("photos".to_owned()), ..mapping() };
        assert_eq!(one.label(), "AUTH_test/photos");
        for (endpoint, label) in [
            (None, "AWS S3/b"),
            (Some("https://s3.example.org"), "https://s3.example.org/b"),
            (Some("https://s3.example.org/base/"), "https://s3.example.org/base/b"),
            (Some("https://user:hunter2@s3.example.org"), "https://***@s3.example.org/b"),
        ] {
            assert_eq!(Remote::S3(remote(endpoint)).label(), label);
        }
    }

    #[test]
    fn listings_name_the_remote_as_programs_expect() {
        for (endpoint, prefix, location) in [
            (None, "5dcc3/a/c/", "AWS S3;b;5dcc3/a/c/"),
            (None, "", "AWS S3;b"),
            (Some("https://storage.googleapis.com"), "p/", "Google Cloud Storage;b;p/"),
            (Some("http://s3.example:10080"), "p/", "http://s3.example:10080;b;p/"),
            (Some("https://s3.amazonaws.com"), "", "https://s3.amazonaws.com;b"),
            (Some("https://user:hunter2@s3.example.org"), "", "https://***@s3.example.org;b"),
        ] {
            assert_eq!(Remote::S3(remote(endpoint)).content_location("KEY", prefix), location);
        }
    }

    #[test]
    fn limits_do_not_change_the_identity() {
        let rates = crate::limits::Rates { concurrency: Some(1), ..Default::default() };
        let limited = Mapping {
            limits: Limits::new(rates, Vec::new()),
            delete_limit: None,
            repetition: 1,
            ..mapping()
        };
        assert_eq!(limited.identity("c"), mapping().identity("c"));
    }

    #[test]
    fn identity_is_stable_across_versions() {
        // Cursors on disk are kept under it: a new value means that every container is walked again.
        assert_eq!(mapping().identity("c"), "2c30f44a1d3ca29391d081335ef685f8");
    }
}
