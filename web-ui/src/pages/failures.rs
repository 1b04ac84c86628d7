//! Changes that could not be carried, why, and trying them again.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::{Form, Query};
use axum::response::Response;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{
    CountFailuresRequest, FailureStatus, ListFailuresRequest, RetryFailuresRequest, RetryFailuresResponse,
};

use super::encoded;
use super::overview::Reason;
use crate::api::{Api, call};
use crate::failure::Failure;
use crate::page;
use crate::units;
use crate::visit::Visit;

/// Failures on a page.
const PAGE: u32 = 100;
/// Characters of a message in the list.
const SHOWN: usize = 400;

/// Which failures. Empty fields match everything.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    mapping: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    container: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    after: String,
}

impl Filter {
    /// The address of these failures, without the page.
    fn address(&self) -> String {
        let parts = [
            ("mapping", &self.mapping),
            ("account", &self.account),
            ("container", &self.container),
            ("prefix", &self.prefix),
            ("reason", &self.reason),
            ("node", &self.node),
        ];
        let given: Vec<String> = parts
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        if given.is_empty() { "/failures".to_owned() } else { format!("/failures?{}", given.join("&")) }
    }
}

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct Failures {
    /// Only of this mapping.
    pub mapping: String,
    /// Only of this account.
    pub account: String,
    /// Only of this container.
    pub container: String,
    /// Only names that begin so.
    pub prefix: String,
    /// Only of this class.
    pub reason: String,
    /// Only of this node.
    pub node: String,
    /// By reason, whatever the prefix, the reason and the node; the most frequent first.
    pub reasons: Vec<Reason>,
    /// On this page.
    pub failures: Vec<OneFailure>,
    /// All that match.
    pub total: u64,
    /// The address of the next page. Empty: there is none.
    pub next: String,
    /// The address of the first page. Empty: this is it.
    pub first: String,
    /// All that match can be tried again in one go: retries know no prefixes and no nodes.
    pub can_retry_all: bool,
}

/// A change that could not be carried.
#[derive(Debug, Serialize)]
pub struct OneFailure {
    /// The account.
    pub account: String,
    /// The container.
    pub container: String,
    /// The object.
    pub object: String,
    /// The page that says why it is not there.
    pub path: String,
    /// The mapping.
    pub mapping_id: String,
    /// The node.
    pub node_id: String,
    /// It is a delete.
    pub is_delete: bool,
    /// The class.
    pub reason: String,
    /// What the remote, or whoever failed, said.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, in words.
    pub next_try: String,
    /// Names the line on the page.
    #[serde(skip)]
    anchor: String,
    /// The message, cut so that a page stays small; the object's own page has all of it.
    #[serde(skip)]
    shown_message: String,
}

/// `GET /failures`
pub async fn list(visit: Visit, Query(filter): Query<Filter>) -> Response {
    page::show(visit, "/failures", Box::new(move |api| Box::pin(load(api, filter.clone())))).await
}

async fn load(api: Api, filter: Filter) -> Result<Failures, Failure> {
    let count = CountFailuresRequest {
        mapping_id: filter.mapping.clone(),
        account: filter.account.clone(),
        container: filter.container.clone(),
    };
    let request = ListFailuresRequest {
        page_size: PAGE,
        page_token: filter.after.clone(),
        mapping_id: filter.mapping.clone(),
        account: filter.account.clone(),
        container: filter.container.clone(),
        object_prefix: filter.prefix.clone(),
        reason: filter.reason.clone(),
        node_id: filter.node.clone(),
    };
    let (mut counting, mut listing) = (api.status(), api.status());
    let (counted, listed) =
        tokio::join!(call(counting.count_failures(count)), call(listing.list_failures(request)));
    let (counted, listed) = (counted?, listed?);
    let first = filter.address();
    let next = match listed.next_page_token.as_str() {
        "" => String::new(),
        token if first.contains('?') => format!("{first}&after={}", encoded(token)),
        token => format!("{first}?after={}", encoded(token)),
    };
    let now = Timestamp::now();
    Ok(Failures {
        reasons: Reason::all(&counted.reasons),
        failures: listed.failures.iter().map(|failure| shown(failure, now)).collect(),
        total: listed.total,
        next,
        first: if filter.after.is_empty() { String::new() } else { first },
        can_retry_all: filter.prefix.is_empty() && filter.node.is_empty(),
        mapping: filter.mapping.clone(),
        account: filter.account.clone(),
        container: filter.container.clone(),
        prefix: filter.prefix.clone(),
        reason: filter.reason.clone(),
        node: filter.node.clone(),
    })
}

fn shown(failure: &FailureStatus, now: Timestamp) -> OneFailure {
    let row = failure.row.clone().unwrap_or_default();
    OneFailure {
        account: failure.account.clone(),
        container: failure.container.clone(),
        object: row.object.clone(),
        path: super::object::path(&failure.account, &failure.container, &row.object),
        mapping_id: failure.mapping_id.clone(),
        node_id: failure.node_id.clone(),
        is_delete: row.deleted,
        reason: row.reason.clone(),
        message: row.message.clone(),
        attempts: row.attempts,
        next_try: units::until(row.next_try, now),
        anchor: anchor(&[
            &failure.mapping_id,
            &failure.node_id,
            &failure.account,
            &failure.container,
            &row.object,
        ]),
        shown_message: row.message.chars().take(SHOWN).collect(),
    }
}

/// A name for a line that no other line has.
fn anchor(names: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    format!("failure-{:016x}", hasher.finish())
}

/// What to try again. Empty fields match everything. Names are percent-encoded, since browsers change line breaks on the way.
#[derive(Debug, Deserialize)]
pub struct Again {
    #[serde(default)]
    form_token: String,
    #[serde(default)]
    mapping: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    container: String,
    #[serde(default)]
    object: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    back: String,
}

/// `POST /failures/retry`
pub async fn retry(visit: Visit, Form(again): Form<Again>) -> Response {
    if !visit.is_own_form(&again.form_token) {
        return page::failed(visit, "/failures", Failure::forged()).await;
    }
    let Again { mapping, account, container, object, reason, back, .. } = again;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let request = RetryFailuresRequest {
        mapping_id: decoded(&mapping),
        account: decoded(&account),
        container: decoded(&container),
        object: decoded(&object),
        reason: decoded(&reason),
    };
    match call(visit.api.status().retry_failures(request)).await {
        Ok(answer) => {
            let back = if back.is_empty() { "/failures" } else { back.as_str() };
            page::done(visit, back, &retried(&answer))
        }
        Err(failure) => page::failed(visit, "/failures", failure).await,
    }
}

fn retried(answer: &RetryFailuresResponse) -> String {
    let RetryFailuresResponse { matched, nodes_told } = *answer;
    match (matched, nodes_told) {
        (0, _) => "Nothing that failed matches; it may be done by now.".to_owned(),
        (_, 0) => format!(
            "{} to try again, but no node that has them is connected. They are tried when it is back.",
            units::count(matched, "change")
        ),
        _ => format!(
            "{} tried again now, on {}.",
            units::count(matched, "change"),
            units::count(nodes_told.into(), "node")
        ),
    }
}

crate::templates!(Failures, "failures.html", |_| "Failures".to_owned());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_what_was_chosen() {
        assert_eq!(Filter::default().address(), "/failures");
        let filter = Filter {
            account: "AUTH_a".to_owned(),
            prefix: "a&b=ö".to_owned(),
            after: "never".to_owned(),
            ..Filter::default()
        };
        assert_eq!(filter.address(), "/failures?account=AUTH%5Fa&prefix=a%26b%3D%C3%B6");
    }

    #[test]
    fn what_is_tried_again_is_said() {
        for (matched, nodes_told, expected) in [
            (0, 0, "Nothing that failed matches; it may be done by now."),
            (
                2,
                0,
                "2 changes to try again, but no node that has them is connected. They are tried when it is back.",
            ),
            (1, 1, "1 change tried again now, on 1 node."),
        ] {
            assert_eq!(retried(&RetryFailuresResponse { matched, nodes_told }), expected);
        }
    }
}
