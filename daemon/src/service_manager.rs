//! Tells the service manager (systemd) how far the process is. Without one nothing happens.
//!
//! Source: sd_notify(3): one datagram of `NAME=VALUE` lines to the socket that the variable `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long a manager may take to make room for a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// The process does its work, or waits only for others: it has read its configuration, and what it listens on is open. Whoever started
/// the service goes on now.
pub fn ready() {
    tell("READY=1");
}

/// The process was asked to end, and finishes what is under way.
pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        // A service manager that waits for this will end the process, so somebody has to know why.
        tracing::warn!(%error, state, "could not tell the service manager");
    }
}

/// `socket` is a path, or the name of an abstract socket behind `@`.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that is busy, as with all services of a machine that starts, reads it soon; one that does not read must not hold the process.
    sender.set_write_timeout(Some(PATIENCE))?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_manager_hears_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("swift-s3-service-manager-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (manager, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{name}").into()),
        ] {
            send(&socket, "READY=1").unwrap();
            let mut heard = [0; 64];
            let length = manager.recv(&mut heard).unwrap();
            assert_eq!(heard.get(..length), Some(&b"READY=1"[..]));
        }
        assert!(send(folder.path().join("nobody").as_os_str(), "READY=1").is_err());
    }

    #[test]
    fn a_manager_whose_queue_is_full_is_waited_for_but_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let others = UnixDatagram::unbound().unwrap();
        others.set_nonblocking(true).unwrap();
        while others.send_to(b"READY=1", &path).is_ok() {}
        let begun = std::time::Instant::now();
        assert!(send(path.as_os_str(), "READY=1").is_err());
        assert!(begun.elapsed() > PATIENCE / 2);
    }
}
