//! Reads `containers`, and checks the mappings against each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::problem::{describe, quoted};
use super::reader::{Report, Section, Unit};
use super::remote;
use crate::exclude::ExcludePattern;
use crate::key_mapping::{MAX_KEY_BYTES, effective_prefix};
use crate::mapping::{ContainerSelector, Mapping};
use crate::selection::SelectionCriteria;

/// Every container of an account.
const ALL_CONTAINERS: &str = "/*";
/// Swift's limit for the names of accounts and containers, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// The shortest expiration that is a whole day after rounding.
const SHORTEST_EXPIRATION: Duration = Duration::from_secs(43_200);

const KEYS: [&str; 35] = [
    "account",
    "auth_type",
    "aws_addressing_style",
    "aws_bucket",
    "aws_endpoint",
    "aws_identity",
    "aws_region",
    "aws_secret",
    "aws_session_token",
    "container",
    "convert_dlo",
    "copy_after",
    "custom_prefix",
    "encryption",
    "exclude_pattern",
    "merge_namespaces",
    "min_segment_size",
    "project_domain_name",
    "project_name",
    "propagate_delete",
    "propagate_expiration",
    "propagate_expiration_offset",
    "protocol",
    "remote_account",
    "remote_delete_after",
    "remote_delete_after_addition",
    "restore_object",
    "retain_local",
    "retain_local_segments",
    "selection_criteria",
    "storage_policy",
    "sync_container_acl",
    "sync_container_metadata",
    "tenant_name",
    "user_domain_name",
];

/// Reads one element of `containers`; `None` if it is too broken to be compared with others.
pub(super) fn read_mapping(section: &mut Section<'_>) -> Option<Mapping> {
    section.warn_of_unknown_keys(&KEYS);
    let account = read_account(section);
    let container = read_container(section);
    let remote = remote::read(section, &KEYS);
    let custom_prefix = read_custom_prefix(section, container.as_ref());
    let copy_after = section.span("copy_after", Unit::Seconds).unwrap_or_default();
    let retain_local = section.flag("retain_local", true);
    let retain_local_segments = section.flag("retain_local_segments", false);
    let propagate_delete = section.flag("propagate_delete", true);
    // These two belong to the proxy middleware; here they only have to make sense.
    section.flag("merge_namespaces", false);
    section.flag("restore_object", false);
    if !retain_local && propagate_delete {
        section.warn(
            "propagate_delete",
            "true, together with retain_local false",
            "false, if users' deletes must not reach the archive; deletes by the archiver itself are \
             recognised and not carried over",
        );
    }
    let exclude = read_exclude(section);
    let selection = read_selection(section);
    let remote_delete_after = read_remote_delete_after(section);
    Some(Mapping {
        path: section.path().to_owned(),
        account: account?,
        container: container?,
        remote: remote?,
        custom_prefix,
        copy_after,
        retain_local,
        retain_local_segments,
        propagate_delete,
        exclude,
        selection,
        remote_delete_after,
    })
}

fn read_account(section: &mut Section<'_>) -> Option<String> {
    let allowed = "the name of an account: 1 to 256 bytes without \"/\"";
    if section.value("account").is_none() {
        section.missing("account", allowed, &KEYS);
    }
    let account = section.text("account", allowed, is_name);
    account.map(str::to_owned)
}

fn read_container(section: &mut Section<'_>) -> Option<ContainerSelector> {
    let allowed = "the name of a container, 1 to 256 bytes without \"/\"; or \"/*\" for all of the account";
    if section.value("container").is_none() {
        section.missing("container", allowed, &KEYS);
    }
    let accept = |text: &str| text == ALL_CONTAINERS || is_name(text);
    let container = section.text("container", allowed, accept)?;
    if container == ALL_CONTAINERS {
        return Some(ContainerSelector::All);
    }
    Some(ContainerSelector::One(container.to_owned()))
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains('/')
}

fn read_custom_prefix(section: &mut Section<'_>, container: Option<&ContainerSelector>) -> Option<String> {
    let allowed = "null, or a prefix that leaves room for a name within the 1024 bytes of a key";
    let accept = |text: &str| text.len() < MAX_KEY_BYTES - 1;
    let prefix = section.text("custom_prefix", allowed, accept)?;
    if container == Some(&ContainerSelector::All) {
        let found = format!("{} together with container \"/*\"", quoted(prefix));
        let allowed = "null: with one prefix the containers would overwrite each other's objects";
        section.reject("custom_prefix", &found, allowed);
    }
    Some(prefix.to_owned())
}

fn read_exclude(section: &mut Section<'_>) -> Option<ExcludePattern> {
    let allowed = "a regular expression in Python's dialect";
    let pattern = section.text("exclude_pattern", allowed, |_| true)?;
    ExcludePattern::parse(pattern).unwrap_or_else(|reason| {
        // The engine's message may draw the pattern over several lines.
        let reason: Vec<&str> = reason.split_whitespace().collect();
        let found = format!("{} ({})", quoted(pattern), reason.join(" "));
        section.reject("exclude_pattern", &found, allowed);
        None
    })
}

fn read_selection(section: &mut Section<'_>) -> SelectionCriteria {
    let Some(value) = section.value("selection_criteria") else {
        return SelectionCriteria::default();
    };
    SelectionCriteria::parse(value).unwrap_or_else(|problems| {
        let base = section.key_path("selection_criteria");
        for problem in problems {
            let path = format!("{base}{}", problem.path);
            section.report().problem(&path, &problem.found, &problem.allowed);
        }
        SelectionCriteria::default()
    })
}

fn read_remote_delete_after(section: &mut Section<'_>) -> Option<Duration> {
    let after = section.span("remote_delete_after", Unit::Seconds)?;
    if after.is_zero() {
        return None;
    }
    if after < SHORTEST_EXPIRATION {
        let found = format!("{} seconds", after.as_secs_f64());
        let allowed = "0 for never, or at least 43200: S3 counts in days, and less rounds to none";
        section.reject("remote_delete_after", &found, allowed);
        return None;
    }
    Some(after)
}

/// Reads all of `containers`.
pub(super) fn read_all(elements: &[Value], report: &mut Report) -> Vec<Arc<Mapping>> {
    let mut mappings = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let path = format!("containers[{index}]");
        match element {
            Value::Object(members) => {
                mappings.extend(read_mapping(&mut Section::new(path, members, report)));
            }
            other => report.problem(&path, &describe(other), "an object that describes a mapping"),
        }
    }
    let mappings = without_repetitions(mappings, report);
    check_targets(&mappings, report);
    mappings.into_iter().map(Arc::new).collect()
}

fn container_name(mapping: &Mapping) -> &str {
    match &mapping.container {
        ContainerSelector::One(name) => name,
        ContainerSelector::All => ALL_CONTAINERS,
    }
}

/// Drops a mapping that says what an earlier one says.
fn without_repetitions(mappings: Vec<Mapping>, report: &mut Report) -> Vec<Mapping> {
    let mut first_with_identity: BTreeMap<String, String> = BTreeMap::new();
    let mut kept = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        let identity = mapping.identity(container_name(&mapping));
        if let Some(first) = first_with_identity.get(&identity) {
            let found = format!("the same mapping as {first}, which is used");
            report.warning(&mapping.path, &found, "each mapping once");
            continue;
        }
        first_with_identity.insert(identity, mapping.path.clone());
        kept.push(mapping);
    }
    kept
}

/// Finds mappings of different containers whose objects would have the same keys.
fn check_targets(mappings: &[Mapping], report: &mut Report) {
    let mut first_with_target: BTreeMap<(String, &str, &str), &Mapping> = BTreeMap::new();
    let prefixed = || {
        mappings.iter().filter_map(|mapping| {
            let prefix = effective_prefix(mapping.custom_prefix.as_deref()?);
            Some((mapping, endpoint_key(mapping), mapping.remote.bucket.as_str(), prefix))
        })
    };
    for (mapping, endpoint, bucket, prefix) in prefixed() {
        let first = first_with_target.entry((endpoint, bucket, prefix)).or_insert(mapping);
        if is_same_container(first, mapping) {
            continue;
        }
        let path = format!("{}.custom_prefix", mapping.path);
        let found = format!("{}, the bucket and prefix of {}", quoted(prefix), first.path);
        let allowed = "a prefix of its own: containers that share one overwrite each other's objects";
        report.problem(&path, &found, allowed);
    }
    for (mapping, endpoint, bucket, prefix) in prefixed().filter(|(.., prefix)| !prefix.is_empty()) {
        let slashes = prefix.match_indices('/').filter_map(|(at, _)| prefix.get(..at));
        for parent in slashes.chain([""]) {
            let Some(outer) = first_with_target.get(&(endpoint.clone(), bucket, parent)) else {
                continue;
            };
            if is_same_container(outer, mapping) {
                continue;
            }
            let path = format!("{}.custom_prefix", mapping.path);
            let found = format!("{}, which lies within the prefix of {}", quoted(prefix), outer.path);
            let allowed = "a prefix outside, unless the names of objects keep them apart";
            report.warning(&path, &found, allowed);
        }
    }
}

fn is_same_container(one: &Mapping, other: &Mapping) -> bool {
    one.account == other.account && one.container == other.container
}

/// The endpoint in one spelling.
fn endpoint_key(mapping: &Mapping) -> String {
    let Some(endpoint) = &mapping.remote.endpoint else {
        return String::new();
    };
    let spelled = Url::parse(endpoint).map(String::from);
    let spelled = spelled.unwrap_or_else(|_| endpoint.clone());
    spelled.trim_end_matches('/').to_owned()
}
