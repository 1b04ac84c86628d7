//! Links between pages.

use std::collections::BTreeSet;

use crate::root::{name, pages, read};

/// The anchors of a page, as the usual forges make them of headings.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in outside_code(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let plain: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut anchor = plain.clone();
        let mut number = 1;
        while !found.insert(anchor.clone()) {
            anchor = format!("{plain}-{number}");
            number += 1;
        }
    }
    found
}

fn outside_code(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line);
        }
    }
    lines
}

/// The targets of a page's links, but not those in code.
fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in outside_code(text) {
        let without_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in without_code.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for target in targets(&text) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let has_anchor =
                || anchor.is_empty() || (file.is_file() && anchors(&read(&file)).contains(anchor));
            if !file.exists() || !has_anchor() {
                broken.push(format!("{}: {target}", name(&page)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn anchors_are_those_of_the_forges() {
    let text = "# One, *two* `three_4`\n## Same\n```\n# no\n```\n## Same\n";
    let expected = ["one-two-three_4", "same", "same-1"];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
}
