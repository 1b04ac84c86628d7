//! The programs of the version that is upgraded from, which `scripts/previous-version.sh` builds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::python::{cache_folder, package_folder};
use crate::s3_servers::built_program;

/// Names a folder with programs of another version to upgrade from.
pub const FOLDER_VARIABLE: &str = "SWIFT_S3_TESTS_PREVIOUS";
/// Allows the present version in both roles where the previous one cannot be built.
pub const ALLOW_NONE_VARIABLE: &str = "SWIFT_S3_TESTS_ALLOW_NO_PREVIOUS";

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

    /// The one in `tests/previous-version`. Where it was not built and [`ALLOW_NONE_VARIABLE`] is 1, this is the present version once
    /// more.
    ///
    /// # Errors
    /// When it was not built, or is the present one under another name; with the remedy.
    pub fn previous() -> Result<Self> {
        if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
            return Ok(Self { folder: Some(PathBuf::from(folder)) });
        }
        let pinned = package_folder().join("previous-version");
        let text = fs::read_to_string(&pinned).with_context(|| pinned.display().to_string())?;
        let commit = text.lines().next().unwrap_or_default();
        let folder = cache_folder()?.join("previous").join(commit);
        let program = folder.join("swift-s3-sync");
        if !program.exists() && std::env::var_os(ALLOW_NONE_VARIABLE).is_some_and(|value| value == "1") {
            eprintln!("ATTENTION: upgraded from the present version, not from {commit}");
            return Ok(Self::present());
        }
        ensure!(program.exists(), "{commit} is not built: run scripts/previous-version.sh");
        ensure!(
            !same_content(&program, &built_program("swift-s3-sync")?)?,
            "{} is the present version: remove its folder, and run scripts/previous-version.sh",
            program.display()
        );
        Ok(Self { folder: Some(folder) })
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

fn same_content(one: &Path, other: &Path) -> Result<bool> {
    let length = |path: &Path| fs::metadata(path).map(|file| file.len());
    Ok(length(one)? == length(other)? && fs::read(one)? == fs::read(other)?)
}
