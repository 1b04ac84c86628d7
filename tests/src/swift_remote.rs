//! A second real cluster, as the remote: an account of its own for each scenario, and a fault proxy in front of it.
//!
//! The cluster builds storage URLs from the `Host` of the login, so whoever logs in through the fault proxy stays behind it.
//!
//! ```no_run
//! # use anyhow::Result;
//! use swift_s3_tests::swift_cluster::SharedCluster;
//! use swift_s3_tests::swift_remote::{SwiftRemote, remote_options};
//!
//! static REMOTE: SharedCluster = SharedCluster::new(remote_options);
//!
//! # async fn scenario(site: swift_s3_tests::site::Site) -> Result<()> {
//! let remote = SwiftRemote::on(REMOTE.get().await?).await?;
//! remote.swift.put_container("copies").await?;
//! site.map([remote.mapping(site.swift.account(), "photos", "copies")])?;
//! site.sync().await?;
//! assert_eq!(remote.swift.list("copies").await?.len(), 1);
//! # Ok(()) }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use swift_s3_policy::{CredentialSource, Secret, SecretSource, SwiftAuth};
use swift_s3_store::{SwiftCredentials, SwiftSettings};

use crate::fault_proxy::FaultProxy;
use crate::swift_client::SwiftClient;
use crate::swift_cluster::{SwiftCluster, SwiftOptions};
use crate::sync_json::MappingJson;

/// Accounts of scenarios that every cluster's TempAuth knows: `AUTH_scenario0`, …
pub const ACCOUNTS: usize = 200;
/// The key of all their users.
pub const KEY: &str = "testing";
/// A user who may use every account, and its key.
pub const RESELLER_ADMIN: (&str, &str) = ("admin:admin", "admin");

/// The next account that no scenario of this process has taken.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A cluster that is good enough as a remote: one node, policies `gold` and `silver`, a hash prefix of its own.
pub fn remote_options() -> SwiftOptions {
    SwiftOptions {
        second_policy: true,
        hash_prefix: "remote-prefix".to_owned(),
        hash_suffix: "remote-suffix".to_owned(),
        ..SwiftOptions::single_node()
    }
}

/// See the module.
#[derive(Debug)]
pub struct SwiftRemote {
    /// Between workers and the cluster's proxy.
    pub faults: FaultProxy,
    /// A client of the account, by the proxy without authentication and past the fault proxy.
    pub swift: SwiftClient,
    /// The cluster.
    pub cluster: Arc<SwiftCluster>,
    user: String,
}

impl SwiftRemote {
    /// A remote with a cluster of its own.
    pub async fn start(options: SwiftOptions) -> Result<Self> {
        Self::on(Arc::new(SwiftCluster::start(options).await?)).await
    }

    /// An account on a cluster that others use too.
    pub async fn on(cluster: Arc<SwiftCluster>) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(number < ACCOUNTS, "all {ACCOUNTS} accounts of scenarios are taken");
        let faults = FaultProxy::start(&cluster.proxy_url()).await?;
        let swift = cluster.internal_client(&format!("AUTH_scenario{number}"))?;
        Ok(Self { faults, swift, cluster, user: format!("scenario{number}:tester") })
    }

    /// Where to log in, through the fault proxy.
    pub fn auth_url(&self) -> String {
        format!("{}/auth/v1.0", self.faults.endpoint())
    }

    /// The account's user, whose key is [`KEY`].
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A mapping of `container` (or `/*`) of the local `account` to `remote_container` (or what its name begins with),
    /// through the fault proxy.
    pub fn mapping(&self, account: &str, container: &str, remote_container: &str) -> MappingJson {
        MappingJson::empty()
            .set("account", account)
            .set("container", container)
            .set("protocol", "swift")
            .set("aws_endpoint", self.auth_url())
            .set("aws_identity", self.user.as_str())
            .set("aws_secret", KEY)
            .set("aws_bucket", remote_container)
    }

    /// What opens the account with the product's own client, through the fault proxy.
    pub fn settings(&self) -> SwiftSettings {
        settings(&self.auth_url(), SwiftAuth::V1, (&self.user, KEY))
    }
}

/// What opens an account with the product's own client.
pub fn settings(auth_url: &str, auth: SwiftAuth, (user, key): (&str, &str)) -> SwiftSettings {
    let literal = |text: &str| SecretSource::Inline(Secret::new(text));
    SwiftSettings {
        remote: swift_s3_policy::SwiftRemote {
            auth_url: auth_url.to_owned(),
            auth,
            credentials: CredentialSource::Static {
                identity: literal(user),
                secret: literal(key),
                session_token: None,
            },
            container: String::new(),
            remote_account: None,
            storage_policy: None,
            convert_dlo: false,
            min_segment_size: 0,
            container_metadata: false,
            container_acl: false,
            expiration_offset: None,
            segments_live_longer: Duration::ZERO,
        },
        credentials: SwiftCredentials { user: user.to_owned(), key: key.to_owned() },
        container: None,
        http_proxy: None,
        https_proxy: None,
        max_connections: 4,
    }
}
