//! One look at all manifests of an account.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use swift_s3_policy::large_object::dlo_source;

use super::known::{Known, NameHash, name_hash};
use crate::reason::{Failure, Reason};
use crate::swift::container_server::{ContainerServers, ReplicaEntry, Walk};
use crate::swift::local_objects::{AtLeast, LocalError, LocalKind, LocalObjects, Newest, ObjectName};
use crate::swift::topology::SwiftTopology;

/// A manifest that is longer is not read: Swift takes 8 MiB as it comes, and operators may raise that.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Which segments one manifest would like to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The manifest's container.
    pub(super) container: String,
    /// The manifest.
    pub(super) object: String,
    /// Its ETag: a later version is another manifest.
    pub(super) etag: String,
    /// Containers and names of its segments.
    pub(super) segments: Vec<(String, String)>,
}

/// How to look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    topology: SwiftTopology,
    servers: ContainerServers,
    local: LocalObjects,
}

/// A failure because not everything could be seen.
pub(super) fn unseen(problem: impl std::fmt::Display) -> Failure {
    let message =
        format!("the segments are kept: could not see whether other large objects need them: {problem}");
    Failure::new(Reason::LocalUnavailable, message)
}

impl Look {
    pub(super) fn new(topology: SwiftTopology, servers: ContainerServers, local: LocalObjects) -> Self {
        Self { topology, servers, local }
    }

    pub(super) fn servers(&self) -> &ContainerServers {
        &self.servers
    }

    /// Answers `questions` about segments of `account`.
    pub(super) async fn at(
        &self,
        account: &str,
        questions: &[Question],
        known: &mut Known,
    ) -> Result<Vec<Vec<bool>>, Failure> {
        let mut uses = Uses::new(questions);
        for container in self.containers(account).await? {
            let is_split = self.scan(account, account, &container, &container, &mut uses, known).await?;
            if is_split {
                let place = self.topology.container(account, &container).map_err(unseen)?;
                let shards = self.servers.shard_ranges(&place, account, &container).await.map_err(unseen)?;
                let shards = shards.ok_or_else(|| unseen("a container lost its shards"))?;
                if let Some(problem) = shards.problems.first() {
                    return Err(unseen(problem));
                }
                for shard in shards.ranges {
                    let place = (shard.account.as_str(), shard.container.as_str());
                    if self.scan(account, place.0, place.1, &container, &mut uses, known).await? {
                        return Err(unseen(format!("{container} is being split further")));
                    }
                }
            }
        }
        Ok(uses.needed)
    }

    /// Every container that any replica of the account knows.
    async fn containers(&self, account: &str) -> Result<HashSet<String>, Failure> {
        let place = self.topology.account(account).map_err(unseen)?;
        let mut names = HashSet::new();
        let mut walk = Walk::new(&place, "");
        while let Some(page) = walk.next(&self.servers, account, None).await.map_err(unseen)? {
            names.extend(page.entries.into_iter().map(|entry| entry.name));
        }
        Ok(names)
    }

    /// Looks at all objects of a database: a container's own, or that of a shard of `container`. Tells whether it is split.
    async fn scan(
        &self,
        account: &str,
        database_account: &str,
        database: &str,
        container: &str,
        uses: &mut Uses<'_>,
        known: &mut Known,
    ) -> Result<bool, Failure> {
        let place = self.topology.container(database_account, database).map_err(unseen)?;
        let mut walk = Walk::new(&place, "");
        while let Some(page) =
            walk.next(&self.servers, database_account, Some(database)).await.map_err(unseen)?
        {
            let policy_index = page.policy_index.unwrap_or(0);
            for entry in page.entries {
                let name = ObjectName { account, container, object: &entry.name, policy_index };
                self.note(&name, &entry, uses, known).await?;
            }
        }
        Ok(walk.is_split())
    }

    /// Notes what one object needs, if it is a manifest.
    async fn note(
        &self,
        name: &ObjectName<'_>,
        entry: &ReplicaEntry,
        uses: &mut Uses<'_>,
        known: &mut Known,
    ) -> Result<(), Failure> {
        match shape(entry) {
            Shape::Other => Ok(()),
            Shape::Hidden => Err(unseen(
                "rows of encrypted objects do not tell manifests; set retain_local_segments to archive large objects here",
            )),
            Shape::Static { etag } => {
                if let Some(names) = known.manifest(etag) {
                    uses.note_names(name, etag, names);
                    return Ok(());
                }
                let Some((etag, names)) = self.read_manifest(name).await? else { return Ok(()) };
                uses.note_names(name, &etag, &names);
                known.remember_manifest(&etag, &names);
                Ok(())
            }
            Shape::Empty => {
                if known.is_just_empty(name.container, name.object, &entry.last_modified) {
                    return Ok(());
                }
                match self.read_prefix(name).await? {
                    Some((container, prefix)) => uses.note_prefix(name, &container, &prefix),
                    None => known.remember_empty(name.container, name.object, &entry.last_modified),
                }
                Ok(())
            }
        }
    }

    /// The names in a static manifest, with its ETag; `None` when there is no such manifest any more.
    async fn read_manifest(&self, name: &ObjectName<'_>) -> Result<Option<(String, Vec<NameHash>)>, Failure> {
        use http_body_util::BodyExt;
        let newest = self.newest(name).await?;
        let Some(found) = newest.found else { return Ok(None) };
        let object = match self.local.open(name, AtLeast::from(&found)).await {
            Ok(object) => object,
            Err(LocalError::Missing) => return Ok(None),
            Err(error) => return Err(unseen(error)),
        };
        if object.head.kind != LocalKind::StaticLargeObject {
            return Ok(None);
        }
        if object.head.length > MAX_MANIFEST_BYTES {
            return Err(unseen(format!("the manifest {}/{} is too long", name.container, name.object)));
        }
        let content = object.body.collect().await.map_err(unseen)?.to_bytes();
        let names = names_in(&content)
            .map_err(|error| unseen(format!("the manifest {}/{}: {error}", name.container, name.object)))?;
        Ok(Some((object.head.etag, names)))
    }

    /// Container and prefix of a dynamic manifest; `None` when the object is something else.
    async fn read_prefix(&self, name: &ObjectName<'_>) -> Result<Option<(String, String)>, Failure> {
        let newest = self.newest(name).await?;
        let manifest = newest.found.as_ref().and_then(|head| head.header("x-object-manifest"));
        Ok(manifest.and_then(dlo_source))
    }

    async fn newest(&self, name: &ObjectName<'_>) -> Result<Newest, Failure> {
        let newest = self.local.newest(name).await.map_err(unseen)?;
        if newest.unreachable.saturating_mul(2) > newest.asked {
            return Err(unseen(format!("too few replicas of {}/{} answer", name.container, name.object)));
        }
        Ok(newest)
    }
}

enum Shape<'a> {
    Static {
        etag: &'a str,
    },
    Empty,
    /// Encryption at rest covers what would tell.
    Hidden,
    Other,
}

/// What a row says of its object. Source: `swift/common/middleware/slo.py` of Swift 2.30.1, which has containers keep
/// `<MD5 of the manifest>; slo_etag=<ETag of the whole>`; and `crypto/encrypter.py`, which encrypts all of that.
fn shape(entry: &ReplicaEntry) -> Shape<'_> {
    let mut parts = entry.hash.split(';').map(str::trim);
    let etag = parts.next().unwrap_or_default();
    if entry.hash.contains("swift_meta=") {
        Shape::Hidden
    } else if parts.any(|part| part.starts_with("slo_etag=")) {
        Shape::Static { etag }
    } else if entry.bytes == 0 {
        Shape::Empty
    } else {
        Shape::Other
    }
}

#[derive(Deserialize)]
struct Entry {
    /// Inline data has none.
    name: Option<String>,
}

fn names_in(manifest: &[u8]) -> Result<Vec<NameHash>, serde_json::Error> {
    let entries: Vec<Entry> = serde_json::from_slice(manifest)?;
    let names = entries.iter().filter_map(|entry| {
        let (container, object) = entry.name.as_deref()?.trim_start_matches('/').split_once('/')?;
        Some(name_hash(container, object))
    });
    Ok(names.collect())
}

/// The segments asked about, and which of them are needed.
struct Uses<'a> {
    questions: &'a [Question],
    needed: Vec<Vec<bool>>,
    by_hash: HashMap<NameHash, Vec<(usize, usize)>>,
    by_name: BTreeMap<(&'a str, &'a str), Vec<(usize, usize)>>,
}

impl<'a> Uses<'a> {
    fn new(questions: &'a [Question]) -> Self {
        let mut by_hash: HashMap<NameHash, Vec<(usize, usize)>> = HashMap::new();
        let mut by_name: BTreeMap<(&str, &str), Vec<(usize, usize)>> = BTreeMap::new();
        for (question, asked) in questions.iter().enumerate() {
            for (segment, (container, object)) in asked.segments.iter().enumerate() {
                by_hash.entry(name_hash(container, object)).or_default().push((question, segment));
                by_name.entry((container, object)).or_default().push((question, segment));
            }
        }
        let needed = questions.iter().map(|question| vec![false; question.segments.len()]).collect();
        Self { questions, needed, by_hash, by_name }
    }

    /// Notes what the static manifest `by` with this ETag names.
    fn note_names(&mut self, by: &ObjectName<'_>, etag: &str, names: &[NameHash]) {
        for name in names {
            for (question, segment) in self.by_hash.get(name).into_iter().flatten() {
                mark(self.questions, &mut self.needed, by, Some(etag), (*question, *segment));
            }
        }
    }

    /// Notes what the dynamic manifest `by` takes.
    fn note_prefix(&mut self, by: &ObjectName<'_>, container: &str, prefix: &str) {
        let from = self.by_name.range((container, prefix)..);
        let below = from.take_while(|((found, object), _)| *found == container && object.starts_with(prefix));
        for (question, segment) in below.flat_map(|(_, places)| places) {
            mark(self.questions, &mut self.needed, by, None, (*question, *segment));
        }
    }
}

/// A manifest does not keep its own segments from being removed.
fn mark(
    questions: &[Question],
    needed: &mut [Vec<bool>],
    by: &ObjectName<'_>,
    etag: Option<&str>,
    (question, segment): (usize, usize),
) {
    let own = questions.get(question).is_some_and(|asked| {
        let same_version = etag.is_none_or(|etag| etag == asked.etag);
        asked.container == by.container && asked.object == by.object && same_version
    });
    if let Some(slot) = needed.get_mut(question).and_then(|answers| answers.get_mut(segment))
        && !own
    {
        *slot = true;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn question(object: &str, segments: &[&str]) -> Question {
        Question {
            container: "c".to_owned(),
            object: object.to_owned(),
            etag: "v1".to_owned(),
            segments: segments.iter().map(|segment| ("s".to_owned(), (*segment).to_owned())).collect(),
        }
    }

    fn manifest<'a>(container: &'a str, object: &'a str) -> ObjectName<'a> {
        ObjectName { account: "a", container, object, policy_index: 0 }
    }

    #[test]
    fn a_segment_that_two_archived_objects_share_stays_for_the_other() {
        let questions = [question("one", &["1", "both"]), question("two", &["2", "both"])];
        let mut uses = Uses::new(&questions);
        let names = |segments: &[&str]| -> Vec<NameHash> {
            segments.iter().map(|segment| name_hash("s", segment)).collect()
        };
        uses.note_names(&manifest("c", "one"), "v1", &names(&["1", "both"]));
        uses.note_names(&manifest("c", "two"), "v1", &names(&["2", "both"]));
        assert_eq!(uses.needed, [[false, true], [false, true]]);
        uses.note_names(&manifest("versions", "one"), "v1", &names(&["1"]));
        assert_eq!(uses.needed, [[true, true], [false, true]], "an old version of it is another manifest");
        uses.note_names(&manifest("c", "two"), "v2", &names(&["2"]));
        assert_eq!(uses.needed, [[true, true], [true, true]], "so is one that was written since");
    }

    #[test]
    fn dynamic_manifests_need_what_is_under_their_prefix_exactly() {
        let questions = [question("one", &["foo/1", "foo/2", "foobar/x", "fo"])];
        let mut uses = Uses::new(&questions);
        uses.note_prefix(&manifest("c", "dlo"), "s", "foo/");
        assert_eq!(uses.needed, [[true, true, false, false]]);
        uses.note_prefix(&manifest("c", "dlo"), "other", "");
        assert_eq!(uses.needed, [[true, true, false, false]]);
        uses.note_prefix(&manifest("c", "one"), "s", "");
        assert_eq!(uses.needed, [[true, true, false, false]], "its own prefix does not count");
        uses.note_prefix(&manifest("c", "dlo"), "s", "foob");
        assert_eq!(uses.needed, [[true, true, true, false]]);
    }

    #[test]
    fn rows_tell_static_manifests_and_empty_objects() {
        let entry =
            |hash: &str, bytes| ReplicaEntry { hash: hash.to_owned(), bytes, ..ReplicaEntry::default() };
        let slo = entry("0cc1; slo_etag=99", 30);
        assert!(matches!(shape(&slo), Shape::Static { etag: "0cc1" }));
        let empty_slo = entry("0cc1;s3_etag=7;slo_etag=99", 0);
        assert!(matches!(shape(&empty_slo), Shape::Static { etag: "0cc1" }));
        assert!(matches!(shape(&entry("d41d", 0)), Shape::Empty));
        assert!(matches!(shape(&entry("d41d", 5)), Shape::Other));
        let encrypted = entry("bQ3+; swift_meta=%7B%22cipher%22%7D", 30);
        assert!(matches!(shape(&encrypted), Shape::Hidden));
    }

    #[test]
    fn manifests_name_their_segments() {
        let text =
            br#"[{"name": "/s/a b", "bytes": 1, "hash": "x"}, {"data": "aGk="}, {"name": "/s/\u00e9/2"}]"#;
        assert_eq!(names_in(text).unwrap(), [name_hash("s", "a b"), name_hash("s", "\u{e9}/2")]);
        assert!(names_in(b"{}").is_err());
        assert_eq!(dlo_source(b"s/a%20b/"), Some(("s".to_owned(), "a b/".to_owned())));
        assert_eq!(dlo_source(b"nothing"), None);
    }
}
