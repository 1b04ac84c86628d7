//! JSON paths as problems and differences show them.

use std::fmt;

use serde_json::{Map, Value};

use crate::sync_config::path_part;

/// Where a value stands in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(Vec<Step>);

/// One step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The list, the index and the rest, if the first two steps lead to an element of a list.
    pub(super) fn element(&self) -> Option<(&str, usize, &[Step])> {
        match self.0.as_slice() {
            [Step::Key(list), Step::Index(index), rest @ ..] => Some((list, *index, rest)),
            _ => None,
        }
    }

    /// Whether one of the keys on the way is such a key.
    pub(super) fn has_key(&self, is_such: impl Fn(&str) -> bool) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Key(key) if is_such(key)))
    }

    /// The value at this place.
    pub(super) fn find_mut<'d>(&self, members: &'d mut Map<String, Value>) -> Option<&'d mut Value> {
        let (first, rest) = self.0.split_first()?;
        let Step::Key(key) = first else { return None };
        rest.iter().try_fold(members.get_mut(key)?, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        })
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => write!(formatter, "{}", path_part(key))?,
                Step::Key(key) => write!(formatter, ".{}", path_part(key))?,
                Step::Index(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}
