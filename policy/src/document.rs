//! The configuration as a text: shown without secrets, compared, completed and handed to nodes.
//!
//! A document is the JSON text of a `sync.json`. What operators see of it has [`SECRET_PLACEHOLDER`] in place of each
//! secret; a document that comes back with placeholders gets the secrets of the one in force
//! ([`restore_secrets`]). Nothing here ever puts a secret into a problem or a difference.

use serde_json::{Map, Value};

use crate::mapping::ALL_CONTAINERS;
use crate::sync_config::{ConfigProblem, ParsedConfig, Purpose, parse_members, read_members};

mod changes;
mod node;
mod path;
mod restore;
mod secrets;

pub use crate::sync_config::RefusedMapping;
pub use changes::{ChangeKind, DocumentChange, diff};
pub use node::{NodeConfig, local_settings, parse_for_node};
pub use restore::restore_secrets;

/// What stands where a secret is not shown.
pub const SECRET_PLACEHOLDER: &str = "***";

/// The key under which the mappings are.
const CONTAINERS: &str = "containers";

/// The document without its secrets, in lines for people, keys in their order.
///
/// Hidden are the values of keys that hold secrets or look as if they did, and what URLs hold before an `@`. Where a
/// secret is (`{"file": …}`, `{"env": …}`) and access key ids stay.
///
/// # Errors
/// When it is no JSON object.
pub fn redact(document: &str) -> Result<String, ConfigProblem> {
    let mut members = parse_members(document)?;
    secrets::redact_members(&mut members);
    Ok(pretty(&Value::Object(members)))
}

/// Parses a document that the control plane hands out: as [`crate::parse_sync_config`], but what belongs to single nodes
/// may be missing (`devices`, `status_dir`, `items_chunk`).
///
/// # Errors
/// Every problem of the document, each with its JSON path. Never shows a secret.
pub fn parse_document(document: &str) -> Result<ParsedConfig, Vec<ConfigProblem>> {
    let members = parse_members(document).map_err(|problem| vec![problem])?;
    read_members(&members, Purpose::ControlPlane).map(|(parsed, _)| parsed)
}

/// The mappings of a container, each as JSON, in the order of the document. Shows secrets. Empty if it is no document.
pub fn lookup(document: &str, account: &str, container: &str) -> Vec<String> {
    let members = parse_members(document).unwrap_or_default();
    let covers = |element: &&Value| {
        let text = |key: &str| element.get(key).and_then(Value::as_str);
        let selected = text("container");
        text("account") == Some(account) && (selected == Some(container) || selected == Some(ALL_CONTAINERS))
    };
    elements(&members).iter().filter(covers).map(Value::to_string).collect()
}

/// One element of `containers` without its secrets, in lines for people; empty if there is no such element.
#[must_use]
pub fn element(document: &str, index: usize) -> String {
    let members = parse_members(document).unwrap_or_default();
    let Some(element) = elements(&members).get(index) else { return String::new() };
    let mut element = element.clone();
    // As a member of the list, so that a secret is told by its key however deep it stands.
    secrets::redact_value(CONTAINERS, &mut element);
    pretty(&element)
}

/// The elements of `containers`.
fn elements(members: &Map<String, Value>) -> &[Value] {
    members.get(CONTAINERS).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// JSON has no comments, so a key that begins with `//` is one.
fn is_comment(key: &str) -> bool {
    key.starts_with("//")
}

fn pretty(value: &Value) -> String {
    // `{:#}` of a JSON value indents it, and cannot fail.
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests;
