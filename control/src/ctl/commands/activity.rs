//! `activity`: what people did and what happened.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use swift_s3_proto::v1::{Activity, ActivityKind, ListActivityRequest};

use super::{Listed, all_pages, mapping_id, tell_if_cut};
use crate::ctl::arguments::ActivityArguments;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::Output;
use crate::ctl::table::{Cell, Table, Tone};
use crate::ctl::text::harmless;
use crate::ctl::units::{UNKNOWN, age, date};

/// While it follows, what is new is asked for this often.
const PAUSE: Duration = Duration::from_secs(1);
/// Lines that are shown before it follows.
const BEFORE: u32 = 10;
/// Lines that are asked for at a time while it follows.
const PAGE: u32 = 1_000;

pub(super) async fn run(
    server: &Connection,
    arguments: &ActivityArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let request = ListActivityRequest {
        mapping_id: mapping_id(server, arguments.mapping.as_deref()).await?,
        kind: arguments.kind.as_deref().map_or(Ok(ActivityKind::Unspecified), kind_of)?.into(),
        only_people: arguments.people,
        ..ListActivityRequest::default()
    };
    if arguments.follow {
        let before = arguments.limit.limit.unwrap_or(BEFORE);
        return tokio::select! {
            ended = follow(server, request, before, output) => ended,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
        };
    }
    let listed = fetch(server, &request, arguments.limit.limit).await?;
    if !output.is_table() {
        let items = json::values(&listed.items)?;
        output.json(&json!({ "activities": items, "is_cut": listed.is_cut }))?;
        return Ok(Exit::Done);
    }
    output.table(&table(&listed.items, Timestamp::now()), "nothing happened yet")?;
    tell_if_cut(&listed, None);
    Ok(Exit::Done)
}

async fn fetch(
    server: &Connection,
    request: &ListActivityRequest,
    limit: Option<u32>,
) -> Result<Listed<Activity>, Failure> {
    all_pages(limit, async |page_size, page_token| {
        let request = ListActivityRequest { page_size, page_token, ..request.clone() };
        let answer = server.call("list activity", server.status().list_activity(request)).await?;
        Ok((answer.activities, answer.next_page_token))
    })
    .await
}

/// Shows what is new until Ctrl-C, the oldest first.
async fn follow(
    server: &Connection,
    request: ListActivityRequest,
    before: u32,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut shown = fetch(server, &request, Some(before)).await?.items;
    let mut last = 0;
    loop {
        for activity in shown.iter().rev().filter(|activity| activity.id > last) {
            match output.is_table() {
                true => output.line(&line(activity))?,
                false => output.json(&json::value(activity)?)?,
            }
        }
        last = shown.iter().map(|activity| activity.id).max().unwrap_or(last).max(last);
        tokio::time::sleep(PAUSE).await;
        let request = ListActivityRequest { page_size: PAGE, ..request.clone() };
        shown = server.call("list activity", server.status().list_activity(request)).await?.activities;
    }
}

/// `config_applied` of `ACTIVITY_KIND_CONFIG_APPLIED`.
fn word(kind: ActivityKind) -> String {
    kind.as_str_name().trim_start_matches("ACTIVITY_KIND_").to_ascii_lowercase()
}

fn kind_of(text: &str) -> Result<ActivityKind, Failure> {
    let name = format!("ACTIVITY_KIND_{}", text.to_ascii_uppercase().replace('-', "_"));
    ActivityKind::from_str_name(&name).filter(|kind| *kind != ActivityKind::Unspecified).ok_or_else(|| {
        let kinds = (1..).map_while(|number| ActivityKind::try_from(number).ok()).map(word);
        let kinds: Vec<String> = kinds.collect();
        Failure::usage(format!("--kind {text}: expected one of {}", kinds.join(", ")))
    })
}

/// What a line is about: the revision, the mapping or the node.
fn about(activity: &Activity) -> String {
    let mut words = Vec::new();
    if activity.revision != 0 {
        words.push(format!("revision {}", activity.revision));
    }
    words.extend([&activity.mapping_id, &activity.node_id].into_iter().filter(|id| !id.is_empty()).cloned());
    words.join(" ")
}

fn who(activity: &Activity) -> &str {
    match (activity.actor.is_empty(), activity.is_asked_for) {
        (false, _) => &activity.actor,
        (true, true) => "somebody",
        (true, false) => "",
    }
}

fn line(activity: &Activity) -> String {
    let parts = [
        date(activity.at.as_ref()),
        word(activity.kind()),
        who(activity).to_owned(),
        about(activity),
        activity.detail.clone(),
    ];
    harmless(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")).into_owned()
}

fn tone(kind: ActivityKind) -> Tone {
    match kind {
        ActivityKind::NodeLost | ActivityKind::ConfigRejected | ActivityKind::DeletesHeld => Tone::Bad,
        ActivityKind::SharesTaken | ActivityKind::MappingPaused => Tone::Odd,
        _ => Tone::Plain,
    }
}

fn table(activities: &[Activity], now: Timestamp) -> Table {
    let mut table = Table::new(&["AGO", "WHAT", "WHO", "ABOUT", "DETAIL"]);
    for activity in activities {
        table.row(vec![
            activity.at.as_ref().map_or_else(|| UNKNOWN.to_owned(), |at| age(Some(at), now)).into(),
            Cell::toned(word(activity.kind()), tone(activity.kind())),
            who(activity).into(),
            about(activity).into(),
            activity.detail.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_typed_as_they_are_shown() {
        for kind in (1..).map_while(|number| ActivityKind::try_from(number).ok()) {
            assert_eq!(kind_of(&word(kind)).unwrap(), kind);
        }
        assert_eq!(kind_of("node-lost").unwrap(), ActivityKind::NodeLost);
        let refused = kind_of("unspecified").unwrap_err().what();
        assert!(refused.contains("config_applied, ") && refused.contains("shares_returned"), "{refused}");
    }

    #[test]
    fn a_line_tells_who_what_and_about_what() {
        let activity = Activity {
            kind: ActivityKind::ConfigApplied.into(),
            is_asked_for: true,
            revision: 7,
            detail: "3 mappings: \u{1b}[2Jnew bucket".to_owned(),
            ..Activity::default()
        };
        let told = line(&activity);
        assert!(told.contains("config_applied  somebody  revision 7  3 mappings: "), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
    }
}
