//! The socket: made with its rights before anybody can see it, and removed when it is no longer ours to serve.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::FilterAddress;

/// The owner and the group may connect: Swift's proxy runs as a member of the group.
const MODE: u32 = 0o660;

/// Why the door did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody serves there.
    #[error("{0}: another process listens there")]
    Taken(PathBuf),
    /// A file that is not ours to remove.
    #[error("{0} is there, and is no socket")]
    NotASocket(PathBuf),
    /// The system said no.
    #[error("{0}: {1}")]
    Failed(FilterAddress, #[source] io::Error),
}

/// Listens for the filter. Dropping it removes the socket, unless another process has put its own in the place.
#[derive(Debug)]
pub struct FilterListener {
    kind: Kind,
    address: FilterAddress,
}

#[derive(Debug)]
enum Kind {
    Unix { listener: UnixListener, path: PathBuf, place: (u64, u64) },
    Tcp(TcpListener),
}

/// A connection of the filter.
#[derive(Debug)]
pub(super) enum FilterStream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl FilterListener {
    /// Listens. A socket that nobody serves any more is replaced.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(address: &FilterAddress) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Failed(address.clone(), error);
        match address {
            FilterAddress::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted).await.map_err(failed)?;
                let address = FilterAddress::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { kind: Kind::Tcp(listener), address })
            }
            FilterAddress::Unix(path) => {
                make_room(path).map_err(|error| error.unwrap_or_else(failed))?;
                let (listener, place) = bind(path).map_err(failed)?;
                let kind = Kind::Unix { listener, path: path.clone(), place };
                Ok(Self { kind, address: address.clone() })
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &FilterAddress {
        &self.address
    }

    /// True where whoever connects needs no token: the file's rights say who may.
    #[must_use]
    pub fn is_guarded_by_rights(&self) -> bool {
        matches!(self.kind, Kind::Unix { .. })
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<FilterStream> {
        match &self.kind {
            Kind::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| FilterStream::Unix(stream))
            }
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are written whole; waiting for more to send only delays them.
                let _ = stream.set_nodelay(true);
                Ok(FilterStream::Tcp(stream))
            }
        }
    }
}

impl Drop for FilterListener {
    fn drop(&mut self) {
        if let Kind::Unix { path, place, .. } = &self.kind {
            let is_ours = fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == *place);
            if is_ours && let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "could not remove the socket");
            }
        }
    }
}

/// Fails if somebody serves at `path`, or if it is anything but a socket. Inner errors are those of the system.
fn make_room(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::System(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Failure::Known(OpenError::NotASocket(path.to_owned())));
        }
        Ok(_) => {}
    }
    match blocking::UnixStream::connect(path) {
        Ok(_) => Err(Failure::Known(OpenError::Taken(path.to_owned()))),
        // Nobody listens: what a killed process left. It is replaced by a rename, so nothing is removed here.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::System(error)),
    }
}

enum Failure {
    Known(OpenError),
    System(io::Error),
}

impl Failure {
    fn unwrap_or_else(self, failed: impl FnOnce(io::Error) -> OpenError) -> OpenError {
        match self {
            Self::Known(error) => error,
            Self::System(error) => failed(error),
        }
    }
}

/// Binds under another name, sets the rights, and renames: nobody connects before the rights are right.
fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    // Of an earlier process with the same id.
    let _ = fs::remove_file(&temporary);
    let listener = blocking::UnixListener::bind(&temporary)?;
    let placed = (|| {
        fs::set_permissions(&temporary, fs::Permissions::from_mode(MODE))?;
        listener.set_nonblocking(true)?;
        let found = fs::symlink_metadata(&temporary)?;
        fs::rename(&temporary, path)?;
        Ok((found.dev(), found.ino()))
    })();
    match placed {
        Ok(place) => Ok((UnixListener::from_std(listener)?, place)),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf, FilterAddress) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = FilterAddress::Unix(path.clone());
        (folder, path, address)
    }

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_goes_with_its_listener() {
        let (folder, path, address) = place();
        let listener = FilterListener::open(&address).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        let _stream = UnixStream::connect(&path).await.unwrap();
        assert!(matches!(listener.accept().await, Ok(FilterStream::Unix(_))));
        drop(listener);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced() {
        let (_folder, path, address) = place();
        drop(blocking::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = FilterListener::open(&address).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        drop(listener);
    }

    #[tokio::test]
    async fn nothing_that_is_in_use_is_replaced() {
        let (_folder, path, address) = place();
        let first = FilterListener::open(&address).await.unwrap();
        assert!(matches!(FilterListener::open(&address).await, Err(OpenError::Taken(_))));
        UnixStream::connect(&path).await.unwrap();
        drop(first);
        fs::write(&path, "not a socket").unwrap();
        assert!(matches!(FilterListener::open(&address).await, Err(OpenError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a socket");
    }

    #[tokio::test]
    async fn a_socket_that_another_process_put_there_is_left_alone() {
        let (_folder, path, address) = place();
        let listener = FilterListener::open(&address).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = blocking::UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
