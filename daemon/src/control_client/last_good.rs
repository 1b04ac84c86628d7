//! The last configuration that was in force, for a start without the control plane. It never expires.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use swift_s3_proto::v1::Snapshot;

/// Its name in the status folder. It holds secrets: the file is readable by its owner only.
const FILE: &str = ".control-snapshot";
/// Nothing that a control plane sends is larger.
const MAX_BYTES: u64 = swift_s3_proto::MAX_MESSAGE_BYTES as u64;

/// The file.
#[derive(Clone, Debug)]
pub struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// The file in a status folder.
    #[must_use]
    pub fn new(status_dir: &Path) -> Self {
        Self { path: status_dir.join(FILE) }
    }

    /// What was kept; `None` if nothing was, or it cannot be understood (which is told). Blocking.
    #[must_use]
    pub fn load(&self) -> Option<Snapshot> {
        let read = || -> io::Result<Snapshot> {
            let mut bytes = Vec::new();
            std::fs::File::open(&self.path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
            Snapshot::decode(bytes.as_slice()).map_err(io::Error::other)
        };
        match read() {
            Ok(snapshot) => Some(snapshot),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "could not read the last configuration; waiting for the control plane");
                None
            }
        }
    }

    /// Keeps a snapshot, durably. Blocking.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before is then still there.
    pub fn store(&self, snapshot: &Snapshot) -> io::Result<()> {
        let folder = self.path.parent().ok_or_else(|| io::Error::other("a status folder is needed"))?;
        // Made with mode 0600.
        let mut file = tempfile::Builder::new().prefix(".control-snapshot-").tempfile_in(folder)?;
        file.write_all(&snapshot.encode_to_vec())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = LastGood::new(folder.path());
        assert_eq!(file.load(), None);
        let snapshot = Snapshot { revision: 7, document: "{}".into(), ..Snapshot::default() };
        file.store(&snapshot).unwrap();
        assert_eq!(file.load(), Some(snapshot));
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_read_is_no_configuration() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), [0xff; 9]).unwrap();
        assert_eq!(LastGood::new(folder.path()).load(), None);
    }
}
