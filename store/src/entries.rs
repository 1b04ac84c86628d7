//! Listings as people browse them: by folder, from either end, with what each entry is.
//!
//! [`crate::ObjectStore::list`] walks plain keys; this is for whoever shows a listing to somebody.

use std::time::SystemTime;

/// Which entries are asked for.
#[derive(Clone, Debug, Default)]
pub struct EntryQuery<'a> {
    /// What the keys begin with. For Swift it is `container/` or `container/start-of-name`.
    pub prefix: &'a str,
    /// Keys that have this text behind the prefix are given as one folder: up to its first occurrence, and with it. Never
    /// empty.
    pub delimiter: Option<&'a str>,
    /// Where to begin.
    pub from: EntryStart,
    /// Only entries of keys before this one (in the order asked for). Swift only.
    pub until: Option<&'a str>,
    /// From the last key to the first. Swift only.
    pub reverse: bool,
    /// Instead of folders and what is in them only the keys of one level, as Swift's parameter `path` has it: those that have
    /// `/` behind the prefix not at all, or once, at their end; not the prefix itself. Swift only.
    pub one_level: bool,
    /// Entries wanted, at least 1; remotes may give fewer.
    pub max_entries: u16,
}

/// Where a page of entries begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EntryStart {
    /// At the first one.
    #[default]
    First,
    /// Behind this key, which need not be there.
    ///
    /// On S3 an entry whose text is the key or sorts before it is left out, and a key within a folder may or may not hide that
    /// folder: name the end of a folder to be understood by every server. Swift gives a folder as long as something in it follows
    /// the key, and only leaves it out if the key is the folder itself.
    After(String),
    /// Where the page before ended, in the remote's own words.
    Mark(String),
}

/// One page of entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryPage {
    /// By the UTF-8 bytes of key or folder in the order asked for, each once.
    pub entries: Vec<Entry>,
    /// Where the next page begins; `None` when this was the last. Never `Some` with `entries` empty.
    pub next: Option<EntryStart>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// An object.
    Object(ObjectEntry),
    /// What several keys begin with, prefix included.
    Folder(String),
}

impl Entry {
    /// The whole key, or the folder.
    pub fn key(&self) -> &str {
        match self {
            Self::Object(object) => &object.key,
            Self::Folder(folder) => folder,
        }
    }
}

/// An object as listings know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectEntry {
    /// The whole key, prefix included.
    pub key: String,
    /// Without quotes; some clones leave it out. Of a static large object of Swift it is the manifest's.
    pub etag: Option<String>,
    /// The ETag that Swift answers for a static large object, without quotes.
    pub slo_etag: Option<String>,
    /// Bytes.
    pub length: u64,
    /// Swift only: S3 does not list it.
    pub content_type: Option<String>,
    /// When the remote stored it.
    pub last_modified: Option<SystemTime>,
}
