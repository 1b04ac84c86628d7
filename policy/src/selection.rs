//! Which objects are copied, by their headers.
//!
//! A criterion is one of `{}`, `{"<header>": "<value>"}`, `{"AND": […]}`, `{"OR": […]}` and `{"NOT": …}`. The
//! operators are upper case; in lower case they are names of headers. Names and values are compared without
//! regard to case, in all of Unicode. It is checked as a whole when the configuration is read, so that it
//! cannot fail for an object.

use serde_json::{Map, Value};

use crate::sync_config::{ConfigProblem, describe};

const CRITERION: &str = "{}, {\"AND\": […]}, {\"OR\": […]}, {\"NOT\": {…}} or {\"<header>\": \"<value>\"}";

/// A checked criterion. The default, and an empty one, selects every object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectionCriteria {
    criterion: Criterion,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Criterion {
    #[default]
    Any,
    All(Vec<Criterion>),
    Either(Vec<Criterion>),
    Not(Box<Criterion>),
    /// Both in lower case.
    Header {
        name: String,
        value: String,
    },
}

impl SelectionCriteria {
    /// Checks a criterion from the configuration.
    ///
    /// # Errors
    /// Every problem in it. Paths are relative: `.OR[1]`, or empty for the criterion itself.
    pub fn parse(value: &Value) -> Result<Self, Vec<ConfigProblem>> {
        let mut problems = Vec::new();
        let criterion = parse_criterion(value, "", &mut problems);
        if problems.is_empty() { Ok(Self { criterion }) } else { Err(problems) }
    }

    /// Whether an object with these headers, names in any case, is selected. An absent header equals nothing.
    pub fn matches(&self, headers: &[(String, String)]) -> bool {
        self.criterion.matches(headers)
    }

    /// Whether it selects every object without a look at it.
    pub fn is_empty(&self) -> bool {
        self.criterion == Criterion::Any
    }

    /// A condition for people, such as `content-type is "text/plain"`.
    pub(crate) fn in_words(&self) -> String {
        self.criterion.in_words()
    }

    /// One text for every spelling of the same criterion.
    pub(crate) fn canonical(&self) -> String {
        self.criterion.to_json().to_string()
    }
}

impl Criterion {
    fn matches(&self, headers: &[(String, String)]) -> bool {
        match self {
            Self::Any => true,
            Self::All(parts) => parts.iter().all(|part| part.matches(headers)),
            Self::Either(parts) => parts.iter().any(|part| part.matches(headers)),
            Self::Not(part) => !part.matches(headers),
            Self::Header { name, value } => {
                headers.iter().any(|(header, content)| same_text(header, name) && same_text(content, value))
            }
        }
    }

    fn in_words(&self) -> String {
        let join = |parts: &[Self], word: &str| {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| match part {
                    Self::All(_) | Self::Either(_) => format!("({})", part.in_words()),
                    _ => part.in_words(),
                })
                .collect();
            parts.join(word)
        };
        match self {
            Self::Any => "anything is so".to_owned(),
            Self::All(parts) if parts.is_empty() => Self::Any.in_words(),
            Self::Either(parts) if parts.is_empty() => "nothing is so".to_owned(),
            Self::All(parts) => join(parts, " and "),
            Self::Either(parts) => join(parts, " or "),
            Self::Not(part) => format!("not ({})", part.in_words()),
            Self::Header { name, value } => format!("{name} is {value:?}"),
        }
    }

    fn to_json(&self) -> Value {
        let list = |parts: &[Self]| parts.iter().map(Self::to_json).collect::<Value>();
        let (key, value) = match self {
            Self::Any => return Value::Object(Map::new()),
            Self::All(parts) => ("AND", list(parts)),
            Self::Either(parts) => ("OR", list(parts)),
            Self::Not(part) => ("NOT", part.to_json()),
            Self::Header { name, value } => (name.as_str(), Value::from(value.as_str())),
        };
        Value::from_iter([(key, value)])
    }
}

/// `lower` is in lower case already.
fn same_text(text: &str, lower: &str) -> bool {
    text.eq_ignore_ascii_case(lower) || text.to_lowercase() == lower
}

fn parse_criterion(value: &Value, path: &str, problems: &mut Vec<ConfigProblem>) -> Criterion {
    let Some(object) = value.as_object() else {
        problems.push(problem(path, describe(value), CRITERION));
        return Criterion::Any;
    };
    let mut entries = object.iter();
    let (key, operand) = match (entries.next(), entries.next()) {
        (None, _) => return Criterion::Any,
        (Some(entry), None) => entry,
        (Some(_), Some(_)) => {
            let found = format!("an object with {} keys", object.len());
            problems.push(problem(path, found, "one key; join several with \"AND\" or \"OR\""));
            return Criterion::Any;
        }
    };
    let path = format!("{path}.{key}");
    match (key.as_str(), operand) {
        ("AND", Value::Array(parts)) => Criterion::All(parse_list(parts, &path, problems)),
        ("OR", Value::Array(parts)) => Criterion::Either(parse_list(parts, &path, problems)),
        ("NOT", part) => Criterion::Not(Box::new(parse_criterion(part, &path, problems))),
        ("AND" | "OR", other) => {
            problems.push(problem(&path, describe(other), "a list of criteria"));
            Criterion::Any
        }
        (name, Value::String(text)) => {
            Criterion::Header { name: name.to_lowercase(), value: text.to_lowercase() }
        }
        (_, other) => {
            problems.push(problem(&path, describe(other), "a string, the value of the header"));
            Criterion::Any
        }
    }
}

fn parse_list(parts: &[Value], path: &str, problems: &mut Vec<ConfigProblem>) -> Vec<Criterion> {
    let parse = |(index, part)| parse_criterion(part, &format!("{path}[{index}]"), problems);
    parts.iter().enumerate().map(parse).collect()
}

fn problem(path: &str, found: String, allowed: &str) -> ConfigProblem {
    ConfigProblem { path: path.to_owned(), found, allowed: allowed.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn criteria(value: Value) -> SelectionCriteria {
        SelectionCriteria::parse(&value).unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn operators_combine() {
        let object = headers(&[("k1", "v1"), ("k2", "v2"), ("k3", "v3")]);
        let table = |last: &str| {
            json!({"OR": [
                {"AND": [{"NOT": {"k1": "v1"}}, {"k2": "v2"}]},
                {"AND": [{"k1": "v1"}, {"NOT": {"k3": last}}]},
            ]})
        };
        for (value, selected) in [
            (table("v4"), true),
            (table("v3"), false),
            (
                json!({"OR": [{"AND": [{"NOT": {"k1": "v1"}}, {"k2": "v2"}]}, {"AND": [{"k1": "v1"}, {"k3": "v4"}]}]}),
                false,
            ),
            (json!({}), true),
            (json!({"NOT": {}}), false),
            (json!({"AND": []}), true),
            (json!({"OR": []}), false),
            (json!({"missing": "v1"}), false),
            (json!({"NOT": {"missing": "v1"}}), true),
            (json!({"k1": "v"}), false),
            (json!({"and": "v1"}), false),
        ] {
            assert_eq!(criteria(value.clone()).matches(&object), selected, "{value}");
        }
    }

    #[test]
    fn case_does_not_count_in_names_and_values() {
        let object = headers(&[
            ("X-Object-Meta-MSD", "BÁR"),
            ("Content-Type", "Text/Plain"),
            ("x-object-meta-größe", "Æ"),
        ]);
        for value in [
            json!({"x-object-meta-msd": "bár"}),
            json!({"X-OBJECT-META-MSD": "bÁr"}),
            json!({"content-type": "text/plain"}),
            json!({"X-Object-Meta-GRÖßE": "æ"}),
        ] {
            assert!(criteria(value.clone()).matches(&object), "{value}");
        }
        let either = json!({"OR": [{"x-object-meta-msd": "boo"}, {"x-object-meta-msd": "bár"}]});
        assert!(criteria(either.clone()).matches(&headers(&[("x-object-meta-msd", "Boo")])));
        assert!(!criteria(either).matches(&headers(&[("x-object-meta-msd", "bar")])));
    }

    #[test]
    fn emptiness_is_about_the_criterion() {
        assert!(SelectionCriteria::default().is_empty());
        assert!(criteria(json!({})).is_empty());
        assert!(!criteria(json!({"AND": []})).is_empty());
    }

    #[test]
    fn every_problem_is_named_with_its_path() {
        let value = json!({"OR": [
            {"a": "1", "b": "2"},
            {"a": 1},
            {"AND": {"a": "1"}},
            {"NOT": [1]},
            {"NOT": {"AND": [{"a": "1"}, "x", {}]}},
            null,
        ]});
        let problems = SelectionCriteria::parse(&value).unwrap_err();
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [".OR[0]", ".OR[1].a", ".OR[2].AND", ".OR[3].NOT", ".OR[4].NOT.AND[1]", ".OR[5]"]);
        assert_eq!(problems.first().unwrap().found, "an object with 2 keys");
        let top = SelectionCriteria::parse(&json!([])).unwrap_err();
        assert_eq!(top.first().unwrap().path, "");
    }

    #[test]
    fn spelling_does_not_change_the_canonical_text() {
        let one = criteria(json!({"OR": [{"A": "É"}, {"NOT": {}}]}));
        assert_eq!(one.canonical(), criteria(json!({"OR": [{"a": "é"}, {"NOT": {}}]})).canonical());
        assert_ne!(one.canonical(), criteria(json!({"AND": [{"a": "é"}, {"NOT": {}}]})).canonical());
    }
}
