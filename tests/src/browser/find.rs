//! Which element is meant: by role and name, as a screen reader would tell them.

use std::fmt;

/// A role, perhaps a name, perhaps inside of something.
#[derive(Debug, Clone)]
pub struct By {
    pub(super) role: &'static str,
    pub(super) name: Name,
    pub(super) within: Option<Box<By>>,
}

/// How the accessible name is compared; runs of white space count as one.
#[derive(Debug, Clone)]
pub(super) enum Name {
    Any,
    Is(String),
    Contains(String),
}

impl By {
    /// Any element of this ARIA role.
    pub fn role(role: &'static str) -> Self {
        Self { role, name: Name::Any, within: None }
    }

    /// With exactly this name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Name::Is(name.into()), ..self }
    }

    /// With this in its name.
    #[must_use]
    pub fn containing(self, part: impl Into<String>) -> Self {
        Self { name: Name::Contains(part.into()), ..self }
    }

    /// Inside of another element, the first of those that it may be.
    #[must_use]
    pub fn within(self, outer: By) -> Self {
        Self { within: Some(Box::new(outer)), ..self }
    }

    /// True for roles that are known by all the text in them.
    pub(super) fn is_container(&self) -> bool {
        matches!(self.role, "row" | "listitem" | "article" | "group" | "alert" | "status")
    }

    pub(super) fn accepts(&self, name: &str) -> bool {
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        match &self.name {
            Name::Any => true,
            Name::Is(wanted) => name == *wanted,
            Name::Contains(part) => name.contains(part),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.role)?;
        match &self.name {
            Name::Any => {}
            Name::Is(name) => write!(formatter, " {name:?}")?,
            Name::Contains(part) => write!(formatter, " with {part:?}")?,
        }
        match &self.within {
            Some(outer) => write!(formatter, " in {outer}"),
            None => Ok(()),
        }
    }
}

/// A button with exactly this name.
pub fn button(name: &str) -> By {
    By::role("button").named(name)
}

/// A link with exactly this name.
pub fn link(name: &str) -> By {
    By::role("link").named(name)
}

/// A field for text with exactly this label.
pub fn textbox(label: &str) -> By {
    By::role("textbox").named(label)
}

/// A box to tick with exactly this label.
pub fn checkbox(label: &str) -> By {
    By::role("checkbox").named(label)
}

/// A heading with exactly this text.
pub fn heading(text: &str) -> By {
    By::role("heading").named(text)
}

/// A line of a table that has this in it.
pub fn row(part: &str) -> By {
    By::role("row").containing(part)
}

/// A part of the page with exactly this name.
pub fn region(name: &str) -> By {
    By::role("region").named(name)
}
