//! Reads secrets from where the configuration says they are.

use std::io::Read;
use std::path::PathBuf;

use swift_s3_policy::SecretSource;

/// A secret file larger than this is not one.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Why a secret could not be read. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("could not read secret file {path}: {source}")]
    File {
        /// The configured path.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is empty, too long or not text.
    #[error("secret file {path} does not hold a line of text of at most {MAX_SECRET_BYTES} bytes")]
    Content {
        /// The configured path.
        path: PathBuf,
    },
    /// The variable is unset, empty or not text.
    #[error("environment variable {name} with a secret is not set")]
    Environment {
        /// Its name.
        name: String,
    },
}

/// The secret itself. White space around the content of a file is dropped: editors end files with a newline.
///
/// # Errors
/// When it is not where the configuration says.
pub fn resolve(source: &SecretSource) -> Result<String, SecretError> {
    match source {
        SecretSource::Inline(secret) => Ok(secret.expose().to_owned()),
        SecretSource::Env(name) => std::env::var(name)
            .ok()
            .filter(|value| !value.is_empty())
            .ok_or_else(|| SecretError::Environment { name: name.clone() }),
        SecretSource::File(path) => {
            let failed = |source| SecretError::File { path: path.clone(), source };
            let mut bytes = Vec::new();
            std::fs::File::open(path)
                .map_err(failed)?
                .take(MAX_SECRET_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(failed)?;
            let too_long = bytes.len() as u64 > MAX_SECRET_BYTES;
            match String::from_utf8(bytes) {
                Ok(text) if !too_long && !text.trim().is_empty() => Ok(text.trim().to_owned()),
                _ => Err(SecretError::Content { path: path.clone() }),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_file_without_its_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "s3cr3t\n").unwrap();
        assert_eq!(resolve(&SecretSource::File(path)).unwrap(), "s3cr3t");
    }

    #[test]
    fn names_what_is_missing_and_not_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let missing = resolve(&SecretSource::File(path.clone())).unwrap_err().to_string();
        assert!(missing.contains("key"), "{missing}");
        std::fs::write(&path, [0x73, 0xff, 0x74]).unwrap();
        let binary = resolve(&SecretSource::File(path)).unwrap_err().to_string();
        assert!(binary.contains("line of text"), "{binary}");
        let unset = resolve(&SecretSource::Env("SWIFT_S3_SYNC_NO_SUCH_VARIABLE".into())).unwrap_err();
        assert!(unset.to_string().contains("SWIFT_S3_SYNC_NO_SUCH_VARIABLE"));
    }
}
