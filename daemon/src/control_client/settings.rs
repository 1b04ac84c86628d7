//! Where the control plane is, and how to be let in.

use std::path::PathBuf;
use std::time::Duration;

use swift_s3_policy::Secret;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// A control plane that does not accept a connection within this time is away.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A connection without traffic is tried this often, so that one whose other end is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Settings of the connection.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// Its addresses, the preferred one first.
    pub urls: Vec<String>,
    /// Names this node.
    pub node_id: String,
    /// Shown by the node to be let in.
    pub token: Option<Secret>,
    /// Authorities to trust instead of the system's, PEM.
    pub ca_cert: Option<PathBuf>,
    /// This node's certificate and its key, PEM.
    pub client_identity: Option<(PathBuf, PathBuf)>,
    /// Addresses by which the ring knows this node.
    pub addresses: Vec<String>,
}

/// Why a control plane cannot be talked to with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not an address.
    #[error("expected http://HOST:PORT or https://HOST:PORT, got {url}: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read.
    #[error("could not read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A token would be readable by everybody on the way.
    #[error("a token needs https, or a control plane on this machine; {url} is neither")]
    TokenInTheOpen {
        /// What was given.
        url: String,
    },
}

impl ControlSettings {
    /// Everything needed to connect to each URL. Files are read now.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, SettingsError> {
        self.urls.iter().map(|url| self.endpoint(url)).collect()
    }

    fn endpoint(&self, url: &str) -> Result<Endpoint, SettingsError> {
        let wrong = |reason: String| SettingsError::Url { url: url.to_owned(), reason };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(error.to_string()))?;
        let (is_tls, host) =
            (endpoint.uri().scheme_str() == Some("https"), endpoint.uri().host().unwrap_or_default());
        if !is_tls && endpoint.uri().scheme_str() != Some("http") {
            return Err(wrong("no scheme".into()));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_here =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if self.token.is_some() && !is_tls && !is_here {
            return Err(SettingsError::TokenInTheOpen { url: url.to_owned() });
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_LIMIT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if !is_tls {
            return Ok(endpoint);
        }
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| SettingsError::File { path: path.clone(), source })
        };
        let mut tls = ClientTlsConfig::new().with_enabled_roots();
        if let Some(path) = &self.ca_cert {
            tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?));
        }
        if let Some((certificate, key)) = &self.client_identity {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        endpoint.tls_config(tls).map_err(|error| wrong(error.to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings(url: &str, token: bool) -> ControlSettings {
        ControlSettings {
            urls: vec![url.to_owned()],
            node_id: "n".into(),
            token: token.then(|| Secret::new("t0ken")),
            ca_cert: None,
            client_identity: None,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn addresses_are_told_from_other_texts() {
        for (url, good) in [
            ("http://127.0.0.1:50051", true),
            ("https://control.example.org:50051", true),
            ("control:50051", false),
            ("ftp://control", false),
            ("", false),
        ] {
            assert_eq!(settings(url, false).endpoints().is_ok(), good, "{url}");
        }
    }

    #[test]
    fn a_token_is_never_sent_in_the_open() {
        for (url, good) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://10.0.0.1:1", false),
            ("https://10.0.0.1:1", true),
        ] {
            let refused = settings(url, true).endpoints();
            assert_eq!(refused.is_ok(), good, "{url}");
            if let Err(error) = refused {
                assert!(!error.to_string().contains("t0ken"));
            }
        }
    }
}
