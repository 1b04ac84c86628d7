//! `failures` and `failures retry`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::json;
use swift_s3_proto::v1::{
    CountFailuresRequest, FailureStatus, ListFailuresRequest, RetryFailuresRequest, RetryFailuresResponse,
};

use super::mapping::reasons_table;
use super::{Listed, all_pages, mapping_id, tell_if_cut};
use crate::ctl::arguments::FailureFilter;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::Output;
use crate::ctl::settings::Settings;
use crate::ctl::table::{Cell, Table, Tone};
use crate::ctl::units::{count, until};

/// What to try again.
pub(super) struct Retry<'a> {
    pub(super) filter: &'a FailureFilter,
    pub(super) object: Option<&'a str>,
    pub(super) all: bool,
}

impl Retry<'_> {
    fn names_something(&self) -> bool {
        let FailureFilter { mapping, account, container, prefix, reason, node } = self.filter;
        self.all
            || self.object.is_some()
            || [mapping, account, container, prefix, reason, node].into_iter().any(Option::is_some)
    }
}

async fn fetch(
    server: &Connection,
    filter: &FailureFilter,
    mapping_id: &str,
    limit: Option<u32>,
) -> Result<(Listed<FailureStatus>, u64), Failure> {
    let mut total = 0;
    let text = |word: &Option<String>| word.clone().unwrap_or_default();
    let listed = all_pages(limit, async |page_size, page_token| {
        let request = ListFailuresRequest {
            page_size,
            page_token,
            mapping_id: mapping_id.to_owned(),
            account: text(&filter.account),
            container: text(&filter.container),
            object_prefix: text(&filter.prefix),
            reason: text(&filter.reason),
            node_id: text(&filter.node),
        };
        let answer = server.call("list failures", server.status().list_failures(request)).await?;
        total = answer.total;
        Ok((answer.failures, answer.next_page_token))
    })
    .await?;
    Ok((listed, total))
}

pub(super) async fn list(
    server: &Connection,
    filter: &FailureFilter,
    limit: Option<u32>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mapping_id = mapping_id(server, filter.mapping.as_deref()).await?;
    let (listed, total) = fetch(server, filter, &mapping_id, limit).await?;
    if output.is_table() {
        output.table(&table(&listed.items, Timestamp::now()), "no failures")?;
        tell_if_cut(&listed, Some(total));
    } else {
        let failures = json::values(&listed.items)?;
        output.json(&json!({ "failures": failures, "total": total, "is_cut": listed.is_cut }))?;
    }
    Ok(Exit::Done)
}

/// By reason, the most frequent first.
pub(super) async fn summary(
    server: &Connection,
    filter: &FailureFilter,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mapping_id = mapping_id(server, filter.mapping.as_deref()).await?;
    let text = |word: &Option<String>| word.clone().unwrap_or_default();
    let request = CountFailuresRequest {
        mapping_id,
        account: text(&filter.account),
        container: text(&filter.container),
    };
    let reasons = server.call("count failures", server.status().count_failures(request)).await?.reasons;
    if output.is_table() {
        output.table(&reasons_table(&reasons), "no failures")?;
    } else {
        output.json(&json!({ "reasons": json::values(&reasons)? }))?;
    }
    Ok(Exit::Done)
}

fn table(failures: &[FailureStatus], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "ACCOUNT",
        "CONTAINER",
        "OBJECT",
        "ACTION",
        "REASON",
        "TRIES>",
        "NEXT TRY",
        "NODE",
        "MAPPING",
        "MESSAGE",
    ]);
    for failure in failures {
        let row = failure.row.clone().unwrap_or_default();
        table.row(vec![
            failure.account.as_str().into(),
            failure.container.as_str().into(),
            row.object.into(),
            if row.deleted { "delete" } else { "copy" }.into(),
            Cell::toned(row.reason, Tone::Bad),
            row.attempts.to_string().into(),
            until(row.next_try, now).into(),
            failure.node_id.as_str().into(),
            failure.mapping_id.as_str().into(),
            row.message.into(),
        ]);
    }
    table
}

pub(super) async fn retry(
    retry: &Retry<'_>,
    settings: &Settings,
    output: &mut Output,
) -> Result<Exit, Failure> {
    if !retry.names_something() {
        return Err(Failure::usage("nothing says which failures to try again: expected a filter, or --all")
            .hint("swift-s3ctl failures retry --help"));
    }
    let server = Connection::open(settings).await?;
    let filter = retry.filter;
    let mapping_id = mapping_id(&server, filter.mapping.as_deref()).await?;
    let requests = if filter.prefix.is_none() && filter.node.is_none() {
        let text = |word: &Option<String>| word.clone().unwrap_or_default();
        vec![RetryFailuresRequest {
            mapping_id,
            account: text(&filter.account),
            container: text(&filter.container),
            object: retry.object.unwrap_or_default().to_owned(),
            reason: text(&filter.reason),
        }]
    } else {
        let (listed, _) = fetch(&server, filter, &mapping_id, None).await?;
        one_by_one(&listed.items, retry.object)
    };
    let mut told = RetryFailuresResponse::default();
    for request in requests {
        let answer = server.call("retry failures", server.status().retry_failures(request)).await?;
        told.matched += answer.matched;
        told.nodes_told = told.nodes_told.max(answer.nodes_told);
    }
    if output.is_table() {
        let verb = if told.matched == 1 { "is" } else { "are" };
        let nodes = count(u64::from(told.nodes_told), "node");
        output.line(&format!("{} {verb} tried again now; {nodes} told", count(told.matched, "failure")))?;
    } else {
        output.json(&json::value(&told)?)?;
    }
    Ok(Exit::Done)
}

/// The contract retries by whole names, so a prefix or a node becomes one request for each object.
fn one_by_one(failures: &[FailureStatus], object: Option<&str>) -> Vec<RetryFailuresRequest> {
    let names: BTreeSet<_> = failures
        .iter()
        .filter_map(|failure| {
            let row = failure.row.as_ref()?;
            object.is_none_or(|object| object == row.object).then_some((
                &failure.mapping_id,
                &failure.account,
                &failure.container,
                &row.object,
                &row.reason,
            ))
        })
        .collect();
    names
        .into_iter()
        .map(|(mapping_id, account, container, object, reason)| RetryFailuresRequest {
            mapping_id: mapping_id.clone(),
            account: account.clone(),
            container: container.clone(),
            object: object.clone(),
            reason: reason.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use swift_s3_proto::v1::ParkedRow;

    fn failure(object: &str, node: &str) -> FailureStatus {
        FailureStatus {
            account: "AUTH_a".into(),
            container: "c".into(),
            node_id: node.into(),
            row: Some(ParkedRow {
                object: object.into(),
                reason: "remote_refused".into(),
                message: "403\nforged".into(),
                attempts: 3,
                next_try: 1_700_000_042,
                ..ParkedRow::default()
            }),
            ..FailureStatus::default()
        }
    }

    #[test]
    fn each_object_is_retried_once_whatever_nodes_have_it() {
        let requests = one_by_one(&[failure("x", "n1"), failure("x", "n2"), failure("y", "n1")], None);
        assert_eq!(requests.iter().map(|request| request.object.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(one_by_one(&[failure("x", "n1"), failure("y", "n1")], Some("y")).len(), 1);
    }

    #[test]
    fn a_failure_is_one_line_whatever_it_says() {
        let text = table(&[failure("a\x1b[2Jb", "n1")], Timestamp::from_second(1_700_000_000).unwrap())
            .render(false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].contains("a\\x1b[2Jb") && lines[1].contains("in 42s"), "{text}");
        assert!(lines[1].ends_with("403\\nforged"), "{text}");
    }

    #[test]
    fn retrying_everything_must_be_said() {
        let none = FailureFilter::default();
        assert!(!Retry { filter: &none, object: None, all: false }.names_something());
        assert!(Retry { filter: &none, object: None, all: true }.names_something());
        let node = FailureFilter { node: Some("n1".into()), ..none };
        assert!(Retry { filter: &node, object: None, all: false }.names_something());
    }
}
