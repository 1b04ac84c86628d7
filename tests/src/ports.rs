//! Free loopback addresses and ports.
//!
//! Every cluster and server gets an address of its own in 127.0.0.0/8: a port that was free there a moment ago is
//! still free when the server binds it, since nothing else uses the address (outgoing connections leave from 127.0.0.1).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};

/// A random /24 of loopback addresses; the last byte is the caller's, 1 to 254.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbourhood([u8; 2]);

impl Neighbourhood {
    /// Picks two random bytes; the first is never 0, so that 127.0.x.x stays for other programs.
    pub fn random() -> Self {
        // The standard library seeds each `RandomState` from the operating system.
        let random = RandomState::new().build_hasher().finish().to_le_bytes();
        let [first, second, ..] = random;
        Self([first.max(1), second])
    }

    /// The address 127.a.b.`last`.
    pub const fn address(self, last: u8) -> Ipv4Addr {
        let [first, second] = self.0;
        Ipv4Addr::new(127, first, second, last)
    }
}

/// A port that nothing listens on at `address`.
pub fn free_port(address: IpAddr) -> Result<u16> {
    let listener = TcpListener::bind(SocketAddr::new(address, 0))
        .with_context(|| format!("find a free port on {address}"))?;
    Ok(listener.local_addr()?.port())
}
