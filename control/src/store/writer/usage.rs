//! Adds up what workers asked of remotes. A report that is sent again counts once.

use rusqlite::{Connection, OptionalExtension, params};
use swift_s3_proto::v1::{RemoteUsage, UsageReport};

use super::super::usage::UsageNews;
use super::StoreError;
use super::progress::MAX_WORD_BYTES;

/// Mappings in one report that are added up, to bound the time that others wait; configurations have fewer.
const MAX_MAPPINGS: usize = 10_000;
/// Mappings of one month. What a faulty node tells of more must not fill the disk.
const MAX_ROWS: i64 = 200_000;
/// Months that are kept, this one included.
const MONTHS: i64 = 12;
/// No count is larger: sums of it fit into what SQLite adds up.
const MOST: u64 = 1 << 60;

/// Adds a report to its month. What is not acceptable of it is left out: it must not cost the progress that it came with.
pub(super) fn add(
    connection: &Connection,
    node_id: &str,
    month: &str,
    news: &UsageNews,
    now_ms: i64,
) -> Result<(), StoreError> {
    if news.reports.is_empty() || news.number == 0 || !is_new(connection, node_id, news, now_ms)? {
        return Ok(());
    }
    let is_acceptable = |report: &&UsageReport| (1..=MAX_WORD_BYTES).contains(&report.mapping_id.len());
    let mut rows: Option<i64> = None;
    let mut added = 0;
    for report in news.reports.iter().filter(is_acceptable).take(MAX_MAPPINGS) {
        added += 1;
        let Some(usage) = &report.usage else { continue };
        let counts = counts(usage);
        if update(connection, month, &report.mapping_id, counts)? {
            continue;
        }
        // Counted once for all: it takes as long as there are rows.
        let known = match rows {
            Some(rows) => rows,
            None => rows_of(connection, month)?,
        };
        if known < MAX_ROWS {
            insert(connection, month, &report.mapping_id, counts)?;
        }
        rows = Some(known.saturating_add(1));
    }
    let left_out = news.reports.len().saturating_sub(added);
    if left_out > 0 {
        tracing::debug!(%node_id, left_out, "usage of mappings without a proper id, or of too many, is not added up");
    }
    Ok(())
}

/// Notes the report's number. False: it was added up before.
fn is_new(connection: &Connection, node_id: &str, news: &UsageNews, now_ms: i64) -> Result<bool, StoreError> {
    let number = i64::try_from(news.number).unwrap_or(i64::MAX);
    let noted = connection
        .prepare_cached(
            "INSERT INTO usage_reports (node_id, instance_id, number, updated_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET instance_id = ?2, number = ?3, updated_at = ?4
                 WHERE instance_id <> ?2 OR number < ?3",
        )?
        .execute(params![node_id, news.instance_id, number, now_ms])?;
    Ok(noted > 0)
}

/// In the order of the columns.
type Counts = [i64; 6];

fn capped(count: u64) -> i64 {
    i64::try_from(count.min(MOST)).unwrap_or(i64::MAX)
}

fn counts(usage: &RemoteUsage) -> Counts {
    [usage.writes, usage.lists, usage.reads, usage.deletes, usage.bytes_sent, usage.bytes_received]
        .map(capped)
}

/// False: nothing is known of this mapping in this month.
fn update(
    connection: &Connection,
    month: &str,
    mapping_id: &str,
    counts: Counts,
) -> Result<bool, StoreError> {
    let [writes, lists, reads, deletes, sent, received] = counts;
    let most = capped(MOST);
    let updated = connection
        .prepare_cached(
            "UPDATE usage SET writes = min(writes + ?3, ?9), lists = min(lists + ?4, ?9), reads = min(reads + ?5, ?9),
                 deletes = min(deletes + ?6, ?9), bytes_sent = min(bytes_sent + ?7, ?9),
                 bytes_received = min(bytes_received + ?8, ?9)
             WHERE month = ?1 AND mapping_id = ?2",
        )?
        .execute(params![month, mapping_id, writes, lists, reads, deletes, sent, received, most])?;
    Ok(updated > 0)
}

fn rows_of(connection: &Connection, month: &str) -> Result<i64, StoreError> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM usage WHERE month = ?")?;
    Ok(count.query_row([month], |row| row.get(0))?)
}

fn insert(connection: &Connection, month: &str, mapping_id: &str, counts: Counts) -> Result<(), StoreError> {
    let [writes, lists, reads, deletes, sent, received] = counts;
    connection
        .prepare_cached(
            "INSERT INTO usage (month, mapping_id, writes, lists, reads, deletes, bytes_sent, bytes_received)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![month, mapping_id, writes, lists, reads, deletes, sent, received])?;
    Ok(())
}

/// Removes months beyond the newest twelve that are there, whatever the clock says, and numbers of nodes that are forgotten.
pub(super) fn prune(connection: &Connection, before_ms: i64) -> Result<(), StoreError> {
    let oldest: Option<String> = connection
        .prepare_cached("SELECT DISTINCT month FROM usage ORDER BY month DESC LIMIT 1 OFFSET ?")?
        .query_row([MONTHS - 1], |row| row.get(0))
        .optional()?;
    if let Some(oldest) = oldest {
        connection.execute("DELETE FROM usage WHERE month < ?", [oldest])?;
    }
    connection.execute(
        "DELETE FROM usage_reports WHERE updated_at < ? AND node_id NOT IN (SELECT node_id FROM nodes)",
        [before_ms],
    )?;
    Ok(())
}
