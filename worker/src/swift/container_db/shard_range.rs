//! Shard ranges: how a large container is split over others, and how far that has got.

use rusqlite::Connection;
use swift_s3_policy::Timestamp;

use super::ContainerDb;
use super::error::{DbError, is_missing_table, message};
use super::files::DbFiles;
use super::row::{self, MAX_NAME_BYTES, MAX_TIMESTAMP_BYTES, RowProblem, column};

/// The most ranges that are read; Swift's own tools stop making sense far below.
const MAX_RANGES: usize = 100_000;

/// One shard of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRange {
    /// The account that holds the shard, normally `.shards_<account>`.
    pub account: String,
    /// The shard's container.
    pub container: String,
    /// Names above this one belong to it; empty for no bound.
    pub lower: String,
    /// Names up to and including this one belong to it; empty for no bound.
    pub upper: String,
    /// How far it has come.
    pub state: ShardState,
    /// It is no longer in use.
    pub deleted: bool,
    /// When its bounds or `deleted` were last changed.
    pub timestamp: Timestamp,
    /// When sharding was enabled, in the range that a container keeps for itself.
    pub epoch: Option<Timestamp>,
    /// It is the range that the container keeps for itself.
    pub is_own: bool,
}

/// All ranges of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardRanges {
    /// Those that can be used.
    pub ranges: Vec<ShardRange>,
    /// Those that cannot be understood.
    pub problems: Vec<RowProblem>,
}

/// Whether the range that a container keeps for itself is wanted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnRange {
    /// Only the ranges of others.
    Exclude,
    /// All of them.
    Include,
}

/// The life of a shard. The numbers are Swift's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Swift's own and say no more than themselves")]
pub enum ShardState {
    Found,
    Created,
    Cleaved,
    Active,
    Shrinking,
    Sharding,
    Sharded,
    Shrunk,
}

impl ShardState {
    /// The state that Swift writes as `number`.
    pub const fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            10 => Self::Found,
            20 => Self::Created,
            30 => Self::Cleaved,
            40 => Self::Active,
            50 => Self::Shrinking,
            60 => Self::Sharding,
            70 => Self::Sharded,
            80 => Self::Shrunk,
            _ => return None,
        })
    }
}

/// How far a container has been split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShardingState {
    /// All objects are in its own database.
    Unsharded,
    /// Objects are being moved: there is a retiring database and a fresh one.
    Sharding,
    /// Objects are in the shards.
    Sharded,
    /// It was split once, and its shards have been taken back.
    Collapsed,
}

impl ShardingState {
    /// The state as `X-Backend-Sharding-State` names it.
    pub fn from_header(value: &str) -> Option<Self> {
        Some(match value {
            "unsharded" => Self::Unsharded,
            "sharding" => Self::Sharding,
            "sharded" => Self::Sharded,
            "collapsed" => Self::Collapsed,
            _ => return None,
        })
    }
}

/// How far a container has been split, judged as Swift does from its files and its own shard range.
///
/// `newest` is the open database of the last of `files`.
///
/// # Errors
/// As [`ContainerDb::shard_ranges`].
pub fn sharding_state(files: &DbFiles, newest: &ContainerDb) -> Result<ShardingState, DbError> {
    let [.., last] = files.files.as_slice() else { return Ok(ShardingState::Unsharded) };
    if files.files.len() > 1 {
        return Ok(ShardingState::Sharding);
    }
    let Some(epoch) = last.epoch else { return Ok(ShardingState::Unsharded) };
    let ShardRanges { ranges, .. } = newest.shard_ranges(OwnRange::Include)?;
    let own_epoch = ranges.iter().find(|range| range.is_own).and_then(|range| range.epoch);
    if own_epoch != Some(epoch) {
        return Ok(ShardingState::Unsharded);
    }
    if ranges.iter().any(|range| !range.is_own && !range.deleted) {
        return Ok(ShardingState::Sharded);
    }
    Ok(ShardingState::Collapsed)
}

pub(super) fn read(
    connection: &Connection,
    account: &str,
    container: &str,
    own: OwnRange,
) -> rusqlite::Result<ShardRanges> {
    let query =
        "SELECT ROWID, name, timestamp, lower, upper, deleted, state, epoch FROM shard_range ORDER BY ROWID";
    let mut statement = match connection.prepare_cached(query) {
        Err(error) if is_missing_table(&error) => return Ok(ShardRanges::default()),
        other => other?,
    };
    let mut found = ShardRanges::default();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if found.ranges.len() + found.problems.len() >= MAX_RANGES {
            let reason = format!("expected at most {MAX_RANGES} shard ranges, got more");
            found.problems.push(RowProblem { rowid: row.get(0)?, name: None, reason });
            break;
        }
        let name = column(row, 1).and_then(|value| row::text(value, "name", 2 * MAX_NAME_BYTES));
        let known_name = name.as_ref().ok().cloned();
        match name.and_then(|name| parse(row, &name)) {
            Ok(mut range) => {
                range.is_own = range.account == account && range.container == container;
                if !range.is_own || own == OwnRange::Include {
                    found.ranges.push(range);
                }
            }
            Err(reason) => found.problems.push(RowProblem { rowid: row.get(0)?, name: known_name, reason }),
        }
    }
    Ok(found)
}

fn parse(row: &rusqlite::Row<'_>, name: &str) -> Result<ShardRange, String> {
    ShardRange::checked(RawShardRange {
        name,
        timestamp: &row::text(column(row, 2)?, "timestamp", MAX_TIMESTAMP_BYTES)?,
        lower: row::optional_text(column(row, 3)?, "lower", MAX_NAME_BYTES)?,
        upper: row::optional_text(column(row, 4)?, "upper", MAX_NAME_BYTES)?,
        deleted: row::flag(column(row, 5)?, "deleted")?,
        state: row::whole_number(column(row, 6)?, "state")?,
        epoch: &row::optional_text(column(row, 7)?, "epoch", MAX_TIMESTAMP_BYTES)?,
    })
}

/// A shard range as a database or a container server gives it.
pub(crate) struct RawShardRange<'r> {
    pub(crate) name: &'r str,
    pub(crate) timestamp: &'r str,
    pub(crate) lower: String,
    pub(crate) upper: String,
    pub(crate) deleted: bool,
    pub(crate) state: i64,
    pub(crate) epoch: &'r str,
}

impl ShardRange {
    /// Checks every field; the message of a failure names the field.
    pub(crate) fn checked(raw: RawShardRange<'_>) -> Result<Self, String> {
        let (account, container) = raw
            .name
            .split_once('/')
            .filter(|(account, container)| {
                !account.is_empty() && !container.is_empty() && !container.contains('/')
            })
            .ok_or_else(|| format!("name: expected account/container, got {:?}", raw.name))?;
        let timestamp = raw.timestamp.parse().map_err(|error| format!("timestamp: {error}"))?;
        let epoch = if raw.epoch.is_empty() {
            None
        } else {
            Some(raw.epoch.parse().map_err(|error| format!("epoch: {error}"))?)
        };
        if !raw.upper.is_empty() && raw.lower > raw.upper {
            return Err(format!("lower: expected no more than upper {:?}, got {:?}", raw.upper, raw.lower));
        }
        let state = ShardState::from_number(raw.state)
            .ok_or_else(|| format!("state: expected one of Swift's (10 to 80), got {}", raw.state))?;
        Ok(Self {
            account: account.to_owned(),
            container: container.to_owned(),
            lower: raw.lower,
            upper: raw.upper,
            state,
            deleted: raw.deleted,
            timestamp,
            epoch,
            is_own: false,
        })
    }
}

/// Objects in the shards that count for a root: active, sharding or shrinking ones.
pub(super) fn live_objects(connection: &Connection, account: &str, container: &str) -> rusqlite::Result<i64> {
    let counted = connection
        .prepare_cached(
            "SELECT SUM(MAX(0, MIN(CAST(object_count AS INTEGER), 1099511627776))) FROM shard_range \
             WHERE deleted = 0 AND state IN (40, 50, 60) AND name != ?1",
        )
        .and_then(|mut statement| {
            statement.query_row([format!("{account}/{container}")], |row| row.get::<_, Option<i64>>(0))
        });
    match counted {
        Ok(count) => Ok(count.unwrap_or(0)),
        Err(error) if message(&error).is_some_and(|text| text.contains("no such")) => Ok(0),
        Err(error) => Err(error),
    }
}
