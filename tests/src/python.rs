//! Where the Python programs of the test ground are, and what else `scripts/setup.sh` fetched.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Debian's Python, for which Debian's Swift is installed; another `python3` on the path does not see Swift.
pub const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// The folder `tests/` of this checkout. Cargo does not build anew when a checkout at another path shares its cache, so that
/// what the compiler saw comes last.
pub fn package_folder() -> PathBuf {
    let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = [".", "tests"].map(PathBuf::from);
    told.into_iter()
        .chain(here)
        .find(|folder| folder.join("ground").is_dir())
        .and_then(|folder| folder.canonicalize().ok())
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
}

/// A file of `tests/ground/`.
pub fn ground_file(name: &str) -> PathBuf {
    package_folder().join("ground").join(name)
}

/// A program of the virtual environment that `scripts/setup.sh` makes.
///
/// # Errors
/// When it is not there, with the remedy.
pub fn environment_program(name: &str) -> Result<PathBuf> {
    let program = cache_folder()?.join("venv/bin").join(name);
    anyhow::ensure!(program.exists(), "{} is missing: run scripts/setup.sh", program.display());
    Ok(program)
}

/// Where `scripts/setup.sh` keeps what it fetched.
///
/// # Errors
/// When the environment does not tell.
pub fn cache_folder() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("swift-s3-sync"))
}
