//! What a node makes of the control plane's document and its own file.

use serde_json::{Map, Value};

use super::RefusedMapping;
use crate::sync_config::{
    ConfigProblem, GLOBAL_KEYS, ParsedConfig, Purpose, SyncConfig, parse_members, path_part, read_members,
};

/// What a node's own file decides, even with a control plane.
const LOCAL_KEYS: [&str; 12] = [
    "devices",
    "internal_url",
    "log_file",
    "log_format",
    "log_level",
    "statsd_host",
    "statsd_port",
    "statsd_prefix",
    "status_dir",
    "swift_bind_ip",
    "swift_dir",
    "syslog",
];

/// What a node works by.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The configuration, without the mappings that are refused.
    pub config: SyncConfig,
    /// What works but deserves a look.
    pub warnings: Vec<ConfigProblem>,
    /// Mappings that cannot be served, in the order of the document.
    pub refused: Vec<RefusedMapping>,
}

/// Parses the control plane's document for one node. What belongs to the node comes from its own file, `local`, as far as
/// that says it; all else comes from the document. What is wrong with single mappings refuses only those.
///
/// # Errors
/// Every problem that is not about one mapping, each with its JSON path. Never shows a secret.
pub fn parse_for_node(document: &str, local: Option<&str>) -> Result<NodeConfig, Vec<ConfigProblem>> {
    let mut members = parse_members(document).map_err(|problem| vec![problem])?;
    let (local, mut warnings) = read_local(local.unwrap_or("{}"))?;
    members.extend(local);
    let (parsed, refused) = read_members(&members, Purpose::Node)?;
    warnings.extend(parsed.warnings);
    Ok(NodeConfig { config: parsed.config, warnings, refused })
}

/// Parses a node's own file alone, for the time before there is a document: no mappings, and defaults for all that is
/// not the node's own.
///
/// # Errors
/// Every problem with what belongs to the node.
pub fn local_settings(local: &str) -> Result<ParsedConfig, Vec<ConfigProblem>> {
    let (members, mut warnings) = read_local(local)?;
    let (parsed, _) = read_members(&members, Purpose::Node)?;
    warnings.extend(parsed.warnings);
    Ok(ParsedConfig { config: parsed.config, warnings })
}

/// What is a node's own, and warnings.
type Own = (Map<String, Value>, Vec<ConfigProblem>);

/// What is the node's own in its file, and a warning for each key that is not.
fn read_local(local: &str) -> Result<Own, Vec<ConfigProblem>> {
    let members = parse_members(local).map_err(|problem| {
        let path = format!("local settings, {}", problem.path);
        vec![ConfigProblem { path, ..problem }]
    })?;
    let mut own = Map::new();
    let mut warnings = Vec::new();
    for (key, value) in members {
        if GLOBAL_KEYS.contains(&key.as_str()) && !LOCAL_KEYS.contains(&key.as_str()) {
            warnings.push(ConfigProblem {
                path: path_part(&key),
                found: "a key that has no effect here".to_owned(),
                allowed: "nothing: with a control plane it comes from the document there".to_owned(),
            });
        } else if !value.is_null() {
            own.insert(key, value);
        }
    }
    Ok((own, warnings))
}
