//! Moves the state between a data directory and etcd, either way, and proves that it came over row by row.
//!
//! The copy is written beside what is there, read again, compared, and only then put in its place by one step.

use std::path::{Path, PathBuf};

use swift_s3_etcd::{Entry, Etcd, EtcdError};
use tokio::runtime::Handle;

use crate::cluster::{LeaderRecord, new_number};
use crate::store::mirror::{
    Keys, LoadError, Loaded, Meta, MetaError, SCHEMA, Sequence, State, StateError, TABLES, TableDigest,
    WriteError, digests, load, read_meta, remove_other_states, states, switch_to, write_state,
};
use crate::store::{IdleDirectory, OpenError, StoreError, upgrade};

/// Why nothing was copied. What was there before is as it was, unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The data directory, or its database.
    #[error("{0}")]
    Directory(#[from] OpenError),
    /// Reading the database.
    #[error("{0}")]
    Database(#[from] StoreError),
    /// etcd.
    #[error("{0}")]
    Etcd(#[from] EtcdError),
    /// The state in etcd is not ours, or newer.
    #[error("{0}")]
    Meta(#[from] MetaError),
    /// A value in etcd.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// Writing to etcd.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// Writing to etcd.
    #[error("{0}")]
    State(#[from] StateError),
    /// A control process leads.
    #[error(
        "a control process leads with this state: {0}; stop every swift-s3-control with this --etcd-prefix first"
    )]
    Led(String),
    /// There is nothing to copy.
    #[error("there is no state in {0}")]
    Empty(String),
    /// The target has something already.
    #[error("{0} has a state already; with --replace it is replaced")]
    NotEmpty(String),
    /// The copy is not what it was made of.
    #[error(
        "{table}: {found} of {expected} rows came over as they were; nothing was put in place, try again"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// Rows in the copy.
        found: u64,
        /// Rows in the original.
        expected: u64,
    },
    /// It changed while it was read.
    #[error(
        "the state in etcd changed while it was copied; stop every swift-s3-control with this --etcd-prefix first"
    )]
    Changed,
    /// Something on this machine.
    #[error("{0}")]
    Failed(String),
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Each table with the digest of its rows, which is that of the original and of the copy.
    pub tables: Vec<(&'static str, TableDigest)>,
}

impl Copied {
    fn of(digests: &[TableDigest]) -> Self {
        Self { tables: TABLES.iter().map(|table| table.name).zip(digests.iter().copied()).collect() }
    }
}

/// Is told how many rows were written or read again since it was told last.
pub type Progress<'a> = &'a mut (dyn FnMut(u64) + Send);

/// Copies a data directory's state to etcd.
///
/// # Errors
/// When a process uses either, etcd has a state and `replace` is false, or something fails.
pub async fn to_etcd(
    etcd: &Etcd,
    source: &Path,
    replace: bool,
    progress: Progress<'_>,
) -> Result<Copied, CopyError> {
    let keys = Keys::new(&etcd.settings().prefix);
    let directory = IdleDirectory::lock(source)?;
    if !directory.has_state() {
        return Err(CopyError::Empty(source.display().to_string()));
    }
    let (mut connection, schema) = directory.open()?;
    let expected = digests(&connection)?;
    refuse_led(etcd, &keys).await?;
    let old = read_meta(etcd, &keys).await?;
    let is_empty = old.is_none() && states(etcd, &keys).await?.is_empty();
    if !is_empty && !replace {
        return Err(CopyError::NotEmpty(keys.root().to_owned()));
    }
    // From here on etcd refuses every write if somebody leads.
    let mut sequence = Sequence::begin(etcd, &keys, 0, "copy").await?;
    let meta = Meta { schema, ..Meta::of(new_number(old.map_or(0, |(meta, _)| meta.state))) };
    let state = keys.state(meta.state);
    write_state(&mut sequence, &state, &mut connection, progress).await?;
    let (copy, loaded) = read_again(etcd, &state, sequence.revision(), schema).await?;
    drop(copy);
    compare(&expected, &loaded.digests)?;
    switch_to(&mut sequence, &keys, &meta).await?;
    remove_other_states(etcd, &mut sequence, &keys, meta.state).await?;
    Ok(Copied::of(&loaded.digests))
}

/// Copies the state in etcd to a data directory.
///
/// # Errors
/// When a process uses either, the directory has a state and `replace` is false, or something fails.
pub async fn to_directory(
    etcd: &Etcd,
    target: &Path,
    replace: bool,
    progress: Progress<'_>,
) -> Result<Copied, CopyError> {
    let keys = Keys::new(&etcd.settings().prefix);
    refuse_led(etcd, &keys).await?;
    let (meta, _) = read_meta(etcd, &keys).await?.ok_or_else(|| CopyError::Empty(keys.root().to_owned()))?;
    let directory = IdleDirectory::lock_or_create(target)?;
    if directory.has_state() && !replace {
        return Err(CopyError::NotEmpty(target.display().to_string()));
    }
    let before = etcd.get(&keys.sequence()).await?.map_or(0, |entry| entry.modified);
    let revision = etcd.list(&keys.meta(), 1).await?.revision;
    let draft = directory.draft(meta.schema)?;
    let (mut draft, loaded) = read_into(etcd, &keys.state(meta.state), revision, draft, progress).await?;
    compare(&loaded.digests, &digests(&draft)?)?;
    upgrade(&mut draft)?;
    // Leaders write the sequence first of all.
    if etcd.get(&keys.sequence()).await?.map_or(0, |entry| entry.modified) != before {
        return Err(CopyError::Changed);
    }
    directory.put_in_place(draft)?;
    Ok(Copied::of(&loaded.digests))
}

async fn refuse_led(etcd: &Etcd, keys: &Keys) -> Result<(), CopyError> {
    let shown = |entry: Entry| match serde_json::from_slice::<LeaderRecord>(&entry.value) {
        Ok(record) => format!("{} at {}", record.id, record.address),
        Err(_) => entry.key,
    };
    match etcd.get(&keys.leader()).await? {
        Some(entry) => Err(CopyError::Led(shown(entry))),
        None => Ok(()),
    }
}

fn compare(expected: &[TableDigest], found: &[TableDigest]) -> Result<(), CopyError> {
    for ((table, expected), found) in TABLES.iter().zip(expected).zip(found) {
        if expected != found {
            return Err(CopyError::Differs { table: table.name, found: found.rows, expected: expected.rows });
        }
    }
    Ok(())
}

/// Reads a state into a database of its own, which is removed when it is dropped.
async fn read_again(
    etcd: &Etcd,
    state: &State,
    revision: i64,
    schema: usize,
) -> Result<(Temporary, Loaded), CopyError> {
    let temporary = Temporary::create()?;
    let path: PathBuf = temporary.0.path().to_owned();
    let directory = IdleDirectory::lock(&path)?;
    let connection = directory.draft(schema.min(SCHEMA))?;
    let (_, loaded) = read_into(etcd, state, revision, connection, &mut |_| {}).await?;
    Ok((temporary, loaded))
}

struct Temporary(tempfile::TempDir);

impl Temporary {
    fn create() -> Result<Self, CopyError> {
        let folder = tempfile::Builder::new().prefix("swift-s3ctl-").tempdir();
        folder.map(Self).map_err(|error| CopyError::Failed(format!("no temporary folder: {error}")))
    }
}

async fn read_into(
    etcd: &Etcd,
    state: &State,
    revision: i64,
    mut connection: rusqlite::Connection,
    progress: Progress<'_>,
) -> Result<(rusqlite::Connection, Loaded), CopyError> {
    let (runtime, etcd, state) = (Handle::current(), etcd.clone(), state.clone());
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::task::spawn_blocking(move || {
        // Nobody may listen any more.
        let mut tell = |rows| _ = told.send(rows);
        let loaded = load(&runtime, &etcd, &state, revision, &mut connection, &mut tell)?;
        Ok::<_, LoadError>((connection, loaded))
    });
    while let Some(rows) = tells.recv().await {
        progress(rows);
    }
    Ok(reading.await.map_err(|error| CopyError::Failed(error.to_string()))??)
}
