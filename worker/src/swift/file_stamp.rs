//! A cheap answer to "is this still the file that I looked at?".

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identity, size and modification time of a file, from one `stat` call.
///
/// Two equal stamps mean the same unchanged file, as far as the file system's clock can tell; a file that was
/// replaced by a rename differs in its inode even when size and time agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    length: u64,
    modified_seconds: i64,
    modified_nanoseconds: i64,
}

impl FileStamp {
    /// Reads the stamp of `path`, following symbolic links; `None` when there is no such file.
    ///
    /// The file is never opened: closing a second descriptor of a live SQLite file would drop the locks that this
    /// process holds on it (POSIX advisory locks belong to the process, not to the descriptor).
    ///
    /// # Errors
    /// Whatever `stat` answers, except that the file is absent.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::from_metadata(&metadata))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a stamp from metadata that the caller already has.
    pub fn from_metadata(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.size(),
            modified_seconds: metadata.mtime(),
            modified_nanoseconds: metadata.mtime_nsec(),
        }
    }

    /// The file's length in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Tells whether both stamps are of the same file on disk, changed or not.
    pub const fn is_same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }
}

/// Tells whether `error` means that no such file exists; a plain file in the place of a folder counts too.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn differs_after_a_write_and_after_a_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(FileStamp::of(&path).unwrap(), None);
        std::fs::write(&path, "one").unwrap();
        let first = FileStamp::of(&path).unwrap().unwrap();
        assert_eq!(FileStamp::of(&path).unwrap(), Some(first));
        assert_eq!(first.length(), 3);

        std::fs::write(&path, "three").unwrap();
        let second = FileStamp::of(&path).unwrap().unwrap();
        assert_ne!(first, second);
        assert!(first.is_same_file(&second));

        let other = folder.path().join("other");
        std::fs::write(&other, "five5").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let third = FileStamp::of(&path).unwrap().unwrap();
        assert_ne!(second, third);
        assert!(!second.is_same_file(&third));
    }
}
