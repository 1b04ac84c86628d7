//! The durable memory of a node: one file per container with its cursors and parked rows.
//!
//! The path is `<status_dir>/<account>/<container>`, as the Python daemon has it, and the entries which that daemon left
//! there are taken over on the first start. What this program adds lives under one key of its own, by mapping identity
//! and database id, so that two mappings of one container never disturb each other:
//!
//! ```json
//! {"swift_s3_sync": {"version": 1, "mappings": {"<mapping identity>": {"<database id>": {
//!     "cursors": {"own": 42, "others": 40}, "replicas": [0], "nodes": 3, "parked": {}}}}}}
//! ```
//!
//! A save writes a new file, syncs it and renames it over the old one: after a crash there is either the old or the new
//! state, never half of one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use swift_s3_policy::Mapping;

use crate::lane::{Lane, Rows, Share};
use crate::memory::{FeedName, Origin};
use crate::parked::Parked;
use crate::valve::Valve;

/// A status file larger than this was not written by us.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Our key beside the original's database ids.
const SECTION: &str = "swift_s3_sync";
/// Unfinished saves of a killed process have this ending; [`StatusDir::prune`] removes them.
const TEMPORARY_SUFFIX: &str = ".swift-s3-sync-tmp";
/// No save takes this long: its temporary file was left by a process that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);
/// The longest file name that every file system takes.
const MAX_FILE_NAME: usize = 255;

/// What is remembered of one container database for one mapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedFeed {
    /// Cursor by lane name: every row of the lane at or below it is done or parked.
    pub cursors: BTreeMap<String, i64>,
    /// The replica indexes that this node held when it saved.
    pub replicas: Vec<u32>,
    /// How many replicas the container had then.
    pub nodes: u32,
    /// Rows set aside.
    #[serde(default)]
    pub parked: Parked,
    /// The delete limit's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valve: Option<Valve>,
}

impl SavedFeed {
    /// The cursors to start from, for `lanes` and the replicas held now.
    ///
    /// When the shares have moved (a ring change), a row may have changed hands without having been handled, so every lane goes
    /// back to the lowest cursor: below it all shares are done.
    #[must_use]
    pub fn start(&self, lanes: &[Lane], replicas: &[u32], nodes: u32) -> Vec<i64> {
        let saved = |lane: &Lane| self.cursor(*lane);
        if self.replicas == replicas && self.nodes == nodes {
            return lanes.iter().map(saved).collect();
        }
        vec![self.lowest(); lanes.len()]
    }

    /// The cursor of a lane. A lane that was split into deletes and live rows, or joined again, goes on where both parts were done.
    #[must_use]
    pub fn cursor(&self, lane: Lane) -> i64 {
        let of = |rows| self.cursors.get(Lane { rows, ..lane }.name()).copied();
        let other_form = || match lane.rows {
            Rows::All => of(Rows::Deletes).zip(of(Rows::Live)).map(|(deletes, live)| deletes.min(live)),
            Rows::Deletes | Rows::Live => of(Rows::All),
        };
        of(lane.rows).or_else(other_form).unwrap_or(0)
    }

    /// True when deletes and live rows of a share stand at different places.
    #[must_use]
    pub fn is_split(&self) -> bool {
        let at = |name: &str| self.cursors.get(name);
        at("own_deletes") != at("own_live") || at("others_deletes") != at("others_live")
    }

    fn lowest(&self) -> i64 {
        self.cursors.values().copied().min().unwrap_or(0)
    }

    /// Joins two true accounts of one feed: every row up to the further cursor is done, or set aside in the account that has come that
    /// far. A row set aside in both is taken from the one with the newer write.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let same_place = self.replicas == other.replicas && self.nodes == other.nodes;
        let same_lanes = self.cursors.keys().eq(other.cursors.keys());
        let (mut merged, rest) = if same_place && same_lanes {
            let mut merged = self;
            for (lane, cursor) in &other.cursors {
                let known = merged.cursors.entry(lane.clone()).or_insert(*cursor);
                *known = (*known).max(*cursor);
            }
            (merged, other)
        } else if self.lowest() >= other.lowest() {
            // Shares have moved between the two: only what all shares are done with can be compared.
            (self, other)
        } else {
            (other, self)
        };
        merged.parked.absorb(rest.parked);
        if merged.valve.as_ref().is_none_or(|valve| valve.held().is_none()) {
            merged.valve = rest.valve.or(merged.valve);
        }
        merged
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Section {
    version: u32,
    #[serde(default)]
    mappings: BTreeMap<String, BTreeMap<String, SavedFeed>>,
}

/// The original's entry of one database.
#[derive(Clone, Debug, Deserialize)]
struct OriginalEntry {
    aws_bucket: String,
    policy: Option<OriginalPolicy>,
    last_row: i64,
    last_verified_row: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
struct OriginalPolicy {
    copy_after: f64,
    retain_local: bool,
    propagate_delete: bool,
}

/// The content of one status file.
#[derive(Clone, Debug, Default)]
struct Document {
    /// Entries of the original, kept as they are.
    original: Map<String, Value>,
    /// Ours; `None` until the first save.
    section: Option<Section>,
    /// True when the file came without our section: only then are the original's cursors to be trusted.
    first_start: bool,
}

impl Document {
    /// Reads a file's bytes. Anything that cannot be understood is no state at all, and the reason is told.
    fn parse(bytes: &[u8]) -> (Self, Option<String>) {
        let mut original = match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Object(map)) => map,
            Ok(_) => return (Self::default(), Some("expected a JSON object".to_owned())),
            Err(error) => return (Self::default(), Some(error.to_string())),
        };
        let Some(section) = original.remove(SECTION) else {
            return (Self { original, section: None, first_start: true }, None);
        };
        match serde_json::from_value::<Section>(section) {
            Ok(section) if section.version == 1 => {
                (Self { original, section: Some(section), first_start: false }, None)
            }
            Ok(section) => (
                Self { original, section: None, first_start: false },
                Some(format!("expected version 1 of the status file, found {}", section.version)),
            ),
            Err(error) => (Self { original, section: None, first_start: false }, Some(error.to_string())),
        }
    }

    fn saved(&self, identity: &str, database: &str) -> Option<SavedFeed> {
        self.section.as_ref()?.mappings.get(identity)?.get(database).cloned()
    }

    /// The cursors of the original for this database, when they speak of the same bucket and policy.
    fn original(&self, database: &str, mapping: &Mapping, lanes: &[Lane], nodes: u32) -> Option<SavedFeed> {
        if !self.first_start {
            return None;
        }
        let entry: OriginalEntry = serde_json::from_value(self.original.get(database)?.clone()).ok()?;
        let same_policy = entry.policy.as_ref().is_none_or(|policy| {
            (policy.copy_after - mapping.copy_after.as_secs_f64()).abs() < 0.5
                && policy.retain_local == mapping.retain_local
                && policy.propagate_delete == mapping.propagate_delete
        });
        if entry.aws_bucket != mapping.remote.bucket() || !same_policy || entry.last_row < 0 {
            return None;
        }
        let verified = entry.last_verified_row.unwrap_or(entry.last_row).max(0);
        let cursors = lanes
            .iter()
            .map(|lane| {
                let cursor = match lane.share {
                    Share::Own => entry.last_row,
                    Share::Others => verified,
                };
                (lane.name().to_owned(), cursor)
            })
            .collect();
        Some(SavedFeed { cursors, nodes, ..SavedFeed::default() })
    }

    fn put(&mut self, identity: &str, database: &str, feed: SavedFeed) {
        let section = self.section.get_or_insert_with(|| Section { version: 1, mappings: BTreeMap::new() });
        section.mappings.entry(identity.to_owned()).or_default().insert(database.to_owned(), feed);
    }

    fn remove(&mut self, identity: &str, database: &str) -> bool {
        let Some(section) = &mut self.section else { return false };
        let Some(databases) = section.mappings.get_mut(identity) else { return false };
        let removed = databases.remove(database).is_some();
        if databases.is_empty() {
            section.mappings.remove(identity);
        }
        removed
    }

    fn retain_mappings(&mut self, identities: &[String]) -> bool {
        let Some(section) = &mut self.section else { return false };
        let before = section.mappings.len();
        section.mappings.retain(|identity, _| identities.contains(identity));
        section.mappings.len() != before
    }

    fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut whole = self.original.clone();
        if let Some(section) = &self.section {
            whole.insert(SECTION.to_owned(), serde_json::to_value(section)?);
        }
        serde_json::to_vec(&whole)
    }
}

/// One container's file, shared by every mapping and database (shard) of that container.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    document: Mutex<Document>,
    turn: tokio::sync::Mutex<()>,
}

impl StatusFile {
    /// Loads the file; a missing one is no state. Blocking.
    ///
    /// # Errors
    /// When the file exists and cannot be read: starting from nothing would hide a sick disk.
    fn load(path: PathBuf) -> io::Result<Self> {
        let document = match File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
                let (document, problem) = if bytes.len() as u64 > MAX_FILE_BYTES {
                    (Document::default(), Some("the file is too large".to_owned()))
                } else {
                    Document::parse(&bytes)
                };
                if let Some(problem) = problem {
                    tracing::warn!(path = %path.display(), %problem,
                        "status file is damaged; the container is checked from its first row");
                }
                document
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Document::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, document: Mutex::new(document), turn: tokio::sync::Mutex::default() })
    }

    /// What was saved for this mapping and database, or what the Python daemon left. The original could not tell apart mappings of one container
    /// to buckets of one name, so its cursor is taken for a sole one only.
    #[must_use]
    pub fn saved(&self, name: &FeedName, origin: Origin<'_>) -> Option<SavedFeed> {
        let document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(saved) = document.saved(&name.identity, &name.database) {
            return Some(saved);
        }
        if !origin.sole {
            return None;
        }
        let mut taken_over = document.original(&name.database, origin.mapping, origin.lanes, origin.nodes)?;
        taken_over.replicas = origin.own.to_vec();
        tracing::info!(path = %self.path.display(), database = name.database, "continuing from the cursor of the Python daemon");
        Some(taken_over)
    }

    /// Held while a feed of the container speaks with the control plane: the one that takes another's place waits for its last word.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Makes the next start of the process ignore what the Python daemon left: progress is kept elsewhere by now. Blocking.
    ///
    /// # Errors
    /// See [`StatusFile::save`].
    pub fn settle(&self) -> io::Result<()> {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        if document.original.is_empty() || document.section.is_some() {
            return Ok(());
        }
        document.section = Some(Section { version: 1, mappings: BTreeMap::new() });
        write_durably(&self.path, &document.to_bytes().map_err(io::Error::other)?)
    }

    /// What this program has saved here for a mapping and database.
    #[must_use]
    pub fn kept(&self, identity: &str, database: &str) -> Option<SavedFeed> {
        self.document.lock().unwrap_or_else(PoisonError::into_inner).saved(identity, database)
    }

    /// Drops what was saved for a mapping and database. Blocking.
    ///
    /// # Errors
    /// See [`StatusFile::save`].
    pub fn forget(&self, identity: &str, database: &str) -> io::Result<()> {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        if document.remove(identity, database) {
            write_durably(&self.path, &document.to_bytes().map_err(io::Error::other)?)?;
        }
        Ok(())
    }

    /// Remembers `feed` durably. Blocking: call it from a blocking thread.
    ///
    /// # Errors
    /// When the file cannot be written, synced or renamed; the old file is then still whole.
    pub fn save(&self, identity: &str, database: &str, feed: SavedFeed) -> io::Result<()> {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        document.put(identity, database, feed);
        write_durably(&self.path, &document.to_bytes().map_err(io::Error::other)?)
    }

    fn retain_mappings(&self, identities: &[String]) -> io::Result<()> {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        if document.retain_mappings(identities) {
            write_durably(&self.path, &document.to_bytes().map_err(io::Error::other)?)?;
        }
        Ok(())
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a status file needs a folder"))?;
    if let Err(error) = fs::create_dir(folder) {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
    } else if let Some(parent) = folder.parent() {
        File::open(parent)?.sync_all()?;
    }
    let mut temporary = tempfile::Builder::new().prefix(".").suffix(TEMPORARY_SUFFIX).tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    // Without this the rename itself may be lost with the power.
    File::open(folder)?.sync_all()
}

/// What is to stay of a container's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    Everything,
    /// What belongs to mappings with these identities.
    Mappings(Vec<String>),
    /// Nothing: no mapping names the container.
    Nothing,
}

/// The files of `status_dir`.
#[derive(Debug)]
pub struct StatusDir {
    root: PathBuf,
    open: Mutex<BTreeMap<PathBuf, Weak<StatusFile>>>,
}

impl StatusDir {
    /// A folder that must exist already.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: Mutex::default() }
    }

    /// The file of a container. Everybody who asks for the same container shares one, so that saves do not overwrite
    /// each other. Blocking on first use.
    ///
    /// # Errors
    /// See [`StatusFile::load`].
    pub fn file(&self, account: &str, container: &str) -> io::Result<Arc<StatusFile>> {
        let path = self.path(account, container);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = Arc::new(StatusFile::load(path.clone())?);
        open.insert(path, Arc::downgrade(&file));
        Ok(file)
    }

    fn path(&self, account: &str, container: &str) -> PathBuf {
        self.root.join(file_name(account)).join(file_name(container))
    }

    /// Removes what no mapping needs any more, as `keeps` says of each account and container (by their file names). Plain files in the folder itself and folders of
    /// shard accounts are left alone; what cannot be removed is only warned about. Blocking.
    pub fn prune(&self, keeps: impl Fn(&str, &str) -> Keep) {
        let accounts = match fs::read_dir(&self.root) {
            Ok(accounts) => accounts,
            Err(error) => {
                tracing::warn!(path = %self.root.display(), %error, "could not list the status folder");
                return;
            }
        };
        for account in accounts.flatten() {
            let Some(account_name) = account.file_name().to_str().map(str::to_owned) else { continue };
            if account_name.starts_with('.') || !account.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let Ok(containers) = fs::read_dir(account.path()) else { continue };
            for container in containers.flatten() {
                let Some(name) = container.file_name().to_str().map(str::to_owned) else { continue };
                if !container.file_type().is_ok_and(|kind| kind.is_file()) {
                    continue;
                }
                self.prune_one(&account_name, &name, &container.path(), &keeps);
            }
            // Fails on a folder that is still in use, which is what we want.
            drop(fs::remove_dir(account.path()));
        }
    }

    fn prune_one(&self, account: &str, name: &str, path: &Path, keeps: &impl Fn(&str, &str) -> Keep) {
        let in_use = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .is_some_and(|file| file.strong_count() > 0);
        let kept = if name.ends_with(TEMPORARY_SUFFIX) {
            // A save that is under way has such a file too, but not for long.
            let age =
                fs::metadata(path).and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > ABANDONED) { Keep::Nothing } else { Keep::Everything }
        } else {
            keeps(account, name)
        };
        match kept {
            Keep::Everything => {}
            Keep::Mappings(identities) => {
                let pruned = self.file(account, name).and_then(|file| file.retain_mappings(&identities));
                if let Err(error) = pruned {
                    tracing::warn!(path = %path.display(), %error, "could not tidy a status file");
                }
            }
            Keep::Nothing if in_use => {}
            Keep::Nothing => match fs::remove_file(path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "removed the status of a container without mapping")
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "could not remove an unused status file");
                }
            },
        }
    }
}

/// The file name of an account or container: the name itself, as in the original, or a digest where a name cannot be a file name.
#[must_use]
pub fn file_name(name: &str) -> String {
    let unusable = name.is_empty()
        || name == "."
        || name == ".."
        || name.len() > MAX_FILE_NAME
        || name.contains(['/', '\0'])
        || name.ends_with(TEMPORARY_SUFFIX);
    if unusable {
        format!("name-digest-{}", hex::encode(Md5::digest(name.as_bytes())))
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::lane::{Waits, lanes};
    use std::time::Duration;
    use swift_s3_policy::parse_sync_config;

    fn mapping(extra: &str) -> Arc<Mapping> {
        let text = format!(
            r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[
              {{"account":"AUTH_a","container":"c","aws_bucket":"bucket","aws_identity":"i","aws_secret":"s"{extra}}}]}}"#
        );
        Arc::clone(&parse_sync_config(&text).unwrap().config.mappings[0])
    }

    fn name(identity: &str) -> FeedName {
        FeedName { identity: identity.to_owned(), database: "id".to_owned(), ..FeedName::default() }
    }

    fn origin<'a>(mapping: &'a Mapping, lanes: &'a [Lane]) -> Origin<'a> {
        Origin { mapping, lanes, own: &[0], nodes: 3, sole: true }
    }

    fn start(bytes: &str, mapping: &Mapping) -> Option<Vec<i64>> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("AUTH_a")).unwrap();
        fs::write(folder.path().join("AUTH_a/c"), bytes).unwrap();
        let lanes = lanes(mapping, Waits::for_others(Duration::from_secs(60)), 3, false);
        let file = StatusDir::new(folder.path()).file("AUTH_a", "c").unwrap();
        let saved = file.saved(&name("identity"), origin(mapping, &lanes))?;
        Some(saved.start(&lanes, &[0], 3))
    }

    const ORIGINAL: &str = r#"{"id": {"aws_bucket": "bucket", "last_row": 42, "last_verified_row": 40,
        "policy": {"copy_after": 0, "retain_local": true, "propagate_delete": true}, "metadata_hash": "x"}}"#;

    #[test]
    fn continues_where_the_python_daemon_stopped() {
        assert_eq!(start(ORIGINAL, &mapping("")), Some(vec![42, 40]));
    }

    #[test]
    fn a_cursor_without_verified_row_counts_as_verified() {
        let text = r#"{"id": {"aws_bucket": "bucket", "last_row": 42}}"#;
        assert_eq!(start(text, &mapping("")), Some(vec![42, 42]));
    }

    #[test]
    fn another_bucket_policy_or_database_starts_anew() {
        assert_eq!(start(&ORIGINAL.replace("\"bucket\"", "\"other\""), &mapping("")), None);
        assert_eq!(start(&ORIGINAL.replace("\"copy_after\": 0", "\"copy_after\": 5"), &mapping("")), None);
        assert_eq!(
            start(&ORIGINAL.replace("\"retain_local\": true", "\"retain_local\": false"), &mapping("")),
            None
        );
        assert_eq!(start(&ORIGINAL.replace("\"id\"", "\"rebuilt\""), &mapping("")), None);
    }

    #[test]
    fn a_damaged_file_is_no_state_and_is_rewritten() {
        for bytes in ["", "{", "[]", "null", "{\"swift_s3_sync\": 7}", "{\"id\": {\"last_row\": \"x\"}}"] {
            assert_eq!(start(bytes, &mapping("")), None, "{bytes}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("AUTH_a")).unwrap();
        fs::write(folder.path().join("AUTH_a/c"), "{\"half").unwrap();
        let dir = StatusDir::new(folder.path());
        let feed = SavedFeed { cursors: BTreeMap::from([("own".into(), 7)]), ..SavedFeed::default() };
        dir.file("AUTH_a", "c").unwrap().save("identity", "id", feed.clone()).unwrap();
        let again = StatusDir::new(folder.path()).file("AUTH_a", "c").unwrap();
        assert_eq!(again.saved(&name("identity"), origin(&mapping(""), &[])), Some(feed));
    }

    #[test]
    fn two_mappings_of_one_container_keep_their_own_cursors() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StatusDir::new(folder.path());
        let feed = |row| SavedFeed { cursors: BTreeMap::from([("own".into(), row)]), ..SavedFeed::default() };
        dir.file("AUTH_a", "c").unwrap().save("first", "id", feed(1)).unwrap();
        dir.file("AUTH_a", "c").unwrap().save("second", "id", feed(2)).unwrap();
        let file = StatusDir::new(folder.path()).file("AUTH_a", "c").unwrap();
        for (identity, row) in [("first", 1), ("second", 2)] {
            assert_eq!(file.saved(&name(identity), origin(&mapping(""), &[])), Some(feed(row)));
        }
    }

    #[test]
    fn after_our_first_save_the_original_cursor_is_not_used_for_changed_mappings() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("AUTH_a")).unwrap();
        fs::write(folder.path().join("AUTH_a/c"), ORIGINAL).unwrap();
        StatusDir::new(folder.path())
            .file("AUTH_a", "c")
            .unwrap()
            .save("old", "id", SavedFeed::default())
            .unwrap();
        let lanes = lanes(&mapping(""), Waits::for_others(Duration::ZERO), 3, false);
        let file = StatusDir::new(folder.path()).file("AUTH_a", "c").unwrap();
        assert_eq!(file.saved(&name("new endpoint"), origin(&mapping(""), &lanes)), None);
        let text = fs::read_to_string(folder.path().join("AUTH_a/c")).unwrap();
        assert!(text.contains("metadata_hash"), "the original's entries are kept");
    }

    #[test]
    fn moved_shares_go_back_to_where_all_shares_are_done() {
        let lanes = lanes(&mapping(""), Waits::for_others(Duration::ZERO), 3, false);
        let saved = SavedFeed {
            cursors: BTreeMap::from([("own".into(), 42), ("others".into(), 17)]),
            replicas: vec![0],
            nodes: 3,
            parked: Parked::default(),
            ..SavedFeed::default()
        };
        assert_eq!(saved.start(&lanes, &[0], 3), [42, 17]);
        assert_eq!(saved.start(&lanes, &[1], 3), [17, 17]);
        assert_eq!(saved.start(&lanes, &[0], 4), [17, 17]);
    }

    #[test]
    fn pruning_removes_only_what_no_mapping_needs() {
        let folder = tempfile::tempdir().unwrap();
        for account in ["AUTH_a", "AUTH_gone", ".shards_AUTH_a"] {
            fs::create_dir(folder.path().join(account)).unwrap();
            fs::write(folder.path().join(account).join("c"), "{}").unwrap();
        }
        fs::write(folder.path().join("AUTH_a/unmapped"), "{}").unwrap();
        fs::write(folder.path().join("migrator.status"), "{}").unwrap();
        for (name, age) in [("old", ABANDONED * 2), ("young", Duration::ZERO)] {
            let path = folder.path().join(format!("AUTH_a/.{name}.swift-s3-sync-tmp"));
            let file = File::create(path).unwrap();
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
        }
        StatusDir::new(folder.path()).prune(|account, container| {
            if account == "AUTH_a" && container == "c" { Keep::Mappings(Vec::new()) } else { Keep::Nothing }
        });
        let exists = |path: &str| folder.path().join(path).exists();
        assert!(exists("AUTH_a/c") && exists(".shards_AUTH_a/c") && exists("migrator.status"));
        assert!(
            !exists("AUTH_a/unmapped") && !exists("AUTH_gone") && !exists("AUTH_a/.old.swift-s3-sync-tmp")
        );
        assert!(exists("AUTH_a/.young.swift-s3-sync-tmp"), "a save may be under way");
    }

    #[test]
    fn hostile_names_stay_inside_the_folder() {
        let long = "é".repeat(128);
        for name in ["..", ".", "", "a/b", long.as_str()] {
            let file = file_name(name);
            assert!(!file.contains('/') && file != ".." && file != "." && file.len() <= 255, "{name}");
        }
        assert_eq!(file_name("تcl-conn-sync"), "تcl-conn-sync");
    }

    fn progress(cursors: &[(&str, i64)], parked: &[(&str, i64)]) -> SavedFeed {
        let mut saved = SavedFeed { nodes: 3, ..SavedFeed::default() };
        saved.cursors = cursors.iter().map(|(lane, cursor)| ((*lane).to_owned(), *cursor)).collect();
        for (name, rowid) in parked {
            let row = crate::parked::FailedRow {
                rowid: *rowid,
                share: Share::Own,
                deleted: false,
                timestamp: swift_s3_policy::Timestamp::default(),
                policy_index: None,
            };
            let failure = crate::reason::Failure::new(crate::reason::Reason::Other, "m");
            saved.parked.fail(name, row, &failure, swift_s3_policy::Timestamp::default(), 0.0);
        }
        saved
    }

    #[test]
    fn two_accounts_of_one_feed_join_to_the_further_cursor_with_all_that_is_set_aside() {
        let here = progress(&[("own", 10), ("others", 4)], &[("a", 3), ("b", 9)]);
        let there = progress(&[("own", 7), ("others", 6)], &[("a", 5), ("c", 2)]);
        for merged in [here.clone().merge(there.clone()), there.merge(here)] {
            assert_eq!(merged.cursors, progress(&[("own", 10), ("others", 6)], &[]).cursors);
            let rows: Vec<_> = merged.parked.iter().map(|(name, row)| (name, row.rowid)).collect();
            assert_eq!(rows, [("a", 5), ("b", 9), ("c", 2)]);
        }
    }

    #[test]
    fn accounts_of_different_shares_are_compared_by_what_all_shares_have_done() {
        let mut here = progress(&[("own", 100), ("others", 4)], &[]);
        here.replicas = vec![0];
        let mut there = progress(&[("own", 9), ("others", 8)], &[]);
        there.replicas = vec![1];
        assert_eq!(here.clone().merge(there.clone()).cursors, there.cursors);
        assert_eq!(there.clone().merge(here).cursors, there.cursors);
    }

    #[test]
    fn lanes_split_and_join_where_both_parts_were_done() {
        let lanes = |split| lanes(&mapping(""), Waits::for_others(Duration::ZERO), 3, split);
        let joined = progress(&[("own", 10), ("others", 4)], &[]);
        assert_eq!(joined.start(&lanes(true), &[], 3), [10, 10, 4, 4]);
        let split = progress(
            &[("own_deletes", 10), ("own_live", 20), ("others_deletes", 4), ("others_live", 3)],
            &[],
        );
        assert_eq!(split.start(&lanes(false), &[], 3), [10, 3]);
        assert!(split.is_split() && !joined.is_split());
    }
}
