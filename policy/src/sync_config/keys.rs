//! Every key of `sync.json`, described once: the parser knows its keys from here, and the reference in the handbook is made of it.
//!
//! Texts are Markdown, and their links are relative to the folder of the reference.

mod global;
mod mapping;

pub use global::{DELETE_LIMIT, GLOBAL, LIMITS, SYSLOG, TIMETABLE};
pub use mapping::MAPPING;

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What may be its value, with the unit.
    pub kind: &'static str,
    /// What holds without it.
    pub fallback: Fallback,
    /// A value other than the one that holds without it, as JSON.
    pub example: &'static str,
    /// What must stand beside it for the example to have an effect: the members of a JSON object.
    pub beside: &'static str,
    /// What a change does while programs run.
    pub change: Change,
    /// Which remotes it is about.
    pub remotes: Remotes,
    /// Since which version it is known; what the predecessor had was always known.
    pub since: Since,
    /// What it does.
    pub meaning: &'static str,
}

/// What holds where a key is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// It must be there.
    Required,
    /// This value, as JSON: writing it out changes nothing.
    Value(&'static str),
    /// Something that no value says.
    Words(&'static str),
}

/// What a changed key does to programs that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in force with the next reload or push.
    Live,
    /// As [`Change::Live`], and containers are compared with the remote from their first row on.
    Compared,
    /// It waits for the next start.
    Restart,
    /// It has no effect at all.
    Nothing,
}

/// Which remotes a key is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remotes {
    /// All.
    All,
    /// S3 and its clones.
    S3,
    /// Swift clusters.
    Swift,
}

/// Since when a key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The Python daemon had it, with this meaning.
    Predecessor,
    /// The version of this program that brought it.
    Version(&'static str),
}

const fn key(
    name: &'static str,
    kind: &'static str,
    fallback: Fallback,
    example: &'static str,
    change: Change,
    meaning: &'static str,
) -> Key {
    let (remotes, since) = (Remotes::All, Since::Predecessor);
    Key { name, kind, fallback, example, beside: "", change, remotes, since, meaning }
}

impl Key {
    const fn since(self, version: &'static str) -> Self {
        Self { since: Since::Version(version), ..self }
    }

    const fn beside(self, beside: &'static str) -> Self {
        Self { beside, ..self }
    }

    const fn only_for(self, remotes: Remotes) -> Self {
        Self { remotes, ..self }
    }
}

/// The names of a table's keys, in its order.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses a wrong index")]
pub(super) const fn names<const N: usize>(keys: &[Key; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        names[index] = keys[index].name;
        index += 1;
    }
    names
}

#[cfg(test)]
mod tests;
