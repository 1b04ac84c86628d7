//! `audit`: whole containers against their remotes, page by page; what differs, and its repair.
//!
//! Nothing is kept in memory but the page at hand: differences are printed as they come, and names to repair wait in a file.

mod progress;
mod repair;
mod show;
mod state;

use std::time::Duration;

use swift_s3_proto::v1::{
    CompareContainerRequest, CompareContainerResponse, DifferenceKind, ListAccountRequest, MappingStatus,
};
use tonic::Code;

use super::{fetch_mappings, label, mapping_id};
use crate::ctl::arguments::AuditArguments;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::output::{Output, tell};
use crate::ctl::settings::Settings;
use progress::Progress;
use state::{Names, Place, State};

/// What a mapping of all containers has in place of one.
const ALL_CONTAINERS: &str = "/*";
/// Control asks up to three workers for a page, and gives each of them a minute.
const TIME_FOR_WORKERS: Duration = Duration::from_secs(185);
/// Between two tries of a page that no worker answered: workers restart, and remotes rest.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
];

/// Compares, and repairs if that is asked for.
pub(super) async fn run(
    arguments: &AuditArguments,
    settings: &Settings,
    output: &mut Output,
) -> Result<Exit, Failure> {
    tokio::select! {
        ended = audit(arguments, settings, output) => ended.map_err(|failure| match &arguments.state {
            Some(path) if failure.exit() == Exit::Failed && !failure.is_closed_pipe() => {
                failure.hint(format!("run it again with --state {} to go on from there", path.display()))
            }
            _ => failure,
        }),
        _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted").hint(match &arguments.state {
            Some(path) => format!("run it again with --state {} to go on from there", path.display()),
            None => "with --state PATH it could have gone on from there".to_owned(),
        })),
    }
}

async fn audit(
    arguments: &AuditArguments,
    settings: &Settings,
    output: &mut Output,
) -> Result<Exit, Failure> {
    if arguments.delete_extra && !arguments.never_archived {
        return Err(Failure::usage("--delete-extra needs --never-archived").hint(
            "give both only if no mapping with retain_local: false ever had the container: Swift forgets that objects were \
             archived, and what looks extra then is their only copy",
        ));
    }
    let server = Connection::open(settings).await?.patient(TIME_FOR_WORKERS);
    let mapping = find(&server, &arguments.mapping).await?;
    let place = Place {
        mapping_id: mapping.mapping_id.clone(),
        account: mapping.account.clone(),
        only: only(&mapping, arguments.container.as_deref())?,
    };
    let (mut state, mut names) = State::open(arguments.state.as_deref(), place)?;
    if state.is_done() {
        tell("this state is of a comparison that was finished; its result again:");
    } else {
        walk(&server, arguments.page, &mut state, &mut names, output).await?;
    }
    show::summary(&state, output)?;
    if !arguments.repair {
        return Ok(state.counts().exit(state.counts().errors()));
    }
    repair::run(&server, arguments, &state, &mut names, output).await
}

async fn find(server: &Connection, word: &str) -> Result<MappingStatus, Failure> {
    let id = mapping_id(server, Some(word)).await?;
    let mappings = fetch_mappings(server, "", None).await?.items;
    let mut found = mappings.into_iter().filter(|mapping| mapping.mapping_id.starts_with(&id));
    match (found.next(), found.next()) {
        (Some(mapping), None) => Ok(mapping),
        (Some(first), Some(_)) if first.mapping_id == id => Ok(first),
        (None, _) => Err(Failure::failed(format!("no mapping is {word}"))
            .hint("see `swift-s3ctl mappings`, and name one by its id")),
        (Some(_), Some(_)) => {
            Err(Failure::failed(format!("several mappings begin with {word}")).hint("give the whole id"))
        }
    }
}

/// The one container to compare; none for all of the account.
fn only(mapping: &MappingStatus, asked: Option<&str>) -> Result<Option<String>, Failure> {
    match asked {
        Some(asked) if mapping.container != ALL_CONTAINERS && mapping.container != asked => {
            Err(Failure::usage(format!(
                "the mapping is about {}, not about container {asked}",
                label(&mapping.account, &mapping.container)
            )))
        }
        Some(asked) => Ok(Some(asked.to_owned())),
        None if mapping.container == ALL_CONTAINERS => Ok(None),
        None => Ok(Some(mapping.container.clone())),
    }
}

/// Walks from where the state is to the end.
async fn walk(
    server: &Connection,
    max_names: u32,
    state: &mut State,
    names: &mut Names,
    output: &mut Output,
) -> Result<(), Failure> {
    show::header(output)?;
    let mut progress = Progress::begin();
    if let Some(container) = state.place().only.clone() {
        state.enter(&container);
        walk_container(server, max_names, state, names, &mut progress, output).await?;
    } else {
        if state.is_inside() {
            walk_container(server, max_names, state, names, &mut progress, output).await?;
        }
        loop {
            let request = ListAccountRequest {
                account: state.place().account.clone(),
                start_after: state.last_container(),
            };
            let page = retrying(async || {
                server.call("list the account", server.audit().list_account(request.clone())).await
            })
            .await?;
            for container in &page.containers {
                state.enter(container);
                walk_container(server, max_names, state, names, &mut progress, output).await?;
            }
            if page.is_done || page.containers.is_empty() {
                break;
            }
        }
    }
    progress.end();
    state.finish()
}

async fn walk_container(
    server: &Connection,
    max_names: u32,
    state: &mut State,
    names: &mut Names,
    progress: &mut Progress,
    output: &mut Output,
) -> Result<(), Failure> {
    loop {
        let request = CompareContainerRequest {
            mapping_id: state.place().mapping_id.clone(),
            account: state.place().account.clone(),
            container: state.container().to_owned(),
            start_after: state.start_after().to_owned(),
            max_names,
            ..CompareContainerRequest::default()
        };
        let asked = retrying(async || {
            server.call("compare the container", server.audit().compare_container(request.clone())).await
        })
        .await;
        let page = match asked {
            // Of all containers of an account, one may be deleted before its turn, or while it is compared.
            Err(failure) if failure.code() == Some(Code::NotFound) && state.place().only.is_none() => {
                progress.clear();
                tell(&format!("{} is gone: {}", state.label(), failure.what()));
                state.skip();
                return state.save(names.sync()?);
            }
            page => page?,
        };
        if !page.is_done && page.next_start_after <= request.start_after {
            return Err(
                Failure::failed("the server gave the same page twice").hint("upgrade swift-s3-control")
            );
        }
        progress.clear();
        show::page(state.container(), &page, output)?;
        let container = state.container().to_owned();
        for difference in page.differences.iter().filter(|difference| is_repairable(difference.kind())) {
            names.push(&container, difference)?;
        }
        let is_done = page.is_done;
        take(state, names, progress, &page)?;
        if is_done {
            return Ok(());
        }
    }
}

fn take(
    state: &mut State,
    names: &mut Names,
    progress: &mut Progress,
    page: &CompareContainerResponse,
) -> Result<(), Failure> {
    let counts = page.counts.unwrap_or_default();
    state.add(&counts, page.list_requests);
    if page.is_done {
        state.leave()
    } else {
        state.go_on(&page.next_start_after)
    }
    // Names before the state that counts them: what is written twice is cut off when the state is read again.
    state.save(names.sync()?)?;
    progress.tell(state.label(), counts.compared, state.in_container(), page.object_count, page.is_done);
    Ok(())
}

fn is_repairable(kind: DifferenceKind) -> bool {
    matches!(kind, DifferenceKind::Missing | DifferenceKind::Different | DifferenceKind::Extra)
}

/// Asks again while no worker answers: one that restarts is back soon.
pub(super) async fn retrying<T>(mut ask: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut pauses = PAUSES.iter();
    loop {
        match ask().await {
            Err(failure) if failure.code() == Some(Code::Unavailable) => {
                let Some(pause) = pauses.next() else { return Err(failure) };
                tell(&format!("{}; trying again in {} s", failure.what(), pause.as_secs()));
                tokio::time::sleep(*pause).await;
            }
            answered => return answered,
        }
    }
}
