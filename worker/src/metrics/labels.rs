//! Names of mappings as labels, bounded: those that came first, and one word for all others.
//!
//! A name that was told once is told for the life of the process: what was counted under it must not move to another when a mapping
//! goes or comes, or counters would jump and fall.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use opentelemetry::{KeyValue, StringValue, Value};

/// Mappings that are told apart in the life of a process. A mapping has up to some 50 series of one metric: see
/// [`swift_s3_daemon::metrics::MOST_SERIES`].
const MOST: usize = 200;
const NAME: &str = "mapping";
const OTHER: &str = "other";

/// See the module. Clones share the names.
#[derive(Clone, Debug, Default)]
pub(super) struct MappingLabels(Arc<ArcSwap<HashMap<String, StringValue>>>);

impl MappingLabels {
    /// Tells the first of `ids` apart from now on, as far as there is room beside those that were told apart before.
    pub(super) fn keep(&self, ids: &[String]) {
        let known = self.0.load();
        let mut kept = HashMap::clone(&known);
        for id in ids {
            if kept.len() < MOST && !kept.contains_key(id) {
                kept.insert(id.clone(), StringValue::from(Arc::<str>::from(id.as_str())));
            }
        }
        if kept.len() > known.len() {
            self.0.store(Arc::new(kept));
        }
    }

    /// The label of a mapping.
    pub(super) fn of(&self, id: &str) -> KeyValue {
        match self.0.load().get(id) {
            Some(name) => KeyValue::new(NAME, Value::String(name.clone())),
            None => KeyValue::new(NAME, OTHER),
        }
    }

    /// Sums what belongs to mappings with one label; of gauges and observed counters only one value may be told for it.
    pub(super) fn sums<V, T: Default>(
        &self,
        of: impl IntoIterator<Item = (impl AsRef<str>, V)>,
        add: impl Fn(&mut T, V),
    ) -> Vec<(KeyValue, T)> {
        let names = self.0.load();
        let mut sums: HashMap<StringValue, T> = HashMap::new();
        for (id, value) in of {
            let name = names.get(id.as_ref()).cloned().unwrap_or_else(|| OTHER.into());
            add(sums.entry(name).or_default(), value);
        }
        sums.into_iter().map(|(name, sum)| (KeyValue::new(NAME, Value::String(name)), sum)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_beyond_the_bound_share_a_label() {
        let labels = MappingLabels::default();
        let ids: Vec<String> = (0..MOST + 5).map(|number| format!("m{number}")).collect();
        labels.keep(&ids);
        assert_eq!(labels.of("m199"), KeyValue::new(NAME, "m199"));
        assert_eq!(labels.of("m200"), KeyValue::new(NAME, OTHER));
        let sums = labels.sums(ids.into_iter().map(|id| (id, 1_u64)), |sum: &mut u64, one| *sum += one);
        assert_eq!(sums.len(), MOST + 1);
        assert!(sums.contains(&(KeyValue::new(NAME, OTHER), 5)));
    }

    #[test]
    fn what_was_counted_under_a_name_stays_there_when_mappings_come_and_go() {
        let labels = MappingLabels::default();
        let counted = || labels.sums([("m", 1_000_u64)], |sum: &mut u64, one| *sum += one);
        labels.keep(&["m".to_owned()]);
        let first = counted();
        assert_eq!(first, [(KeyValue::new(NAME, "m"), 1_000)]);
        for ids in [vec![], vec!["n".to_owned()], vec!["n".to_owned(), "m".to_owned()]] {
            labels.keep(&ids);
            assert_eq!(counted(), first, "{ids:?}");
        }
    }
}
