//! The programs of the version that is upgraded from, which `scripts/previous-version.sh` builds.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::python::{cache_folder, package_folder};
use crate::s3_servers::built_program;

/// Names a folder with programs of another version to upgrade from.
pub const FOLDER_VARIABLE: &str = "SWIFT_S3_TESTS_PREVIOUS";
/// What the script leaves where it could not build.
const UNAVAILABLE: &str = "unavailable";

/// One version's programs.
#[derive(Debug, Clone)]
pub struct Version {
    folder: Option<PathBuf>,
}

impl Version {
    /// The version of this checkout.
    #[must_use]
    pub fn present() -> Self {
        Self { folder: None }
    }

    /// The one in `tests/previous-version`. In a checkout whose history does not have it this is the present version once more, and
    /// that is told on standard error.
    ///
    /// # Errors
    /// When it was not built, with the remedy.
    pub fn previous() -> Result<Self> {
        if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
            return Ok(Self { folder: Some(PathBuf::from(folder)) });
        }
        let pinned = package_folder().join("previous-version");
        let text = fs::read_to_string(&pinned).with_context(|| pinned.display().to_string())?;
        let commit = text.lines().next().unwrap_or_default();
        let folder = cache_folder()?.join("previous").join(commit);
        if let Ok(reason) = fs::read_to_string(folder.join(UNAVAILABLE)) {
            eprintln!("ATTENTION: upgraded from the present version, not from {commit}: {}", reason.trim());
            return Ok(Self::present());
        }
        ensure!(
            folder.join("swift-s3-sync").exists(),
            "{commit} is not built: run scripts/previous-version.sh"
        );
        Ok(Self { folder: Some(folder) })
    }

    /// Whether this is another version than that of the checkout.
    #[must_use]
    pub fn is_other(&self) -> bool {
        self.folder.is_some()
    }

    /// The path of one of its programs.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = match &self.folder {
            Some(folder) => folder.join(name),
            None => built_program(name)?,
        };
        ensure!(path.exists(), "{} is missing", path.display());
        Ok(path)
    }
}
