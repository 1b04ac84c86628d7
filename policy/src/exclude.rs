//! Which names a mapping leaves out: a regular expression in Python's dialect.
//!
//! The match is anchored at the start of the name and nowhere else, as Python's `re.match`: `seg` leaves out
//! `segments/1` but not `my-seg`. The empty pattern and `^$` leave out nothing.
//!
//! The submodule `dialect` rewrites what Python spells differently. Refused when the configuration is read:
//!
//! * escapes that Python does not know, such as `\h` or `\p`; set operators (`--`) inside a character class,
//! * the flags `L` and `a`, and what the regular expression engine cannot compile.
//!
//! Not supported either: brackets and backslashes in the comments of verbose mode.
//!
//! Different from the predecessor, on purpose: names are text, not bytes, so `\w`, `\d`, `\s` and case folding
//! cover all of Unicode, and a pattern with non-ASCII text works. A flag such as `(?i)` holds from where it
//! stands. A pattern that sets the flag `m` anywhere has it for every `$`.

use fancy_regex::{Regex, RegexBuilder};

mod dialect;

/// A longer pattern is a mistake.
const MAX_PATTERN_BYTES: usize = 16 * 1024;

/// Steps of backtracking after which a match is given up. A name has at most 1024 bytes, so a sensible pattern
/// stays far below, and a hopeless one costs well under a second.
const BACKTRACK_LIMIT: usize = 1_000_000;

/// A pattern of names to leave out.
#[derive(Clone, Debug)]
pub struct ExcludePattern {
    pattern: String,
    regex: Regex,
}

/// The pattern needs too many steps for a name, so that nothing is known about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("match name against exclude pattern {pattern:?}: gave up: {reason}")]
pub struct MatchLimitExceeded {
    /// The pattern.
    pub pattern: String,
    /// What the regular expression engine says.
    pub reason: String,
}

impl ExcludePattern {
    /// Compiles a pattern; `None` if it leaves out nothing.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn parse(pattern: &str) -> Result<Option<Self>, String> {
        if pattern.is_empty() || pattern == "^$" {
            return Ok(None);
        }
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(format!("longer than {MAX_PATTERN_BYTES} bytes"));
        }
        let translated = dialect::translate(pattern)?;
        // On its own first: a stray parenthesis must not pair with the one of the anchor.
        compile(&translated)?;
        // The line end finishes a comment that verbose mode would stretch over the parenthesis.
        let regex = compile(&format!(r"\A(?:{translated})"))
            .or_else(|_| compile(&format!("\\A(?:{translated}\n)")))?;
        Ok(Some(Self { pattern: pattern.to_owned(), regex }))
    }

    /// Whether the pattern leaves the name out. A match that was given up counts as no.
    pub fn excludes(&self, name: &str) -> bool {
        self.try_excludes(name).unwrap_or(false)
    }

    /// Whether the pattern leaves the name out.
    ///
    /// # Errors
    /// When the match was given up. Such a name must not be left out, and somebody should hear of it.
    pub fn try_excludes(&self, name: &str) -> Result<bool, MatchLimitExceeded> {
        self.regex
            .is_match(name)
            .map_err(|error| MatchLimitExceeded { pattern: self.pattern.clone(), reason: error.to_string() })
    }

    /// The pattern as configured.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).backtrack_limit(BACKTRACK_LIMIT).build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
