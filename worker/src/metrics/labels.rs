//! Names of mappings as labels, bounded: the first of them in the order of the configuration, and one word for all others.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use opentelemetry::{KeyValue, StringValue, Value};

/// Mappings that are told apart. A mapping has some ten series of its own.
const MOST: usize = 200;
const NAME: &str = "mapping";
const OTHER: &str = "other";

/// See the module. Clones share the names.
#[derive(Clone, Debug, Default)]
pub(super) struct MappingLabels(Arc<ArcSwap<HashMap<String, StringValue>>>);

impl MappingLabels {
    /// Tells the first of `ids` apart from now on.
    pub(super) fn keep(&self, ids: &[String]) {
        let kept =
            ids.iter().take(MOST).map(|id| (id.clone(), StringValue::from(Arc::<str>::from(id.as_str()))));
        self.0.store(Arc::new(kept.collect()));
    }

    /// The label of a mapping.
    pub(super) fn of(&self, id: &str) -> KeyValue {
        match self.0.load().get(id) {
            Some(name) => KeyValue::new(NAME, Value::String(name.clone())),
            None => KeyValue::new(NAME, OTHER),
        }
    }

    /// Sums what belongs to mappings with one label; of gauges and observed counters only one value may be told for it.
    pub(super) fn sums<T: Default>(
        &self,
        of: impl IntoIterator<Item = (String, T)>,
        add: impl Fn(&mut T, T),
    ) -> Vec<(KeyValue, T)> {
        let names = self.0.load();
        let mut sums: HashMap<StringValue, T> = HashMap::new();
        for (id, value) in of {
            let name = names.get(&id).cloned().unwrap_or_else(|| OTHER.into());
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
        let sums = labels.sums(ids.into_iter().map(|id| (id, 1_u64)), |sum, one| *sum += one);
        assert_eq!(sums.len(), MOST + 1);
        assert!(sums.contains(&(KeyValue::new(NAME, OTHER), 5)));
    }
}
