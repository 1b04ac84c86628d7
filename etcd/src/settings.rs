//! Settings of the connection to etcd, checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use swift_s3_policy::Secret;
use tonic::transport::Uri;

/// A member that does not accept a connection within this time is left for the next one.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A connection that waits for an answer is tried this often. etcd closes connections that are tried more often than every 5 s
/// (`--grpc-keepalive-min-time`, of etcd 3.4 and 3.5), or while they wait for nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
/// It is given up when that is not answered for so long.
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(2);
/// A password file that is longer is something else.
const MAX_PASSWORD_BYTES: u64 = 64 * 1024;

/// Settings of the connection.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// Addresses of members, the preferred one first.
    pub endpoints: Vec<String>,
    /// Ends with a slash.
    pub prefix: String,
    /// How long a lease lasts without a sign of life.
    pub lease: Duration,
    user: Option<(String, Secret)>,
    ca_cert: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Secret)>,
}

/// Why etcd cannot be talked to with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not an address.
    #[error("--etcd: expected http://HOST:PORT or https://HOST:PORT, got {0}")]
    Url(String),
    /// Some members with TLS, some without.
    #[error("--etcd: either all addresses are https, or none is")]
    Mixed,
    /// Certificates for a connection that has none.
    #[error("--etcd-ca-cert and --etcd-client-cert need addresses that begin with https://")]
    TlsWithoutHttps,
    /// A password would be readable by everybody on the way.
    #[error("a password needs https, or an etcd on this machine; {0} is neither")]
    PasswordInTheOpen(String),
    /// Keys would be all over the place.
    #[error("--etcd-prefix: expected /, letters, digits, and . _ -, beginning with /, got {0:?}")]
    Prefix(String),
    /// A file cannot be read.
    #[error("could not read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file holds nothing.
    #[error("{0} holds no password")]
    NoPassword(PathBuf),
}

impl EtcdSettings {
    /// Checks settings and reads the files that they name.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(
        endpoints: Vec<String>,
        user: Option<(String, PathBuf)>,
        ca_cert: Option<PathBuf>,
        identity: Option<(PathBuf, PathBuf)>,
        prefix: &str,
        lease: Duration,
    ) -> Result<Self, SettingsError> {
        let mut has_tls = Vec::new();
        for endpoint in &endpoints {
            let (is_tls, is_here) = check_url(endpoint)?;
            if user.is_some() && !is_tls && !is_here {
                return Err(SettingsError::PasswordInTheOpen(endpoint.clone()));
            }
            has_tls.push(is_tls);
        }
        let is_tls = has_tls.first().copied().unwrap_or(false);
        if has_tls.iter().any(|one| *one != is_tls) {
            return Err(SettingsError::Mixed);
        }
        if !is_tls && (ca_cert.is_some() || identity.is_some()) {
            return Err(SettingsError::TlsWithoutHttps);
        }
        let user = match user {
            Some((name, file)) => Some((name, password(&file)?)),
            None => None,
        };
        let ca_cert = ca_cert.map(|path| read(&path)).transpose()?;
        let identity = match identity {
            Some((certificate, key)) => {
                let key = String::from_utf8_lossy(&read(&key)?).into_owned();
                Some((read(&certificate)?, Secret::new(key)))
            }
            None => None,
        };
        Ok(Self { endpoints, prefix: check_prefix(prefix)?, lease, user, ca_cert, identity })
    }

    pub(crate) fn options(&self, endpoint: &str) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_LIMIT)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_LIMIT)
            .with_keep_alive_while_idle(false)
            // A member that is cut off from the others must not keep us waiting with what it knew.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((name, password)) = &self.user {
            options = options.with_user(name.clone(), password.expose());
        }
        if endpoint.starts_with("https://") {
            let mut tls = TlsOptions::new();
            tls = match &self.ca_cert {
                Some(authorities) => tls.ca_certificate(Certificate::from_pem(authorities)),
                None => tls.with_native_roots(),
            };
            if let Some((certificate, key)) = &self.identity {
                tls = tls.identity(Identity::from_pem(certificate, key.expose()));
            }
            options = options.with_tls(tls);
        }
        options
    }
}

/// Whether the address has TLS, and whether it is on this machine.
fn check_url(url: &str) -> Result<(bool, bool), SettingsError> {
    // Who writes a password into an address must not find it in a log.
    let shown = url.rsplit_once('@').map_or(url, |(_, host)| host);
    let wrong = || SettingsError::Url(shown.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    // Whoever writes a path or a password into the address means something that would be ignored.
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || url.contains('@') {
        return Err(wrong());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Ok((is_tls, is_here))
}

fn check_prefix(prefix: &str) -> Result<String, SettingsError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-');
    if !prefix.starts_with('/') || prefix.len() > 200 || !prefix.bytes().all(is_plain) {
        return Err(SettingsError::Prefix(prefix.to_owned()));
    }
    Ok(format!("{}/", prefix.trim_end_matches('/')))
}

fn password(path: &Path) -> Result<Secret, SettingsError> {
    let text = String::from_utf8_lossy(&read(path)?).trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() {
        return Err(SettingsError::NoPassword(path.to_owned()));
    }
    Ok(Secret::new(text))
}

fn read(path: &Path) -> Result<Vec<u8>, SettingsError> {
    use std::io::Read as _;
    let failed = |source| SettingsError::File { path: path.to_owned(), source };
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_PASSWORD_BYTES).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings(urls: &[&str], prefix: &str) -> Result<EtcdSettings, SettingsError> {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        EtcdSettings::new(urls, None, None, None, prefix, Duration::from_secs(10))
    }

    #[test]
    fn addresses_and_prefixes_are_checked() {
        assert_eq!(settings(&["http://a:2379"], "/x").unwrap().prefix, "/x/");
        assert_eq!(settings(&["https://a:2379", "https://[::1]:1/"], "/").unwrap().prefix, "/");
        for url in ["a:2379", "ftp://a", "http://", "http://user:secret@a:1", "http://a/path", "http://a?x=1"]
        {
            assert!(matches!(settings(&[url], "/x"), Err(SettingsError::Url(_))), "{url}");
        }
        assert!(matches!(settings(&["http://a:1", "https://b:1"], "/x"), Err(SettingsError::Mixed)));
        for prefix in ["", "x", "/a b", "/ä", "/x\n"] {
            assert!(matches!(settings(&["http://a:1"], prefix), Err(SettingsError::Prefix(_))), "{prefix:?}");
        }
    }

    #[test]
    fn a_password_needs_tls_or_this_machine_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hush-hush\n").unwrap();
        let with = |url: &str| {
            let user = Some(("worker".to_owned(), file.clone()));
            EtcdSettings::new(vec![url.to_owned()], user, None, None, "/x", Duration::from_secs(10))
        };
        assert!(matches!(with("http://etcd.example.org:2379"), Err(SettingsError::PasswordInTheOpen(_))));
        let settings = with("https://etcd.example.org:2379").unwrap();
        assert!(!format!("{settings:?}").contains("hush"), "{settings:?}");
        assert!(with("http://127.0.0.1:2379").is_ok());
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(with("http://127.0.0.1:2379"), Err(SettingsError::NoPassword(_))));
    }
}
