//! Copies of a node's files for one worker alone, so that a scenario can damage them and the cluster stays whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use swift_s3_tests::site::Site;

/// A copy of the folder of `swift.conf` and the rings.
pub fn swift_dir(site: &Site) -> Result<PathBuf> {
    let target = site.directory().folder("etc-copy")?;
    for entry in fs::read_dir(site.cluster.swift_dir())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), target.join(entry.file_name()))?;
        }
    }
    Ok(target)
}

/// A `devices` folder of its own, with copies of container databases.
pub struct OwnDevices {
    /// What the worker's `devices` says.
    pub devices: PathBuf,
    node: usize,
}

impl OwnDevices {
    /// For the worker of `node`; nothing is in it yet.
    pub fn of(site: &Site, node: usize) -> Result<Self> {
        let devices = site.directory().folder(format!("devices{node}"))?;
        for device in site.cluster.node(node).device_names() {
            fs::create_dir_all(devices.join(device))?;
        }
        Ok(Self { devices, node })
    }

    /// Copies what `node`'s database of a container holds now, and puts it in place by a rename. Answers its path.
    pub async fn refresh(&self, site: &Site, container: &str) -> Result<PathBuf> {
        // Rows that the server has not merged yet would be missing in the copy.
        site.cluster.direct_container_head(site.swift.account(), container, self.node).await?.success()?;
        let source = site.cluster.container_db_path(site.swift.account(), container, self.node)?;
        let target = self.devices.join(source.strip_prefix(site.cluster.node(self.node).devices())?);
        let folder = target.parent().context("a database is in a folder")?;
        fs::create_dir_all(folder)?;
        replace(&target, &fs::read(&source)?)?;
        Ok(target)
    }
}

/// Replaces a file as replicators do: written beside it, then renamed.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, content)?;
    fs::rename(temporary, path)?;
    Ok(())
}
