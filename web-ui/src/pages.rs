//! The pages, one module each.

use axum::response::Response;
use swift_s3_proto::v1::{CoordinationMode, Lag, MappingStatus, NodeState, Problem};

use crate::failure::{Failure, Place};
use crate::page;
use crate::units;
use crate::visit::Visit;

pub mod activity;
pub mod config;
pub mod containers;
pub mod failures;
pub mod history;
pub mod lines;
pub mod mappings;
pub mod nodes;
pub mod object;
pub mod overview;
pub mod sign_in;

/// The pages of the menu.
pub const MENU: [(&str, &str); 8] = [
    ("/", "Overview"),
    ("/mappings", "Mappings"),
    ("/containers", "Containers"),
    ("/failures", "Failures"),
    ("/object", "Object"),
    ("/nodes", "Nodes"),
    ("/config", "Config"),
    ("/activity", "Activity"),
];

/// How something is: shown as a word beside a sign, never by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// As it should be.
    Good,
    /// Neither.
    Plain,
    /// Deserves a look.
    Odd,
    /// Needs a person.
    Bad,
}

impl Tone {
    /// The name of its class in the style sheet.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Plain => "plain",
            Self::Odd => "odd",
            Self::Bad => "bad",
        }
    }
}

/// A word and how it is meant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Word {
    /// Lower case.
    pub text: &'static str,
    /// How it is meant.
    pub tone: Tone,
}

/// A state in words.
#[must_use]
pub fn node_state(state: NodeState) -> Word {
    let (text, tone) = match state {
        NodeState::Unspecified => (units::UNKNOWN, Tone::Odd),
        NodeState::Synced => ("synced", Tone::Good),
        NodeState::Stale => ("stale", Tone::Odd),
        NodeState::Rejected => ("rejected", Tone::Bad),
        NodeState::NotSeen => ("not seen", Tone::Bad),
    };
    Word { text, tone }
}

/// How work is shared out, in words.
#[must_use]
pub fn coordination_mode(mode: CoordinationMode) -> Word {
    let (text, tone) = match mode {
        CoordinationMode::Unspecified => (units::UNKNOWN, Tone::Odd),
        CoordinationMode::Implicit => ("implicit", Tone::Plain),
        CoordinationMode::Explicit => ("explicit", Tone::Good),
        CoordinationMode::Fallback => ("fallback", Tone::Bad),
    };
    Word { text, tone }
}

/// How far behind something is: the numbers for programs, words for people. What is not known is `None` and "unknown".
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Behind {
    /// Age of the oldest row that is due and not done.
    pub seconds: Option<f64>,
    /// Rows that are due and not done.
    pub rows: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Rows that wait until they are old enough.
    pub rows_waiting: Option<u64>,
    /// False: the numbers are a lower bound, because something is unknown.
    pub is_complete: bool,
    /// `seconds` in words.
    pub seconds_text: String,
    /// `rows` in words.
    pub rows_text: String,
    /// `bytes` in words.
    pub bytes_text: String,
}

impl Behind {
    /// From the contract.
    #[must_use]
    pub fn new(lag: Option<&Lag>, is_complete: bool) -> Self {
        let words = units::lag(lag, is_complete);
        Self {
            seconds: lag.map(|lag| lag.seconds),
            rows: lag.map(|lag| lag.rows),
            bytes: lag.map(|lag| lag.bytes),
            rows_waiting: lag.map(|lag| lag.rows_waiting),
            is_complete,
            seconds_text: words.seconds,
            rows_text: words.rows,
            bytes_text: words.bytes,
        }
    }

    /// How this is meant.
    #[must_use]
    pub fn tone(&self) -> Tone {
        match (self.rows, self.is_complete) {
            (None, _) | (_, false) => Tone::Odd,
            (Some(0), true) => Tone::Good,
            (Some(_), true) => Tone::Plain,
        }
    }
}

/// What deserves a look beside how far a mapping is behind.
#[must_use]
pub fn mapping_notes(mapping: &MappingStatus) -> Vec<Word> {
    let said = [
        (mapping.is_paused, "paused", Tone::Odd),
        (mapping.deletes_held_at.is_some(), "deletes held", Tone::Bad),
        (mapping.troubles.iter().any(|trouble| !trouble.refused.is_empty()), "refused by a node", Tone::Bad),
        (
            mapping.troubles.iter().any(|trouble| !trouble.remote_trouble.is_empty()),
            "remote in trouble",
            Tone::Bad,
        ),
        (mapping.failures > 0, "failures", Tone::Odd),
        (!mapping.is_complete, "partly unknown", Tone::Odd),
    ];
    said.into_iter().filter(|(is_so, ..)| *is_so).map(|(_, text, tone)| Word { text, tone }).collect()
}

/// Account and container of a mapping, as in `AUTH_a/photos`, or `AUTH_a/*` for all containers.
#[must_use]
pub fn mapping_name(mapping: &MappingStatus) -> String {
    format!("{}/{}", mapping.account, mapping.container.trim_start_matches('/'))
}

/// A problem in one sentence.
#[must_use]
pub fn problem(problem: &Problem) -> String {
    match (problem.found.as_str(), problem.allowed.as_str()) {
        (found, "") => found.to_owned(),
        (found, allowed) => format!("found {found}; allowed: {allowed}"),
    }
}

/// A problem at its place.
#[must_use]
pub fn place(told: &Problem) -> Place {
    Place { path: told.path.clone(), problem: problem(told) }
}

/// The address of a page as JSON.
#[must_use]
pub fn json_path(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = if path == "/" { "/index" } else { path };
    match query {
        "" => format!("{path}.json"),
        query => format!("{path}.json?{query}"),
    }
}

/// Text as a part of a path or query.
#[must_use]
pub fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// There is no such page.
pub async fn missing(visit: Visit) -> Response {
    page::failed(visit, "", Failure::not_found("there is no such page")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_all_containers_have_one_slash() {
        for (container, expected) in [("photos", "AUTH_a/photos"), ("/*", "AUTH_a/*")] {
            let mapping = MappingStatus {
                account: "AUTH_a".to_owned(),
                container: container.to_owned(),
                ..MappingStatus::default()
            };
            assert_eq!(mapping_name(&mapping), expected);
        }
    }

    #[test]
    fn every_page_has_an_address_as_json() {
        for (target, expected) in [
            ("/", "/index.json"),
            ("/?a=b", "/index.json?a=b"),
            ("/failures", "/failures.json"),
            ("/nodes/n%2E1?after=x", "/nodes/n%2E1.json?after=x"),
        ] {
            assert_eq!(json_path(target), expected);
        }
    }
}
