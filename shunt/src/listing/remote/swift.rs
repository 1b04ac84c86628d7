//! The walk through a container of another Swift cluster.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use swift_s3_policy::KeyMapping;
use swift_s3_store::{EntryQuery, EntryStart, ObjectStore, StoreError};

use super::{Pages, is_possible};
use crate::listing::params::Level;
use crate::listing::rows::RemoteRow;

/// The most entries that a cluster gives at once, unless it was configured to give more or less.
const MAX_PAGE: usize = 10_000;

/// See the module.
pub(super) struct SwiftWalk {
    store: Arc<dyn ObjectStore>,
    keys: KeyMapping,
    level: Level,
    from: EntryStart,
    wanted: usize,
    is_over: bool,
}

impl SwiftWalk {
    pub(super) fn new(store: Arc<dyn ObjectStore>, keys: KeyMapping, level: Level, limit: usize) -> Self {
        let start = if level.reverse { &level.high } else { &level.low };
        let from =
            start.as_deref().map_or(EntryStart::First, |name| EntryStart::After(keys.object_key(name)));
        Self { store, keys, level, from, wanted: limit, is_over: false }
    }

    pub(super) fn pages(self) -> Pages {
        stream::try_unfold(self, |mut walk| async move {
            while !walk.is_over && walk.wanted > 0 {
                let rows = walk.page().await?;
                if !rows.is_empty() {
                    return Ok(Some((rows, walk)));
                }
            }
            Ok(None)
        })
        .boxed()
    }

    async fn page(&mut self) -> Result<Vec<RemoteRow>, StoreError> {
        let end = if self.level.reverse { &self.level.low } else { &self.level.high };
        let until = end.as_deref().map(|name| self.keys.object_key(name));
        let prefix = format!("{}{}", self.keys.key_prefix(), self.level.prefix);
        let query = EntryQuery {
            prefix: &prefix,
            delimiter: self.level.delimiter.as_deref().filter(|_| !self.level.one_level),
            from: self.from.clone(),
            until: until.as_deref(),
            reverse: self.level.reverse,
            one_level: self.level.one_level,
            max_entries: u16::try_from(self.wanted.min(MAX_PAGE)).unwrap_or(u16::MAX),
        };
        let page = self.store.list_entries(&query).await?;
        let key_prefix = self.keys.key_prefix();
        let rows: Vec<RemoteRow> = page
            .entries
            .into_iter()
            .filter_map(|entry| RemoteRow::new(entry, key_prefix))
            .filter(|row| is_possible(row.text()))
            .collect();
        self.wanted = self.wanted.saturating_sub(rows.len());
        match page.next {
            Some(next) => self.from = next,
            None => self.is_over = true,
        }
        Ok(rows)
    }
}
