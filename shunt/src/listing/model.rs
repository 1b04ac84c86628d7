//! Swift's own listing, for the tests: `list_objects_iter` of swift/container/backend.py, step by step, over names in memory.
//!
//! [`super::original`] compares it with the original. Two things differ, both below a `path`, and both are accidents of the original. It
//! passes over a name that equals a folder with its last `/` changed into the character after it (`a/b0` behind `a/b/…`); and in
//! reverse over an object that is named like a folder (`a/b/`), if the folder holds something.

use std::collections::BTreeSet;

use super::params::Params;

/// Name or folder, and whether it is a folder.
pub(crate) type ModelRow = (String, bool);

/// The page that Swift gives for `params` over `names`.
pub(crate) fn list(names: &BTreeSet<String>, params: &Params) -> Vec<ModelRow> {
    let (mut marker, mut end_marker) = (params.marker.clone(), params.end_marker.clone());
    if params.reverse {
        std::mem::swap(&mut marker, &mut end_marker);
    }
    let mut prefix = params.prefix.clone();
    let mut delimiter = params.delimiter.clone();
    if let Some(path) = &params.path {
        prefix = if path.is_empty() { String::new() } else { format!("{}/", path.trim_end_matches('/')) };
        delimiter = "/".to_owned();
    }
    let original_marker = marker.clone();
    let mut results: Vec<ModelRow> = Vec::new();
    // Whether the bound where the queries go on counts itself.
    let mut inclusive = false;
    while results.len() < params.limit {
        let selected = |name: &&String| {
            (end_marker.is_empty()
                || **name < end_marker
                || (inclusive && params.reverse && **name == end_marker))
                && name.starts_with(&prefix)
                && (marker.is_empty()
                    || **name > marker
                    || (inclusive && !params.reverse && **name == marker))
                && name.as_str() >= "\u{1}"
        };
        let rows: Vec<String> = if params.reverse {
            names.iter().rev().filter(selected).cloned().collect()
        } else {
            names.iter().filter(selected).cloned().collect()
        };
        inclusive = false;
        if delimiter.is_empty() {
            return rows.into_iter().take(params.limit).map(|name| (name, false)).collect();
        }
        let is_last = rows.is_empty();
        for name in rows {
            if params.reverse {
                end_marker = name.clone();
            } else {
                marker = name.clone();
            }
            if results.len() >= params.limit {
                return results;
            }
            let end =
                name.get(prefix.len()..).and_then(|rest| rest.find(&delimiter)).map(|at| prefix.len() + at);
            let Some(folder) = end.and_then(|end| name.get(..end + delimiter.len())) else {
                if params.path.is_some() && name == prefix {
                    continue;
                }
                results.push((name, false));
                continue;
            };
            if params.path.is_some() && folder.len() == name.len() {
                results.push((name, false));
                continue;
            }
            if params.reverse {
                end_marker = folder.to_owned();
                inclusive = params.path.is_some();
            } else {
                marker = after(folder);
                inclusive = true;
            }
            if params.path.is_none() && folder != original_marker {
                results.push((folder.to_owned(), true));
            }
            break;
        }
        if is_last {
            break;
        }
    }
    results
}

/// The text with its last character replaced by the next one, where the names behind a folder begin.
fn after(folder: &str) -> String {
    let mut characters = folder.chars();
    let last = characters.next_back().map_or(0, u32::from);
    let next = (last + 1..).find_map(char::from_u32).unwrap_or(char::MAX);
    format!("{}{next}", characters.as_str())
}
