//! One storage node: an address, a devices folder, and an account, a container and an object server.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The three kinds of storage servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerKind {
    /// Keeps account databases.
    Account,
    /// Keeps container databases.
    Container,
    /// Keeps objects.
    Object,
}

impl ServerKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Account, Self::Container, Self::Object];

    /// `account`, `container` or `object`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Container => "container",
            Self::Object => "object",
        }
    }

    pub(crate) const fn application(self) -> &'static str {
        match self {
            Self::Account => "account-server",
            Self::Container => "container-server",
            Self::Object => "object-server",
        }
    }
}

/// One storage node.
#[derive(Debug)]
pub struct Node {
    pub(crate) index: usize,
    pub(crate) root: PathBuf,
    pub(crate) ip: Ipv4Addr,
    /// In the order of [`ServerKind::ALL`].
    pub(crate) ports: [u16; 3],
    pub(crate) device_names: Vec<String>,
    /// Process ids of the running servers.
    pub(crate) pids: Mutex<Vec<(ServerKind, u32)>>,
}

impl Node {
    /// Its place in [`super::SwiftCluster::nodes`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The address that the rings have for its devices.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The port of one of its servers.
    pub fn port(&self, kind: ServerKind) -> u16 {
        let [account, container, object] = self.ports;
        match kind {
            ServerKind::Account => account,
            ServerKind::Container => container,
            ServerKind::Object => object,
        }
    }

    /// The folder that holds one folder per device; what a worker's `devices` says.
    pub fn devices(&self) -> PathBuf {
        self.root.join("devices")
    }

    /// The names of its devices.
    pub fn device_names(&self) -> &[String] {
        &self.device_names
    }

    /// Where its configuration files and devices are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// True when its servers were started and not stopped since.
    pub fn is_running(&self) -> bool {
        !self.pids().is_empty()
    }

    pub(crate) fn conf(&self, kind: ServerKind) -> PathBuf {
        self.root.join(format!("{}-server.conf", kind.name()))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        format!("node{}-{name}.log", self.index)
    }

    pub(crate) fn pids(&self) -> std::sync::MutexGuard<'_, Vec<(ServerKind, u32)>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
