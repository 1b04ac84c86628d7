//! The commands.

mod activity;
mod audit;
mod changes;
mod config;
mod cursors;
mod document;
mod explain;
mod failures;
mod lists;
mod mapping;
mod plan;
mod state;
mod status;
mod switches;
mod takeovers;
mod verify;
mod watch;
mod wide;

use std::time::Duration;

use swift_s3_proto::v1::{ListMappingsRequest, MappingStatus};

use super::arguments::{Command, FailuresCommand, NodesCommand};
use super::connect::Connection;
use super::failure::{Exit, Failure};
use super::output::{Output, tell};
use super::settings::Settings;

/// The largest page that the contract knows.
const PAGE: u32 = 1000;
/// Control asks nodes about an object, and gives them this long.
const TIME_FOR_NODES: Duration = Duration::from_secs(10);

/// Runs one command.
///
/// # Errors
/// What went wrong; nothing of it was printed.
pub async fn run(command: &Command, settings: &Settings, output: &mut Output) -> Result<Exit, Failure> {
    for warning in settings.warnings() {
        tell(&format!("swift-s3ctl: warning: {warning}"));
    }
    match command {
        Command::Config { command } => config::run(command, settings, output).await,
        Command::Audit(arguments) => audit::run(arguments, settings, output).await,
        Command::Plan(arguments) => plan::run(arguments, settings, output).await,
        Command::Watch { interval } => watch::run(*interval, settings, output).await,
        Command::Explain { object } => {
            let object = explain::parse(object)?;
            explain::run(&Connection::open(settings).await?.patient(TIME_FOR_NODES), object, output).await
        }
        Command::Failures(failures) => {
            let retry = failures.command.as_ref().map(|FailuresCommand::Retry { filter, object, all }| {
                failures::Retry { filter, object: object.as_deref(), all: *all }
            });
            match retry {
                Some(retry) => failures::retry(&retry, settings, output).await,
                None => {
                    let server = Connection::open(settings).await?;
                    if failures.summary {
                        return failures::summary(&server, &failures.filter, output).await;
                    }
                    failures::list(&server, &failures.filter, failures.limit.limit, output).await
                }
            }
        }
        Command::Verify(arguments) => verify::run(arguments, output).await,
        Command::State { command } => state::run(command, output).await,
        Command::Completion { shell } => super::arguments::write_completion(*shell, &mut std::io::stdout()),
        _ => run_simple(command, &Connection::open(settings).await?, output).await,
    }
}

async fn run_simple(command: &Command, server: &Connection, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Status { check } => status::run(server, *check, output).await,
        Command::Nodes(nodes) => match &nodes.command {
            Some(NodesCommand::Forget { id }) => switches::forget(server, id, output).await,
            None => lists::nodes(server, nodes, output).await,
        },
        Command::Activity(arguments) => activity::run(server, arguments, output).await,
        Command::Cursors(arguments) => cursors::run(server, arguments, output).await,
        Command::Takeovers => takeovers::run(server, output).await,
        Command::Mappings(arguments) => lists::mappings(server, arguments, output).await,
        Command::Mapping(which) => mapping::run(server, &which.mapping, output).await,
        Command::Containers(containers) => lists::containers(server, containers, output).await,
        Command::Pause(which) => switches::pause(server, &which.mapping, output).await,
        Command::Resume(which) => switches::resume(server, &which.mapping, output).await,
        Command::ReleaseDeletes(which) => switches::release(server, &which.mapping, output).await,
        _ => Ok(Exit::Done),
    }
}

/// What pages brought.
struct Listed<T> {
    items: Vec<T>,
    is_cut: bool,
}

/// All pages, or as many as `limit` asks for. `fetch` takes a page size and a token.
async fn all_pages<T>(
    limit: Option<u32>,
    mut fetch: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Listed<T>, Failure> {
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let left = u32::try_from(limit.saturating_sub(items.len())).unwrap_or(PAGE).min(PAGE);
        let (page, next) = fetch(left, token.clone()).await?;
        items.extend(page);
        let is_last = next.is_empty();
        if is_last || items.len() >= limit {
            let is_cut = !is_last || items.len() > limit;
            items.truncate(limit);
            return Ok(Listed { items, is_cut });
        }
        if next == token {
            return Err(
                Failure::failed("the server gave the same page twice").hint("upgrade swift-s3-control")
            );
        }
        token = next;
    }
}

fn tell_if_cut<T>(listed: &Listed<T>, of: Option<u64>) {
    if listed.is_cut {
        let of = of.map_or_else(String::new, |total| format!(" of {total}"));
        tell(&format!("the first {}{of}; without --limit all are listed", listed.items.len()));
    }
}

/// `AUTH_test/photos`, or `AUTH_test/*`.
fn label(account: &str, container: &str) -> String {
    format!("{account}/{}", container.trim_start_matches('/'))
}

async fn fetch_mappings(
    server: &Connection,
    account: &str,
    limit: Option<u32>,
) -> Result<Listed<MappingStatus>, Failure> {
    all_pages(limit, async |page_size, page_token| {
        let request = ListMappingsRequest { page_size, page_token, account: account.to_owned() };
        let answer = server.call("list mappings", server.status().list_mappings(request)).await?;
        Ok((answer.mappings, answer.next_page_token))
    })
    .await
}

/// The id of the mapping that `word` means: an id, or ACCOUNT/CONTAINER of only one mapping.
async fn mapping_id(server: &Connection, word: Option<&str>) -> Result<String, Failure> {
    let Some(word) = word else { return Ok(String::new()) };
    let Some((account, _)) = word.split_once('/') else { return Ok(word.to_owned()) };
    let mappings = fetch_mappings(server, account, None).await?.items;
    let mut ids = mappings
        .iter()
        .filter(|mapping| label(&mapping.account, &mapping.container) == word)
        .map(|mapping| mapping.mapping_id.clone());
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(Failure::failed(format!("no mapping has {word}"))
            .hint("see `swift-s3ctl mappings`, and name one by its id")),
        (Some(first), Some(second)) => {
            let all: Vec<_> = [first, second].into_iter().chain(ids).collect();
            Err(Failure::failed(format!("several mappings have {word}: {}", all.join(", ")))
                .hint("name one by its id"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn listed(limit: Option<u32>, sizes: &[u32]) -> (Vec<u32>, bool, Vec<u32>) {
        let mut asked = Vec::new();
        let listed = all_pages(limit, async |size, token: String| {
            asked.push(size);
            let page: usize = token.parse().unwrap_or(0);
            let next = if page + 1 < sizes.len() { (page + 1).to_string() } else { String::new() };
            let length = sizes.get(page).copied().unwrap_or(0).min(size);
            Ok((vec![u32::try_from(page).unwrap(); usize::try_from(length).unwrap()], next))
        })
        .await
        .unwrap();
        (listed.items, listed.is_cut, asked)
    }

    #[tokio::test]
    async fn pages_are_fetched_to_the_end_or_the_limit() {
        assert_eq!(listed(None, &[2, 0, 1]).await, (vec![0, 0, 2], false, vec![1000, 1000, 1000]));
        assert_eq!(listed(Some(3), &[2, 2]).await, (vec![0, 0, 1], false, vec![3, 1]));
        assert_eq!(listed(Some(2), &[2, 2]).await, (vec![0, 0], true, vec![2]));
        assert_eq!(listed(None, &[0]).await, (vec![], false, vec![1000]));
    }

    #[tokio::test]
    async fn a_server_that_repeats_a_page_is_left() {
        let result = all_pages::<u32>(None, async |_, _| Ok((vec![1], "same".to_owned()))).await;
        assert!(result.is_err());
    }

    #[test]
    fn mappings_are_named_by_account_and_container() {
        assert_eq!(label("AUTH_a", "photos"), "AUTH_a/photos");
        assert_eq!(label("AUTH_a", "/*"), "AUTH_a/*");
    }
}
