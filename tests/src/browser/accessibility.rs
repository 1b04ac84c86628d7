//! What axe-core finds wrong with a page: contrast, labels, roles, order of headings.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::page::Page;
use crate::python::cache_folder;

/// One rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, such as `color-contrast`.
    pub rule: String,
    /// What it asks for.
    pub help: String,
    /// Where, with what was found there.
    pub places: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}\n    {}", self.rule, self.help, self.places.join("\n    "))
    }
}

impl Page {
    /// All rules of axe-core, its best practices too, that the page breaks as it is now.
    pub async fn violations(&self) -> Result<Vec<Violation>> {
        if self.evaluate("typeof window.axe").await? == "undefined" {
            self.evaluate(axe()?).await?;
        }
        let run = "axe.run(document, { resultTypes: ['violations'] }).then(found => found.violations.map(\
            rule => ({ id: rule.id, help: rule.help, places: rule.nodes.map(\
                node => node.html.slice(0, 200) + ' -- ' + node.failureSummary) })))";
        let found = self.evaluate(run).await?;
        let violations = found.as_array().context("no list of violations")?.iter().map(violation);
        violations.collect()
    }

    /// Fails if the page breaks a rule.
    pub async fn expect_accessible(&self, what: &str) -> Result<()> {
        let violations: Vec<String> = self.violations().await?.iter().map(ToString::to_string).collect();
        ensure!(violations.is_empty(), "{what}: not accessible:\n{}", violations.join("\n"));
        Ok(())
    }
}

fn violation(found: &Value) -> Result<Violation> {
    let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let places = found.get("places").and_then(Value::as_array).context("no places")?;
    Ok(Violation {
        rule: text("id"),
        help: text("help"),
        places: places.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

/// The script that `scripts/setup.sh` fetched.
fn axe() -> Result<&'static str> {
    static AXE: OnceLock<String> = OnceLock::new();
    if let Some(script) = AXE.get() {
        return Ok(script);
    }
    let path = cache_folder()?.join("npm/node_modules/axe-core/axe.min.js");
    let script = fs::read_to_string(&path)
        .with_context(|| format!("{} is missing: run scripts/setup.sh", path.display()))?;
    Ok(AXE.get_or_init(|| script))
}
