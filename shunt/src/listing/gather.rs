//! Fetches the two halves of a listing at the same time, and no more of the remote's than the page needs.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use swift_s3_policy::ContainerSelector;
use swift_s3_store::{ErrorKind, StoreError};
use tokio::time::{Instant, timeout_at};

use super::params::Params;
use super::remote::{Pages, WalkError, walk};
use super::rows::{LocalRow, RemoteRow};
use super::{LocalPage, merge};
use crate::Response;
use crate::policy::Route;

/// Why the remote could not be listed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It failed a moment ago, and is left alone.
    Resting(Duration),
    /// It took too long.
    TimedOut,
    /// It can only be asked in a way that takes too many requests.
    Costly,
    /// It refused, or broke off.
    Store(StoreError),
}

impl Failure {
    /// A fixed word for metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Resting(_) => "resting",
            Self::TimedOut => "unavailable",
            Self::Costly => "costly",
            Self::Store(error) => error.kind().as_str(),
        }
    }

    /// When it may be worth asking again, if that is known.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Resting(pause) => Some(*pause),
            Self::TimedOut | Self::Costly => None,
            Self::Store(error) => error.retry_after(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resting(_) => formatter.write_str("it failed a moment ago and is left alone"),
            Self::TimedOut => formatter.write_str("it did not list the page in time"),
            Self::Costly => formatter.write_str("the page takes too many requests"),
            Self::Store(error) => error.fmt(formatter),
        }
    }
}

/// Waits for Swift's page, and reads the remote's names meanwhile, as many as the page may need: no more than [`Params::limit`] lines and
/// one page of the remote's own are held. A remote that takes longer than `limit` has failed.
///
/// # Errors
/// Swift's own answer, when that stands.
pub(super) async fn gather<'a>(
    route: &'a Route,
    params: &Params,
    limit: Duration,
    local: impl Future<Output = Result<LocalPage, Response>> + Send,
) -> Result<(LocalPage, Remote<'a>), Response> {
    let mut remote = Remote::new(route, params, limit);
    let mut local = pin!(local);
    loop {
        tokio::select! {
            biased;
            page = &mut local => return page.map(|page| (page, remote)),
            // What is read of a page stays in the stream when Swift is quicker.
            () = remote.read(), if remote.reads_ahead() => {}
        }
    }
}

/// What is known of the remote's names.
pub(super) struct Remote<'a> {
    route: &'a Route,
    pages: Pages,
    rows: Vec<RemoteRow>,
    /// `Some(None)`: all has been read.
    end: Option<Option<Failure>>,
    deadline: Instant,
    limit: usize,
    waits: bool,
}

impl<'a> Remote<'a> {
    fn new(route: &'a Route, params: &Params, limit: Duration) -> Self {
        let now = Instant::now();
        let store = std::sync::Arc::clone(&route.remote.store);
        let pages = walk(store, route.keys.clone(), params.level(), params.limit);
        let pause = route.remote.health.paused_until(now).map(|until| until - now);
        Self {
            route,
            pages,
            rows: Vec::new(),
            end: pause.filter(|_| params.limit > 0).map(|pause| Some(Failure::Resting(pause))),
            deadline: now + limit,
            limit: params.limit,
            waits: params.waits_for_swift,
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_some()
    }

    fn reads_ahead(&self) -> bool {
        !self.waits && !self.is_over() && self.rows.len() < self.limit
    }

    /// Reads one more page. Dropping the future loses nothing.
    async fn read(&mut self) {
        match timeout_at(self.deadline, self.pages.next()).await {
            Ok(Some(Ok(rows))) => self.rows.extend(rows),
            Ok(Some(Err(WalkError::Store(error)))) if self.is_unborn(&error) => self.end = Some(None),
            Ok(Some(Err(WalkError::Store(error)))) => self.end = Some(Some(Failure::Store(error))),
            Ok(Some(Err(WalkError::Costly))) => self.end = Some(Some(Failure::Costly)),
            Ok(None) => self.end = Some(None),
            Err(_) => self.end = Some(Some(Failure::TimedOut)),
        }
    }

    /// Whether the error tells of a container on another Swift cluster that nothing was sent to yet: where all containers of an account are
    /// mapped, each comes into being with its first object. A container or bucket with a name of its own has to be there.
    fn is_unborn(&self, error: &StoreError) -> bool {
        let mapping = &self.route.mapping;
        error.kind() == ErrorKind::NotFound
            && mapping.container == ContainerSelector::All
            && mapping.remote.swift().is_some()
            && self.rows.is_empty()
    }

    /// Reads what the page still needs beside Swift's lines.
    ///
    /// # Errors
    /// When the remote failed before it was enough.
    pub(super) async fn complete(
        mut self,
        local: &[LocalRow<'_>],
        params: &Params,
    ) -> Result<Vec<RemoteRow>, Failure> {
        let mut is_enough = merge::is_enough(local, &self.rows, params.limit, params.reverse);
        while !is_enough && !self.is_over() {
            self.read().await;
            is_enough = merge::is_enough(local, &self.rows, params.limit, params.reverse);
        }
        self.finish(is_enough)
    }

    /// The names, if they make the page, and a note of how the remote is.
    fn finish(self, is_enough: bool) -> Result<Vec<RemoteRow>, Failure> {
        let health = &self.route.remote.health;
        let is_failure_of_all = match &self.end {
            Some(Some(Failure::Store(error))) => error.kind().is_remote_wide(),
            Some(Some(Failure::TimedOut)) => true,
            _ => false,
        };
        if is_failure_of_all && let Some(pause) = health.failed(false, Instant::now()) {
            tracing::warn!(
                remote = self.route.remote.label,
                pause_s = pause.as_secs(),
                "the remote keeps failing and is left alone for a while"
            );
        }
        match self.end {
            Some(Some(failure)) if !is_enough => Err(failure),
            Some(Some(_)) => Ok(self.rows),
            Some(None) | None => {
                if self.limit > 0 {
                    health.succeeded();
                }
                Ok(self.rows)
            }
        }
    }
}
