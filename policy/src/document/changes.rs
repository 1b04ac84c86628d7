//! What differs between two documents.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::Path;
use super::secrets::{self, CRITERIA, Kind};
use super::{CONTAINERS, SECRET_PLACEHOLDER, elements, is_comment};
use crate::mapping::Mapping;
use crate::sync_config::{comparable, parse_members};

/// One difference. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentChange {
    /// What kind.
    pub kind: ChangeKind,
    /// JSON path in the newer document; in the older one for what is removed.
    pub path: String,
    /// [`Mapping::id`] of the mapping it is in.
    pub mapping_id: Option<String>,
    /// [`Mapping::label`] of that mapping.
    pub mapping: Option<String>,
    /// The old value as JSON.
    pub before: Option<String>,
    /// The new value as JSON.
    pub after: Option<String>,
}

/// Kinds of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// New.
    Added,
    /// Gone.
    Removed,
    /// Different.
    Changed,
}

/// What differs, in the order of the newer document; what is gone comes behind that. Comments do not count, nor does the
/// order of keys and of mappings. A text that is no document counts as an empty one.
pub fn diff(old: Option<&str>, new: &str) -> Vec<DocumentChange> {
    let old = old.and_then(|old| parse_members(old).ok()).unwrap_or_default();
    let new = parse_members(new).unwrap_or_default();
    let mut changes = Changes::default();
    let root = Path::default();
    for (key, after) in relevant(&new) {
        match (key, old.get(key)) {
            (CONTAINERS, before) if is_list(after) && before.is_none_or(is_list) => {
                changes.compare_mappings(elements(&old), elements(&new));
            }
            (_, before) => changes.compare(&root.key(key), key, before, Some(after)),
        }
    }
    for (key, before) in relevant(&old).filter(|(key, _)| !new.contains_key(*key)) {
        if key == CONTAINERS && is_list(before) {
            changes.compare_mappings(elements(&old), &[]);
        } else {
            changes.compare(&root.key(key), key, Some(before), None);
        }
    }
    changes.found
}

fn relevant(members: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    members.iter().map(|(key, value)| (key.as_str(), value)).filter(|(key, _)| !is_comment(key))
}

fn is_list(value: &Value) -> bool {
    value.is_array()
}

/// Collects differences.
#[derive(Default)]
struct Changes {
    found: Vec<DocumentChange>,
    /// Id and label of the mapping that is being compared.
    mapping: Option<(String, String)>,
}

impl Changes {
    fn compare_mappings(&mut self, old: &[Value], new: &[Value]) {
        let (old_mappings, new_mappings) = (comparable(old), comparable(new));
        let old_by_id: BTreeMap<String, usize> =
            old_mappings.iter().map(|(index, mapping)| (mapping.id(), *index)).collect();
        let partner = |index: usize| match new_mappings.get(&index) {
            Some(mapping) => old_by_id.get(&mapping.id()).copied(),
            // Too broken to be told: what stood in its place may be its former self.
            None => (index < old.len()).then_some(index),
        };
        let mut is_matched = vec![false; old.len()];
        let list = Path::default().key(CONTAINERS);
        for (index, after) in new.iter().enumerate() {
            let before = partner(index).filter(|old_index| {
                let slot = is_matched.get_mut(*old_index);
                slot.is_some_and(|slot| !std::mem::replace(slot, true))
            });
            let mapping = new_mappings.get(&index);
            let mapping = mapping.or_else(|| old_mappings.get(&before?));
            self.mapping = mapping.map(about);
            let before = before.and_then(|index| old.get(index));
            self.compare(&list.index(index), CONTAINERS, before, Some(after));
        }
        for (index, before) in old.iter().enumerate() {
            if is_matched.get(index) == Some(&false) {
                self.mapping = old_mappings.get(&index).map(about);
                self.compare(&list.index(index), CONTAINERS, Some(before), None);
            }
        }
        self.mapping = None;
    }

    /// Compares two values of a key, and looks into objects, and lists of the same length.
    fn compare(&mut self, path: &Path, key: &str, before: Option<&Value>, after: Option<&Value>) {
        match (before, after) {
            (Some(Value::Object(old)), Some(Value::Object(new))) if looks_into(key, before, after) => {
                for (key, after) in relevant(new) {
                    self.compare(&path.key(key), key, old.get(key), Some(after));
                }
                for (key, before) in relevant(old).filter(|(key, _)| !new.contains_key(*key)) {
                    self.compare(&path.key(key), key, Some(before), None);
                }
            }
            (Some(Value::Array(old)), Some(Value::Array(new)))
                if old.len() == new.len() && looks_into(key, before, after) =>
            {
                for (index, (before, after)) in old.iter().zip(new).enumerate() {
                    self.compare(&path.index(index), key, Some(before), Some(after));
                }
            }
            (Some(old), Some(new)) if is_same(key, old, new) => {}
            _ => self.note(path, key, before, after),
        }
    }

    fn note(&mut self, path: &Path, key: &str, before: Option<&Value>, after: Option<&Value>) {
        let shown_before = before.map(|value| shown(key, value));
        let mut shown_after = after.map(|value| shown(key, value));
        if let (Some(Value::String(before)), Some(Value::String(after))) = (&shown_before, &mut shown_after)
            && before == after
        {
            after.push_str(" (changed)");
        }
        let kind = match (before, after) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        };
        let (mapping_id, mapping) = self.mapping.clone().unzip();
        self.found.push(DocumentChange {
            kind,
            path: path.to_string(),
            mapping_id,
            mapping,
            before: shown_before.as_ref().map(Value::to_string),
            after: shown_after.as_ref().map(Value::to_string),
        });
    }
}

fn about(mapping: &Mapping) -> (String, String) {
    (mapping.id(), mapping.label())
}

/// Whether what is inside the values may be shown part by part.
fn looks_into(key: &str, before: Option<&Value>, after: Option<&Value>) -> bool {
    let is_plain =
        |value: Option<&Value>| value.is_none_or(|value| matches!(secrets::kind(key, value), Kind::Plain));
    is_plain(before) && is_plain(after)
}

/// Whether two values of a key are the same. A placeholder is the same as the secret that it stands for.
fn is_same(key: &str, old: &Value, new: &Value) -> bool {
    if old == new {
        return true;
    }
    match (secrets::kind(key, old), secrets::kind(key, new)) {
        (Kind::Secret, Kind::Secret) => *new == SECRET_PLACEHOLDER,
        (Kind::Url(before), Kind::Url(after)) => before == after && *new == after.as_str(),
        _ => false,
    }
}

/// A value without secrets and comments.
fn shown(key: &str, value: &Value) -> Value {
    let mut value = value.clone();
    secrets::redact_value(key, &mut value);
    if key != CRITERIA {
        drop_comments(&mut value);
    }
    value
}

fn drop_comments(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|key, _| !is_comment(key));
            let members = members.iter_mut().filter(|(key, _)| *key != CRITERIA);
            members.for_each(|(_, value)| drop_comments(value));
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_comments),
        _ => {}
    }
}
