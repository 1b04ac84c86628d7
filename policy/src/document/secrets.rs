//! Which values of a document are secrets, and the document without them.
//!
//! A secret is told by its key, wherever it stands, comments included: the keys that the program reads secrets from,
//! their misspellings, and unknown keys that sound like one. Any value of such a key is hidden, whatever its form,
//! unless it says where the secret is or cannot be one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{SECRET_PLACEHOLDER, is_comment};
use crate::sync_config::{GLOBAL_KEYS, MAPPING_KEYS, most_similar, shows_where, without_credentials};

/// The keys that secrets are read from.
const SECRET_KEYS: [&str; 2] = ["aws_secret", "aws_session_token"];
/// Beside them an access key id, which is no secret.
const KEY_IDS: [&str; 3] = ["aws_identity", "access_key", "access_key_id"];
/// What names of secrets have in them.
const SOUNDS: [&str; 10] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "credential",
    "authorization",
    "apikey",
    "privatekey",
];
/// What keys of URLs have in them. These may be without a scheme.
const URL_SOUNDS: [&str; 4] = ["url", "endpoint", "proxy", "uri"];
/// Names of headers, and values that they are compared with: neither is a secret of the program's.
pub(super) const CRITERIA: &str = "selection_criteria";

/// What a value is, with regard to secrets.
pub(super) enum Kind {
    /// It is to be looked into.
    Plain,
    /// Hidden as a whole.
    Secret,
    /// A text of which a part is hidden; this is what is shown of it.
    Url(String),
    /// Nothing in it is a secret.
    Open,
}

/// What the value of a key is.
pub(super) fn kind(key: &str, value: &Value) -> Kind {
    if key == CRITERIA {
        return Kind::Open;
    }
    if is_secret_key(key) {
        let is_open = match value {
            Value::Null | Value::Bool(_) => true,
            Value::String(text) => text.is_empty(),
            Value::Object(_) => shows_where(value),
            Value::Number(_) | Value::Array(_) => false,
        };
        return if is_open { Kind::Open } else { Kind::Secret };
    }
    match value.as_str().and_then(|text| shown_url(key, text)) {
        Some(shown) => Kind::Url(shown),
        None => Kind::Plain,
    }
}

/// Whether the value of a key is a secret, by its name.
fn is_secret_key(key: &str) -> bool {
    let name = name_of(key);
    if SECRET_KEYS.contains(&name.as_str()) {
        return true;
    }
    if is_documented(&name) || KEY_IDS.contains(&name.as_str()) {
        return false;
    }
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let is_key = name == "key" || name.ends_with("_key");
    is_key
        || SOUNDS.iter().any(|sound| letters.contains(sound))
        || most_similar(&name, MAPPING_KEYS.into_iter()).is_some_and(|meant| SECRET_KEYS.contains(&meant))
}

/// A key in lower case with `_` for `-`; a comment's without its mark, as it may be a key that is switched off.
fn name_of(key: &str) -> String {
    key.trim_start_matches('/').trim().to_ascii_lowercase().replace('-', "_")
}

fn is_documented(name: &str) -> bool {
    MAPPING_KEYS.contains(&name) || GLOBAL_KEYS.contains(&name)
}

/// What is shown of a text that has credentials before an `@`.
fn shown_url(key: &str, text: &str) -> Option<String> {
    let name = name_of(key);
    let shown = if URL_SOUNDS.iter().any(|sound| name.contains(sound)) {
        without_credentials(text)
    } else if is_documented(&name) && !is_comment(key) {
        return None;
    } else {
        // A text with URLs in it. They end with white space.
        if !text.contains("://") {
            return None;
        }
        let words = text.split_inclusive(char::is_whitespace);
        words
            .map(|word| if word.contains("://") { without_credentials(word) } else { word.to_owned() })
            .collect()
    };
    // A mark that is there already stands for credentials, too.
    let is_hidden = shown != text || text.contains("***@");
    is_hidden.then_some(shown)
}

/// Where an object's secrets are sent to, and which access keys they belong to: what its keys of URLs and of access key
/// ids say, without their own secrets. Comments do not count.
pub(super) fn anchor(members: &Map<String, Value>) -> String {
    let mut parts = BTreeMap::new();
    for (key, value) in members.iter().filter(|(key, _)| !is_comment(key)) {
        let name = name_of(key);
        let is_url = URL_SOUNDS.iter().any(|sound| name.contains(sound));
        if !is_url && !KEY_IDS.contains(&name.as_str()) {
            continue;
        }
        let mut shown = value.clone();
        redact_value(key, &mut shown);
        if let (true, Value::String(url)) = (is_url, &mut shown) {
            url.truncate(url.trim_end_matches('/').len());
        }
        if !shown.is_null() && shown != "" {
            parts.insert(key, shown);
        }
    }
    parts.into_iter().map(|(key, shown)| format!("{key:?}: {shown}\n")).collect()
}

/// Hides the secrets of an object and of all in it.
pub(super) fn redact_members(members: &mut Map<String, Value>) {
    for (key, value) in members.iter_mut() {
        redact_value(key, value);
    }
}

/// Hides the secrets of a key's value.
pub(super) fn redact_value(key: &str, value: &mut Value) {
    match kind(key, value) {
        Kind::Open => {}
        Kind::Secret => *value = Value::from(SECRET_PLACEHOLDER),
        Kind::Url(shown) => *value = Value::from(shown),
        Kind::Plain => match value {
            Value::Object(members) => redact_members(members),
            Value::Array(elements) => elements.iter_mut().for_each(|element| redact_value(key, element)),
            _ => {}
        },
    }
}
