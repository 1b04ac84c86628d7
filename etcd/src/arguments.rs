//! The flags that lead to etcd, the same in every program.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::settings::{EtcdSettings, SettingsError};

/// Where etcd is, and how to be let in.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "etcd")]
pub struct EtcdArguments {
    /// Addresses of etcd's members
    #[arg(long, value_name = "URL[,URL]", env = "SWIFT_S3_ETCD", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// The user to log in as
    #[arg(
        long,
        value_name = "NAME",
        env = "SWIFT_S3_ETCD_USER",
        requires = "etcd",
        requires = "etcd_password_file"
    )]
    pub etcd_user: Option<String>,
    /// A file with the user's password
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_ETCD_PASSWORD_FILE", requires = "etcd_user")]
    pub etcd_password_file: Option<PathBuf>,
    /// Certificate authorities of etcd, PEM; by default those of the system
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_ETCD_CA_CERT", requires = "etcd")]
    pub etcd_ca_cert: Option<PathBuf>,
    /// The certificate to show to etcd, PEM
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_ETCD_CLIENT_CERT", requires = "etcd_client_key")]
    pub etcd_client_cert: Option<PathBuf>,
    /// The key of --etcd-client-cert, PEM
    #[arg(long, value_name = "PATH", env = "SWIFT_S3_ETCD_CLIENT_KEY", requires = "etcd_client_cert")]
    pub etcd_client_key: Option<PathBuf>,
    /// Everything is kept under this prefix; clusters that share an etcd need different ones
    #[arg(long, value_name = "PREFIX", env = "SWIFT_S3_ETCD_PREFIX", default_value = "/swift-s3-sync/")]
    pub etcd_prefix: String,
    /// A process that etcd has not heard of for so long has lost what it owned, 2 to 600
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SWIFT_S3_ETCD_LEASE_SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(2..=600)
    )]
    pub etcd_lease_seconds: u16,
}

impl EtcdArguments {
    /// What the flags say; none without `--etcd`. The password is read now, certificates are read to refuse them early.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn settings(&self) -> Result<Option<EtcdSettings>, SettingsError> {
        if self.etcd.is_empty() {
            return Ok(None);
        }
        let settings = EtcdSettings::new(
            self.etcd.clone(),
            self.etcd_user.clone().zip(self.etcd_password_file.clone()),
            self.etcd_ca_cert.clone(),
            self.etcd_client_cert.clone().zip(self.etcd_client_key.clone()),
            &self.etcd_prefix,
            Duration::from_secs(u64::from(self.etcd_lease_seconds)),
        )?;
        Ok(Some(settings))
    }
}
