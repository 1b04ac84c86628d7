//! The reference in the handbook, and the files for Prometheus' and Grafana's users: pages that say what the code says.
//!
//! `make docs` writes them; a test fails when one is not what the code gives.

mod configuration;
mod errors;
mod flags;
mod metrics;

use std::path::Path;
use std::{fs, io};

use crate::dashboard;

pub use metrics::{PROCESSES, ProcessMetrics};

/// What every page begins with.
const MADE: &str = "<!-- Made from the code by `make docs`: change it there. -->";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Below the root of the repository.
    pub path: &'static str,
    /// All of it.
    pub text: String,
}

/// Every file that is made from the code and kept in the repository.
#[must_use]
pub fn pages() -> Vec<Page> {
    let page = |path: &'static str, text: String| Page { path, text };
    vec![
        page("docs/reference/configuration.md", configuration::page()),
        page("docs/reference/metrics.md", metrics::page()),
        page("docs/reference/flags.md", flags::page()),
        page("docs/reference/errors.md", errors::page()),
        page("packaging/grafana/swift-s3-sync.json", dashboard::json()),
    ]
}

/// Writes every page below `root`.
///
/// # Errors
/// If a folder or file cannot be written.
pub fn write(root: &Path) -> io::Result<()> {
    for page in pages() {
        let path = root.join(page.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, page.text)?;
    }
    Ok(())
}

/// A text as it may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A table; each row has as many cells as the head.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}
