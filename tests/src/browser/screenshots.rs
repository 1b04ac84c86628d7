//! Pictures of pages, kept after the test for people to look at.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::page::Page;
use crate::s3_servers::built_program;

/// `screenshots` in the folder of build products.
///
/// # Errors
/// When it cannot be made.
pub fn folder() -> Result<PathBuf> {
    let profile = built_program("")?;
    let target = profile.parent().context("build products are in a folder")?;
    let folder = target.join("screenshots");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

impl Page {
    /// Keeps a picture of the window as `NAME.png` in [`folder`], and prints where.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf> {
        let path = folder()?.join(format!("{name}.png"));
        self.capture(&path, json!({ "format": "png" })).await?;
        println!("screenshot: {}", path.display());
        Ok(path)
    }

    /// Keeps a picture of the whole page, also of what is below the window's edge.
    pub async fn screenshot_all(&self, name: &str) -> Result<PathBuf> {
        let path = folder()?.join(format!("{name}.png"));
        let metrics = self.call("Page.getLayoutMetrics", json!({})).await?;
        let mut clip = metrics.get("cssContentSize").cloned().context("no size")?;
        clip["scale"] = json!(1);
        let parameters = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        self.capture(&path, parameters).await?;
        println!("screenshot: {}", path.display());
        Ok(path)
    }

    async fn capture(&self, path: &Path, parameters: Value) -> Result<()> {
        let answer = self.call("Page.captureScreenshot", parameters).await?;
        let data = answer.get("data").and_then(Value::as_str).context("no picture")?;
        fs::write(path, STANDARD.decode(data)?).with_context(|| format!("write {}", path.display()))
    }
}

/// Keeps a picture of what a failed test saw, and hands the failure on.
pub async fn failed<T>(page: &Page, name: &str, outcome: Result<T>) -> Result<T> {
    if let Err(error) = &outcome {
        let picture = page.screenshot(&format!("failed-{name}")).await;
        eprintln!(
            "{name} failed: {error:#}; picture: {picture:?}; the browser said {:?}",
            page.take_complaints()
        );
    }
    outcome
}
