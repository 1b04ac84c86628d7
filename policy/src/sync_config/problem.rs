//! One problem of a configuration file, and how a value is shown in it.

use serde_json::Value;

/// Longer texts are cut, so that one bad value cannot fill a log.
const MAX_SHOWN_CHARACTERS: usize = 60;

/// Something in the configuration that is wrong, or, as a warning, odd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: found {found}; allowed: {allowed}")]
pub struct ConfigProblem {
    /// Where: a JSON path such as `containers[3].copy_after`.
    pub path: String,
    /// What is there, shortened; never the value of a secret.
    pub found: String,
    /// What may be there.
    pub allowed: String,
}

/// Shows a value that is no secret.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(elements) => match elements.len() {
            0 => "an empty list".to_owned(),
            1 => "a list of 1 element".to_owned(),
            count => format!("a list of {count} elements"),
        },
        Value::Object(members) => match members.len() {
            0 => "an empty object".to_owned(),
            1 => "an object with 1 key".to_owned(),
            count => format!("an object with {count} keys"),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Says what kind of value a secret is, and no more.
pub(super) fn describe_secret(value: &Value) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number (not shown)",
        Value::String(text) if text.is_empty() => "an empty string",
        Value::String(_) => "a string (not shown)",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    kind.to_owned()
}

/// A text in quotes, cut, with everything invisible escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN_CHARACTERS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// A text as a part of a path: cut, with control characters escaped, without quotes.
pub(crate) fn path_part(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_SHOWN_CHARACTERS)
        .flat_map(|character| {
            let control = character.is_control().then(|| character.escape_default());
            let plain = (!character.is_control()).then_some(character);
            control.into_iter().flatten().chain(plain)
        })
        .collect();
    if text.chars().nth(MAX_SHOWN_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}
