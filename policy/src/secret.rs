//! Secrets and where they come from.
//!
//! A secret can be moved, compared and handed to the one place that needs it. It has no `Display`, and its
//! `Debug` shows asterisks, so that it cannot reach a log, an error or a status page by accident.

use std::fmt;
use std::path::PathBuf;

/// A secret text. Only [`Secret::expose`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the request that is signed with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

/// Where one secret is to be taken from. This crate never reads the file or the variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Written into the configuration file.
    Inline(Secret),
    /// The content of a file.
    File(PathBuf),
    /// The value of an environment variable.
    Env(String),
}

/// Where the credentials of a remote come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// Nothing is configured: the SDK's own chain (environment, profile, container, instance role).
    DefaultChain,
    /// An access key with its secret, and a token when they are temporary.
    Static {
        /// The access key id.
        identity: SecretSource,
        /// The secret access key.
        secret: SecretSource,
        /// The session token of temporary credentials.
        session_token: Option<SecretSource>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_every_holder_hides_the_secret() {
        let inline = SecretSource::Inline(Secret::new("hunter2"));
        let credentials = CredentialSource::Static {
            identity: SecretSource::Inline(Secret::new("hunter1")),
            secret: inline.clone(),
            session_token: Some(SecretSource::Inline(Secret::from("hunter3".to_owned()))),
        };
        for shown in [format!("{inline:?}"), format!("{credentials:#?}")] {
            assert!(!shown.contains("hunter"), "{shown}");
            assert!(shown.contains("***"), "{shown}");
        }
    }

    #[test]
    fn equality_and_exposure_use_the_text() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_eq!(Secret::new("a").expose(), "a");
    }
}
