//! An authority, a server's and a client's certificate, as files.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) authority: PathBuf,
    pub(super) server_certificate: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) client_certificate: PathBuf,
    pub(super) client_key: PathBuf,
}

impl Certificates {
    /// One server certificate for all `ips` and `localhost`; the client's common name is `client`.
    pub(super) fn create(folder: &Path, ips: &[IpAddr]) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "etcd test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let made = Self {
            authority: folder.join("ca.pem"),
            server_certificate: folder.join("server.pem"),
            server_key: folder.join("server.key"),
            client_certificate: folder.join("client.pem"),
            client_key: folder.join("client.key"),
        };
        fs::write(&made.authority, issuer.pem())?;
        let mut names = vec!["localhost".to_owned()];
        names.extend(ips.iter().map(ToString::to_string));
        for (common_name, names, certificate, key_file) in [
            ("server", names, &made.server_certificate, &made.server_key),
            ("client", vec!["client".to_owned()], &made.client_certificate, &made.client_key),
        ] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, common_name);
            fs::write(certificate, params.signed_by(&key, &issuer)?.pem())?;
            fs::write(key_file, key.serialize_pem())?;
        }
        Ok(made)
    }
}
