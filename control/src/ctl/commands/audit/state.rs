//! How far a comparison is, in a file that is replaced as a whole after each page; and the names to repair, in a file beside it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{CompareCounts, Difference, DifferenceKind};

use crate::ctl::failure::{Exit, Failure};

/// No state is longer; a wrong path may be.
const MAX_STATE_BYTES: u64 = 1 << 20;
/// What this program writes.
const VERSION: u32 = 1;

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) mapping_id: String,
    pub(super) account: String,
    /// One container; none for all of the account.
    pub(super) only: Option<String>,
}

/// Counts of the whole comparison so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) containers: u64,
    pub(super) compared: u64,
    pub(super) equal: u64,
    pub(super) size_only: u64,
    pub(super) excluded: u64,
    pub(super) missing: u64,
    pub(super) different: u64,
    pub(super) extra: u64,
    pub(super) archived: u64,
    pub(super) kept: u64,
    pub(super) expired: u64,
    pub(super) pending: u64,
    pub(super) bytes: u64,
    pub(super) bytes_to_repair: u64,
    pub(super) list_requests: u64,
    #[serde(default)]
    pub(super) not_compared: u64,
    /// Containers that were deleted before they were compared.
    #[serde(default)]
    pub(super) gone: u64,
}

impl Counts {
    /// What makes the two sides unequal.
    pub(super) fn errors(&self) -> u64 {
        self.missing + self.different + self.extra
    }

    /// What may be unequal, for all that was seen.
    pub(super) fn unproven(&self) -> u64 {
        self.pending + self.not_compared
    }

    /// How a command ends that leaves `left` differences.
    pub(super) fn exit(&self, left: u64) -> Exit {
        match (left, self.unproven()) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::Unproven,
            _ => Exit::Refused,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u32,
    place: Place,
    counts: Counts,
    /// The container that is being compared, or was compared last.
    container: String,
    is_inside: bool,
    start_after: String,
    in_container: u64,
    is_done: bool,
    /// Bytes of the file of names that count.
    names_length: u64,
}

/// How far a comparison is.
#[derive(Debug)]
pub(super) struct State {
    saved: Saved,
    path: Option<PathBuf>,
    label: String,
}

impl State {
    /// Goes on from `path`, or begins.
    ///
    /// # Errors
    /// Usage, if the file is of another comparison, or cannot be used.
    pub(super) fn open(path: Option<&Path>, place: Place) -> Result<(Self, Names), Failure> {
        let found = path.map(read).transpose()?.flatten();
        let saved = match found {
            Some(saved) if saved.place != place => {
                let Place { mapping_id, account, only } = &saved.place;
                let of = format!("{mapping_id} ({account}/{})", only.as_deref().unwrap_or("*"));
                return Err(Failure::usage(format!("the state is of another comparison: of mapping {of}"))
                    .hint("name another file with --state"));
            }
            Some(saved) => saved,
            None => Saved {
                version: VERSION,
                place,
                counts: Counts::default(),
                container: String::new(),
                is_inside: false,
                start_after: String::new(),
                in_container: 0,
                is_done: false,
                names_length: 0,
            },
        };
        let names = Names::open(path, saved.names_length)?;
        let mut state = Self { saved, path: path.map(Path::to_owned), label: String::new() };
        state.label = format!("{}/{}", state.saved.place.account, state.saved.container);
        Ok((state, names))
    }

    pub(super) fn place(&self) -> &Place {
        &self.saved.place
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.saved.counts
    }

    pub(super) fn is_done(&self) -> bool {
        self.saved.is_done
    }

    /// True between the first and the last page of a container.
    pub(super) fn is_inside(&self) -> bool {
        self.saved.is_inside
    }

    pub(super) fn container(&self) -> &str {
        &self.saved.container
    }

    /// Account and container.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Containers up to this one are compared.
    pub(super) fn last_container(&self) -> String {
        self.saved.container.clone()
    }

    pub(super) fn start_after(&self) -> &str {
        &self.saved.start_after
    }

    /// Names of this container so far.
    pub(super) fn in_container(&self) -> u64 {
        self.saved.in_container
    }

    /// Begins with a container, unless it was begun before.
    pub(super) fn enter(&mut self, container: &str) {
        if self.saved.is_inside && self.saved.container == container {
            return;
        }
        container.clone_into(&mut self.saved.container);
        self.label = format!("{}/{container}", self.saved.place.account);
        self.saved.start_after.clear();
        self.saved.in_container = 0;
        self.saved.is_inside = true;
    }

    pub(super) fn go_on(&mut self, start_after: &str) {
        start_after.clone_into(&mut self.saved.start_after);
    }

    pub(super) fn leave(&mut self) {
        self.saved.is_inside = false;
        self.saved.start_after.clear();
        self.saved.counts.containers += 1;
        // The one container there is to compare.
        self.saved.is_done = self.saved.place.only.is_some();
    }

    /// The container is gone; there is nothing to compare.
    pub(super) fn skip(&mut self) {
        self.saved.is_inside = false;
        self.saved.start_after.clear();
        self.saved.counts.gone += 1;
    }

    pub(super) fn add(&mut self, page: &CompareCounts, list_requests: u64) {
        let counts = &mut self.saved.counts;
        for (sum, more) in [
            (&mut counts.compared, page.compared),
            (&mut counts.equal, page.equal),
            (&mut counts.size_only, page.size_only),
            (&mut counts.excluded, page.excluded),
            (&mut counts.missing, page.missing),
            (&mut counts.different, page.different),
            (&mut counts.extra, page.extra),
            (&mut counts.archived, page.archived),
            (&mut counts.kept, page.kept),
            (&mut counts.expired, page.expired),
            (&mut counts.pending, page.pending),
            (&mut counts.not_compared, page.not_compared),
            (&mut counts.bytes, page.bytes),
            (&mut counts.bytes_to_repair, page.bytes_to_repair),
            (&mut counts.list_requests, list_requests),
            (&mut self.saved.in_container, page.compared),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    /// Notes the end of the comparison.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.saved.is_done = true;
        self.save(self.saved.names_length)
    }

    /// Writes the file anew, so that it is there as a whole whatever happens.
    pub(super) fn save(&mut self, names_length: u64) -> Result<(), Failure> {
        self.saved.names_length = names_length;
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&self.saved).map_err(|error| wrong(path, &error))?;
        let fresh = beside(path, ".new");
        let write = || -> std::io::Result<()> {
            let mut file = private().truncate(true).open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&fresh, path)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| wrong(path, &error))
    }
}

/// Names to repair, in the order in which they were found.
#[derive(Debug)]
pub(super) struct Names {
    file: File,
    length: u64,
    is_durable: bool,
}

/// A name to repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ToRepair {
    pub(super) container: String,
    pub(super) object: String,
    pub(super) is_extra: bool,
}

impl Names {
    fn open(state: Option<&Path>, length: u64) -> Result<Self, Failure> {
        let path = state.map(|path| beside(path, ".names"));
        let file = match &path {
            Some(path) => private().read(true).truncate(false).open(path),
            None => tempfile::tempfile(),
        };
        let shown = path.clone().unwrap_or_else(std::env::temp_dir);
        let prepare = |file: File| -> std::io::Result<File> {
            if file.metadata()?.len() < length {
                let found = "shorter than the state says";
                return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, found));
            }
            // What is behind was written after the state was.
            file.set_len(length)?;
            Ok(file)
        };
        let file = file.and_then(prepare).map_err(|error| wrong(&shown, &error))?;
        Ok(Self { file, length, is_durable: path.is_some() })
    }

    pub(super) fn push(&mut self, container: &str, difference: &Difference) -> Result<(), Failure> {
        let name = ToRepair {
            container: container.to_owned(),
            object: difference.object.clone(),
            is_extra: difference.kind() == DifferenceKind::Extra,
        };
        let mut line = serde_json::to_vec(&name).map_err(|error| Failure::failed(error.to_string()))?;
        line.push(b'\n');
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&line)?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Makes sure of what was written; answers its length.
    pub(super) fn sync(&mut self) -> Result<u64, Failure> {
        if self.is_durable {
            self.file.sync_data()?;
        }
        Ok(self.length)
    }

    /// All names, one after the other.
    pub(super) fn read(
        &mut self,
    ) -> Result<impl Iterator<Item = Result<ToRepair, Failure>> + use<>, Failure> {
        self.file.seek(SeekFrom::Start(0))?;
        let file = self.file.try_clone()?;
        let lines = BufReader::new(file.take(self.length)).lines();
        Ok(lines.map(|line| {
            serde_json::from_str(&line?)
                .map_err(|error| Failure::failed(format!("a name to repair: {error}")))
        }))
    }
}

fn read(path: &Path) -> Result<Option<Saved>, Failure> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => {
            file.take(MAX_STATE_BYTES).read_to_string(&mut text).map_err(|error| wrong(path, &error))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(path, &error)),
    };
    let saved: Saved = serde_json::from_str(&text).map_err(|error| wrong(path, &error))?;
    if saved.version != VERSION {
        return Err(Failure::usage(format!(
            "{} is of version {}; expected version {VERSION}",
            path.display(),
            saved.version
        )));
    }
    Ok(Some(saved))
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{} cannot be used: {error}", path.display()))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Names of objects are nobody else's business.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place(mapping_id: &str) -> Place {
        Place { mapping_id: mapping_id.to_owned(), account: "AUTH_a".to_owned(), only: None }
    }

    fn missing(object: &str) -> Difference {
        Difference {
            object: object.to_owned(),
            kind: DifferenceKind::Missing.into(),
            ..Difference::default()
        }
    }

    #[test]
    fn a_comparison_goes_on_where_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut state, mut names) = State::open(Some(&path), place("m")).unwrap();
        state.enter("c");
        names.push("c", &missing("é\n")).unwrap();
        state.add(&CompareCounts { compared: 7, missing: 1, ..CompareCounts::default() }, 2);
        state.go_on("é\n");
        state.save(names.sync().unwrap()).unwrap();
        // Killed between the names of the next page and its state.
        names.push("c", &missing("later")).unwrap();
        drop((state, names));

        let (state, mut names) = State::open(Some(&path), place("m")).unwrap();
        assert_eq!((state.container(), state.start_after(), state.in_container()), ("c", "é\n", 7));
        assert_eq!((state.counts().errors(), state.is_inside(), state.is_done()), (1, true, false));
        let left: Vec<String> = names.read().unwrap().map(|name| name.unwrap().object).collect();
        assert_eq!(left, ["é\n"]);
    }

    #[test]
    fn a_state_of_another_comparison_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut state, _) = State::open(Some(&path), place("m")).unwrap();
        state.save(0).unwrap();
        assert!(
            State::open(Some(&path), place("other")).unwrap_err().what().contains("mapping m (AUTH_a/*)")
        );
        std::fs::write(&path, "{}").unwrap();
        assert!(State::open(Some(&path), place("m")).is_err());
    }
}
