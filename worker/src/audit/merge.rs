//! Walks two sorted listings side by side, each name once. Holds what was handed in and not yet taken out, nothing else.

use std::cmp::Ordering;
use std::collections::VecDeque;

/// What has a name to sort by.
pub trait Named {
    /// The name; listings are in the order of its bytes.
    fn name(&self) -> &str;
}

/// Two listings.
#[derive(Debug)]
pub struct Merge<L, R> {
    local: Side<L>,
    remote: Side<R>,
}

#[derive(Debug)]
struct Side<T> {
    entries: VecDeque<T>,
    is_done: bool,
}

/// Which listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Here.
    Local,
    /// There.
    Remote,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<L, R> {
    /// On both sides.
    Both(L, R),
    /// Here only.
    Local(L),
    /// There only.
    Remote(R),
    /// The next page of this listing must be handed in first.
    Wants(Which),
    /// Both listings are at their end.
    End,
}

impl<L: Named, R: Named> Merge<L, R> {
    /// Nothing was handed in yet.
    #[must_use]
    pub fn new() -> Self {
        let (local, remote) = (VecDeque::new(), VecDeque::new());
        Self {
            local: Side { entries: local, is_done: false },
            remote: Side { entries: remote, is_done: false },
        }
    }

    /// Hands in a page of what is here; an empty one is the end.
    pub fn add_local(&mut self, page: Vec<L>) {
        self.local.add(page);
    }

    /// Hands in a page of what is there; an empty one is the end.
    pub fn add_remote(&mut self, page: Vec<R>) {
        self.remote.add(page);
    }

    /// The next name.
    pub fn step(&mut self) -> Step<L, R> {
        let order = match (self.local.front(), self.remote.front()) {
            (Front::Wanted, _) => return Step::Wants(Which::Local),
            (_, Front::Wanted) => return Step::Wants(Which::Remote),
            (Front::End, Front::End) => return Step::End,
            (Front::Name(_), Front::End) => Ordering::Less,
            (Front::End, Front::Name(_)) => Ordering::Greater,
            (Front::Name(local), Front::Name(remote)) => local.cmp(remote),
        };
        let (local, remote) = match order {
            Ordering::Less => (self.local.entries.pop_front(), None),
            Ordering::Greater => (None, self.remote.entries.pop_front()),
            Ordering::Equal => (self.local.entries.pop_front(), self.remote.entries.pop_front()),
        };
        match (local, remote) {
            (Some(local), Some(remote)) => Step::Both(local, remote),
            (Some(local), None) => Step::Local(local),
            (None, Some(remote)) => Step::Remote(remote),
            (None, None) => Step::End,
        }
    }

    /// True when the next step wants no page.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !matches!((self.local.front(), self.remote.front()), (Front::Wanted, _) | (_, Front::Wanted))
    }

    /// Entries that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.local.entries.len() + self.remote.entries.len()
    }
}

impl<L: Named, R: Named> Default for Merge<L, R> {
    fn default() -> Self {
        Self::new()
    }
}

enum Front<'a> {
    Name(&'a str),
    Wanted,
    End,
}

impl<T: Named> Side<T> {
    fn add(&mut self, page: Vec<T>) {
        self.is_done |= page.is_empty();
        self.entries.extend(page);
    }

    fn front(&self) -> Front<'_> {
        match self.entries.front() {
            Some(entry) => Front::Name(entry.name()),
            None if self.is_done => Front::End,
            None => Front::Wanted,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    impl Named for String {
        fn name(&self) -> &str {
            self
        }
    }

    /// Walks to the end; answers what is on both sides, here only and there only, and the most that was held.
    fn walk(local: &BTreeSet<String>, remote: &BTreeSet<String>, page: usize) -> ([Vec<String>; 3], usize) {
        let mut merge = Merge::<String, String>::new();
        let (mut left, mut right) = (local.iter().cloned(), remote.iter().cloned());
        let (mut found, mut most) = ([Vec::new(), Vec::new(), Vec::new()], 0);
        loop {
            let is_ready = merge.is_ready();
            let step = merge.step();
            assert_eq!(is_ready, !matches!(step, Step::Wants(_)));
            match step {
                Step::Both(one, other) => {
                    assert_eq!(one, other);
                    found[0].push(one);
                }
                Step::Local(name) => found[1].push(name),
                Step::Remote(name) => found[2].push(name),
                Step::Wants(Which::Local) => merge.add_local(left.by_ref().take(page).collect()),
                Step::Wants(Which::Remote) => merge.add_remote(right.by_ref().take(page).collect()),
                Step::End => return (found, most),
            }
            most = most.max(merge.held());
        }
    }

    proptest! {
        #[test]
        fn finds_what_sets_find_and_never_holds_more_than_a_page_of_each(
            local in prop::collection::btree_set("(?s).{0,3}", 0..60),
            remote in prop::collection::btree_set("(?s).{0,3}", 0..60),
            page in 1_usize..9,
        ) {
            let (found, most) = walk(&local, &remote, page);
            let expected = [
                local.intersection(&remote).cloned().collect::<Vec<_>>(),
                local.difference(&remote).cloned().collect(),
                remote.difference(&local).cloned().collect(),
            ];
            prop_assert_eq!(found, expected);
            prop_assert!(most <= 2 * page);
        }
    }
}
