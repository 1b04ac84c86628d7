//! Just enough of PromQL to tell which metrics and labels an expression asks for. Whether it is well formed, promtool says.

use std::collections::BTreeSet;

/// What an expression asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub metrics: BTreeSet<String>,
    /// Names in matchers, each with its metric.
    pub matched: BTreeSet<(String, String)>,
    /// Names in `by (…)`, `on (…)` and the like.
    pub grouped: BTreeSet<String>,
}

const WORDS: [&str; 15] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "Inf",
    "NaN",
    "inf",
    "nan",
];
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Reads an expression.
pub(crate) fn asked(expression: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = expression;
    let mut last_metric = String::new();
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = after_string(rest);
        } else if first == '[' {
            rest = rest.split_once(']').map_or("", |(_, rest)| rest);
        } else if first == '{' {
            let (inside, after) = rest[1..].split_once('}').unwrap_or(("", ""));
            for name in labels(inside) {
                asked.matched.insert((last_metric.clone(), name));
            }
            rest = after;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let next = after.trim_start();
            rest = after;
            if GROUPING.contains(&word) {
                if let Some(inside) = next.strip_prefix('(') {
                    let (inside, after) = inside.split_once(')').unwrap_or((inside, ""));
                    asked.grouped.extend(names(inside));
                    rest = after;
                }
            } else if !WORDS.contains(&word) && !next.starts_with('(') && !is_aggregation(word, next) {
                last_metric = word.to_owned();
                asked.metrics.insert(last_metric.clone());
            }
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(rest.len());
            rest = &rest[end..];
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    asked
}

/// `sum by (…)`: the word is followed by its grouping.
fn is_aggregation(word: &str, next: &str) -> bool {
    let aggregations = ["sum", "max", "min", "count", "avg", "group", "topk", "quantile"];
    aggregations.contains(&word) && (next.starts_with("by") || next.starts_with("without"))
}

fn after_string(text: &str) -> &str {
    let mut is_escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return &text[index + 1..],
            _ => {}
        }
    }
    ""
}

fn names(list: &str) -> impl Iterator<Item = String> + '_ {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The names of matchers such as `a="b", c=~"d|e"`.
fn labels(matchers: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = matchers;
    while let Some((name, after)) = rest.split_once(['=', '!']) {
        found.push(name.trim_matches([' ', ',']).to_owned());
        let quote = after.find('"').unwrap_or(after.len());
        rest = after_string(&after[quote..]);
    }
    found
}

#[test]
fn metrics_and_labels_are_found() {
    let asked = asked(
        r#"histogram_quantile(0.95, sum by (le, x) (rate(a_bucket{b=~"c{d}|sum(e)"[5m]))) > 1e3 unless on (job) max(f:g:h offset 1h)"#
            .replace("{d}", "d")
            .replace("\"[5m]", "\"}[5m]")
            .as_str(),
    );
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(asked.metrics, set(&["a_bucket", "f:g:h"]));
    assert_eq!(asked.grouped, set(&["job", "le", "x"]));
    assert_eq!(asked.matched, BTreeSet::from([("a_bucket".to_owned(), "b".to_owned())]));
}
