//! Configuration documents in the words of the contract. The rules are `swift_s3_policy`'s; this only translates.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use swift_s3_policy::{ChangeKind, ConfigProblem, DocumentChange, ParsedConfig};
use swift_s3_proto::v1;

use crate::prices::STANDARD;
use crate::push::Current;

pub use swift_s3_policy::{redact, restore_secrets};

/// What a mapping of all containers of its account has in place of a container.
const ALL_CONTAINERS: &str = "/*";
/// The largest document that is taken.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;
/// The key under which operators' tools keep the revision that a file came from. It is about the file, not part of it.
const REVISION_COMMENT: &str = "// revision";

/// A mapping of the document in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingInfo {
    /// Names it in every call.
    pub id: String,
    /// The account.
    pub account: String,
    /// The container, or `/*`.
    pub container: String,
    /// Endpoint and bucket.
    pub remote: String,
    /// False: local copies go away after they were carried.
    pub retain_local: bool,
    /// The storage class by which its remote bills; `None`: it bills nothing that is known here.
    pub billed_as: Option<String>,
}

impl MappingInfo {
    /// True if the mapping is about this container.
    #[must_use]
    pub fn covers(&self, account: &str, container: &str) -> bool {
        self.account == account && (self.container == container || self.container == "/*")
    }

    /// Account and container for people.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.account, self.container.trim_start_matches('/'))
    }
}

/// The mappings of a document by account and container, as JSON.
#[derive(Default)]
pub struct LookupIndex {
    /// With their positions in the document.
    accounts: HashMap<String, HashMap<String, Vec<(usize, Bytes)>>>,
}

impl std::fmt::Debug for LookupIndex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Mappings have secrets.
        formatter.debug_struct("LookupIndex").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

impl LookupIndex {
    /// Reads a document. One that is not JSON has no mappings.
    #[must_use]
    pub fn new(document: &str) -> Self {
        let document = document.strip_prefix('\u{feff}').unwrap_or(document);
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let elements = document.get("containers").and_then(Value::as_array);
        let mut index = Self::default();
        for (position, element) in elements.into_iter().flatten().enumerate() {
            let text = |key: &str| element.get(key).and_then(Value::as_str).map(str::to_owned);
            if let (Some(account), Some(container)) = (text("account"), text("container")) {
                let containers = index.accounts.entry(account).or_default();
                let mapping = (position, Bytes::from(element.to_string()));
                containers.entry(container).or_default().push(mapping);
            }
        }
        index
    }

    /// The mappings that are about this container, in the order of the document.
    #[must_use]
    pub fn lookup(&self, account: &str, container: &str) -> Vec<Bytes> {
        let Some(containers) = self.accounts.get(account) else { return Vec::new() };
        let all = containers.get(ALL_CONTAINERS).filter(|_| container != ALL_CONTAINERS);
        let mut found: Vec<_> = containers.get(container).into_iter().chain(all).flatten().collect();
        found.sort_by_key(|(position, _)| *position);
        found.into_iter().map(|(_, mapping)| mapping.clone()).collect()
    }
}

/// The index of the document that was looked things up in last.
#[derive(Debug, Default)]
pub struct Lookups {
    latest: tokio::sync::Mutex<(i64, Arc<LookupIndex>)>,
}

impl Lookups {
    /// The index of what is in force.
    pub async fn get(&self, current: &Arc<Current>) -> Arc<LookupIndex> {
        // Held while it is made, so that many callers make one.
        let mut latest = self.latest.lock().await;
        if latest.0 != current.revision {
            let document = Arc::clone(current);
            let made = tokio::task::spawn_blocking(move || LookupIndex::new(document.text())).await;
            *latest = (current.revision, Arc::new(made.unwrap_or_default()));
        }
        Arc::clone(&latest.1)
    }
}

/// A document that is right.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its mappings, in order.
    pub mappings: Arc<[MappingInfo]>,
    /// What works but deserves a look.
    pub warnings: Vec<v1::Problem>,
}

/// Refuses a document that is too large to look at.
///
/// # Errors
/// The problem.
pub fn check_size(document: &str) -> Result<(), Vec<v1::Problem>> {
    if document.len() <= MAX_DOCUMENT_BYTES {
        return Ok(());
    }
    Err(vec![v1::Problem {
        path: String::new(),
        found: format!("{} bytes", document.len()),
        allowed: format!("at most {MAX_DOCUMENT_BYTES} bytes"),
        mapping_id: String::new(),
    }])
}

/// Checks a document as nodes will.
///
/// # Errors
/// Every problem, without secrets.
pub fn check(document: &str) -> Result<Checked, Vec<v1::Problem>> {
    check_size(document)?;
    let ParsedConfig { config, warnings } = swift_s3_policy::parse_document(document)
        .map_err(|problems| problems.into_iter().map(problem).collect::<Vec<_>>())?;
    let mappings = config
        .mappings
        .iter()
        .zip(config.mapping_ids())
        .map(|(mapping, id)| MappingInfo {
            id,
            account: mapping.account.clone(),
            container: mapping.container.as_str().to_owned(),
            remote: mapping.remote.label(),
            retain_local: mapping.retain_local,
            billed_as: billed_as(mapping),
        })
        .collect();
    Ok(Checked { mappings, warnings: warnings.into_iter().map(problem).collect() })
}

/// The storage class by which the remote bills. Prices of clones are not known, and Swift clusters have none.
fn billed_as(mapping: &swift_s3_policy::Mapping) -> Option<String> {
    let remote = mapping.remote.s3().filter(|remote| remote.is_amazon())?;
    Some(remote.storage_class.clone().unwrap_or_else(|| STANDARD.to_owned()))
}

/// A problem as the contract has it.
#[must_use]
pub fn problem(problem: ConfigProblem) -> v1::Problem {
    let ConfigProblem { path, found, allowed } = problem;
    v1::Problem { path, found, allowed, mapping_id: String::new() }
}

/// What differs, in the order of the document.
#[must_use]
pub fn changes(old: Option<&str>, new: &str) -> Vec<v1::Change> {
    let change = |change: DocumentChange| v1::Change {
        kind: match change.kind {
            ChangeKind::Added => v1::ChangeKind::Added,
            ChangeKind::Removed => v1::ChangeKind::Removed,
            ChangeKind::Changed => v1::ChangeKind::Changed,
        }
        .into(),
        path: change.path,
        mapping_id: change.mapping_id.unwrap_or_default(),
        mapping: change.mapping.unwrap_or_default(),
        before: change.before.unwrap_or_default(),
        after: change.after.unwrap_or_default(),
    };
    swift_s3_policy::diff(old, new).into_iter().map(change).collect()
}

/// True when two documents say the same, comments included, the revision that a tool noted in one of them excepted.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    let read = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(mut members)) => {
            members.remove(REVISION_COMMENT);
            Some(members)
        }
        _ => None,
    };
    read(one).is_some_and(|one| read(other).is_some_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_index_finds_what_reading_the_document_finds() {
        let document = r#"{"containers": [
            {"account": "a", "container": "/*", "// note": 1}, {"account": "a", "container": "c", "n": 1},
            {"account": "b", "container": "c"}, {"account": "a", "container": "c", "n": 2}, {"account": "a"}, 7
        ]}"#;
        for document in [document, &format!("\u{feff}{document}"), "{}", "no JSON", ""] {
            let index = LookupIndex::new(document);
            for (account, container) in
                [("a", "c"), ("a", "d"), ("a", "/*"), ("b", "c"), ("b", "d"), ("x", "c"), ("", "")]
            {
                let found = index.lookup(account, container);
                let found: Vec<&str> =
                    found.iter().map(|mapping| std::str::from_utf8(mapping).unwrap()).collect();
                assert_eq!(
                    found,
                    swift_s3_policy::lookup(document, account, container),
                    "{account}/{container}"
                );
            }
        }
    }
}
