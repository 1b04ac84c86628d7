//! Reads all of `containers`, and checks the mappings against each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use url::Url;

use super::containers::read_mapping;
use super::problem::{ConfigProblem, describe, quoted};
use super::reader::{Report, Section};
use crate::key_mapping::effective_prefix;
use crate::mapping::{ContainerSelector, Mapping, label};

/// A mapping that is not served because of what is wrong with it, while the rest of the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedMapping {
    /// Its place in `containers`.
    pub index: usize,
    /// [`Mapping::id`], if enough of it could be read.
    pub mapping_id: Option<String>,
    /// Account and container as far as they are known, else the place.
    pub label: String,
    /// What is wrong, by path within the whole document.
    pub problems: Vec<ConfigProblem>,
}

/// What one element gave.
struct Reading {
    index: usize,
    label: String,
    /// `None`: too broken to be compared with others.
    mapping: Option<Mapping>,
    is_refused: bool,
    /// Problems that have not gone to the report.
    problems: Vec<ConfigProblem>,
}

/// What is wrong with the mapping at an index.
type Finding = (usize, ConfigProblem);

/// Reads all elements. Problems of single mappings go to the report, or to `refused` if there is such a list.
pub(super) fn read_all(
    elements: &[Value],
    report: &mut Report,
    refused: Option<&mut Vec<RefusedMapping>>,
) -> Vec<Arc<Mapping>> {
    let mut readings = read_elements(elements, report, refused.is_some());
    drop_repetitions(&mut readings, report);
    number_repetitions(&mut readings);
    let mut findings = check_targets(&readings, report);
    findings.extend(check_swift_targets(&readings));
    findings.sort_by_key(|(index, _)| *index);
    if refused.is_none() {
        for (_, problem) in findings.drain(..) {
            report.problem(&problem.path, &problem.found, &problem.allowed);
        }
    }
    let mut findings = findings.into_iter().peekable();
    let mut kept = Vec::with_capacity(readings.len());
    let mut broken = Vec::new();
    for mut reading in readings {
        while let Some((_, problem)) = findings.next_if(|(index, _)| *index == reading.index) {
            reading.is_refused = true;
            reading.problems.push(problem);
        }
        match reading.mapping {
            Some(mapping) if !reading.is_refused => kept.push(Arc::new(mapping)),
            mapping => broken.push(RefusedMapping {
                index: reading.index,
                mapping_id: mapping.as_ref().map(Mapping::id),
                label: reading.label,
                problems: reading.problems,
            }),
        }
    }
    if let Some(refused) = refused {
        *refused = broken;
    }
    kept
}

fn read_elements(elements: &[Value], report: &mut Report, keeps_problems: bool) -> Vec<Reading> {
    let mut readings = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let mut own = Report::default();
        let mapping = read_element(index, element, &mut own);
        let is_refused = own.has_problems();
        let problems = if keeps_problems { own.take_problems() } else { Vec::new() };
        report.absorb(own);
        if mapping.is_some() || keeps_problems {
            let label = mapping.as_ref().map_or_else(|| label_of(index, element), Mapping::label);
            readings.push(Reading { index, label, mapping, is_refused, problems });
        }
    }
    readings
}

fn path_of(index: usize) -> String {
    format!("containers[{index}]")
}

fn read_element(index: usize, element: &Value, report: &mut Report) -> Option<Mapping> {
    let Value::Object(members) = element else {
        report.problem(&path_of(index), &describe(element), "an object that describes a mapping");
        return None;
    };
    read_mapping(&mut Section::new(path_of(index), members, report))
}

fn label_of(index: usize, element: &Value) -> String {
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    match (text("account"), text("container")) {
        (Some(account), Some(container)) => label(account, container),
        _ => path_of(index),
    }
}

/// The mappings of the elements that can be told apart, by place: all that is compared, repetitions left out.
pub(crate) fn comparable(elements: &[Value]) -> BTreeMap<usize, Mapping> {
    let mut unused = Report::default();
    let mut readings = read_elements(elements, &mut unused, false);
    drop_repetitions(&mut readings, &mut unused);
    number_repetitions(&mut readings);
    readings.into_iter().filter_map(|reading| Some((reading.index, reading.mapping?))).collect()
}

/// Drops a mapping that says what an earlier one says.
fn drop_repetitions(readings: &mut Vec<Reading>, report: &mut Report) {
    let mut first_with_identity: BTreeMap<String, usize> = BTreeMap::new();
    readings.retain(|reading| {
        let Some(mapping) = reading.mapping.as_ref().filter(|_| !reading.is_refused) else {
            return true;
        };
        let identity = mapping.identity(mapping.container.as_str());
        let first = *first_with_identity.entry(identity).or_insert(reading.index);
        if first != reading.index {
            let found = format!("the same mapping as {}, which is used", path_of(first));
            report.warning(&mapping.path, &found, "each mapping once");
        }
        first == reading.index
    });
}

/// Makes the ids of mappings different that would otherwise be the same.
fn number_repetitions(readings: &mut [Reading]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for mapping in readings.iter_mut().filter_map(|reading| reading.mapping.as_mut()) {
        let count = seen.entry(mapping.id_digits()).or_default();
        mapping.repetition = *count;
        *count += 1;
    }
}

/// Finds mappings of different containers whose objects would have the same keys.
///
/// Mappings that are refused count: what they carried before may lie in the bucket.
fn check_targets(readings: &[Reading], report: &mut Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut first_with_target: BTreeMap<(String, &str, &str), &Mapping> = BTreeMap::new();
    let prefixed = || {
        readings.iter().filter_map(|reading| {
            let mapping = reading.mapping.as_ref()?;
            mapping.remote.s3()?;
            let prefix = effective_prefix(mapping.custom_prefix.as_deref()?);
            Some((reading.index, mapping, endpoint_key(mapping), mapping.remote.bucket(), prefix))
        })
    };
    for (index, mapping, endpoint, bucket, prefix) in prefixed() {
        let first = first_with_target.entry((endpoint, bucket, prefix)).or_insert(mapping);
        if is_same_container(first, mapping) {
            continue;
        }
        let path = format!("{}.custom_prefix", mapping.path);
        let found = format!("{}, the bucket and prefix of {}", quoted(prefix), first.path);
        let allowed = "a prefix of its own: containers that share one overwrite each other's objects";
        findings.push((index, ConfigProblem { path, found, allowed: allowed.to_owned() }));
    }
    for (_, mapping, endpoint, bucket, prefix) in prefixed().filter(|(.., prefix)| !prefix.is_empty()) {
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
    findings
}

/// Finds mappings of different containers that go to one container of another Swift cluster.
fn check_swift_targets(readings: &[Reading]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut first_with_target: BTreeMap<(String, String), &Mapping> = BTreeMap::new();
    for reading in readings {
        let Some(mapping) = &reading.mapping else { continue };
        let (Some(remote), ContainerSelector::One(_)) = (mapping.remote.swift(), &mapping.container) else {
            continue;
        };
        let account = format!("{:?} {:?} {}", remote.auth, remote.remote_account, remote.container);
        let first = first_with_target.entry((endpoint_key(mapping), account)).or_insert(mapping);
        if !is_same_container(first, mapping) {
            let path = format!("{}.aws_bucket", mapping.path);
            let found = format!("{}, the remote container of {}", quoted(&remote.container), first.path);
            let allowed = "a container of its own: containers that share one overwrite each other's objects";
            findings.push((reading.index, ConfigProblem { path, found, allowed: allowed.to_owned() }));
        }
    }
    findings
}

fn is_same_container(one: &Mapping, other: &Mapping) -> bool {
    one.account == other.account && one.container == other.container
}

/// The endpoint in one spelling.
fn endpoint_key(mapping: &Mapping) -> String {
    let Some(endpoint) = mapping.remote.endpoint() else {
        return String::new();
    };
    let spelled = Url::parse(endpoint).map(String::from);
    let spelled = spelled.unwrap_or_else(|_| endpoint.to_owned());
    spelled.trim_end_matches('/').to_owned()
}
