//! Reads one element of `containers`.

use std::time::Duration;

use super::problem::quoted;
use super::reader::{Section, Unit};
use super::{keys, limits, remote};
use crate::exclude::ExcludePattern;
use crate::key_mapping::MAX_KEY_BYTES;
use crate::mapping::{ALL_CONTAINERS, ContainerSelector, Mapping, Merge, MergeFailure};
use crate::remote::Remote;
use crate::selection::SelectionCriteria;

/// Swift's limit for the names of accounts and containers, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// The shortest expiration that is a whole day after rounding.
const SHORTEST_EXPIRATION: Duration = Duration::from_secs(43_200);

pub(crate) const KEYS: [&str; keys::MAPPING.len()] = keys::names(&keys::MAPPING);

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
    let merge = read_merge(section);
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
    let remote_delete_after = read_remote_delete_after(section, remote.as_ref());
    let limits = limits::read(section);
    let delete_limit = limits::read_delete_limit(section);
    let trace_sample_ratio = section.ratio("trace_sample_ratio");
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
        merge,
        remote_delete_after,
        limits,
        delete_limit,
        trace_sample_ratio,
        repetition: 0,
    })
}

/// What the shunt does. The keys beside `merge_namespaces` only have to make sense while that is false.
fn read_merge(section: &mut Section<'_>) -> Option<Merge> {
    let is_merged = section.flag("merge_namespaces", false);
    let restores = section.flag("restore_object", false);
    let writes = section.flag("merge_writes", false);
    let allowed = "\"error\" or \"local\"";
    let failure = section.text("merge_failure", allowed, |text| ["error", "local"].contains(&text));
    let failure = if failure == Some("local") { MergeFailure::Local } else { MergeFailure::Error };
    is_merged.then_some(Merge { restores, writes, failure })
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

/// Amazon counts in days, Swift in seconds.
fn read_remote_delete_after(section: &mut Section<'_>, remote: Option<&Remote>) -> Option<Duration> {
    let after = section.span("remote_delete_after", Unit::Seconds)?;
    if after.is_zero() {
        return None;
    }
    let counts_days = remote.is_none_or(|remote| remote.s3().is_some());
    if counts_days && after < SHORTEST_EXPIRATION {
        let found = format!("{} seconds", after.as_secs_f64());
        let allowed = "0 for never, or at least 43200: S3 counts in days, and less rounds to none";
        section.reject("remote_delete_after", &found, allowed);
        return None;
    }
    Some(after)
}
