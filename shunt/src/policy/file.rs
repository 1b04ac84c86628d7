//! The policy from `sync.json`, read again whenever it changes.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use swift_s3_policy::ConfigProblem;
use tokio_util::sync::CancellationToken;

use super::{Parsed, Policies};

/// A configuration file larger than this is a mistake.
const MAX_CONFIG_BYTES: u64 = 64 * 1024 * 1024;
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Tells two versions of a file apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Reads a configuration. What belongs to the workers of storage nodes (`devices` and so on) need not be there.
///
/// # Errors
/// Every problem by its JSON path, those of single mappings included.
pub fn read(path: &Path) -> Result<Parsed, Vec<ConfigProblem>> {
    let text = read_text(path)?;
    let (parsed, problems) = Parsed::read(&text, Some(&text))?;
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

fn read_text(path: &Path) -> Result<String, Vec<ConfigProblem>> {
    let problem = |found: String, allowed: &str| {
        vec![ConfigProblem { path: "(file)".into(), found, allowed: allowed.into() }]
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| problem(error.to_string(), "a readable file"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_CONFIG_BYTES {
        return Err(problem("more than 64 MiB".into(), "a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| problem(error.utf8_error().to_string(), "UTF-8 text"))
}

/// Looks at the file until told to stop, and puts in force what it reads. A file that is missing, half written or wrong changes nothing and is told
/// once; `again` asks for a look now, whatever the stamp says (SIGHUP).
pub async fn follow(
    path: PathBuf,
    begun_with: Option<Stamp>,
    policies: Arc<Policies>,
    mut again: tokio::sync::mpsc::Receiver<()>,
    stop: CancellationToken,
) {
    let mut read_last = begun_with;
    let mut secrets_failed = false;
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            asked = again.recv() => asked.is_some(),
            () = stop.cancelled() => return,
        };
        let now = stamp(&path);
        let is_same = now == read_last;
        if is_same && !asked && !secrets_failed {
            continue;
        }
        let looked = path.clone();
        let Ok(result) = tokio::task::spawn_blocking(move || read(&looked)).await else { continue };
        // What was read may be half of it; the stamp before tells, as the file changes again.
        read_last = now;
        match result {
            Ok(config) => {
                let problems = match is_same && !asked {
                    true => policies.install_again(&config).await,
                    false => policies.install(&config).await,
                };
                secrets_failed = !problems.is_empty();
            }
            Err(problems) => {
                policies.state().refused();
                for problem in &problems {
                    tracing::error!(path = %path.display(), "the configuration is not used: {problem}");
                }
            }
        }
    }
}

/// Of the file as it is now; to be taken before it is read.
#[must_use]
pub fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: metadata.ino(),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}
