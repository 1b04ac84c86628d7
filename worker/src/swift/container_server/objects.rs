//! Lists the live objects of a container, also of one that is split: walks its shard ranges in order.
//!
//! Source: `GET` of `swift/container/server.py` and `_get_from_shards` of `swift/proxy/controllers/container.py`, Swift 2.30.1.

use std::collections::VecDeque;

use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use swift_s3_policy::Timestamp;

use super::{
    ContainerServerError, ContainerServers, ListAnswer, POLICY_INDEX, RECORD_TYPE, SHARDING_STATE,
    ShardEntry, ShardRange, ShardingState, failed, push_query_value, target,
};
use crate::swift::topology::{ContainerPlace, Replica};

/// The most that a page of objects may hold: 10,000 of them with names of 1,024 bytes, all escaped, and long content types.
const MAX_OBJECT_LISTING_BYTES: usize = 128 << 20;
/// The most that a list of shard ranges may hold.
const MAX_RANGES_BYTES: usize = 64 << 20;
/// Shards of shards of shards: Swift splits a shard again before its root knows. More is a loop.
const DEEPEST: u32 = 4;

/// A live object as its container lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its name.
    pub name: String,
    /// Bytes, of a large object its whole content.
    pub bytes: u64,
    /// ETag with whatever parameters Swift keeps behind it (`; slo_etag=…`).
    pub etag: String,
    /// When it was last changed, its metadata included.
    pub modified: Timestamp,
}

/// What a container's servers say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Objects, as counted last.
    pub objects: u64,
    /// Its storage policy.
    pub policy_index: u32,
}

/// A part of the container's names and who has them: names above `lower` up to and including `upper`; empty is no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    account: String,
    container: String,
    lower: String,
    upper: String,
    depth: u32,
}

/// The live objects of one container in the order of their names, page by page.
#[derive(Debug)]
pub struct ObjectRows {
    servers: ContainerServers,
    segments: VecDeque<Segment>,
    after: String,
}

/// A container that lists a part of the names of a split one: those above `lower`, up to and including `upper`; empty is no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardPart {
    /// The account of the shard.
    pub(crate) account: String,
    /// The shard.
    pub(crate) container: String,
    lower: String,
    upper: String,
}

impl ShardPart {
    /// Whether names that start with `prefix` may lie here.
    pub(crate) fn may_hold(&self, prefix: &str) -> bool {
        (self.upper.is_empty() || self.upper.as_str() >= prefix)
            && (self.lower.as_str() < prefix || self.lower.starts_with(prefix))
    }

    /// Whether this name is listed here, and not by another shard.
    pub(crate) fn covers(&self, name: &str) -> bool {
        name > self.lower.as_str() && (self.upper.is_empty() || name <= self.upper.as_str())
    }
}

struct Ranges {
    outline: Outline,
    state: ShardingState,
    ranges: Vec<ShardRange>,
}

#[derive(Deserialize)]
struct ObjectEntry {
    name: String,
    hash: String,
    bytes: i64,
    last_modified: String,
}

impl ObjectRows {
    /// Begins behind `after`; `None` when there is no such container.
    ///
    /// # Errors
    /// When too few replicas answer.
    pub async fn open(
        servers: &ContainerServers,
        account: &str,
        container: &str,
        after: &str,
    ) -> Result<Option<(Self, Outline)>, ContainerServerError> {
        let Some(found) = servers.listing_ranges(account, container).await? else { return Ok(None) };
        let outline = found.outline;
        let whole = Segment {
            account: account.to_owned(),
            container: container.to_owned(),
            lower: String::new(),
            upper: String::new(),
            depth: 0,
        };
        let segments = if is_split(found.state) {
            segments(&whole, found.ranges).into()
        } else {
            VecDeque::from([whole])
        };
        Ok(Some((Self { servers: servers.clone(), segments, after: after.to_owned() }, outline)))
    }

    /// The next objects; empty at the end.
    ///
    /// # Errors
    /// When too few replicas answer, or a shard is gone. The same page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Vec<ListedObject>, ContainerServerError> {
        while let Some(segment) = self.segments.front().cloned() {
            if !segment.upper.is_empty() && self.after >= segment.upper {
                self.segments.pop_front();
                continue;
            }
            let marker = segment.lower.as_str().max(self.after.as_str());
            let (state, page) =
                self.servers.object_page(&segment.account, &segment.container, marker).await?;
            if segment.depth > 0 && segment.depth < DEEPEST && is_split(state) {
                let found = self.servers.listing_ranges(&segment.account, &segment.container).await?;
                let ranges = found.map(|found| found.ranges).unwrap_or_default();
                if !ranges.is_empty() {
                    self.segments.pop_front();
                    for part in segments(&segment, ranges).into_iter().rev() {
                        self.segments.push_front(part);
                    }
                    continue;
                }
            }
            let listed = page.len();
            let is_within = |object: &ListedObject| {
                object.name.as_str() > marker && (segment.upper.is_empty() || object.name <= segment.upper)
            };
            let within: Vec<ListedObject> = page.into_iter().filter(is_within).collect();
            // Nothing, or names beyond the bound: this part is done.
            if within.len() < listed || listed == 0 {
                self.segments.pop_front();
            }
            if let Some(last) = within.last() {
                self.after.clone_from(&last.name);
                return Ok(within);
            }
        }
        Ok(Vec::new())
    }
}

impl ContainerServers {
    /// The shards of a container in the order of their names, by the replica that has come furthest; `None` when it is not split.
    ///
    /// # Errors
    /// When too few replicas answer, while the container is being split, and when its shards leave names out.
    pub(crate) async fn shard_parts(
        &self,
        account: &str,
        container: &str,
    ) -> Result<Option<Vec<ShardPart>>, ContainerServerError> {
        let Some(found) = self.listing_ranges(account, container).await? else { return Ok(None) };
        let unfit = |got: &str| ContainerServerError::Content {
            server: format!("{account}/{container}"),
            expected: "a container that is split in whole".to_owned(),
            got: got.to_owned(),
        };
        match found.state {
            ShardingState::Unsharded | ShardingState::Collapsed => return Ok(None),
            ShardingState::Sharding => return Err(unfit("one that is being split")),
            ShardingState::Sharded => {}
        }
        let whole = Segment {
            account: account.to_owned(),
            container: container.to_owned(),
            lower: String::new(),
            upper: String::new(),
            depth: 0,
        };
        let parts = segments(&whole, found.ranges);
        if parts.iter().any(|part| part.depth == DEEPEST) {
            return Err(unfit("shards with gaps between them"));
        }
        let part =
            |Segment { account, container, lower, upper, .. }| ShardPart { account, container, lower, upper };
        Ok(Some(parts.into_iter().map(part).collect()))
    }

    /// The ranges that contribute to a listing, by the replica that has come furthest; `None` when the container is not there.
    async fn listing_ranges(
        &self,
        account: &str,
        container: &str,
    ) -> Result<Option<Ranges>, ContainerServerError> {
        let place = self.topology.container(account, container)?;
        let answers = join_all(
            place.replicas.iter().map(|replica| self.ask_ranges(&place, replica, account, container)),
        )
        .await;
        let (mut missing, mut last, mut best) = (0usize, None, None::<Ranges>);
        for answer in answers {
            match answer {
                Ok(None) => missing += 1,
                Ok(Some(found)) => {
                    if best.as_ref().is_none_or(|best| newness(&found) > newness(best)) {
                        best = Some(found);
                    }
                }
                Err(error) => last = Some(error),
            }
        }
        match (best, last) {
            (Some(best), _) => Ok(Some(best)),
            (None, Some(error)) if missing * 2 < place.replicas.len() => Err(error),
            (None, _) => Ok(None),
        }
    }

    async fn ask_ranges(
        &self,
        place: &ContainerPlace,
        replica: &Replica,
        account: &str,
        container: &str,
    ) -> Result<Option<Ranges>, ContainerServerError> {
        let server = &replica.device.authority;
        let mut target = target(place, replica, account, Some(container));
        target.push_str("?format=json&states=listing");
        let shard = |headers: &mut HeaderMap| {
            headers.insert(RECORD_TYPE, HeaderValue::from_static("shard"));
        };
        let response = self.backend.send(Method::GET, server, &target, shard).await?;
        let status = response.status();
        if !status.is_success() {
            self.backend.finish(response, server).await;
            if status == http::StatusCode::NOT_FOUND {
                return Ok(None);
            }
            return Err(failed(server, status, account, Some(container)));
        }
        let headers = response.headers().clone();
        let content = self.backend.read(response, server, MAX_RANGES_BYTES).await?;
        let is_ranges = headers.get(RECORD_TYPE).is_some_and(|kind| kind == "shard");
        let entries: Vec<ShardEntry> = if is_ranges && !content.is_empty() {
            serde_json::from_slice(&content).map_err(|error| ContainerServerError::Content {
                server: server.to_string(),
                expected: "a JSON list of shard ranges".to_owned(),
                got: error.to_string(),
            })?
        } else {
            Vec::new()
        };
        let ranges = entries.iter().map(ShardEntry::checked).collect::<Result<Vec<_>, _>>();
        let ranges = ranges.map_err(|problem| ContainerServerError::Content {
            server: server.to_string(),
            expected: "shard ranges".to_owned(),
            got: problem,
        })?;
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let outline = Outline {
            objects: number("x-container-object-count").unwrap_or_default(),
            policy_index: number(POLICY_INDEX.as_str())
                .and_then(|index| u32::try_from(index).ok())
                .unwrap_or_default(),
        };
        Ok(Some(Ranges { outline, state: state(&headers), ranges }))
    }

    /// One page of objects behind `marker`, as many as the cluster gives at once; from a replica on this machine if there is one.
    async fn object_page(
        &self,
        account: &str,
        container: &str,
        marker: &str,
    ) -> Result<(ShardingState, Vec<ListedObject>), ContainerServerError> {
        let place = self.topology.container(account, container)?;
        let mut query = "?format=json".to_owned();
        if !marker.is_empty() {
            query.push_str("&marker=");
            push_query_value(&mut query, marker);
        }
        let objects = |headers: &mut HeaderMap| {
            headers.insert(RECORD_TYPE, HeaderValue::from_static("object"));
        };
        let first = place.replicas.iter().position(|replica| replica.is_local).unwrap_or_default();
        let answer = self
            .ask_in_turn(&place, first, MAX_OBJECT_LISTING_BYTES, account, Some(container), &query, objects)
            .await?;
        let Some(ListAnswer { server, headers, content }) = answer else {
            return Err(ContainerServerError::Content {
                server: format!("{account}/{container}"),
                expected: "a container".to_owned(),
                got: "none: it was removed meanwhile".to_owned(),
            });
        };
        let unexpected = |got: String| ContainerServerError::Content {
            server: server.clone(),
            expected: "a JSON list of objects in order".to_owned(),
            got,
        };
        if content.is_empty() {
            return Ok((state(&headers), Vec::new()));
        }
        let entries: Vec<ObjectEntry> =
            serde_json::from_slice(&content).map_err(|error| unexpected(error.to_string()))?;
        if !entries.is_sorted_by(|one, other| one.name < other.name) {
            return Err(unexpected("names out of order".to_owned()));
        }
        let listed = entries.into_iter().map(ObjectEntry::listed).collect::<Result<Vec<_>, _>>();
        Ok((state(&headers), listed.map_err(unexpected)?))
    }
}

impl ObjectEntry {
    fn listed(self) -> Result<ListedObject, String> {
        let at = self.last_modified.parse::<DateTime>().ok();
        let at = at.and_then(|at| at.to_zoned(TimeZone::UTC).ok()).map(|at| at.timestamp().as_microsecond());
        let micros = at
            .and_then(|micros| u64::try_from(micros).ok())
            .ok_or_else(|| format!("last_modified {:?} of {:?}", self.last_modified, self.name))?;
        Ok(ListedObject {
            bytes: u64::try_from(self.bytes).unwrap_or_default(),
            etag: self.hash,
            modified: Timestamp::from_unix_micros(micros),
            name: self.name,
        })
    }
}

fn state(headers: &HeaderMap) -> ShardingState {
    let word = headers.get(SHARDING_STATE).and_then(|value| value.to_str().ok());
    word.and_then(ShardingState::from_header).unwrap_or(ShardingState::Unsharded)
}

fn is_split(state: ShardingState) -> bool {
    matches!(state, ShardingState::Sharding | ShardingState::Sharded)
}

/// Replicas learn of a split one after the other.
fn newness(found: &Ranges) -> (u8, Timestamp, u64) {
    let rank = match found.state {
        ShardingState::Unsharded => 0,
        ShardingState::Sharding => 1,
        ShardingState::Sharded => 2,
        ShardingState::Collapsed => 3,
    };
    let newest = found.ranges.iter().map(|range| range.timestamp).max().unwrap_or_default();
    (rank, newest, found.outline.objects)
}

/// Cuts what `whole` covers into parts, each name once; what no range covers is left to `whole` itself.
fn segments(whole: &Segment, mut ranges: Vec<ShardRange>) -> Vec<Segment> {
    ranges.retain(|range| !range.deleted);
    let unbounded = |upper: &str| upper.is_empty();
    ranges.sort_by(|one, other| {
        (&one.lower, unbounded(&one.upper), &one.upper).cmp(&(
            &other.lower,
            unbounded(&other.upper),
            &other.upper,
        ))
    });
    let mut parts = Vec::new();
    let mut position = whole.lower.clone();
    // `None` once everything is covered.
    let mut is_open = true;
    let own = |lower: &str, upper: &str| Segment {
        lower: lower.to_owned(),
        upper: upper.to_owned(),
        depth: DEEPEST,
        ..whole.clone()
    };
    for range in ranges {
        let is_behind = !range.upper.is_empty() && range.upper <= position;
        let is_beyond = !whole.upper.is_empty() && range.lower >= whole.upper;
        if !is_open || is_behind || is_beyond {
            continue;
        }
        if range.lower > position {
            parts.push(own(&position, &range.lower));
            position.clone_from(&range.lower);
        }
        let upper = match (range.upper.is_empty(), whole.upper.is_empty()) {
            (true, _) => whole.upper.clone(),
            (false, true) => range.upper.clone(),
            (false, false) => range.upper.clone().min(whole.upper.clone()),
        };
        let is_whole = range.account == whole.account && range.container == whole.container;
        parts.push(Segment {
            account: range.account,
            container: range.container,
            lower: position.clone(),
            upper: upper.clone(),
            depth: if is_whole { DEEPEST } else { whole.depth + 1 },
        });
        is_open = !upper.is_empty() && upper != whole.upper;
        position = upper;
    }
    if is_open {
        parts.push(own(&position, &whole.upper));
    }
    parts
}

#[cfg(test)]
mod tests;
