//! One more proxy for clients: with users of a scenario's own, and perhaps with the shunt's filter in its pipeline.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::SwiftCluster;
use crate::ports::free_port;
use crate::python::{SYSTEM_PYTHON, package_folder};

/// What the proxy has beside what every public proxy of the cluster has.
#[derive(Debug, Clone, Default)]
pub struct ClientProxyOptions {
    /// `(account without AUTH_, user, key, groups)`: tempauth users such as `("a", "tester", "testing", ".admin")`.
    pub users: Vec<(String, String, String, String)>,
    /// The filter `cloud-shunt` stands behind tempauth and staticweb, with these lines below its `use`.
    pub filter: Option<String>,
    /// Its pipeline has no tempurl, so that signatures are parameters like any other.
    pub without_tempurl: bool,
}

/// A running proxy; dropping it kills it.
#[derive(Debug)]
pub struct ClientProxy {
    address: SocketAddr,
    pid: u32,
    log: PathBuf,
}

impl ClientProxy {
    /// `http://address:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Everything it logged.
    pub fn log_text(&self) -> String {
        crate::process::read_log(&self.log)
    }
}

impl Drop for ClientProxy {
    fn drop(&mut self) {
        // The host reaps it; the host itself may be gone already, and everything with it.
        if let Ok(pid) = i32::try_from(self.pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl SwiftCluster {
    /// Starts it. It speaks S3 (s3api) and has tempurl and staticweb, with or without the filter.
    pub async fn start_client_proxy(&self, options: &ClientProxyOptions) -> Result<ClientProxy> {
        let public = fs::read_to_string(self.swift_dir.join("proxy.conf"))?;
        let ip = self.proxy.ip();
        let address = SocketAddr::new(ip, free_port(ip)?);
        let s3api = if self.options.s3api { "" } else { " s3api" };
        let filter = if options.filter.is_some() { " cloud-shunt" } else { "" };
        let users: String = options
            .users
            .iter()
            .map(|(account, user, key, groups)| format!("user_{account}_{user} = {key} {groups}\n"))
            .collect();
        let auth = "use = egg:swift#tempauth\n";
        let mut text = public
            .replace(
                &format!("bind_port = {}\n", self.proxy.port()),
                &format!("bind_port = {}\n", address.port()),
            )
            .replace(" tempauth ", &format!("{s3api} tempauth staticweb{filter} "))
            .replace(auth, &format!("{auth}{users}"));
        if options.without_tempurl {
            text = text.replace(" tempurl ", " ");
        }
        if !self.options.s3api {
            text.push_str(super::configuration::S3API);
        }
        text.push_str("\n[filter:staticweb]\nuse = egg:swift#staticweb\n");
        if let Some(lines) = &options.filter {
            text.push_str("\n[filter:cloud-shunt]\nuse = egg:swift-s3-sync#cloud-shunt\n");
            text.push_str(lines);
        }
        let name = format!("client-proxy-{}", address.port());
        let conf = self.swift_dir.join(format!("{name}.conf"));
        fs::write(&conf, text)?;
        let log = format!("{name}.log");
        let packages = self.directory.path().join("python");
        if options.filter.is_some() {
            install_filter(&packages)?;
        }
        let pid = self.host.serve_with("proxy-server", &conf, &log, Some(&packages)).await?;
        let proxy = ClientProxy { address, pid, log: self.directory.path().join("logs").join(&log) };
        self.wait_for_server(address, pid, &log).await?;
        Ok(proxy)
    }
}

/// Installs the filter as `make install` does, into a folder that only this cluster's proxies have on their path.
pub(super) fn install_filter(folder: &Path) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    // Scenarios on one cluster start their proxies at the same time, so it appears at once and whole.
    let temporary = tempfile::Builder::new()
        .prefix("python-")
        .tempdir_in(folder.parent().context("a folder of the cluster")?)?;
    let output = Command::new(SYSTEM_PYTHON)
        .arg(filter_sources().join("install.py"))
        .arg(temporary.path())
        .output()?;
    ensure!(output.status.success(), "install.py: {}", String::from_utf8_lossy(&output.stderr));
    match fs::rename(temporary.keep(), folder) {
        Err(_) if folder.exists() => Ok(()),
        other => other.context("put the filter in place"),
    }
}

/// The folder of the filter's Python package in this source tree.
pub fn filter_sources() -> PathBuf {
    package_folder().join("../shunt/wsgi")
}
