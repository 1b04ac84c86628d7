//! Who changed what, and what happened by itself.

use axum::extract::Query;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{Activity, ActivityKind, ListActivityRequest};

use super::{Tone, Word, encoded};
use crate::api::{Api, call};
use crate::failure::Failure;
use crate::page;
use crate::units;
use crate::visit::Visit;

/// Lines on a page.
const PAGE: u32 = 100;

/// Which activity.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    people: String,
    #[serde(default)]
    mapping: String,
    #[serde(default)]
    after: String,
}

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct Activities {
    /// Only what people did.
    pub only_people: bool,
    /// Only of this mapping.
    pub mapping: String,
    /// Newest first.
    pub lines: Vec<Line>,
    /// The address of the next page. Empty: there is none.
    pub next: String,
}

/// One thing that somebody did, or that happened.
#[derive(Debug, Serialize)]
pub struct Line {
    /// RFC 3339.
    pub at: String,
    /// How long ago.
    pub age: String,
    /// What.
    pub what: Word,
    /// Who. Empty: nobody in particular.
    pub actor: String,
    /// A person or a script asked for it.
    pub is_asked_for: bool,
    /// The mapping it is about. Empty: none.
    pub mapping_id: String,
    /// The node it is about. Empty: none.
    pub node_id: String,
    /// The revision it is about; 0: none.
    pub revision: i64,
    /// The rest in words.
    pub detail: String,
}

/// `GET /activity`
pub async fn list(visit: Visit, Query(filter): Query<Filter>) -> Response {
    page::show(visit, "/activity", Box::new(move |api| Box::pin(load(api, filter.clone())))).await
}

async fn load(api: Api, filter: Filter) -> Result<Activities, Failure> {
    let only_people = filter.people == "1";
    let request = ListActivityRequest {
        page_size: PAGE,
        page_token: filter.after,
        mapping_id: filter.mapping.clone(),
        only_people,
        ..ListActivityRequest::default()
    };
    let answer = call(api.status().list_activity(request)).await?;
    let now = Timestamp::now();
    let next = match answer.next_page_token.as_str() {
        "" => String::new(),
        token => format!(
            "/activity?people={}&mapping={}&after={}",
            u8::from(only_people),
            encoded(&filter.mapping),
            encoded(token)
        ),
    };
    Ok(Activities {
        only_people,
        mapping: filter.mapping.clone(),
        lines: answer.activities.iter().map(|activity| line(activity, now)).collect(),
        next,
    })
}

fn line(activity: &Activity, now: Timestamp) -> Line {
    Line {
        at: units::date(activity.at.as_ref()),
        age: units::age(activity.at.as_ref(), now),
        what: what(activity.kind()),
        actor: activity.actor.clone(),
        is_asked_for: activity.is_asked_for,
        mapping_id: activity.mapping_id.clone(),
        node_id: activity.node_id.clone(),
        revision: activity.revision,
        detail: activity.detail.clone(),
    }
}

fn what(kind: ActivityKind) -> Word {
    let (text, tone) = match kind {
        ActivityKind::Unspecified => ("something of a newer version", Tone::Odd),
        ActivityKind::ConfigApplied => ("configuration applied", Tone::Plain),
        ActivityKind::ConfigRolledBack => ("rolled back", Tone::Odd),
        ActivityKind::MappingPaused => ("mapping paused", Tone::Odd),
        ActivityKind::MappingResumed => ("mapping resumed", Tone::Good),
        ActivityKind::DeletesReleased => ("deletes let go", Tone::Odd),
        ActivityKind::RetryOrdered => ("failures tried again", Tone::Plain),
        ActivityKind::NodeForgotten => ("node forgotten", Tone::Plain),
        ActivityKind::RepairOrdered => ("repair", Tone::Plain),
        ActivityKind::NodeConnected => ("node connected", Tone::Good),
        ActivityKind::NodeLost => ("node lost", Tone::Bad),
        ActivityKind::ConfigRejected => ("configuration refused", Tone::Bad),
        ActivityKind::DeletesHeld => ("deletes held", Tone::Bad),
        ActivityKind::SharesTaken => ("shares taken over", Tone::Odd),
        ActivityKind::SharesReturned => ("shares given back", Tone::Good),
    };
    Word { text, tone }
}

crate::templates!(Activities, "activity.html", |_| "Activity".to_owned());
