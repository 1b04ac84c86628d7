//! The walk through a bucket.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use swift_s3_policy::KeyMapping;
use swift_s3_store::{
    Entry, EntryPage, EntryQuery, EntryStart, ObjectEntry, ObjectStore, RemoteObject, StoreError,
};

use super::folders::{LAST_CHARACTER, Leap, may_hold_companions};
use super::{Pages, WalkError, is_possible};
use crate::listing::params::{Level, Place};
use crate::listing::rows::RemoteRow;

/// S3 never gives more keys at once.
const MAX_PAGE: usize = 1000;

/// Requests in flight that ask whether an object is named as a folder.
const HEADS_AT_ONCE: usize = 16;

/// Pages of the bucket that one listing may take: a reverse one takes all that lie between its bounds.
const MAX_PAGES: usize = 500;

/// Folders that one listing may ask for.
const MAX_HEADS: usize = 5_000;

/// See the module.
pub(super) struct S3Walk {
    store: Arc<dyn ObjectStore>,
    keys: KeyMapping,
    level: Level,
    step: Step,
    wanted: usize,
    leap: Leap,
    /// The last line given, to give none twice whatever the server repeats.
    last: Option<String>,
    /// Where the listing began.
    origin: EntryStart,
    /// The server makes wrong folders, so it is asked for none.
    makes_own_folders: bool,
    /// Requests so far.
    pages_read: usize,
    heads: usize,
}

enum Step {
    Begin,
    Page(EntryStart),
    Over,
}

/// What an entry becomes.
enum Shown {
    No,
    Yes(Entry),
    /// If something in the folder can be seen.
    IfNotEmpty(String),
    /// If there is an object of the folder's name.
    IfObject(String),
    /// Neither it nor anything behind it.
    End,
}

impl S3Walk {
    pub(super) fn new(store: Arc<dyn ObjectStore>, keys: KeyMapping, level: Level, limit: usize) -> Self {
        let level = Level { reverse: false, ..level };
        // Some servers look at the first character of a delimiter only, and then hide what follows a start that ends with it.
        let makes_own_folders = level.delimiter.as_deref().is_some_and(|text| text.chars().nth(1).is_some());
        Self {
            store,
            keys,
            level,
            step: Step::Begin,
            wanted: limit,
            leap: Leap::default(),
            last: None,
            origin: EntryStart::First,
            makes_own_folders,
            pages_read: 0,
            heads: 0,
        }
    }

    /// From the first name to the last.
    pub(super) fn pages(self) -> Pages {
        stream::try_unfold(self, |mut walk| async move {
            loop {
                if walk.wanted == 0 {
                    return Ok(None);
                }
                let rows = match std::mem::replace(&mut walk.step, Step::Over) {
                    Step::Begin => walk.begin().await?,
                    Step::Page(_) if walk.pages_read >= MAX_PAGES || walk.heads >= MAX_HEADS => {
                        return Err(WalkError::Costly);
                    }
                    Step::Page(from) => walk.page(from).await?,
                    Step::Over => return Ok(None),
                };
                walk.wanted = walk.wanted.saturating_sub(rows.len());
                if !rows.is_empty() {
                    return Ok(Some((rows, walk)));
                }
            }
        })
        .boxed()
    }

    /// From the last name to the first: S3 cannot, so everything is read, and the last `limit` lines are kept. One request for each
    /// thousand names (or folders) between the bounds.
    pub(super) fn backwards(mut self, limit: usize) -> Pages {
        self.wanted = usize::MAX;
        let kept = async move {
            let mut pages = self.pages();
            let mut kept: VecDeque<RemoteRow> = VecDeque::new();
            while let Some(rows) = pages.try_next().await? {
                kept.extend(rows);
                let surplus = kept.len().saturating_sub(limit);
                kept.drain(..surplus);
            }
            let rows: Vec<RemoteRow> = kept.into_iter().rev().collect();
            Ok((!rows.is_empty()).then_some(rows))
        };
        stream::once(kept).filter_map(|rows| async move { rows.transpose() }).boxed()
    }

    /// Finds out where to begin. A start within a folder shows the folder if something in it follows.
    async fn begin(&mut self) -> Result<Vec<RemoteRow>, StoreError> {
        let low = self.level.low.clone().filter(|low| low.starts_with(&self.level.prefix));
        let Some(low) = low else {
            self.step = Step::Page(EntryStart::First);
            return Ok(Vec::new());
        };
        let folder = self.level.folder_end(&low).and_then(|end| low.get(..end)).map(str::to_owned);
        let Some(folder) = folder else {
            self.origin = EntryStart::After(self.keys.object_key(&low));
            self.step = Step::Page(self.origin.clone());
            return Ok(Vec::new());
        };
        let is_shown = !self.level.one_level && folder != low && self.holds_more(&folder).await?;
        self.origin = EntryStart::After(self.behind_folder(&folder));
        self.step = Step::Page(self.origin.clone());
        Ok(if is_shown { self.rows(vec![Entry::Folder(self.keys.object_key(&folder))]) } else { Vec::new() })
    }

    async fn page(&mut self, from: EntryStart) -> Result<Vec<RemoteRow>, StoreError> {
        let prefix = self.keys.object_key(&self.level.prefix);
        let query = EntryQuery {
            prefix: &prefix,
            delimiter: self.level.delimiter.as_deref().filter(|_| !self.makes_own_folders),
            from,
            max_entries: u16::try_from(self.wanted.clamp(1, MAX_PAGE)).unwrap_or(u16::MAX),
            ..EntryQuery::default()
        };
        let EntryPage { entries, next } = self.store.list_entries(&query).await?;
        if !self.makes_own_folders && entries.iter().any(|entry| self.is_wrong_folder(entry)) {
            tracing::debug!("the remote makes wrong folders of this delimiter; they are made here");
            self.makes_own_folders = true;
            self.step = Step::Page(self.behind_last());
            return Ok(Vec::new());
        }
        let last = entries.last().map(|entry| entry.key().to_owned());
        let mut shown = Vec::with_capacity(entries.len());
        let mut is_over = false;
        for entry in entries {
            let entry = match self.judge(entry) {
                Shown::No => continue,
                Shown::End => {
                    is_over = true;
                    break;
                }
                Shown::IfNotEmpty(folder) => {
                    if !self.holds_more(&folder).await? {
                        continue;
                    }
                    Candidate::Sure(Entry::Folder(self.keys.object_key(&folder)))
                }
                Shown::Yes(entry) => Candidate::Sure(entry),
                Shown::IfObject(folder) => Candidate::Asked(self.keys.object_key(&folder)),
            };
            shown.push(entry);
        }
        self.pages_read += 1;
        self.heads += shown.iter().filter(|candidate| matches!(candidate, Candidate::Asked(_))).count();
        let shown = self.ask(shown).await?;
        let rows = self.rows(shown);
        self.step = match next {
            Some(next) if !is_over => Step::Page(self.next_start(next, last.as_deref(), rows.is_empty())),
            _ => Step::Over,
        };
        Ok(rows)
    }

    /// Whether a folder ends elsewhere than behind the first delimiter: some servers look at one character of it only.
    fn is_wrong_folder(&self, entry: &Entry) -> bool {
        let Entry::Folder(folder) = entry else { return false };
        let name = self.keys.object_name(folder);
        name.is_some_and(|name| self.level.folder_end(name) != Some(name.len()))
    }

    /// Where a page begins that goes on after the last line given.
    fn behind_last(&self) -> EntryStart {
        match &self.last {
            None => self.origin.clone(),
            Some(last) if self.level.folder_end(last).is_some() => {
                EntryStart::After(self.behind_folder(last))
            }
            Some(last) => EntryStart::After(self.keys.object_key(last)),
        }
    }

    /// Where the next page begins.
    fn next_start(&mut self, next: EntryStart, last: Option<&str>, is_bare: bool) -> EntryStart {
        if let Some(key) = self.leap.over(&self.keys, last, is_bare) {
            return EntryStart::After(key);
        }
        // A server that makes no folders gives all that is in them: the rest of this one is not needed.
        let name = last.and_then(|key| self.keys.object_name(key)).unwrap_or_default();
        match self.level.folder_end(name).filter(|end| *end < name.len()).and_then(|end| name.get(..end)) {
            Some(folder) => EntryStart::After(self.behind_folder(folder)),
            None => next,
        }
    }

    fn judge(&self, entry: Entry) -> Shown {
        let Some(name) = self.keys.object_name(entry.key()) else { return Shown::No };
        if self.level.high.as_deref().is_some_and(|high| name >= high) {
            return Shown::End;
        }
        if !is_possible(name) {
            return Shown::No;
        }
        if matches!(entry, Entry::Object(_)) {
            if self.keys.is_manifest_key(entry.key()) {
                return Shown::No;
            }
            match self.level.place(name) {
                Place::Hidden => return Shown::No,
                // Of a name that is that of its folder, nothing needs to be asked.
                Place::Object => return Shown::Yes(entry),
                Place::Folder(_) => {}
            }
        }
        let Some(folder) = self.level.folder_end(name).and_then(|end| name.get(..end)) else {
            return Shown::No;
        };
        // The folder that the start lies in was dealt with at the beginning.
        if self.level.low.as_deref().is_some_and(|low| folder <= low) {
            return Shown::No;
        }
        if self.level.one_level {
            return Shown::IfObject(folder.to_owned());
        }
        let ends_within = self.level.high.as_deref().is_some_and(|high| high.starts_with(folder));
        if ends_within || may_hold_companions(&self.keys, &self.keys.object_key(folder)) {
            return Shown::IfNotEmpty(folder.to_owned());
        }
        Shown::Yes(Entry::Folder(self.keys.object_key(folder)))
    }

    /// Whether a folder holds a name that can be seen, between the bounds.
    async fn holds_more(&self, folder: &str) -> Result<bool, StoreError> {
        let prefix = self.keys.object_key(folder);
        let within =
            Level { delimiter: None, one_level: false, prefix: folder.to_owned(), ..self.level.clone() };
        let low = self.level.low.as_deref().filter(|low| low.starts_with(folder));
        let mut from = low.map_or(EntryStart::First, |low| EntryStart::After(self.keys.object_key(low)));
        let mut leap = Leap::default();
        let max_entries = if may_hold_companions(&self.keys, &prefix) { 1000 } else { 2 };
        loop {
            let query = EntryQuery { prefix: &prefix, from, max_entries, ..EntryQuery::default() };
            let page = self.store.list_entries(&query).await?;
            for entry in &page.entries {
                let Some(name) = self.keys.object_name(entry.key()) else { continue };
                if self.level.high.as_deref().is_some_and(|high| name >= high) {
                    return Ok(false);
                }
                let is_seen = is_possible(name)
                    && within.place(name) == Place::Object
                    && !self.keys.is_manifest_key(entry.key());
                if is_seen {
                    return Ok(true);
                }
            }
            let Some(next) = page.next else { return Ok(false) };
            let leapt = leap.over(&self.keys, page.entries.last().map(Entry::key), true);
            from = leapt.map_or(next, EntryStart::After);
        }
    }

    /// Finds out which of the folders are objects, too.
    async fn ask(&self, candidates: Vec<Candidate>) -> Result<Vec<Entry>, StoreError> {
        let asked = candidates.into_iter().map(|candidate| async move {
            match candidate {
                Candidate::Sure(entry) => Ok(Some(entry)),
                Candidate::Asked(key) => {
                    Ok(self.store.head(&key).await?.map(|object| object_entry(key, object)))
                }
            }
        });
        stream::iter(asked)
            .buffered(HEADS_AT_ONCE)
            .try_filter_map(|entry| async move { Ok(entry) })
            .try_collect()
            .await
    }

    /// The lines of entries, but for those that are not behind the last one.
    fn rows(&mut self, entries: Vec<Entry>) -> Vec<RemoteRow> {
        let mut rows: Vec<RemoteRow> = Vec::with_capacity(entries.len());
        for row in entries.into_iter().filter_map(|entry| RemoteRow::new(entry, self.keys.key_prefix())) {
            let before = rows.last().map(RemoteRow::text).or(self.last.as_deref());
            if before.is_none_or(|before| row.text() > before) {
                rows.push(row);
            }
        }
        if let Some(last) = rows.last() {
            self.last = Some(last.text().to_owned());
        }
        rows
    }

    /// The key behind which nothing of a folder lies.
    fn behind_folder(&self, folder: &str) -> String {
        let mut key = self.keys.object_key(folder);
        key.push(LAST_CHARACTER);
        key
    }
}

/// An entry that may turn out to be none.
enum Candidate {
    Sure(Entry),
    /// The object of this key, if there is one.
    Asked(String),
}

fn object_entry(key: String, object: RemoteObject) -> Entry {
    Entry::Object(ObjectEntry {
        key,
        etag: Some(object.etag).filter(|etag| !etag.is_empty()),
        slo_etag: None,
        length: object.length,
        content_type: Some(object.metadata.content_type).filter(|kind| !kind.is_empty()),
        last_modified: object.last_modified,
    })
}
