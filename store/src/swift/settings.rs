//! What is needed to open an account of a Swift cluster.

use std::fmt;

use swift_s3_policy::SwiftRemote;

/// An account of a Swift cluster and how to reach it. Secrets have been read already; none is shown by `Debug`.
#[derive(Clone)]
pub struct SwiftSettings {
    /// Where to log in, and which account is meant.
    pub remote: SwiftRemote,
    /// Who logs in.
    pub credentials: SwiftCredentials,
    /// The container that [`crate::ObjectStore::check`] asks for; `None` asks for the account. An account may
    /// share a container with users who may not look at the account.
    pub container: Option<String>,
    /// Proxy for `http://` URLs, with or without a scheme, as of [`crate::S3Settings::http_proxy`]. One that is itself
    /// reached by TLS cannot be used.
    pub http_proxy: Option<String>,
    /// Likewise for `https://` URLs.
    pub https_proxy: Option<String>,
    /// Connections that are kept open at rest, at least 1: as many as there are transfers at a time.
    pub max_connections: usize,
}

impl fmt::Debug for SwiftSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Proxy URLs may carry a password.
        formatter
            .debug_struct("SwiftSettings")
            .field("remote", &self.remote)
            .field("credentials", &self.credentials)
            .field("container", &self.container)
            .field("has_http_proxy", &self.http_proxy.is_some())
            .field("has_https_proxy", &self.https_proxy.is_some())
            .field("max_connections", &self.max_connections)
            .finish()
    }
}

/// A user's name and password. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SwiftCredentials {
    /// The user: `account:user` for version 1, a name for Keystone.
    pub user: String,
    /// The password, which version 1 calls a key.
    pub key: String,
}

impl fmt::Debug for SwiftCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SwiftCredentials(***)")
    }
}
