//! Two ordered listings become one.

use std::cmp::Ordering;

use super::rows::{LocalRow, RemoteRow};

/// A line of the merged listing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line<'a> {
    /// In Swift only.
    Local(&'a LocalRow<'a>),
    /// At the remote only.
    Remote(&'a RemoteRow),
    /// In both. Swift's own is what a GET answers, so it is what is listed.
    Both(&'a LocalRow<'a>),
}

impl<'a> Line<'a> {
    /// The name, or the folder.
    pub fn text(&self) -> &'a str {
        match self {
            Self::Local(row) | Self::Both(row) => &row.text,
            Self::Remote(row) => row.text(),
        }
    }
}

/// The first `limit` lines of both listings, which are ordered by the bytes of their texts (backwards if `reverse`).
pub fn merge<'a>(
    local: &'a [LocalRow<'a>],
    remote: &'a [RemoteRow],
    limit: usize,
    reverse: bool,
) -> Vec<Line<'a>> {
    let mut lines = Vec::with_capacity(limit.min(local.len() + remote.len()));
    let mut local = local.iter().peekable();
    let mut remote = remote.iter().peekable();
    while lines.len() < limit {
        let order = match (local.peek(), remote.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(here), Some(there)) => in_order(&here.text, there.text(), reverse),
        };
        let line = match order {
            Ordering::Less => local.next().map(Line::Local),
            Ordering::Greater => remote.next().map(Line::Remote),
            Ordering::Equal => {
                remote.next();
                local.next().map(Line::Both)
            }
        };
        lines.extend(line);
    }
    lines
}

/// Whether `remote`, of which no more is known, is enough for a page: what is still unread of it cannot change the page.
pub fn is_enough(local: &[LocalRow<'_>], remote: &[RemoteRow], limit: usize, reverse: bool) -> bool {
    let Some(last) = remote.last() else { return limit == 0 };
    if remote.len() >= limit {
        return true;
    }
    let before = local.partition_point(|row| in_order(&row.text, last.text(), reverse).is_lt());
    // Those in both are counted once.
    let known = local.get(..before).unwrap_or_default();
    before + remote.len() >= limit && merge(known, remote, limit, reverse).len() >= limit
}

fn in_order(left: &str, right: &str, reverse: bool) -> Ordering {
    let order = left.cmp(right);
    if reverse { order.reverse() } else { order }
}
