//! What must be right before work starts, and again on a reload: the configuration and everything on this machine that it names.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use swift_s3_policy::{ConfigProblem, CoordinationChoice, CredentialSource, SyncConfig, parse_sync_config};

use crate::status_file::StatusDir;
use crate::swift::local_objects::InternalUrl;
use crate::swift::topology::SwiftTopology;
use swift_s3_store::secrets::resolve;

/// A configuration file larger than this is a mistake.
const MAX_CONFIG_BYTES: u64 = 64 * 1024 * 1024;
/// Keeps a second daemon away from the same cursors.
const LOCK_FILE: &str = ".swift-s3-sync.lock";

fn problem(path: &str, found: impl Into<String>, allowed: &str) -> ConfigProblem {
    ConfigProblem { path: path.to_owned(), found: found.into(), allowed: allowed.to_owned() }
}

/// Reads the configuration file. Answers it with its warnings, or every problem it has.
///
/// # Errors
/// All problems at once, by JSON path; a file that cannot be read is one problem.
pub fn load(path: &Path) -> Result<(SyncConfig, Vec<ConfigProblem>), Vec<ConfigProblem>> {
    let parsed = parse_sync_config(&read_text(path)?)?;
    let problems: Vec<ConfigProblem> =
        parsed.config.mappings.iter().flat_map(|mapping| secrets(mapping)).collect();
    if problems.is_empty() { Ok((parsed.config, parsed.warnings)) } else { Err(problems) }
}

/// Reads the text of a configuration file.
///
/// # Errors
/// The one problem that keeps it from being read.
pub fn read_text(path: &Path) -> Result<String, Vec<ConfigProblem>> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| vec![problem("(file)", error.to_string(), "a readable file")])?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Err(vec![problem("(file)", "more than 64 MiB", "a configuration file")]);
    }
    String::from_utf8(bytes)
        .map_err(|error| vec![problem("(file)", error.utf8_error().to_string(), "UTF-8 text")])
}

/// The secrets of a mapping that cannot be read.
pub(crate) fn secrets(mapping: &swift_s3_policy::Mapping) -> Vec<ConfigProblem> {
    let CredentialSource::Static { identity, secret, session_token } = mapping.remote.credentials() else {
        return Vec::new();
    };
    [
        ("aws_identity", Some(identity)),
        ("aws_secret", Some(secret)),
        ("aws_session_token", session_token.as_ref()),
    ]
    .into_iter()
    .filter_map(|(key, source)| {
        let error = resolve(source?).err()?;
        Some(problem(&format!("{}.{key}", mapping.path), error.to_string(), "a secret that can be read"))
    })
    .collect()
}

/// A way of sharing out work that this worker was not prepared for.
#[must_use]
pub fn coordination_problem(config: &SyncConfig, has_etcd: bool) -> Option<ConfigProblem> {
    let is_wrong = config.coordination == CoordinationChoice::Etcd && !has_etcd;
    is_wrong.then(|| {
        problem(
            "coordination",
            "\"etcd\", but this worker was started without --etcd",
            "\"auto\" or \"implicit\"",
        )
    })
}

/// What the process stands on.
#[derive(Debug)]
pub struct Ground {
    /// The cluster's rings and `swift.conf`.
    pub topology: SwiftTopology,
    /// Where progress is kept.
    pub status: StatusDir,
    /// The proxy for objects that cannot be read directly.
    pub internal_url: Option<InternalUrl>,
}

impl Ground {
    /// Checks what the configuration names on this machine.
    ///
    /// # Errors
    /// Every problem found, by the key that names the culprit.
    pub fn prepare(config: &SyncConfig) -> Result<Self, Vec<ConfigProblem>> {
        let (topology, internal_url, problems) = inspect(config);
        match topology {
            Some(topology) if problems.is_empty() => {
                Ok(Self { topology, status: StatusDir::new(&config.status_dir), internal_url })
            }
            _ => Err(problems),
        }
    }

    /// Checks that and the status folder, without leaving a trace, also beside a daemon that is at work.
    ///
    /// # Errors
    /// Every problem found, by the key that names the culprit.
    pub fn check(config: &SyncConfig) -> Result<(), Vec<ConfigProblem>> {
        let (_, _, mut problems) = inspect(config);
        // A file without a name goes away by itself.
        if let Err(error) = tempfile::tempfile_in(&config.status_dir) {
            problems.push(status_dir_problem(&config.status_dir, &error.to_string()));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// Looks at everything that the configuration names on this machine.
pub(crate) fn inspect(
    config: &SyncConfig,
) -> (Option<SwiftTopology>, Option<InternalUrl>, Vec<ConfigProblem>) {
    let mut problems = Vec::new();
    if let Err(error) = std::fs::read_dir(&config.devices) {
        let found = format!("{}: {error}", config.devices.display());
        problems.push(problem("devices", found, "the folder under which Swift's devices are mounted"));
    }
    let internal_url = match config.internal_url.as_deref().map(str::parse::<InternalUrl>).transpose() {
        Ok(url) => url,
        Err(error) => {
            problems.push(problem("internal_url", error.to_string(), "the http URL of a Swift proxy"));
            None
        }
    };
    let topology = match SwiftTopology::new(&config.swift_dir, &config.swift_bind_ip) {
        Ok(topology) => {
            // Any name will do: the point is that swift.conf and the ring can be read.
            if let Err(error) = topology.container("account", "container") {
                problems.push(problem(
                    "swift_dir",
                    error.to_string(),
                    "a folder with swift.conf and Swift's rings",
                ));
            }
            Some(topology)
        }
        Err(error) => {
            problems.push(problem("swift_bind_ip", error.to_string(), "addresses of this machine"));
            None
        }
    };
    (topology, internal_url, problems)
}

fn status_dir_problem(folder: &Path, found: &str) -> ConfigProblem {
    let allowed = "a folder that exists and can be written, used by one daemon only";
    problem("status_dir", format!("{}: {found}", folder.display()), allowed)
}

/// Takes hold of the status folder, for as long as the answer lives.
pub(crate) fn lock(folder: &Path) -> Result<Flock<File>, ConfigProblem> {
    let failed = |found: String| status_dir_problem(folder, &found);
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| failed(error.to_string()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| failed(format!("in use by another swift-s3-sync ({error})")))
}

/// Reads the configuration again for a running daemon; `None` keeps what is in force, and the log says why.
pub fn reload(path: &Path, running: &Mutex<Arc<SyncConfig>>) -> Option<Arc<SyncConfig>> {
    match load(path) {
        Ok((mut config, warnings)) => {
            for warning in &warnings {
                tracing::warn!("{}: {warning}", path.display());
            }
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            keep_fixed(&running, &mut config);
            let config = Arc::new(config);
            *running = Arc::clone(&config);
            tracing::info!(mappings = config.mappings.len(), "configuration read again and in force");
            Some(config)
        }
        Err(problems) => {
            for problem in &problems {
                tracing::error!("{}: {problem}", path.display());
            }
            tracing::error!(
                problems = problems.len(),
                "the configuration was not changed; the old one stays in force"
            );
            None
        }
    }
}

/// Some keys are read at start only. A reload that changes them says so, and goes on with the old value.
pub(crate) fn keep_fixed(running: &SyncConfig, fresh: &mut SyncConfig) {
    macro_rules! keep {
        ($($field:ident),*) => {$(
            if fresh.$field != running.$field {
                tracing::warn!(concat!("a change of ", stringify!($field), " needs a restart; the old value stays in force"));
                fresh.$field.clone_from(&running.$field);
            }
        )*};
    }
    keep!(devices, status_dir, swift_dir, swift_bind_ip, internal_url, log_file, log_format, syslog, statsd);
}
