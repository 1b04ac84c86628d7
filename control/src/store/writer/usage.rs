//! Adds up what workers asked of remotes. A report that is sent again counts once.

use rusqlite::{Connection, OptionalExtension, params};
use swift_s3_proto::v1::RemoteUsage;

use super::super::usage::UsageNews;
use super::StoreError;
use super::progress::MAX_WORD_BYTES;

/// Mappings in one report; configurations have fewer.
const MAX_MAPPINGS: usize = 100_000;
/// Mappings of one month. What a faulty node tells of more must not fill the disk.
const MAX_ROWS: i64 = 200_000;
/// Months that are kept, this one included.
const MONTHS: i64 = 12;
/// No count is larger: sums of it fit into what SQLite adds up.
const MOST: u64 = 1 << 60;

/// Adds a report to its month.
pub(super) fn add(
    connection: &Connection,
    node_id: &str,
    month: &str,
    news: &UsageNews,
    now_ms: i64,
) -> Result<(), StoreError> {
    if news.reports.is_empty() || news.number == 0 {
        return Ok(());
    }
    if news.reports.len() > MAX_MAPPINGS {
        return Err(StoreError::Refused(format!(
            "usage of {} mappings; at most {MAX_MAPPINGS} are taken",
            news.reports.len()
        )));
    }
    if !is_new(connection, node_id, news, now_ms)? {
        return Ok(());
    }
    for report in &news.reports {
        if report.mapping_id.is_empty() || report.mapping_id.len() > MAX_WORD_BYTES {
            return Err(StoreError::Refused(
                "usage of a mapping whose id is empty or longer than ids are".to_owned(),
            ));
        }
        if let Some(usage) = &report.usage {
            add_one(connection, month, &report.mapping_id, usage)?;
        }
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

fn add_one(
    connection: &Connection,
    month: &str,
    mapping_id: &str,
    usage: &RemoteUsage,
) -> Result<(), StoreError> {
    let capped = |count: u64| i64::try_from(count.min(MOST)).unwrap_or(i64::MAX);
    let counts =
        [usage.writes, usage.lists, usage.reads, usage.deletes, usage.bytes_sent, usage.bytes_received]
            .map(capped);
    let [writes, lists, reads, deletes, sent, received] = counts;
    let most = capped(MOST);
    let added = connection
        .prepare_cached(
            "UPDATE usage SET writes = min(writes + ?3, ?9), lists = min(lists + ?4, ?9), reads = min(reads + ?5, ?9),
                 deletes = min(deletes + ?6, ?9), bytes_sent = min(bytes_sent + ?7, ?9),
                 bytes_received = min(bytes_received + ?8, ?9)
             WHERE month = ?1 AND mapping_id = ?2",
        )?
        .execute(params![month, mapping_id, writes, lists, reads, deletes, sent, received, most])?;
    if added > 0 {
        return Ok(());
    }
    let rows: i64 = connection
        .prepare_cached("SELECT count(*) FROM usage WHERE month = ?")?
        .query_row([month], |row| row.get(0))?;
    if rows >= MAX_ROWS {
        return Ok(());
    }
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
