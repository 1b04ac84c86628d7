//! `plan`: what new and changed mappings would move, how long that takes, and what it costs.

mod show;

use serde::Serialize;
use swift_s3_policy::{ContainerSelector, Mapping, Rates, WeekMinute};
use swift_s3_proto::v1::{
    Change, CompareContainerRequest, CompareCounts, CountContainerRequest, CountContainerResponse,
    ListAccountRequest, SizeClass,
};
use tonic::Code;

use super::audit::retrying;
use super::config::{check, read_document};
use super::fetch_mappings;
use crate::ctl::arguments::PlanArguments;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::output::{Output, tell};
use crate::ctl::settings::Settings;
use crate::prices::{Cost, Load, Prices};

/// Control asks up to three workers for a page, and gives each of them a minute.
const TIME_FOR_WORKERS: std::time::Duration = std::time::Duration::from_secs(185);
/// Keys of one listing request.
const LIST_PAGE: u64 = 1_000;

/// What becomes of one mapping.
#[derive(Debug, Serialize)]
struct Planned {
    mapping_id: String,
    mapping: String,
    remote: String,
    /// `new`, `changed` or `unchanged`.
    status: &'static str,
    /// Keys of the configuration that change.
    changes: Vec<String>,
    containers: u64,
    /// Containers that do not exist yet.
    absent: u64,
    /// Objects that only are asked for, because they are there already.
    rechecked: u64,
    excluded: u64,
    #[serde(flatten)]
    load: Load,
    sizes: Vec<Size>,
    storage_class: Option<String>,
    /// None: there is neither `--bandwidth` nor a limit.
    seconds: Option<f64>,
    cost: Option<Cost>,
    warnings: Vec<String>,
    /// Headers decide, which listings do not have: less may be moved.
    is_upper_bound: bool,
}

#[derive(Debug, Serialize)]
struct Size {
    up_to_bytes: u64,
    objects: u64,
    bytes: u64,
}

/// Reckons, and prints.
pub(super) async fn run(
    arguments: &PlanArguments,
    settings: &Settings,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let prices = Prices::read(arguments.prices.as_deref()).map_err(Failure::usage)?;
    let document = read_document(&arguments.file)?;
    let server = Connection::open(settings).await?.patient(TIME_FOR_WORKERS);
    let checked = check(&server, &document.text).await?;
    if !checked.problems.is_empty() {
        return Err(Failure::refused(&checked.problems));
    }
    // Checked there already; here it is only read.
    let config = swift_s3_policy::parse_document(&document.text)
        .map_err(|problems| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            Failure::usage(format!("the configuration cannot be read here: {first}"))
        })?
        .config;
    let running: Vec<String> = fetch_mappings(&server, "", None)
        .await?
        .items
        .into_iter()
        .map(|mapping| mapping.mapping_id)
        .collect();
    let mut planned = Vec::new();
    for (mapping, id) in config.mappings.iter().zip(config.mapping_ids()) {
        let is_running = running.contains(&id);
        let changes = changed_keys(&checked.changes, &id);
        let is_wanted = match &arguments.mapping {
            Some(word) => *word == id || *word == mapping.label() || *word == mapping.path,
            None => !is_running || !changes.is_empty(),
        };
        if is_wanted {
            let found = look(&server, mapping, &id, is_running, &changes).await?;
            planned.push(reckon(mapping, id, is_running, changes, found, &prices, arguments.bandwidth));
        }
    }
    if planned.is_empty() {
        if let Some(word) = &arguments.mapping {
            return Err(Failure::failed(format!("no mapping of the file is {word}")));
        }
        tell("no new or changed mapping: nothing would be moved");
    }
    show::show(&planned, &prices, output)
}

/// Which keys of a mapping change.
fn changed_keys(changes: &[Change], id: &str) -> Vec<String> {
    let of_mapping = changes.iter().filter(|change| change.mapping_id == id);
    let key = |change: &Change| change.path.rsplit_once("].").map(|(_, key)| key.to_owned());
    let mut keys: Vec<String> = of_mapping.filter_map(key).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// What was counted.
#[derive(Debug, Default)]
struct Found {
    containers: u64,
    absent: u64,
    counted: CountContainerResponse,
    compared: Option<CompareCounts>,
    lists: u64,
}

async fn look(
    server: &Connection,
    mapping: &Mapping,
    id: &str,
    is_running: bool,
    changes: &[String],
) -> Result<Found, Failure> {
    let mut found = Found::default();
    match &mapping.container {
        ContainerSelector::One(container) => {
            look_at(server, mapping, id, container, is_running, changes, &mut found).await?;
        }
        ContainerSelector::All => {
            let mut start_after = String::new();
            loop {
                let request =
                    ListAccountRequest { account: mapping.account.clone(), start_after: start_after.clone() };
                let page = retrying(async || {
                    server.call("list the account", server.audit().list_account(request.clone())).await
                })
                .await?;
                for container in &page.containers {
                    look_at(server, mapping, id, container, is_running, changes, &mut found).await?;
                }
                match page.containers.last() {
                    Some(last) if !page.is_done && *last > start_after => start_after.clone_from(last),
                    _ => break,
                }
            }
        }
    }
    Ok(found)
}

#[allow(clippy::too_many_arguments, reason = "one caller, and each is another fact")]
async fn look_at(
    server: &Connection,
    mapping: &Mapping,
    id: &str,
    container: &str,
    is_running: bool,
    changes: &[String],
    found: &mut Found,
) -> Result<(), Failure> {
    let mut request = CountContainerRequest {
        account: mapping.account.clone(),
        container: container.to_owned(),
        exclude_pattern: mapping
            .exclude
            .as_ref()
            .map(|exclude| exclude.as_str().to_owned())
            .unwrap_or_default(),
        ..CountContainerRequest::default()
    };
    loop {
        let asked = retrying(async || {
            server.call("count the container", server.audit().count_container(request.clone())).await
        })
        .await;
        let page = match asked {
            Err(failure) if failure.code() == Some(Code::NotFound) => {
                found.absent += 1;
                return Ok(());
            }
            page => page?,
        };
        let next = page.next_start_after.clone();
        let is_last = page.is_done || next <= request.start_after;
        add(&mut found.counted, page);
        if is_last {
            break;
        }
        request.start_after = next;
    }
    found.containers += 1;
    // Without a change of policy there is nothing to tell moved from checked by.
    if !is_running || changes.is_empty() {
        return Ok(());
    }
    compare(server, mapping, id, container, found).await
}

async fn compare(
    server: &Connection,
    mapping: &Mapping,
    id: &str,
    container: &str,
    found: &mut Found,
) -> Result<(), Failure> {
    let mut request = CompareContainerRequest {
        mapping_id: id.to_owned(),
        account: mapping.account.clone(),
        container: container.to_owned(),
        ..CompareContainerRequest::default()
    };
    let sum = found.compared.get_or_insert_default();
    loop {
        let asked = retrying(async || {
            server.call("compare the container", server.audit().compare_container(request.clone())).await
        })
        .await;
        let page = match asked {
            // It was deleted since it was counted.
            Err(failure) if failure.code() == Some(Code::NotFound) => return Ok(()),
            page => page?,
        };
        let counts = page.counts.unwrap_or_default();
        sum.compared += counts.compared;
        sum.equal += counts.equal;
        sum.missing += counts.missing;
        sum.different += counts.different;
        sum.extra += counts.extra + counts.archived + counts.kept;
        sum.pending += counts.pending;
        sum.bytes += counts.bytes;
        sum.bytes_to_repair += counts.bytes_to_repair;
        found.lists += page.list_requests;
        if page.is_done || page.next_start_after <= request.start_after {
            return Ok(());
        }
        request.start_after = page.next_start_after;
    }
}

fn add(sum: &mut CountContainerResponse, page: CountContainerResponse) {
    sum.objects += page.objects;
    sum.bytes = sum.bytes.saturating_add(page.bytes);
    sum.excluded += page.excluded;
    sum.parts += page.parts;
    sum.multipart_objects += page.multipart_objects;
    for size in page.sizes {
        match sum.sizes.iter_mut().find(|known| known.up_to_bytes == size.up_to_bytes) {
            Some(known) => {
                known.objects += size.objects;
                known.bytes = known.bytes.saturating_add(size.bytes);
            }
            None => sum.sizes.push(size),
        }
    }
    sum.sizes.sort_by_key(|size| size.up_to_bytes);
}

/// From counts to a plan. Pure but for the hour of the mapping's limits.
fn reckon(
    mapping: &Mapping,
    id: String,
    is_running: bool,
    changes: Vec<String>,
    found: Found,
    prices: &Prices,
    bandwidth: Option<u64>,
) -> Planned {
    let counted = &found.counted;
    let (load, rechecked) = load(counted, found.compared.as_ref(), found.lists);
    let rates = rates_now(mapping);
    let storage_class = mapping.remote.s3().and_then(|remote| remote.storage_class.clone());
    let class = storage_class.as_deref();
    let is_bucket = mapping.remote.s3().is_some();
    let mut warnings: Vec<String> = prices.warning(&load, class).into_iter().filter(|_| is_bucket).collect();
    let cost = prices.cost(&load, class).filter(|_| is_bucket);
    if cost.is_none() && is_bucket {
        warnings.push(format!("the price table has no class {}", class.unwrap_or_default()));
    }
    let is_upper_bound = !mapping.selection.is_empty();
    if is_upper_bound {
        warnings.push(
            "selection_criteria are about headers, which listings do not have: at most this is moved"
                .to_owned(),
        );
    }
    if found.compared.is_some() && changes.iter().any(|key| key.starts_with("selection_criteria")) {
        warnings.push(
            "what was left out by the old selection_criteria is counted as equal or left out".to_owned(),
        );
    }
    Planned {
        mapping_id: id,
        mapping: mapping.label(),
        remote: mapping.remote.label(),
        status: match (is_running, changes.is_empty()) {
            (false, _) => "new",
            (true, false) => "changed",
            (true, true) => "unchanged",
        },
        changes,
        containers: found.containers,
        absent: found.absent,
        rechecked,
        excluded: counted.excluded,
        seconds: seconds(&load, rates, bandwidth),
        load,
        sizes: counted
            .sizes
            .iter()
            .map(|size| {
                let SizeClass { up_to_bytes, objects, bytes } = *size;
                Size { up_to_bytes, objects, bytes }
            })
            .collect(),
        storage_class,
        cost,
        warnings,
        is_upper_bound,
    }
}

/// What is sent, and how many objects are only asked for.
fn load(counted: &CountContainerResponse, compared: Option<&CompareCounts>, lists: u64) -> (Load, u64) {
    let mut load = Load::default();
    let Some(compared) = compared else {
        load.objects = counted.objects;
        load.bytes = counted.bytes;
        load.parts = counted.parts;
        // A multipart upload is begun and completed beside its parts.
        load.puts = counted.objects.saturating_add(counted.multipart_objects);
        load.lists = counted.objects.div_ceil(LIST_PAGE);
        load.add_sizes(&counted.sizes);
        return (load, 0);
    };
    // What the old pattern left out and the new one does not was compared with nothing.
    let known = compared.compared.saturating_sub(compared.extra);
    let added = counted.objects.saturating_sub(known);
    load.objects = compared.missing + compared.different + compared.pending + added;
    load.bytes = compared.bytes_to_repair.saturating_add(counted.bytes.saturating_sub(compared.bytes));
    load.puts = load.objects;
    load.lists = lists;
    load.checks = compared.equal;
    (load, compared.equal)
}

/// How long it takes at the lower of the two rates, and with the mapping's requests.
#[expect(clippy::cast_precision_loss, reason = "a time for people")]
fn seconds(load: &Load, rates: Rates, bandwidth: Option<u64>) -> Option<f64> {
    let rate = match (rates.bytes_per_second, bandwidth) {
        (Some(limit), Some(bandwidth)) => Some(limit.min(bandwidth)),
        (limit, bandwidth) => limit.or(bandwidth),
    };
    let by_bytes = rate.map(|rate| load.bytes as f64 / rate.max(1) as f64);
    let requests = (load.puts + load.parts + load.lists + load.checks) as f64;
    let by_requests = rates.requests_per_second.map(|rate| requests / f64::from(rate.max(1)));
    match (by_bytes, by_requests) {
        (Some(bytes), Some(requests)) => Some(bytes.max(requests)),
        (bytes, requests) => bytes.or(requests),
    }
}

fn rates_now(mapping: &Mapping) -> Rates {
    let now = jiff::Zoned::now();
    let small = |number: i8| u8::try_from(number).unwrap_or_default();
    let weekday = small(now.weekday().to_monday_zero_offset());
    mapping.limits.at(WeekMinute::new(weekday, small(now.hour()), small(now.minute())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    fn counted() -> CountContainerResponse {
        CountContainerResponse {
            objects: 2_500,
            bytes: 10_000,
            parts: 12,
            multipart_objects: 2,
            sizes: vec![SizeClass { up_to_bytes: 128 << 10, objects: 2_400, bytes: 900 }],
            ..CountContainerResponse::default()
        }
    }

    #[test]
    fn a_new_mapping_moves_everything() {
        let (load, rechecked) = load(&counted(), None, 0);
        assert_eq!(
            (load.objects, load.bytes, load.puts, load.parts, load.lists),
            (2_500, 10_000, 2_502, 12, 3)
        );
        assert_eq!((load.small_objects, rechecked), (2_400, 0));
    }

    #[test]
    fn a_changed_mapping_moves_what_differs_and_what_is_not_left_out_any_more() {
        let compared = CompareCounts {
            compared: 2_100,
            equal: 1_990,
            missing: 7,
            different: 3,
            extra: 100,
            bytes: 9_000,
            bytes_to_repair: 50,
            ..CompareCounts::default()
        };
        let (load, rechecked) = load(&counted(), Some(&compared), 4);
        assert_eq!((load.objects, load.bytes, load.lists, rechecked), (7 + 3 + 500, 50 + 1_000, 4, 1_990));
    }

    #[test]
    fn time_is_that_of_the_narrowest_limit() {
        let load = Load { bytes: 1_000, puts: 90, lists: 10, ..Load::default() };
        let rates = |bytes, requests| Rates {
            bytes_per_second: bytes,
            requests_per_second: requests,
            ..Rates::default()
        };
        assert_eq!(seconds(&load, rates(None, None), None), None);
        assert_eq!(seconds(&load, rates(None, None), Some(10)), Some(100.0));
        assert_eq!(seconds(&load, rates(Some(5), None), Some(10)), Some(200.0));
        assert_eq!(seconds(&load, rates(Some(50), Some(1)), None), Some(100.0));
    }

    #[test]
    fn changes_are_told_by_their_keys() {
        let change = |path: &str, id: &str| Change {
            path: path.to_owned(),
            mapping_id: id.to_owned(),
            ..Change::default()
        };
        let changes = [
            change("containers[0].copy_after", "m"),
            change("containers[1].copy_after", "n"),
            change("zone", ""),
        ];
        assert_eq!(changed_keys(&changes, "m"), ["copy_after"]);
    }
}
