//! A directory for one cluster or server, removed when the owner is dropped or this process ends.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

/// Set this to keep every run directory (with all logs) and to print where it is.
pub const KEEP_VARIABLE: &str = "SWIFT_S3_TESTS_KEEP";

/// Waits for the end of its input, that is of its owner, then removes the directory. Servers may still be writing for a
/// moment while they are being killed, so it tries again.
const JANITOR: &str = r#"cat >/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  rm -rf -- "$0" 2>/dev/null
  [ -e "$0" ] || exit 0
  sleep 0.1
done"#;

/// The directory; on a memory file system where that keeps extended attributes.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    janitor: Option<(Child, Option<ChildStdin>)>,
}

impl RunDirectory {
    /// Creates `<base>/swift-s3-tests-<label>-XXXXXX`, on `/dev/shm` if usable, else in the temporary directory.
    pub fn create(label: &str) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let path = tempfile::Builder::new()
            .prefix(&format!("swift-s3-tests-{label}-"))
            .tempdir_in(&base)
            .with_context(|| format!("create a directory in {}", base.display()))?
            .keep();
        if std::env::var_os(KEEP_VARIABLE).is_some() {
            eprintln!("kept: {}", path.display());
            return Ok(Self { path, janitor: None });
        }
        // Its own process group: an interrupt from the terminal must not reach it.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(JANITOR)
            .arg(&path)
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .context("start the shell that cleans up")?;
        let stdin = child.stdin.take();
        Ok(Self { path, janitor: Some((child, stdin)) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates (if needed) and returns a directory below.
    pub fn folder(&self, relative: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.path.join(relative);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if let Some((mut child, stdin)) = self.janitor.take() {
            drop(stdin);
            let _ = child.wait();
        }
    }
}
