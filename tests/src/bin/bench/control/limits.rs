//! What this machine gives a program that does nothing else.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, params};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::sample::Sample;

/// Rows in one transaction.
const ROWS: usize = 1_000;
/// How long each limit is measured.
const DURATION: Duration = Duration::from_secs(5);

/// Times from the start of a round until the bytes were read, and until the answer to them was.
pub struct FanOut {
    pub received: Sample,
    pub answered: Sample,
}

/// Sends the same bytes to as many loopback connections at a time, and reads one byte from each.
pub async fn fan_out(bytes: usize, connections: usize, rounds: usize) -> Result<FanOut> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let payload: Arc<[u8]> = vec![b'x'; bytes].into();
    let (start, started) = watch::channel(0_usize);
    let (received, mut receptions) = mpsc::channel(connections);
    let (answered, mut answers) = mpsc::channel(connections);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let reader = TcpStream::connect(address).await?;
        let (writer, _) = listener.accept().await?;
        tasks.spawn(read(reader, bytes, received.clone()));
        tasks.spawn(write(writer, Arc::clone(&payload), started.clone(), answered.clone()));
    }
    let (mut until_received, mut until_answered) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let began = Instant::now();
        start.send_replace(round);
        for _ in 0..connections {
            until_received.push(receptions.recv().await.context("a reader failed")? - began);
            until_answered.push(answers.recv().await.context("a writer failed")? - began);
        }
    }
    tasks.shutdown().await;
    Ok(FanOut { received: Sample::new(until_received), answered: Sample::new(until_answered) })
}

async fn read(mut stream: TcpStream, bytes: usize, done: mpsc::Sender<Instant>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; bytes];
    loop {
        stream.read_exact(&mut buffer).await?;
        done.send(Instant::now()).await?;
        stream.write_all(&[1]).await?;
    }
}

async fn write(
    mut stream: TcpStream,
    payload: Arc<[u8]>,
    mut start: watch::Receiver<usize>,
    done: mpsc::Sender<Instant>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    loop {
        start.changed().await?;
        stream.write_all(&payload).await?;
        stream.read_u8().await?;
        done.send(Instant::now()).await?;
    }
}

/// Rows a second that one connection writes over and over, in transactions of [`ROWS`], each synced to the disk.
pub fn rows_per_second(folder: &Path, rows: usize) -> Result<f64> {
    let connection = Connection::open(folder.join("limit.db"))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(
        "CREATE TABLE progress (feed INTEGER PRIMARY KEY, mapping_identity TEXT NOT NULL, database_id TEXT NOT NULL,
             mapping_id TEXT NOT NULL, account TEXT NOT NULL, container TEXT NOT NULL, node_id TEXT NOT NULL,
             cursors TEXT NOT NULL, replicas TEXT NOT NULL, nodes INTEGER NOT NULL, delete_valve TEXT NOT NULL,
             failures INTEGER NOT NULL DEFAULT 0, updated_at INTEGER NOT NULL,
             UNIQUE (mapping_identity, database_id)) STRICT;
         CREATE INDEX progress_node ON progress (node_id);",
    )?;
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < DURATION {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut statement = connection.prepare_cached(
            "INSERT INTO progress (mapping_identity, database_id, mapping_id, account, container, node_id,
                 cursors, replicas, nodes, delete_valve, updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, 3, '', ?)
             ON CONFLICT (mapping_identity, database_id) DO UPDATE SET
                 cursors = excluded.cursors, updated_at = excluded.updated_at",
        )?;
        for _ in 0..ROWS {
            let row = written % rows;
            statement.execute(params![
                super::node::mapping_identity(row),
                super::node::database_id(row),
                format!("{:012x}", row % 500),
                super::ACCOUNT,
                super::container(row % 500),
                super::node::node_id(row / 100),
                format!("{{\"others\":{written},\"own\":{written}}}"),
                "[0]",
                written as i64
            ])?;
            written += 1;
        }
        connection.execute_batch("COMMIT")?;
    }
    Ok(written as f64 / began.elapsed().as_secs_f64())
}

/// Times a second that one page can be appended to a file and synced.
pub fn syncs_per_second(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("limit.sync"))?;
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < DURATION {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
