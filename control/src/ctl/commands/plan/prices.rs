//! What a move costs, by a table of prices. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::SizeClass;

use crate::ctl::failure::Failure;
use crate::ctl::settings::read_small;

const BUILT_IN: &str = include_str!("prices.toml");
/// The class of buckets that say nothing.
const STANDARD: &str = "STANDARD";
/// Prices are per GB of this many bytes.
const GB: f64 = 1e9;

/// Prices. Those of a file replace single ones of the table that is built in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prices {
    pub(super) currency: String,
    pub(super) as_of: String,
    pub(super) source: String,
    egress_per_gb: f64,
    classes: BTreeMap<String, Class>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    currency: Option<String>,
    as_of: Option<String>,
    source: Option<String>,
    egress_per_gb: Option<f64>,
    #[serde(default)]
    classes: BTreeMap<String, Class>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    put_per_1000: f64,
    list_per_1000: f64,
    storage_per_gb_month: f64,
    #[serde(default)]
    minimum_bytes: u64,
    #[serde(default)]
    overhead_bytes: u64,
    #[serde(default)]
    overhead_standard_bytes: u64,
    #[serde(default)]
    get_per_1000: f64,
}

/// What is to be moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Load {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    pub(super) puts: u64,
    pub(super) parts: u64,
    pub(super) lists: u64,
    /// Objects that are only asked for.
    pub(super) checks: u64,
    /// Objects of at most 128 KiB, and their bytes.
    pub(super) small_objects: u64,
    pub(super) small_bytes: u64,
}

/// What it costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) requests: f64,
    pub(super) storage_per_month: f64,
    /// To read all of it back.
    pub(super) egress: f64,
    /// Bytes that are billed beyond those that are stored.
    pub(super) padding_bytes: u64,
}

/// The largest class of sizes that counts as small.
const SMALL: u64 = 128 << 10;

impl Load {
    /// Adds the small ones of these classes.
    pub(super) fn add_sizes(&mut self, sizes: &[SizeClass]) {
        for size in sizes.iter().filter(|size| size.up_to_bytes <= SMALL) {
            self.small_objects += size.objects;
            self.small_bytes += size.bytes;
        }
    }
}

impl Prices {
    /// Those built in, with what `file` says in their place.
    ///
    /// # Errors
    /// Usage, if the file cannot be used.
    pub(super) fn read(file: Option<&Path>) -> Result<Self, Failure> {
        let built_in = parse(BUILT_IN, "the table that is built in")?;
        let given = match file {
            Some(path) => {
                let text = read_small(path, "price table")?;
                parse(&text, &path.display().to_string())?
            }
            None => File::default(),
        };
        let says_nothing = given.source.is_none();
        let mut classes = built_in.classes;
        classes.extend(given.classes);
        let or = |given: Option<String>, built_in: Option<String>| given.or(built_in).unwrap_or_default();
        let source = match file {
            Some(path) if says_nothing => path.display().to_string(),
            _ => or(given.source, built_in.source),
        };
        Ok(Self {
            currency: or(given.currency, built_in.currency),
            as_of: or(given.as_of, built_in.as_of),
            source,
            egress_per_gb: given.egress_per_gb.or(built_in.egress_per_gb).unwrap_or_default(),
            classes,
        })
    }

    /// What the load costs in a storage class; `None` if the table does not have it.
    #[expect(clippy::cast_precision_loss, reason = "money for people")]
    pub(super) fn cost(&self, load: &Load, class: Option<&str>) -> Option<Cost> {
        let class = self.classes.get(class.unwrap_or(STANDARD))?;
        let padding_bytes = padding(load, class);
        let of_standard = load.objects.saturating_mul(class.overhead_standard_bytes);
        let of_class = load.bytes.saturating_add(padding_bytes.saturating_sub(of_standard));
        let standard = self.classes.get(STANDARD).map_or(0.0, |class| class.storage_per_gb_month);
        let puts = (load.puts + load.parts) as f64 / 1_000.0;
        Some(Cost {
            requests: puts * class.put_per_1000
                + load.lists as f64 / 1_000.0 * class.list_per_1000
                + load.checks as f64 / 1_000.0 * class.get_per_1000,
            storage_per_month: of_class as f64 / GB * class.storage_per_gb_month
                + of_standard as f64 / GB * standard,
            egress: load.bytes as f64 / GB * self.egress_per_gb,
            padding_bytes,
        })
    }

    /// Why small objects are a bad idea in this class. `None`: they are not, or there are none.
    pub(super) fn warning(&self, load: &Load, class: Option<&str>) -> Option<String> {
        let name = class.unwrap_or(STANDARD);
        let class = self.classes.get(name)?;
        let padding = padding(load, class);
        if padding == 0 || load.small_objects == 0 {
            return None;
        }
        let how = if class.minimum_bytes > 0 {
            format!("are billed as {} bytes each", class.minimum_bytes)
        } else {
            let more = class.overhead_bytes.saturating_add(class.overhead_standard_bytes);
            format!("are billed with {more} bytes more each")
        };
        Some(format!("{} objects of at most 128 KiB in {name} {how}", load.small_objects))
    }
}

fn padding(load: &Load, class: &Class) -> u64 {
    let minimum = load.small_objects.saturating_mul(class.minimum_bytes);
    let shortfall = if class.minimum_bytes > 0 { minimum.saturating_sub(load.small_bytes) } else { 0 };
    let overhead = class.overhead_bytes.saturating_add(class.overhead_standard_bytes);
    shortfall.saturating_add(load.objects.saturating_mul(overhead))
}

fn parse(text: &str, name: &str) -> Result<File, Failure> {
    let file: File =
        toml::from_str(text).map_err(|error| Failure::usage(format!("{name} cannot be used: {error}")))?;
    let numbers = file
        .classes
        .values()
        .flat_map(|class| {
            [class.put_per_1000, class.list_per_1000, class.get_per_1000, class.storage_per_gb_month]
        })
        .chain(file.egress_per_gb);
    if numbers.into_iter().any(|price| !price.is_finite() || price < 0.0) {
        return Err(Failure::usage(format!("{name} cannot be used: expected prices of 0 or more")));
    }
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load {
            objects: 2_000,
            bytes: 10_000_000_000,
            puts: 2_000,
            parts: 0,
            lists: 2,
            checks: 0,
            small_objects: 1_000,
            small_bytes: 1_000_000,
        }
    }

    #[test]
    fn requests_and_storage_are_priced_by_class() {
        let prices = Prices::read(None).unwrap();
        let cost = prices.cost(&load(), None).unwrap();
        assert!((cost.requests - 0.01001).abs() < 1e-9, "{cost:?}");
        assert!((cost.storage_per_month - 0.23).abs() < 1e-9, "{cost:?}");
        assert!((cost.egress - 0.9).abs() < 1e-9, "{cost:?}");
        assert_eq!(prices.cost(&load(), Some("COLDLINE")), None);
        let checking = Load { checks: 1_000_000, puts: 0, lists: 0, ..load() };
        assert!((prices.cost(&checking, None).unwrap().requests - 0.4).abs() < 1e-9);
    }

    #[test]
    fn an_archived_object_has_a_part_that_is_billed_as_standard() {
        let prices = Prices::read(None).unwrap();
        let load = Load { objects: 1_000_000, ..Load::default() };
        let cost = prices.cost(&load, Some("DEEP_ARCHIVE")).unwrap();
        assert!((cost.storage_per_month - (32.768 * 0.00099 + 8.192 * 0.023)).abs() < 1e-9, "{cost:?}");
    }

    #[test]
    fn small_objects_cost_more_than_their_bytes_in_some_classes() {
        let prices = Prices::read(None).unwrap();
        assert_eq!(prices.cost(&load(), Some("STANDARD_IA")).unwrap().padding_bytes, 131_072_000 - 1_000_000);
        assert_eq!(prices.cost(&load(), Some("DEEP_ARCHIVE")).unwrap().padding_bytes, 2_000 * 40_960);
        assert!(prices.warning(&load(), Some("STANDARD_IA")).unwrap().contains("1000 objects"));
        assert_eq!(prices.warning(&load(), None), None);
        let large = Load { small_objects: 0, small_bytes: 0, ..load() };
        assert_eq!(prices.warning(&large, Some("STANDARD_IA")), None);
    }

    #[test]
    fn a_file_replaces_single_prices() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prices.toml");
        std::fs::write(
            &path,
            "currency = \"EUR\"\n[classes.STANDARD]\nput_per_1000 = 1.0\nlist_per_1000 = 0.0\nstorage_per_gb_month = 0.0\n",
        )
        .unwrap();
        let prices = Prices::read(Some(&path)).unwrap();
        assert_eq!((prices.currency.as_str(), prices.source), ("EUR", path.display().to_string()));
        assert_eq!(Prices::read(Some(&path)).unwrap().cost(&load(), None).unwrap().requests, 2.0);
        assert!(prices.classes.contains_key("GLACIER"), "the others stay");
        std::fs::write(&path, "egress_per_gb = -1.0").unwrap();
        assert!(Prices::read(Some(&path)).is_err());
        std::fs::write(&path, "curency = \"EUR\"").unwrap();
        assert!(Prices::read(Some(&path)).is_err());
    }
}
