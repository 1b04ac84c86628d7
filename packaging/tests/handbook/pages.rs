//! Pages that are made from the code.

use std::collections::BTreeSet;

use swift_s3_control::alerts::{Facts, alerts};
use swift_s3_packaging::reference;

use crate::root::{read, root};

#[test]
fn pages_made_from_the_code_are_fresh() {
    let root = root();
    let stale: Vec<&str> = reference::pages()
        .into_iter()
        .filter(|page| std::fs::read_to_string(root.join(page.path)).ok().as_ref() != Some(&page.text))
        .map(|page| page.path)
        .collect();
    assert!(
        stale.is_empty(),
        "not what the code gives any more: {stale:?}; run `make docs` and look at the change"
    );
}

#[test]
fn every_word_of_a_reason_is_explained() {
    let errors = read(&root().join("docs/reference/errors.md"));
    for reason in ["local_missing", "unsettled", "remote_denied", "bucket_missing", "ABORTED"] {
        assert!(errors.contains(&format!("| `{reason}` |")), "{reason}");
    }
}

#[test]
fn every_kind_of_alert_is_explained() {
    let facts = Facts { revision: 1, nodes: &[], mappings: &[], store_trouble: None, now_ms: 0 };
    let errors = read(&root().join("docs/reference/errors.md"));
    let (_, section) = errors.split_once("## Alerts of the control plane").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let explained: BTreeSet<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let told: BTreeSet<&str> = alerts(&facts).counts.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(explained, told);
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let root = root();
    let contents = read(&root.join("docs/README.md"));
    for page in crate::root::pages() {
        let Ok(path) = page.strip_prefix(root.join("docs")) else { continue };
        let path = path.display().to_string();
        let is_listed =
            path == "README.md" || path.starts_with("decisions/") || contents.contains(&format!("({path})"));
        assert!(is_listed, "docs/README.md does not lead to {path}");
    }
}
