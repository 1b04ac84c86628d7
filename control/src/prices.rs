//! What moves and requests cost, by a table of prices. Pure, but for reading the table's file.
//!
//! Used by `swift-s3ctl plan`, and for what a mapping has cost this month.

use std::collections::BTreeMap;
use std::fs::File as DiskFile;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use swift_s3_proto::v1::{RemoteUsage, SizeClass};

const BUILT_IN: &str = include_str!("prices.toml");
/// The class of buckets that say nothing.
pub const STANDARD: &str = "STANDARD";
/// Prices are per GB of this many bytes.
const GB: f64 = 1e9;
/// The largest table that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Prices. Those of a file replace single ones of the table that is built in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    /// Of all prices, such as `USD`.
    pub currency: String,
    /// The day of the table.
    pub as_of: String,
    /// Where it is from.
    pub source: String,
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
pub struct Load {
    /// Objects that are stored then.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests that store an object.
    pub puts: u64,
    /// Requests that store a part of one.
    pub parts: u64,
    /// Requests that list.
    pub lists: u64,
    /// Objects that are only asked for.
    pub checks: u64,
    /// Objects of at most 128 KiB.
    pub small_objects: u64,
    /// Their bytes.
    pub small_bytes: u64,
}

/// What it costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// The requests, once.
    pub requests: f64,
    /// What is stored, each month.
    pub storage_per_month: f64,
    /// To read all of it back.
    pub egress: f64,
    /// Bytes that are billed beyond those that are stored.
    pub padding_bytes: u64,
}

/// The largest class of sizes that counts as small.
const SMALL: u64 = 128 << 10;

impl Load {
    /// Adds the small ones of these classes.
    pub fn add_sizes(&mut self, sizes: &[SizeClass]) {
        for size in sizes.iter().filter(|size| size.up_to_bytes <= SMALL) {
            self.small_objects += size.objects;
            self.small_bytes += size.bytes;
        }
    }
}

impl Prices {
    /// The table that is built in.
    #[must_use]
    pub fn built_in() -> Self {
        // A test reads it.
        Self::read(None).unwrap_or_default()
    }

    /// Those built in, with what `file` says in their place.
    ///
    /// # Errors
    /// A sentence, if the file cannot be used.
    pub fn read(file: Option<&Path>) -> Result<Self, String> {
        let built_in = parse(BUILT_IN, "the table that is built in")?;
        let given = match file {
            Some(path) => parse(&text(path)?, &path.display().to_string())?,
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
    #[must_use]
    pub fn cost(&self, load: &Load, class: Option<&str>) -> Option<Cost> {
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

    /// What requests cost, and bytes that were read over the Internet; `None` if the table does not have the storage class. What
    /// is stored costs besides.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "money for people")]
    pub fn of_usage(&self, usage: &RemoteUsage, class: &str) -> Option<f64> {
        let class = self.classes.get(class)?;
        let thousands = |requests: u64| requests as f64 / 1_000.0;
        Some(
            thousands(usage.writes) * class.put_per_1000
                + thousands(usage.lists) * class.list_per_1000
                + thousands(usage.reads) * class.get_per_1000
                + usage.bytes_received as f64 / GB * self.egress_per_gb,
        )
    }

    /// Why small objects are a bad idea in this class. `None`: they are not, or there are none.
    #[must_use]
    pub fn warning(&self, load: &Load, class: Option<&str>) -> Option<String> {
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

fn text(path: &Path) -> Result<String, String> {
    let failed =
        |error: std::io::Error| format!("could not read the price table {}: {error}", path.display());
    let mut text = String::new();
    DiskFile::open(path).map_err(failed)?.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn parse(text: &str, name: &str) -> Result<File, String> {
    let file: File = toml::from_str(text).map_err(|error| format!("{name} cannot be used: {error}"))?;
    let numbers = file
        .classes
        .values()
        .flat_map(|class| {
            [class.put_per_1000, class.list_per_1000, class.get_per_1000, class.storage_per_gb_month]
        })
        .chain(file.egress_per_gb);
    if numbers.into_iter().any(|price| !price.is_finite() || price < 0.0) {
        return Err(format!("{name} cannot be used: expected prices of 0 or more"));
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
    fn what_was_asked_is_priced_and_an_unknown_class_is_not_free() {
        let prices = Prices::read(None).unwrap();
        let usage = RemoteUsage {
            writes: 1_000_000,
            lists: 1_000,
            reads: 10_000,
            deletes: 5_000,
            bytes_sent: 1 << 50,
            bytes_received: 2_000_000_000,
        };
        let cost = prices.of_usage(&usage, STANDARD).unwrap();
        assert!((cost - (5.0 + 0.005 + 0.004 + 0.18)).abs() < 1e-9, "{cost}");
        assert_eq!(prices.of_usage(&RemoteUsage::default(), "GLACIER"), Some(0.0));
        assert_eq!(prices.of_usage(&usage, "COLDLINE"), None);
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
