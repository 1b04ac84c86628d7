//! Which containers are merged, and with which remote. What was last good stays in force, whatever comes after it.

pub mod control;
pub mod file;
mod route;
mod state;
mod table;

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;
use swift_s3_daemon::telemetry::Sampling;
use swift_s3_policy::{
    ConfigProblem, ContainerSelector, Merge, MergeFailure, RefusedMapping, SyncConfig, parse_for_node,
};
use swift_s3_store::Remotes;

pub use route::Route;
pub use state::{Outcome, State};
use table::Unserved;
pub use table::{Broken, Found, MergedContainer, Table};

/// A configuration as the shunt reads it.
#[derive(Clone, Debug)]
pub struct Parsed {
    config: SyncConfig,
    /// Mappings that merge, as far as that can be told, and are wrong in some other way. Their archived objects must not look gone.
    unserved: Vec<Unserved>,
    /// The control plane's number of it; 0 of a file.
    revision: u64,
}

impl Parsed {
    /// Reads a document, and what belongs to this machine from `local`. Answers the problems of single mappings, too.
    ///
    /// # Errors
    /// What is wrong with the document as a whole.
    pub fn read(
        document: &str,
        local: Option<&str>,
    ) -> Result<(Self, Vec<ConfigProblem>), Vec<ConfigProblem>> {
        let parsed = parse_for_node(document, local)?;
        let raw: Value = serde_json::from_str(document).unwrap_or_default();
        let unserved = parsed.refused.iter().filter_map(|refused| unserved(&raw, refused)).collect();
        let problems = parsed.refused.into_iter().flat_map(|refused| refused.problems).collect();
        Ok((Self { config: parsed.config, unserved, revision: 0 }, problems))
    }

    /// The same, with the number that the control plane gave it.
    #[must_use]
    pub fn of_revision(self, revision: u64) -> Self {
        Self { revision, ..self }
    }
}

fn unserved(raw: &Value, refused: &RefusedMapping) -> Option<Unserved> {
    let element = raw.get("containers")?.get(refused.index)?;
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    if element.get("merge_namespaces") != Some(&Value::Bool(true)) {
        return None;
    }
    let container = match text("container")? {
        "/*" => ContainerSelector::All,
        container => ContainerSelector::One(container.to_owned()),
    };
    let problems = refused.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let flag = |key: &str| element.get(key) == Some(&Value::Bool(true));
    let failure =
        if text("merge_failure") == Some("local") { MergeFailure::Local } else { MergeFailure::Error };
    let merge = Merge { restores: flag("restore_object"), writes: flag("merge_writes"), failure };
    Some(Unserved { merge, account: text("account")?.to_owned(), container, reason: problems.join("; ") })
}

/// The policy in force. Readers never wait.
#[derive(Debug, Default)]
pub struct Policies {
    table: ArcSwap<Table>,
    remotes: Remotes,
    /// What mappings say about their traces is said to it.
    sampling: Option<Sampling>,
    state: State,
}

impl Policies {
    /// Nothing is merged yet; `remotes` are those that mappings will name, and `sampling` is told which part of their traces they want.
    #[must_use]
    pub fn new(remotes: Remotes, sampling: Sampling) -> Self {
        Self { remotes, sampling: Some(sampling), ..Self::default() }
    }

    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// What the shunt does for a container.
    #[must_use]
    pub fn find(&self, account: &str, container: &str) -> Found {
        self.table.load().find(account, container)
    }

    /// How what is in force came about.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Puts a configuration in force. Requests that are under way end under the one they began with.
    ///
    /// A mapping whose remote cannot be opened (a secret that is not there, say) keeps the remote it had; without one its containers answer
    /// 503 where they would need it. The problems are returned and logged.
    pub async fn install(&self, parsed: &Parsed) -> Vec<String> {
        let problems = self.put_in_force(parsed).await;
        self.state.in_force(parsed.revision, problems.is_empty() && parsed.unserved.is_empty());
        problems
    }

    /// As [`Policies::install`], of what is in force already but for remotes that could not be opened: a secret may have come meanwhile.
    pub async fn install_again(&self, parsed: &Parsed) -> Vec<String> {
        let problems = self.put_in_force(parsed).await;
        if problems.is_empty() {
            self.state.completed(parsed.unserved.is_empty());
        }
        problems
    }

    async fn put_in_force(&self, parsed: &Parsed) -> Vec<String> {
        let before = self.current();
        let (table, problems) = Table::build(&parsed.config, &parsed.unserved, &self.remotes, &before).await;
        for problem in &problems {
            tracing::error!("{problem}");
        }
        if let Some(sampling) = &self.sampling {
            let mappings = parsed.config.mappings.iter();
            sampling.set(
                mappings.filter_map(|mapping| Some((mapping.id(), mapping.trace_sample_ratio?))).collect(),
            );
        }
        tracing::info!(merged = table.len(), "policy in force");
        self.table.store(Arc::new(table));
        drop(before);
        self.remotes.tidy();
        problems
    }
}
