//! Whether the keys of a container lie among those of others: a listing then does not tell whose they are. Pure.

use std::sync::{Arc, Mutex, PoisonError};

use swift_s3_policy::{ContainerSelector, Mapping, SyncConfig};

use crate::push::Current;

/// True when some other container may have keys below the prefix of `container` of mapping `mapping_id`, or this one below theirs.
/// An unknown mapping shares everything.
#[must_use]
pub fn is_shared(config: &SyncConfig, mapping_id: &str, container: &str) -> bool {
    let ids = config.mapping_ids();
    let index = ids.iter().position(|id| id == mapping_id);
    let Some(mapping) = index.and_then(|index| config.mappings.get(index)) else { return true };
    if mapping.container == ContainerSelector::All && mapping.custom_prefix.is_some() {
        return true;
    }
    let keys = mapping.key_mapping(container);
    let ours = keys.key_prefix();
    config.mappings.iter().any(|other| {
        is_same_target(mapping, other)
            && !Arc::ptr_eq(mapping, other)
            && match &other.container {
                ContainerSelector::One(name) if *name == container && other.account == mapping.account => {
                    is_at_odds(other, container, ours)
                }
                ContainerSelector::One(name) => overlap(ours, other.key_mapping(name).key_prefix()),
                ContainerSelector::All
                    if other.account == mapping.account && is_at_odds(other, container, ours) =>
                {
                    true
                }
                ContainerSelector::All => match (&other.custom_prefix, other.remote.swift()) {
                    // Remote containers are named after the local ones.
                    (_, Some(_)) => ours.starts_with(other.remote.bucket()),
                    (Some(_), None) => overlap(ours, other.key_mapping("").key_prefix()),
                    // Prefixes with a digest of the container's name in them.
                    (None, None) => ours.is_empty(),
                },
            }
    })
}

/// About the same container, and yet another set of keys: one that archives keeps only copies there, and under another prefix the keys of
/// one would look like names of the other.
fn is_at_odds(other: &Mapping, container: &str, ours: &str) -> bool {
    let keys = other.key_mapping(container);
    let theirs = keys.key_prefix();
    overlap(ours, theirs) && !(ours == theirs && other.retain_local)
}

fn is_same_target(one: &Mapping, other: &Mapping) -> bool {
    one.remote.endpoint_key() == other.remote.endpoint_key()
        && one.remote.swift().is_some() == other.remote.swift().is_some()
        && (one.remote.swift().is_some() || one.remote.bucket() == other.remote.bucket())
}

fn overlap(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The configuration of the revision that was looked at last, parsed.
#[derive(Default)]
pub struct Parsed {
    latest: Mutex<Option<(i64, Arc<SyncConfig>)>>,
}

impl std::fmt::Debug for Parsed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The configuration has secrets.
        formatter.debug_struct("Parsed").finish_non_exhaustive()
    }
}

impl Parsed {
    /// What is in force. `None`: this version cannot read it. Takes a while for a new revision of many mappings.
    #[must_use]
    pub fn config(&self, current: &Current) -> Option<Arc<SyncConfig>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_none_or(|(revision, _)| *revision != current.revision) {
            let parsed = swift_s3_policy::parse_document(current.text()).ok()?;
            *latest = Some((current.revision, Arc::new(parsed.config)));
        }
        latest.as_ref().map(|(_, config)| Arc::clone(config))
    }

    /// As [`is_shared`], for what is in force. A configuration that cannot be read shares everything.
    #[must_use]
    pub fn is_shared(&self, current: &Current, mapping_id: &str, container: &str) -> bool {
        self.config(current).is_none_or(|config| is_shared(&config, mapping_id, container))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shared(mappings: &[(&str, Option<&str>)], container: &str) -> bool {
        let mappings: Vec<Value> = mappings
            .iter()
            .map(|(container, prefix)| {
                let mut mapping = json!({"account": "a", "container": container, "aws_bucket": "b"});
                if let Some(prefix) = prefix {
                    mapping["custom_prefix"] = json!(prefix);
                }
                mapping
            })
            .collect();
        let document = json!({ "containers": mappings }).to_string();
        let config = swift_s3_policy::parse_document(&document).unwrap().config;
        is_shared(&config, &config.mapping_ids()[0], container)
    }

    #[test]
    fn another_mapping_of_the_container_shares_unless_it_has_the_same_keys_and_archives_nothing() {
        let amazon = Some("https://s3.eu-west-1.amazonaws.com/");
        for (prefix, retain, endpoints, expected) in [
            (None, true, (None, None), false),
            (None, false, (None, None), true),
            (Some(""), true, (None, None), true),
            (Some("p"), false, (None, None), false),
            (None, false, (None, amazon), true),
            (None, false, (Some("http://S3:80/"), Some("http://s3")), true),
            (None, false, (Some("http://s3"), Some("http://s4")), false),
        ] {
            // A prefix for all containers of an account is refused.
            for other in ["c", "/*"].into_iter().filter(|other| *other == "c" || prefix.is_none()) {
                let mut mappings = [
                    json!({"account": "a", "container": "c", "aws_bucket": "b", "aws_endpoint": endpoints.0}),
                    json!({"account": "a", "container": other, "aws_bucket": "b", "aws_endpoint": endpoints.1}),
                ];
                mappings[1]["retain_local"] = json!(retain);
                if let Some(prefix) = prefix {
                    mappings[1]["custom_prefix"] = json!(prefix);
                }
                let document = json!({ "containers": mappings }).to_string();
                let config = swift_s3_policy::parse_document(&document).unwrap().config;
                let found = is_shared(&config, &config.mapping_ids()[0], "c");
                assert_eq!(found, expected, "{other} {prefix:?} {retain} {endpoints:?}");
            }
        }
    }

    #[test]
    fn keys_are_shared_where_prefixes_lie_in_each_other() {
        for (mappings, container, expected) in [
            (&[("c", None), ("d", None)][..], "c", false),
            (&[("/*", None)], "c", false),
            (&[("c", Some("")), ("d", None)], "c", true),
            (&[("c", Some("")), ("/*", None)], "c", true),
            (&[("c", Some("p")), ("d", Some("p/q"))], "c", true),
            (&[("c", Some("p/q")), ("d", Some("p"))], "c", true),
            (&[("c", Some("p")), ("d", Some("pq"))], "c", false),
            (&[("c", Some("p")), ("/*", None)], "c", false),
        ] {
            assert_eq!(shared(mappings, container), expected, "{mappings:?}");
        }
    }
}
