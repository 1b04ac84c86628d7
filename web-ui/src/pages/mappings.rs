//! Mappings, and one mapping: what it does, how far it is, and its switches.

use axum::extract::{Form, Path, Query};
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{
    ContainerOrder, DescribeMappingRequest, DescribeMappingResponse, ListContainersRequest, MappingStatus,
    MappingUsage, PauseMappingRequest, ReleaseDeletesRequest, ResumeMappingRequest,
};

use super::containers::Container;
use super::history::{self, CatchUp, Chart};
use super::overview::Reason;
use super::{Behind, Word, encoded, mapping_notes};
use crate::api::{Api, call};
use crate::failure::Failure;
use crate::page;
use crate::units;
use crate::visit::{self, Visit};

/// Mappings on a page.
const PAGE: usize = 100;
/// Containers in the list of those furthest behind.
const CONTAINERS: u32 = 20;

/// In which order mappings can be shown, and its name.
pub const ORDERS: [(&str, &str); 4] = [
    ("", "as configured"),
    ("lag", "furthest behind first"),
    ("failures", "most failures first"),
    ("name", "by name"),
];

/// Which mappings.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    search: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    page: String,
}

/// What the list shows.
#[derive(Debug, Serialize)]
pub struct Mappings {
    /// Only those with this in account, container or remote; empty: all.
    pub search: String,
    /// The order.
    pub sort: String,
    /// On this page.
    pub mappings: Vec<Mapping>,
    /// All that match.
    pub total: usize,
    /// This page, from 1.
    pub page: usize,
    /// The address of the page before. Empty: there is none.
    pub previous: String,
    /// The address of the next page. Empty: there is none.
    pub next: String,
}

/// One mapping.
#[derive(Clone, Debug, Serialize)]
pub struct Mapping {
    /// Names it in every call.
    pub mapping_id: String,
    /// Its page.
    pub path: String,
    /// Account and container.
    pub name: String,
    /// Where it goes.
    pub remote: String,
    /// Local copies go away after they were carried.
    pub is_archive: bool,
    /// Nothing is carried.
    pub is_paused: bool,
    /// How far.
    pub behind: Behind,
    /// Containers that are followed.
    pub containers: u64,
    /// Rows set aside after failures.
    pub failures: u64,
    /// Deletes are held since then, RFC 3339. Empty: they are not.
    pub deletes_held_at: String,
    /// Nodes that run its current form.
    pub nodes_applied: u32,
    /// Workers that are connected.
    pub nodes_total: u32,
    /// Objects carried per second, over the last minute.
    pub rows_per_second: f64,
    /// Bytes sent per second, over the last minute.
    pub bytes_per_second: f64,
    /// Both in words.
    pub rate: String,
    /// Until it has caught up at this rate, in words. Empty: unknown, or nothing to catch up.
    pub rest: String,
    /// What deserves a look.
    pub notes: Vec<Word>,
    /// Since the month began.
    pub usage: Option<Usage>,
}

/// Requests and cost since the month began.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// The month in UTC.
    pub month: String,
    /// Requests that write.
    pub writes: u64,
    /// Requests that list.
    pub lists: u64,
    /// Requests that read.
    pub reads: u64,
    /// Requests that delete.
    pub deletes: u64,
    /// Bytes of bodies sent.
    pub bytes_sent: u64,
    /// Bytes of bodies received.
    pub bytes_received: u64,
    /// Both in words.
    pub bytes: String,
    /// What it costs, in words.
    pub cost: String,
}

/// What a mapping's page shows.
#[derive(Debug, Serialize)]
pub struct OneMapping {
    /// How it fares.
    pub mapping: Mapping,
    /// What it does, a sentence each.
    pub policy: Vec<String>,
    /// Its element of the configuration, JSON without secrets.
    pub document: String,
    /// Where it is in the configuration.
    pub place: String,
    /// How each node that is not well fares.
    pub troubles: Vec<Trouble>,
    /// Its failures, the most frequent first.
    pub reasons: Vec<Reason>,
    /// Its containers that are behind, furthest first.
    pub containers: Vec<Container>,
    /// How much of what had piled up within a day is done. `None`: nothing is, or nothing is to do.
    pub catch_up: Option<CatchUp>,
    /// When this was so, RFC 3339.
    pub as_of: String,
    #[serde(skip)]
    charts: Vec<Chart>,
}

/// A mapping in trouble on one node.
#[derive(Debug, Serialize)]
pub struct Trouble {
    /// Where.
    pub node_id: String,
    /// What.
    pub text: String,
}

/// `GET /mappings`
pub async fn list(visit: Visit, Query(filter): Query<Filter>) -> Response {
    page::show(visit, "/mappings", Box::new(move |api| Box::pin(load_list(api, filter.clone())))).await
}

async fn load_list(api: Api, filter: Filter) -> Result<Mappings, Failure> {
    Ok(listed(api.mappings().await?, filter))
}

fn listed(mut mappings: Vec<MappingStatus>, filter: Filter) -> Mappings {
    let search = filter.search.to_lowercase();
    mappings.retain(|mapping| {
        [&mapping.account, &mapping.container, &mapping.remote, &mapping.mapping_id]
            .into_iter()
            .any(|text| text.to_lowercase().contains(&search))
    });
    let seconds = |mapping: &MappingStatus| mapping.lag.as_ref().map_or(f64::INFINITY, |lag| lag.seconds);
    match filter.sort.as_str() {
        "lag" => mappings.sort_by(|a, b| seconds(b).total_cmp(&seconds(a))),
        "failures" => mappings.sort_by_key(|mapping| std::cmp::Reverse(mapping.failures)),
        "name" => mappings.sort_by(|a, b| (&a.account, &a.container).cmp(&(&b.account, &b.container))),
        _ => {}
    }
    let total = mappings.len();
    let last = total.div_ceil(PAGE).max(1);
    let number = filter.page.parse::<usize>().unwrap_or(1).clamp(1, last);
    let address = |number: usize| {
        format!("/mappings?search={}&sort={}&page={number}", encoded(&filter.search), encoded(&filter.sort))
    };
    Mappings {
        mappings: mappings.iter().skip((number - 1) * PAGE).take(PAGE).map(shown).collect(),
        total,
        page: number,
        previous: if number > 1 { address(number - 1) } else { String::new() },
        next: if number < last { address(number + 1) } else { String::new() },
        search: filter.search.clone(),
        sort: filter.sort,
    }
}

fn shown(mapping: &MappingStatus) -> Mapping {
    let rate = format!(
        "{}, {}",
        units::row_rate(mapping.rows_per_second),
        units::byte_rate(mapping.bytes_per_second)
    );
    Mapping {
        mapping_id: mapping.mapping_id.clone(),
        path: format!("/mappings/{}", encoded(&mapping.mapping_id)),
        name: super::mapping_name(mapping),
        remote: mapping.remote.clone(),
        is_archive: !mapping.retain_local,
        is_paused: mapping.is_paused,
        behind: Behind::new(mapping.lag.as_ref(), mapping.is_complete),
        containers: mapping.containers,
        failures: mapping.failures,
        deletes_held_at: mapping
            .deletes_held_at
            .as_ref()
            .map_or_else(String::new, |at| units::date(Some(at))),
        nodes_applied: mapping.nodes_applied,
        nodes_total: mapping.nodes_total,
        rows_per_second: mapping.rows_per_second,
        bytes_per_second: mapping.bytes_per_second,
        rate,
        rest: mapping.seconds_to_catch_up.map_or_else(String::new, |rest| units::seconds(rest.round())),
        notes: mapping_notes(mapping),
        usage: mapping.usage.as_ref().map(usage),
    }
}

fn usage(told: &MappingUsage) -> Usage {
    let counts = told.usage.unwrap_or_default();
    Usage {
        month: told.month.clone(),
        writes: counts.writes,
        lists: counts.lists,
        reads: counts.reads,
        deletes: counts.deletes,
        bytes_sent: counts.bytes_sent,
        bytes_received: counts.bytes_received,
        bytes: format!(
            "{} sent, {} received",
            units::bytes(counts.bytes_sent),
            units::bytes(counts.bytes_received)
        ),
        cost: match told.cost {
            Some(cost) => {
                format!("{cost:.2} {} by the prices of {}", told.currency, told.prices_as_of)
            }
            None => "no price is known for this remote".to_owned(),
        },
    }
}

/// `GET /mappings/{id}`
pub async fn show(visit: Visit, Path(id): Path<String>) -> Response {
    let has_charts = visit.form == visit::Form::Html;
    page::show(visit, "/mappings", Box::new(move |api| Box::pin(load_one(api, id.clone(), has_charts)))).await
}

async fn load_one(api: Api, id: String, has_charts: bool) -> Result<OneMapping, Failure> {
    let told = call(api.status().describe_mapping(DescribeMappingRequest { mapping: id })).await?;
    let request = ListContainersRequest {
        page_size: CONTAINERS,
        mapping_id: told.status.as_ref().map(|status| status.mapping_id.clone()).unwrap_or_default(),
        only_behind: true,
        order: ContainerOrder::Lag.into(),
        ..ListContainersRequest::default()
    };
    let mapping_id = request.mapping_id.clone();
    let mut client = api.status();
    let rows = told.status.as_ref().and_then(|status| status.lag.as_ref()).map_or(0, |lag| lag.rows);
    let (listed, past) = tokio::join!(
        call(client.list_containers(request)),
        history::past_if(has_charts || rows > 0, &api, &mapping_id)
    );
    let containers = listed?.containers;
    let now = Timestamp::now();
    let DescribeMappingResponse { status, policy, document, path, failure_reasons } = told;
    let status = status.unwrap_or_default();
    let troubles = status.troubles.iter().flat_map(|trouble| {
        let said = [("refused", &trouble.refused), ("the remote is left alone", &trouble.remote_trouble)];
        said.into_iter()
            .filter(|(_, why)| !why.is_empty())
            .map(|(what, why)| Trouble { node_id: trouble.node_id.clone(), text: format!("{what}: {why}") })
    });
    Ok(OneMapping {
        catch_up: past.as_ref().and_then(|past| history::catch_up(&past.samples, rows)),
        charts: history::charts(
            &mapping_id,
            history::DAY,
            past.as_ref(),
            &["lag", "rows", "rows_per_second"],
        ),
        mapping: shown(&status),
        policy,
        document: pretty(&document),
        place: path,
        troubles: troubles.collect(),
        reasons: Reason::all(&failure_reasons),
        containers: containers.iter().map(Container::new).collect(),
        as_of: now.round(jiff::Unit::Second).unwrap_or(now).to_string(),
    })
}

/// JSON over several lines.
pub(super) fn pretty(document: &str) -> String {
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(document);
    let printed = parsed.and_then(|value| serde_json::to_string_pretty(&value));
    crate::text::harmless_json(&printed.unwrap_or_else(|_| document.to_owned())).into_owned()
}

/// A form that changes one mapping.
#[derive(Debug, Deserialize)]
pub struct Act {
    #[serde(default)]
    form_token: String,
}

/// What a form asks for.
#[derive(Clone, Copy)]
enum Switch {
    Pause,
    Resume,
    Release,
}

/// `POST /mappings/{id}/pause`
pub async fn pause(visit: Visit, Path(id): Path<String>, Form(act): Form<Act>) -> Response {
    switch(visit, id, act, Switch::Pause).await
}

/// `POST /mappings/{id}/resume`
pub async fn resume(visit: Visit, Path(id): Path<String>, Form(act): Form<Act>) -> Response {
    switch(visit, id, act, Switch::Resume).await
}

/// `POST /mappings/{id}/release-deletes`
pub async fn release(visit: Visit, Path(id): Path<String>, Form(act): Form<Act>) -> Response {
    switch(visit, id, act, Switch::Release).await
}

async fn switch(visit: Visit, mapping: String, act: Act, switch: Switch) -> Response {
    if !visit.is_own_form(&act.form_token) {
        return page::failed(visit, "/mappings", Failure::forged()).await;
    }
    let back = format!("/mappings/{}", encoded(&mapping));
    let mut status = visit.api.status();
    let changed = match switch {
        Switch::Pause => call(status.pause_mapping(PauseMappingRequest { mapping })).await.map(|answer| {
            if answer.changed {
                "Paused. What is under way is finished; nothing new is carried."
            } else {
                "It was paused already."
            }
        }),
        Switch::Resume => call(status.resume_mapping(ResumeMappingRequest { mapping }))
            .await
            .map(|answer| if answer.changed { "It goes on." } else { "It was not paused." }),
        Switch::Release => call(status.release_deletes(ReleaseDeletesRequest { mapping }))
            .await
            .map(|_| "The deletes that were held are let go."),
    };
    match changed {
        Ok(notice) => page::done(visit, &back, notice),
        Err(failure) => page::failed(visit, "/mappings", failure).await,
    }
}

crate::templates!(Mappings, "mappings.html", |_| "Mappings".to_owned());
crate::templates!(OneMapping, "mapping.html", |view| format!("Mapping {}", view.mapping.name));

#[cfg(test)]
mod tests {
    use super::*;
    use swift_s3_proto::v1::Lag;

    fn mapping(container: &str, seconds: f64, failures: u64) -> MappingStatus {
        MappingStatus {
            account: "AUTH_a".to_owned(),
            container: container.to_owned(),
            lag: Some(Lag { seconds, ..Lag::default() }),
            failures,
            ..MappingStatus::default()
        }
    }

    fn names(mappings: &Mappings) -> Vec<&str> {
        mappings.mappings.iter().map(|mapping| mapping.name.as_str()).collect()
    }

    #[test]
    fn mappings_are_searched_and_sorted() {
        let all = vec![mapping("b", 5.0, 2), mapping("Photos", 9.0, 0), mapping("a", 0.0, 7)];
        for (search, sort, expected) in [
            ("", "", &["AUTH_a/b", "AUTH_a/Photos", "AUTH_a/a"][..]),
            ("photo", "", &["AUTH_a/Photos"]),
            ("", "lag", &["AUTH_a/Photos", "AUTH_a/b", "AUTH_a/a"]),
            ("", "failures", &["AUTH_a/a", "AUTH_a/b", "AUTH_a/Photos"]),
            ("", "name", &["AUTH_a/Photos", "AUTH_a/a", "AUTH_a/b"]),
            ("nothing", "", &[]),
        ] {
            let filter = Filter { search: search.to_owned(), sort: sort.to_owned(), page: String::new() };
            assert_eq!(names(&listed(all.clone(), filter)), expected, "{search} {sort}");
        }
    }

    #[test]
    fn pages_end_where_mappings_do() {
        let all: Vec<_> = (0..250).map(|number| mapping(&number.to_string(), 0.0, 0)).collect();
        let at = |page: &str| listed(all.clone(), Filter { page: page.to_owned(), ..Filter::default() });
        let told = |mappings: &Mappings| {
            (mappings.page, mappings.mappings.len(), !mappings.previous.is_empty(), !mappings.next.is_empty())
        };
        assert_eq!(told(&at("")), (1, 100, false, true));
        assert_eq!(told(&at("3")), (3, 50, true, false));
        assert_eq!(told(&at("99999999999999999999")), (1, 100, false, true));
        assert_eq!(told(&at("9")), (3, 50, true, false));
        assert_eq!(told(&listed(Vec::new(), Filter::default())), (1, 0, false, false));
    }
}
