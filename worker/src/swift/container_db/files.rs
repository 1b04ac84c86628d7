//! Where a container's databases lie on a device.

use std::fs;
use std::path::{Component, Path, PathBuf};

use swift_s3_policy::Timestamp;

use super::error::{DbError, DbErrorKind};
use crate::swift::file_stamp::{FileStamp, is_absent};

/// What was found for one container on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbFiles {
    /// The databases by ascending epoch; the last one is live. Empty when the device has none.
    pub files: Vec<DbFile>,
    /// Where Swift puts rows before they reach a database. It may not exist.
    pub pending: PathBuf,
    /// The state of that file, `None` when it does not exist.
    pub pending_stamp: Option<FileStamp>,
}

/// One database file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbFile {
    /// Its path.
    pub path: PathBuf,
    /// When sharding was enabled; `None` for the file of a container that was never sharded.
    pub epoch: Option<Timestamp>,
    /// Its state when it was found.
    pub stamp: FileStamp,
}

impl DbFiles {
    /// The database that Swift writes to.
    pub fn live(&self) -> Option<&DbFile> {
        self.files.last()
    }

    /// Tells whether rows wait in the pending file.
    pub fn has_pending(&self) -> bool {
        self.pending_stamp.is_some_and(|stamp| stamp.length() > 0)
    }
}

/// Looks for the databases of a container: `<devices>/<device>/containers/<partition>/<suffix>/<hash>/`.
///
/// `hash_hex` is the container's hash in hex. A device that is not mounted, a partition or a container that is not
/// there gives no files. A file is taken only if its name is one that Swift makes, if it is a plain file, and if its
/// folder really lies below the device: a symbolic link cannot lead elsewhere. Blocking; opens no file.
///
/// # Errors
/// [`DbErrorKind::Io`] when a folder cannot be read, or when `device` or `hash_hex` cannot be part of a path.
pub fn locate(devices: &Path, device: &str, partition: u32, hash_hex: &str) -> Result<DbFiles, DbError> {
    let mut components = Path::new(device).components();
    let is_folder_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    if !is_folder_name || device.contains(['/', '\0']) {
        return Err(DbError::new(DbErrorKind::Io, format!("expected a device name, got {device:?}")));
    }
    let is_hash =
        hash_hex.len() == 32 && hash_hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let Some(suffix) = hash_hex.get(29..).filter(|_| is_hash) else {
        return Err(DbError::new(DbErrorKind::Io, format!("expected an MD5 in hex, got {hash_hex:?}")));
    };
    let root = devices.join(device);
    let folder = root.join("containers").join(partition.to_string()).join(suffix).join(hash_hex);
    let pending = folder.join(format!("{hash_hex}.db.pending"));

    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => {
            return Ok(DbFiles { files: Vec::new(), pending, pending_stamp: None });
        }
        Err(error) => return Err(DbError::from_io(&error, "listing", &folder)),
    };
    let inside =
        |path: &Path| fs::canonicalize(path).map_err(|error| DbError::from_io(&error, "resolving", path));
    if !inside(&folder)?.starts_with(inside(&root)?) {
        let problem =
            format!("expected a folder below {}, got a link from {}", root.display(), folder.display());
        return Err(DbError::new(DbErrorKind::Io, problem));
    }
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| DbError::from_io(&error, "listing", &folder))?;
        let name = entry.file_name();
        let Some(epoch) = name.to_str().and_then(|name| epoch_of(name, hash_hex)) else { continue };
        // Of the entry itself, not of what a link points to. Swift may have removed it since.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(DbError::from_io(&error, "examining", &entry.path())),
        };
        if metadata.is_file() {
            files.push(DbFile { path: entry.path(), epoch, stamp: FileStamp::from_metadata(&metadata) });
        }
    }
    files.sort_by_key(|file| file.epoch);
    let pending_stamp =
        FileStamp::of(&pending).map_err(|error| DbError::from_io(&error, "examining", &pending))?;
    Ok(DbFiles { files, pending, pending_stamp })
}

/// The epoch in a database's file name, `Some(None)` for the plain name, `None` for any other file.
fn epoch_of(file_name: &str, hash_hex: &str) -> Option<Option<Timestamp>> {
    let rest = file_name.strip_prefix(hash_hex)?.strip_suffix(".db")?;
    if rest.is_empty() {
        return Some(None);
    }
    let epoch = rest.strip_prefix('_')?;
    let is_normal = epoch.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    epoch.parse().ok().filter(|_| is_normal).map(Some)
}
