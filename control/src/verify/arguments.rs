//! What may be typed, and what it means.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum, ValueHint};
use swift_s3_policy::SwiftAuth;
use swift_s3_store::verify::{Layout, Plan, Scope};

/// How the configuration, and this tool, writes every container.
const ALL: &str = "/*";
/// No password is longer; a wrong path may be.
const MAX_PASSWORD_BYTES: u64 = 64 * 1024;

/// Proves that a remote can be used: writes, reads and removes a test object
#[derive(Parser)]
#[command(name = "swift-s3-verify", version)]
pub struct Program {
    /// How to reach the remote, and what to prove
    #[command(flatten)]
    pub verify: VerifyArguments,
}

/// The arguments of `verify`.
#[derive(Args, Clone)]
pub struct VerifyArguments {
    /// What the remote speaks
    #[arg(long)]
    pub protocol: Protocol,
    /// Where it is; for swift the URL that tokens come from
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub endpoint: String,
    /// The access key id, or the user
    #[arg(long, value_name = "NAME")]
    pub username: String,
    /// The secret access key, or the user's key or password; others on this machine may see it there
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "SWIFT_S3_VERIFY_PASSWORD",
        hide_env_values = true,
        required_unless_present = "password_file"
    )]
    pub password: Option<String>,
    /// A file with the password, without the line end
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
    /// The account to work in, if it is not the user's own; swift only
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// The bucket or container; /* for any; without it they are only listed
    #[arg(long, value_name = "NAME")]
    pub bucket: Option<String>,
    /// The custom_prefix of the mapping to be; s3 only; empty for keys that are object names
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// How tokens are asked for, if not by version 1; swift only
    #[arg(long, value_name = "TYPE")]
    pub auth_type: Option<AuthType>,
    /// The tenant, for keystone_v2
    #[arg(long, value_name = "NAME")]
    pub tenant_name: Option<String>,
    /// The project, for keystone_v3
    #[arg(long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// The project's domain, for keystone_v3
    #[arg(long, value_name = "NAME")]
    pub project_domain_name: Option<String>,
    /// The user's domain, for keystone_v3
    #[arg(long, value_name = "NAME")]
    pub user_domain_name: Option<String>,
    /// Write nothing: list, and read an object that is there
    #[arg(long)]
    pub read_only: bool,
    /// The policy of the container that --bucket '/*' makes
    #[arg(long, value_name = "POLICY")]
    pub storage_policy: Option<String>,
}

/// What a remote speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Protocol {
    /// S3, Google or a clone
    S3,
    /// OpenStack Swift
    Swift,
}

/// How Keystone hands out tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum AuthType {
    /// Its second API
    #[value(name = "keystone_v2")]
    KeystoneV2,
    /// Its third API
    #[value(name = "keystone_v3")]
    KeystoneV3,
}

/// Shows no password.
impl std::fmt::Debug for VerifyArguments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("VerifyArguments")
            .field("protocol", &self.protocol)
            .field("bucket", &self.bucket)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl VerifyArguments {
    /// What is to be proven.
    ///
    /// # Errors
    /// What contradicts itself.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        let is_swift = self.protocol == Protocol::Swift;
        if self.account.is_some() && !is_swift {
            return Err("Invalid argument: account is only valid with swift protocol".to_owned());
        }
        if self.auth_type.is_some() && !is_swift {
            return Err("Keystone auth requires swift protocol.".to_owned());
        }
        self.auth()?;
        let scope = match self.bucket.as_deref().filter(|bucket| !bucket.is_empty()) {
            None => Scope::Service,
            Some(ALL) => Scope::All,
            Some(name) if name.contains('/') => {
                return Err("Invalid argument: slash is not allowed in container name".to_owned());
            }
            Some(name) => Scope::One(name.to_owned()),
        };
        if scope == Scope::All && !is_swift && !self.read_only {
            return Err("Invalid argument: with s3 protocol /* is only valid with --read-only".to_owned());
        }
        let layout = match self.protocol {
            Protocol::Swift => Layout::Swift,
            Protocol::S3 => Layout::S3 { custom_prefix: self.prefix.clone() },
        };
        Ok(Plan { scope, read_only: self.read_only, layout, storage_policy: self.storage_policy.clone() })
    }

    /// How tokens are asked for.
    ///
    /// # Errors
    /// Names every option that is missing.
    pub(super) fn auth(&self) -> Result<SwiftAuth, String> {
        let mut missing = Vec::new();
        let mut need = |value: &Option<String>, option: &'static str| {
            let value = value.clone().unwrap_or_default();
            if value.is_empty() {
                missing.push(option);
            }
            value
        };
        let (auth, name) = match self.auth_type {
            None => (SwiftAuth::V1, ""),
            Some(AuthType::KeystoneV2) => (
                SwiftAuth::KeystoneV2 { tenant_name: need(&self.tenant_name, "--tenant-name") },
                "keystone_v2",
            ),
            Some(AuthType::KeystoneV3) => (
                SwiftAuth::KeystoneV3 {
                    project_name: need(&self.project_name, "--project-name"),
                    project_domain_name: need(&self.project_domain_name, "--project-domain-name"),
                    user_domain_name: need(&self.user_domain_name, "--user-domain-name"),
                },
                "keystone_v3",
            ),
        };
        if missing.is_empty() {
            return Ok(auth);
        }
        Err(format!("Invalid argument: {name} requires {}", missing.join(", ")))
    }

    /// The password, from wherever it is.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub(super) fn secret(&self) -> Result<String, String> {
        let Some(path) = &self.password_file else {
            return Ok(self.password.clone().unwrap_or_default());
        };
        let shown = path.display();
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| format!("cannot open {shown}: {error}"))?;
        let size = file.take(MAX_PASSWORD_BYTES + 1).read_to_string(&mut text);
        let size = size.map_err(|error| format!("cannot read {shown}: {error}"))?;
        if u64::try_from(size).unwrap_or(u64::MAX) > MAX_PASSWORD_BYTES {
            return Err(format!("{shown} holds no password: it is longer than {MAX_PASSWORD_BYTES} bytes"));
        }
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        arguments: VerifyArguments,
    }

    fn arguments(more: &[&str]) -> VerifyArguments {
        let basic = ["verify", "--endpoint=http://h", "--username=u", "--password=hidden"];
        Program::try_parse_from(basic.iter().chain(more)).unwrap().arguments
    }

    #[test]
    fn contradictions_are_named() {
        let table = [
            (
                &["--protocol=s3", "--account=a"][..],
                "Invalid argument: account is only valid with swift protocol",
            ),
            (&["--protocol=s3", "--bucket=a/b"], "Invalid argument: slash is not allowed in container name"),
            (
                &["--protocol=swift", "--bucket=/a"],
                "Invalid argument: slash is not allowed in container name",
            ),
            (&["--protocol=s3", "--auth-type=keystone_v3"], "Keystone auth requires swift protocol."),
            (
                &["--protocol=swift", "--auth-type=keystone_v2"],
                "Invalid argument: keystone_v2 requires --tenant-name",
            ),
            (
                &["--protocol=swift", "--auth-type=keystone_v3", "--project-domain-name=d"],
                "Invalid argument: keystone_v3 requires --project-name, --user-domain-name",
            ),
            (
                &["--protocol=s3", "--bucket=/*"],
                "Invalid argument: with s3 protocol /* is only valid with --read-only",
            ),
        ];
        for (given, expected) in table {
            assert_eq!(arguments(given).plan().unwrap_err(), expected, "{given:?}");
        }
    }

    #[test]
    fn the_scope_follows_the_bucket() {
        let scope = |given: &[&str]| arguments(given).plan().unwrap().scope;
        assert_eq!(scope(&["--protocol=s3"]), Scope::Service);
        assert_eq!(scope(&["--protocol=s3", "--bucket="]), Scope::Service);
        assert_eq!(scope(&["--protocol=swift", "--bucket=/*"]), Scope::All);
        assert_eq!(scope(&["--protocol=s3", "--bucket=/*", "--read-only"]), Scope::All);
        assert_eq!(scope(&["--protocol=s3", "--bucket=b"]), Scope::One("b".to_owned()));
    }

    #[test]
    fn no_password_is_shown() {
        assert!(!format!("{:?}", arguments(&["--protocol=s3"])).contains("hidden"));
    }
}
