//! Why an object is (not) there, in one sentence. Pure: what nodes found goes in, words come out.

use swift_s3_proto::v1::{ObjectFindings, ObjectState, ParkedRow};

use crate::time;

/// What is known about an object.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// True if a configuration is in force.
    pub has_configuration: bool,
    /// Mappings of the container: id, and whether an operator paused it.
    pub mappings: &'a [(String, bool)],
    /// What nodes that answered found.
    pub findings: &'a [ObjectFindings],
    /// Nodes that follow the container and did not answer.
    pub silent_nodes: &'a [String],
    /// Nodes that were asked.
    pub asked: usize,
    /// Now, in seconds since the epoch.
    pub now: u64,
}

/// The verdict. With several mappings, one sentence for each.
#[must_use]
pub fn verdict(evidence: &Evidence<'_>) -> String {
    if !evidence.has_configuration {
        return "not mapped: no configuration was applied yet".to_owned();
    }
    if evidence.mappings.is_empty() {
        return "not mapped: no mapping covers this container".to_owned();
    }
    if let [(mapping_id, is_paused)] = evidence.mappings {
        return of_mapping(evidence, mapping_id, *is_paused);
    }
    let sentences = evidence.mappings.iter().map(|(mapping_id, is_paused)| {
        format!("{mapping_id}: {}", of_mapping(evidence, mapping_id, *is_paused))
    });
    sentences.collect::<Vec<_>>().join("; ")
}

fn of_mapping(evidence: &Evidence<'_>, mapping_id: &str, is_paused: bool) -> String {
    let mut findings: Vec<&ObjectFindings> =
        evidence.findings.iter().filter(|finding| finding.mapping_id == mapping_id).collect();
    // The first is the one that tells most: the owner's before others', trouble before calm.
    findings.sort_by_key(|finding| (rank(finding.state()), !finding.is_owner, finding.node_id.clone()));
    let Some(first) = findings.first() else {
        return nobody_knows(evidence, is_paused);
    };
    let owner_is_silent =
        !findings.iter().any(|finding| finding.is_owner) && !evidence.silent_nodes.is_empty();
    if owner_is_silent && !matches!(first.state(), ObjectState::NotWanted) && !is_in_bucket(first) {
        return format!("{}, which may handle it first, is silent", nodes(evidence.silent_nodes));
    }
    of_finding(first, evidence.now)
}

fn nobody_knows(evidence: &Evidence<'_>, is_paused: bool) -> String {
    if !evidence.silent_nodes.is_empty() {
        return format!("unknown: {}, which handles it, is silent", nodes(evidence.silent_nodes));
    }
    if is_paused {
        return "mapping is paused".to_owned();
    }
    if evidence.asked == 0 {
        return "unknown: no worker is connected".to_owned();
    }
    "no connected node has this container; it does not exist, was not found yet, or its nodes never registered".to_owned()
}

/// Which state decides when feeds of several replicas differ.
fn rank(state: ObjectState) -> u8 {
    match state {
        ObjectState::Parked => 0,
        ObjectState::DeleteHeld => 1,
        ObjectState::Paused => 2,
        ObjectState::Queued => 3,
        ObjectState::WaitingForAge => 4,
        ObjectState::Done => 5,
        ObjectState::NotWanted => 6,
        ObjectState::OwnedElsewhere => 7,
        ObjectState::NoRow => 8,
        ObjectState::Unspecified => 9,
    }
}

fn is_in_bucket(finding: &ObjectFindings) -> bool {
    finding.state() == ObjectState::Done && finding.remote.as_ref().is_some_and(|remote| remote.exists)
}

fn of_finding(finding: &ObjectFindings, now: u64) -> String {
    let told = |fallback: &str| match finding.explanation.as_str() {
        "" => fallback.to_owned(),
        words => words.to_owned(),
    };
    match finding.state() {
        ObjectState::Done => done(finding),
        ObjectState::Parked => {
            finding.parked.as_ref().map_or_else(|| told("set aside"), |row| parked(row, now))
        }
        ObjectState::WaitingForAge => told("waiting until it is old enough"),
        ObjectState::Queued => told("in line: it is due, and rows before it come first"),
        ObjectState::NotWanted => format!("not wanted: {}", told("excluded or not selected by the mapping")),
        ObjectState::Paused => "mapping is paused".to_owned(),
        ObjectState::DeleteHeld => told("its delete is held by the delete limit"),
        ObjectState::OwnedElsewhere => told("another node handles it first"),
        ObjectState::NoRow => told("the container has no such object"),
        ObjectState::Unspecified => told("its node tells nothing that this version understands"),
    }
}

fn done(finding: &ObjectFindings) -> String {
    let key = &finding.remote_key;
    let is_tombstone = finding.row.as_ref().is_some_and(|row| row.deleted);
    match &finding.remote {
        Some(remote) if remote.exists && is_tombstone => {
            format!("deleted locally, and still in the bucket as {key:?}: {}", finding.explanation)
        }
        Some(remote) if remote.exists => {
            let stored = remote.last_modified.as_ref().map(time::milliseconds).map(time::shown);
            let stored = stored.map(|at| format!(", stored {at}")).unwrap_or_default();
            format!("in the bucket: {key:?}, {} bytes{stored}", remote.size)
        }
        Some(_) if is_tombstone => "deleted locally and in the bucket".to_owned(),
        Some(_) => format!("carried before, but the bucket has no {key:?} now: it was removed there"),
        None if finding.remote_trouble.is_empty() => format!("carried as {key:?}; the bucket was not asked"),
        None => format!("carried as {key:?}; the bucket could not be asked: {}", finding.remote_trouble),
    }
}

fn parked(row: &ParkedRow, now: u64) -> String {
    let next = match row.next_try.saturating_sub(now) {
        0 => "it is tried again now".to_owned(),
        seconds => format!("next try in {seconds} s"),
    };
    match row.attempts {
        0 => format!("waits for its time: {}; {next}", row.message),
        1 => format!("set aside after 1 attempt: {}: {}; {next}", row.reason, row.message),
        attempts => format!("set aside after {attempts} attempts: {}: {}; {next}", row.reason, row.message),
    }
}

fn nodes(silent: &[String]) -> String {
    match silent {
        [one] => format!("node {one}"),
        many => format!("one of nodes {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use swift_s3_proto::v1::{ObjectRow, RemoteState};

    use super::*;

    fn finding(state: ObjectState) -> ObjectFindings {
        ObjectFindings {
            mapping_id: "m".to_owned(),
            node_id: "n".to_owned(),
            is_owner: true,
            state: state.into(),
            remote_key: "k".to_owned(),
            ..ObjectFindings::default()
        }
    }

    fn remote(exists: bool) -> Option<RemoteState> {
        Some(RemoteState { exists, size: 5, etag: "e".to_owned(), last_modified: Some(time::timestamp(0)) })
    }

    fn row(attempts: u32, next_try: u64) -> Option<ParkedRow> {
        Some(ParkedRow {
            reason: "remote_refused".to_owned(),
            message: "403".to_owned(),
            attempts,
            next_try,
            ..ParkedRow::default()
        })
    }

    fn about(findings: &[ObjectFindings], silent: &[&str]) -> String {
        let silent: Vec<String> = silent.iter().map(|node| (*node).to_owned()).collect();
        verdict(&Evidence {
            has_configuration: true,
            mappings: &[("m".to_owned(), false)],
            findings,
            silent_nodes: &silent,
            asked: 1,
            now: 1_000,
        })
    }

    #[test]
    fn every_state_has_its_words() {
        let tombstone = Some(ObjectRow { deleted: true, ..ObjectRow::default() });
        let said = |state, words: &str| ObjectFindings { explanation: words.to_owned(), ..finding(state) };
        for (finding, expected) in [
            (
                ObjectFindings { remote: remote(true), ..finding(ObjectState::Done) },
                "in the bucket: \"k\", 5 bytes, stored 1970-01-01 00:00:00Z",
            ),
            (
                ObjectFindings { remote: remote(false), ..finding(ObjectState::Done) },
                "carried before, but the bucket has no \"k\" now: it was removed there",
            ),
            (
                ObjectFindings {
                    remote: remote(false),
                    row: tombstone.clone(),
                    ..finding(ObjectState::Done)
                },
                "deleted locally and in the bucket",
            ),
            (
                ObjectFindings {
                    remote: remote(true),
                    row: tombstone,
                    ..said(ObjectState::Done, "deletes are not carried")
                },
                "deleted locally, and still in the bucket as \"k\": deletes are not carried",
            ),
            (
                ObjectFindings { remote_trouble: "timeout".to_owned(), ..finding(ObjectState::Done) },
                "carried as \"k\"; the bucket could not be asked: timeout",
            ),
            (finding(ObjectState::Done), "carried as \"k\"; the bucket was not asked"),
            (
                ObjectFindings { parked: row(3, 1_042), ..finding(ObjectState::Parked) },
                "set aside after 3 attempts: remote_refused: 403; next try in 42 s",
            ),
            (
                ObjectFindings { parked: row(1, 900), ..finding(ObjectState::Parked) },
                "set aside after 1 attempt: remote_refused: 403; it is tried again now",
            ),
            (
                ObjectFindings { parked: row(0, 1_001), ..finding(ObjectState::Parked) },
                "waits for its time: 403; next try in 1 s",
            ),
            (
                said(ObjectState::WaitingForAge, "waiting until it is 3600 s old, at noon"),
                "waiting until it is 3600 s old, at noon",
            ),
            (finding(ObjectState::Queued), "in line: it is due, and rows before it come first"),
            (said(ObjectState::NotWanted, "excluded by its name"), "not wanted: excluded by its name"),
            (finding(ObjectState::Paused), "mapping is paused"),
            (finding(ObjectState::DeleteHeld), "its delete is held by the delete limit"),
            (finding(ObjectState::OwnedElsewhere), "another node handles it first"),
            (finding(ObjectState::NoRow), "the container has no such object"),
            (finding(ObjectState::Unspecified), "its node tells nothing that this version understands"),
        ] {
            assert_eq!(about(&[finding], &[]), expected);
        }
    }

    #[test]
    fn the_replica_that_tells_most_decides() {
        let mut elsewhere = finding(ObjectState::OwnedElsewhere);
        elsewhere.is_owner = false;
        let parked = ObjectFindings { parked: row(2, 1_001), ..finding(ObjectState::Parked) };
        let verdict =
            about(&[finding(ObjectState::NoRow), elsewhere, finding(ObjectState::Done), parked], &[]);
        assert_eq!(verdict, "set aside after 2 attempts: remote_refused: 403; next try in 1 s");
    }

    #[test]
    fn silence_is_told_where_it_matters() {
        let mut elsewhere = finding(ObjectState::OwnedElsewhere);
        elsewhere.is_owner = false;
        assert_eq!(about(&[], &["x"]), "unknown: node x, which handles it, is silent");
        assert_eq!(
            about(&[elsewhere.clone()], &["x", "y"]),
            "one of nodes x, y, which may handle it first, is silent"
        );
        let there = ObjectFindings { remote: remote(true), is_owner: false, ..finding(ObjectState::Done) };
        assert!(about(&[there], &["x"]).starts_with("in the bucket"));
        assert!(about(&[], &[]).starts_with("no connected node has this container"));
    }

    #[test]
    fn unmapped_containers_and_several_mappings() {
        let mut evidence = Evidence {
            has_configuration: false,
            mappings: &[],
            findings: &[],
            silent_nodes: &[],
            asked: 0,
            now: 0,
        };
        assert_eq!(verdict(&evidence), "not mapped: no configuration was applied yet");
        evidence.has_configuration = true;
        assert_eq!(verdict(&evidence), "not mapped: no mapping covers this container");
        let mappings = [("a".to_owned(), true), ("b".to_owned(), false)];
        evidence.mappings = &mappings;
        assert_eq!(verdict(&evidence), "a: mapping is paused; b: unknown: no worker is connected");
    }
}
