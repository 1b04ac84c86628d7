//! The low-water mark of one lane over rows that finish in any order.

use std::collections::BTreeSet;

/// How far one lane has read and what of it is not finished.
///
/// The cursor is the highest ROWID such that every row at or below it is done or parked. Rows are announced in ascending
/// order by [`Progress::start`] or [`Progress::pass`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    read: i64,
    open: BTreeSet<i64>,
}

impl Progress {
    /// A lane whose rows up to and including `cursor` are finished.
    #[must_use]
    pub fn at(cursor: i64) -> Self {
        Self { read: cursor, open: BTreeSet::new() }
    }

    /// Every row at or below this ROWID is finished.
    #[must_use]
    pub fn cursor(&self) -> i64 {
        self.open.first().map_or(self.read, |first| first.saturating_sub(1))
    }

    /// Rows above this ROWID have not been looked at.
    #[must_use]
    pub fn read(&self) -> i64 {
        self.read
    }

    /// Passes over rows up to and including `rowid` that need no work.
    pub fn pass(&mut self, rowid: i64) {
        self.read = self.read.max(rowid);
    }

    /// Notes that work on a row begins: the cursor stays in front of it until [`Progress::finish`].
    pub fn start(&mut self, rowid: i64) {
        self.open.insert(rowid);
        self.pass(rowid);
    }

    /// Notes that a row is done or parked. Unknown rows are ignored.
    pub fn finish(&mut self, rowid: i64) {
        self.open.remove(&rowid);
    }

    /// Forgets everything above the cursor, so that it is read again.
    pub fn rewind(&mut self) {
        self.read = self.cursor();
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_for_the_slowest_row() {
        let mut progress = Progress::at(10);
        progress.start(11);
        progress.start(12);
        progress.start(15);
        progress.finish(12);
        assert_eq!(progress.cursor(), 10);
        progress.finish(11);
        assert_eq!(progress.cursor(), 14);
        progress.finish(15);
        assert_eq!(progress.cursor(), 15);
    }

    #[test]
    fn rows_of_others_move_the_cursor() {
        let mut progress = Progress::at(0);
        progress.pass(3);
        assert_eq!(progress.cursor(), 3);
    }

    #[test]
    fn rewinding_reads_unfinished_rows_again() {
        let mut progress = Progress::at(0);
        progress.start(1);
        progress.start(2);
        progress.finish(1);
        progress.rewind();
        assert_eq!((progress.cursor(), progress.read()), (1, 1));
    }

    proptest! {
        #[test]
        fn never_passes_an_unfinished_row(order in Just((1..60_i64).collect::<Vec<_>>()).prop_shuffle(), finished in 0..59_usize) {
            let mut progress = Progress::at(0);
            for rowid in 1..60 {
                progress.start(rowid);
            }
            let mut last = 0;
            for rowid in order.iter().take(finished) {
                progress.finish(*rowid);
                prop_assert!(progress.cursor() >= last, "the cursor went back");
                last = progress.cursor();
            }
            let first_open = order.iter().skip(finished).min().copied();
            prop_assert_eq!(progress.cursor(), first_open.map_or(59, |first| first - 1));
        }
    }
}
