//! A headless Chromium, driven as a person would: by roles, labels and visible text.
//!
//! It speaks Chromium's own protocol rather than WebDriver, because that finds elements in the accessibility tree, tells of every
//! error message and refused resource the moment it happens, and counts what went over the wire. The browser dies with this process,
//! and its profile with it. **Whatever the console complains about fails the test**, see [`Page::allow`].
//!
//! Source: Chrome DevTools Protocol, <https://chromedevtools.github.io/devtools-protocol/>.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process::{Process, ProcessOptions};
use crate::run_directory::RunDirectory;
use protocol::Connection;

mod accessibility;
mod element;
mod find;
mod observed;
mod page;
mod protocol;
mod screenshots;

pub use accessibility::Violation;
pub use element::Element;
pub use find::{By, button, checkbox, heading, link, region, row, textbox};
pub use page::{Page, SOON};
pub use screenshots::{failed, folder as screenshot_folder};

/// Debian's name of it.
const PROGRAM: &str = "chromium";
/// With four other test programs on two cores.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Nothing that talks to anybody else, nothing that asks, and colours that are the same everywhere.
const FLAGS: &[&str] = &[
    "--headless",
    "--remote-debugging-port=0",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--force-color-profile=srgb",
    "--force-prefers-reduced-motion",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--password-store=basic",
    // Tests run as root in containers, where the sandbox cannot work; they open nothing but the product's own pages.
    "--no-sandbox",
    "about:blank",
];

/// A browser with a profile of its own.
#[derive(Debug)]
pub struct Browser {
    // Dropped in this order: the process before its files.
    connection: Arc<Connection>,
    process: Process,
    _directory: RunDirectory,
}

impl Browser {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        let directory = RunDirectory::create("browser")?;
        let profile = directory.folder("profile")?;
        let options = ProcessOptions::new("chromium", PROGRAM, directory.path().join("chromium.log"))
            .argument(format!("--user-data-dir={}", profile.display()))
            .arguments(FLAGS)
            // Where it would look for settings of whoever runs the tests.
            .environment("HOME", directory.path())
            .environment("XDG_CONFIG_HOME", directory.path());
        let process = Process::start(options)?;
        let port_file = profile.join("DevToolsActivePort");
        let url =
            process.wait_until("chromium to listen", START_LIMIT, async || debugger_url(&port_file)).await?;
        let connection = Connection::open(&url).await?;
        Ok(Self { connection: Arc::new(connection), process, _directory: directory })
    }

    /// A window that shares no cookies with others, 1280 by 800, light.
    pub async fn page(&self) -> Result<Page> {
        let context = self.call("Target.createBrowserContext", json!({})).await?;
        let context = text(&context, "browserContextId")?;
        let parameters = json!({ "url": "about:blank", "browserContextId": context });
        let target = text(&self.call("Target.createTarget", parameters).await?, "targetId")?;
        Page::new(Arc::clone(&self.connection), target).await
    }

    /// Memory of the browser with all its processes, in bytes: what no other program shares (proportional set size).
    pub fn memory_bytes(&self) -> Result<u64> {
        let group = self.process.pid().to_string();
        let mut kibibytes = 0;
        for entry in fs::read_dir("/proc")? {
            let folder = entry?.path();
            let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
            // After the name, which may hold anything: state, parent, process group.
            let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            if behind_name.split(' ').nth(2) != Some(group.as_str()) {
                continue;
            }
            let rollup = fs::read_to_string(folder.join("smaps_rollup")).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0 kB");
            kibibytes += line.trim().trim_end_matches(" kB").parse::<u64>()?;
        }
        Ok(kibibytes * 1024)
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        self.connection.call(None, method, parameters).await
    }
}

/// The browser writes its port and a path with a random part once it listens.
fn debugger_url(port_file: &PathBuf) -> Result<String> {
    let text = fs::read_to_string(port_file)?;
    let (port, path) = text.trim().split_once('\n').context("only half written")?;
    Ok(format!("ws://127.0.0.1:{port}{path}"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    Ok(value.get(key).and_then(Value::as_str).with_context(|| format!("no {key} in {value}"))?.to_owned())
}
