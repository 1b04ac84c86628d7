//! What hides in the keys of a bucket: the companions that keep manifests.

use swift_s3_policy::KeyMapping;

/// Pages with nothing but companions that are read before the walk leaps over the rest of them.
const PAGES_BEFORE_LEAP: u32 = 5;

/// Sorts behind every key that begins with what it is appended to; no key holds this character.
pub(super) const LAST_CHARACTER: char = '\u{10ffff}';

/// Gets a walk past companions without reading them all.
///
/// With a custom prefix the companions lie among the objects. There may be a million of them, and a page must not take a thousand requests
/// because of that. They are named by digests in hexadecimal, so the walk leaps behind the digits, or behind the letters. The price:
/// behind thousands of companions an object is not listed if its own name is that of the companions' folder and begins with
/// such a digit.
#[derive(Debug, Default)]
pub(super) struct Leap {
    pages: u32,
}

impl Leap {
    /// Takes note of a page whose last key is `last`; `is_bare`: the page showed nothing. Gives the key to go on behind, if the
    /// walk leaps.
    pub(super) fn over(&mut self, keys: &KeyMapping, last: Option<&str>, is_bare: bool) -> Option<String> {
        self.pages = if is_bare { self.pages.saturating_add(1) } else { 0 };
        let last = last.filter(|last| keys.is_manifest_key(last))?;
        if self.pages < PAGES_BEFORE_LEAP {
            return None;
        }
        let folder = keys.manifest_prefix()?;
        let is_digit = last.strip_prefix(folder)?.starts_with(|first: char| first.is_ascii_digit());
        self.pages = 0;
        let class = if is_digit { '9' } else { 'f' };
        Some(format!("{folder}{class}{LAST_CHARACTER}"))
    }
}

/// Whether a folder of keys may hold companions.
pub(super) fn may_hold_companions(keys: &KeyMapping, folder: &str) -> bool {
    keys.manifest_prefix()
        .is_some_and(|companions| companions.starts_with(folder) || folder.starts_with(companions))
}
