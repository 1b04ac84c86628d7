//! Puts secrets back where a document has placeholders.
//!
//! A secret never follows its placeholder to another endpoint or access key: it is taken only from where the
//! configuration in force has the same ones, letter by letter.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::{Path, Step};
use super::secrets::{self, Kind, anchor};
use super::{SECRET_PLACEHOLDER, is_comment, pretty};
use crate::sync_config::{ConfigProblem, parse_members};

/// What a URL has in place of its credentials.
const URL_PLACEHOLDER: &str = "***@";

/// The document with the secrets of `current`, the one in force, in place of its placeholders; in lines for people.
///
/// A secret of a mapping is that of a mapping in force with the same endpoint and access key id, by preference the one of
/// the same account, container and bucket. A URL gets the credentials of the URL in force that is otherwise the
/// same. Placeholders in comments may stay.
///
/// # Errors
/// When it is no JSON object, or each placeholder for which there is nothing, or more than one thing, to put back.
pub fn restore_secrets(document: &str, current: Option<&str>) -> Result<String, Vec<ConfigProblem>> {
    let mut members = parse_members(document).map_err(|problem| vec![problem])?;
    let current = current.and_then(|current| parse_members(current).ok()).unwrap_or_default();
    let known = Known::new(&current);
    let mut found: Vec<(Path, Value)> = Vec::new();
    let mut problems = Vec::new();
    for place in hidden_places(&members).into_iter().filter(Place::is_placeholder) {
        match known.secret_for(&place, &members) {
            Ok(secret) => found.push((place.path, secret.clone())),
            Err(_) if place.path.has_key(is_comment) => {}
            Err(why) => problems.push(place.problem(why)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for (path, secret) in found {
        if let Some(value) = path.find_mut(&mut members) {
            *value = secret;
        }
    }
    Ok(pretty(&Value::Object(members)))
}

/// A place where something is hidden when the document is shown.
struct Place<'d> {
    path: Path,
    value: &'d Value,
    /// What the URL shows; `None` for a secret that is hidden as a whole.
    shown: Option<String>,
    /// Endpoint and access key id of the objects around it. A URL has none: it says itself where it leads.
    anchor: String,
}

impl Place<'_> {
    fn is_placeholder(&self) -> bool {
        match &self.shown {
            None => *self.value == SECRET_PLACEHOLDER,
            Some(shown) => shown.contains(URL_PLACEHOLDER) && *self.value == shown.as_str(),
        }
    }

    fn key(&self) -> Key {
        let (list, within) = match self.path.element() {
            Some((list, _, within)) => (Some(list.to_owned()), within.to_vec()),
            None => (None, self.path.steps().to_vec()),
        };
        Key { list, within, shown: self.shown.clone(), anchor: self.anchor.clone() }
    }

    fn problem(&self, why: Why) -> ConfigProblem {
        let allowed = match (&self.shown, why, self.path.element()) {
            (None, Why::Nothing, Some(_)) => {
                "the secret itself, since no mapping in force has this endpoint and access key"
            }
            (None, Why::Nothing, None) => "the secret itself, since the configuration in force has none here",
            (None, Why::Several, _) => {
                "the secret itself, since mappings in force have different ones for this endpoint and access key"
            }
            (Some(_), Why::Nothing, _) => {
                "the URL with its credentials, since the configuration in force has no such URL here"
            }
            (Some(_), Why::Several, _) => {
                "the URL with its credentials, since the configuration in force has different ones"
            }
        };
        let path = self.path.to_string();
        ConfigProblem { path, found: "a placeholder".to_owned(), allowed: allowed.to_owned() }
    }
}

/// What a placeholder and its secret have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// The list whose elements the places are in.
    list: Option<String>,
    /// The way to the place within the element, or within the document.
    within: Vec<Step>,
    shown: Option<String>,
    anchor: String,
}

/// Why nothing can be put back.
#[derive(Clone, Copy)]
enum Why {
    Nothing,
    Several,
}

/// What fits a placeholder.
#[derive(Clone, Copy)]
enum Fitting<'c> {
    One(&'c Value),
    Several,
}

impl<'c> Fitting<'c> {
    fn and(self, value: &'c Value) -> Self {
        match self {
            Self::One(first) if first == value => self,
            _ => Self::Several,
        }
    }

    fn only(self) -> Result<&'c Value, Why> {
        match self {
            Self::One(value) => Ok(value),
            Self::Several => Err(Why::Several),
        }
    }
}

/// The secrets of the configuration in force.
struct Known<'c> {
    members: &'c Map<String, Value>,
    by_path: BTreeMap<Path, &'c Value>,
    by_key: BTreeMap<Key, Fitting<'c>>,
    by_target: BTreeMap<(Key, String), Fitting<'c>>,
}

impl<'c> Known<'c> {
    fn new(members: &'c Map<String, Value>) -> Self {
        let mut known =
            Self { members, by_path: BTreeMap::new(), by_key: BTreeMap::new(), by_target: BTreeMap::new() };
        for place in hidden_places(members).into_iter().filter(|place| !place.is_placeholder()) {
            let (key, value) = (place.key(), place.value);
            let add = |fitting: &mut Fitting<'c>| *fitting = fitting.and(value);
            if let Some(element) = element_of(members, &place.path) {
                let target = (key.clone(), target_of(element));
                known.by_target.entry(target).and_modify(add).or_insert(Fitting::One(value));
            }
            known.by_key.entry(key).and_modify(add).or_insert(Fitting::One(value));
            known.by_path.insert(place.path, value);
        }
        known
    }

    fn secret_for(&self, place: &Place<'_>, document: &Map<String, Value>) -> Result<&'c Value, Why> {
        let key = place.key();
        if let Some(element) = element_of(document, &place.path) {
            // Nothing around it was touched: there is no doubt, even if other mappings of the container differ.
            let former = element_of(self.members, &place.path);
            if former.is_some_and(|former| shown(former) == shown(element))
                && let Some(secret) = self.by_path.get(&place.path)
            {
                return Ok(secret);
            }
            if let Some(fitting) = self.by_target.get(&(key.clone(), target_of(element))) {
                return fitting.only();
            }
        }
        self.by_key.get(&key).ok_or(Why::Nothing)?.only()
    }
}

/// The element of a list that a path leads into.
fn element_of<'d>(members: &'d Map<String, Value>, path: &Path) -> Option<&'d Value> {
    let (list, index, _) = path.element()?;
    members.get(list)?.get(index)
}

/// What a mapping is about, but for the way to the remote.
fn target_of(element: &Value) -> String {
    let target = ["account", "container", "aws_bucket"].map(|key| element.get(key));
    Value::from_iter(target.into_iter().map(|value| value.cloned().unwrap_or_default())).to_string()
}

fn shown(element: &Value) -> Value {
    let mut shown = element.clone();
    secrets::redact_value("", &mut shown);
    shown
}

/// Everything that is hidden in a document, in its order.
fn hidden_places(members: &Map<String, Value>) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    for (key, value) in members {
        let place = Path::default().key(key);
        // The document as a whole says nothing about an element of its lists.
        let around = if value.is_array() { String::new() } else { anchor(members) };
        find_hidden(place, key, value, &around, &mut places);
    }
    places
}

fn find_hidden<'d>(path: Path, key: &str, value: &'d Value, around: &str, places: &mut Vec<Place<'d>>) {
    match secrets::kind(key, value) {
        Kind::Open => {}
        Kind::Secret => places.push(Place { path, value, shown: None, anchor: around.to_owned() }),
        Kind::Url(shown) => {
            places.push(Place { path, value, shown: Some(shown), anchor: String::new() });
        }
        Kind::Plain => match value {
            Value::Object(members) => {
                let around = format!("{around}{}", anchor(members));
                for (key, value) in members {
                    find_hidden(path.key(key), key, value, &around, places);
                }
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    find_hidden(path.index(index), key, element, around, places);
                }
            }
            _ => {}
        },
    }
}
