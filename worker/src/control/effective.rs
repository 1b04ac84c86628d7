//! The document that is really in force on this node, when some mappings of the pushed one are not.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use swift_s3_policy::document::parse_for_node;

/// `document` with the mappings of these ids in the form that they have in `in_force`, or without them. `None` when either cannot be read.
#[must_use]
pub fn effective(document: &str, in_force: &str, refused: &BTreeSet<String>) -> Option<String> {
    if refused.is_empty() {
        return Some(document.to_owned());
    }
    let wanted = elements(document)?;
    let known: HashMap<String, Value> = elements(in_force)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(id, element)| Some((id?, element)))
        .collect();
    let kept = wanted.into_iter().filter_map(|(id, element)| match id {
        Some(id) if refused.contains(&id) => known.get(&id).cloned(),
        // What cannot even be named is not in force.
        None => None,
        Some(_) => Some(element),
    });
    let mut whole: Value = serde_json::from_str(document).ok()?;
    whole.as_object_mut()?.insert("containers".to_owned(), kept.collect());
    serde_json::to_string(&whole).ok()
}

/// The elements of `containers`, each with the id of its mapping if it has one.
fn elements(document: &str) -> Option<Vec<(Option<String>, Value)>> {
    let node = parse_for_node(document, None).ok()?;
    let mut ids: HashMap<usize, String> = node
        .config
        .mappings
        .iter()
        .zip(node.config.mapping_ids())
        .filter_map(|(mapping, id)| {
            let index = mapping.path.strip_prefix("containers[")?.strip_suffix(']')?;
            Some((index.parse().ok()?, id))
        })
        .collect();
    ids.extend(node.refused.into_iter().filter_map(|refused| Some((refused.index, refused.mapping_id?))));
    let whole: Value = serde_json::from_str(document).ok()?;
    let elements = whole.get("containers").and_then(Value::as_array).cloned().unwrap_or_default();
    Some(elements.into_iter().enumerate().map(|(index, element)| (ids.remove(&index), element)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(containers: &[(&str, &str)]) -> String {
        let containers: Vec<Value> = containers
            .iter()
            .map(|(container, secret)| {
                json!({"account": "AUTH_a", "container": container, "aws_bucket": "b", "aws_identity": "i", "aws_secret": secret})
            })
            .collect();
        json!({"workers": 3, "containers": containers}).to_string()
    }

    fn ids(document: &str, wanted: &[usize]) -> BTreeSet<String> {
        let found = elements(document).unwrap();
        wanted.iter().map(|index| found.get(*index).unwrap().0.clone().unwrap()).collect()
    }

    #[test]
    fn a_refused_mapping_keeps_its_last_good_form_and_a_new_one_is_left_out() {
        let old = document(&[("x", "0"), ("c", "old")]);
        let new = document(&[("c", "new"), ("d", "new"), ("e", "new")]);
        let effective = effective(&new, &old, &ids(&new, &[0, 1])).unwrap();
        let expected: Value = serde_json::from_str(&document(&[("c", "old"), ("e", "new")])).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&effective).unwrap(), expected);
    }

    #[test]
    fn without_refusals_the_document_stays_as_it_was_written() {
        assert_eq!(effective("{ }", "", &BTreeSet::new()).as_deref(), Some("{ }"));
    }
}
