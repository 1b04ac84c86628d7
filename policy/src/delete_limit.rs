//! When so many deletes come at once that somebody should look before they reach the remote.

use std::time::Duration;

/// The delete limit of a mapping. Deletes are held when there are many *and* they are a large part of the container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeleteLimit {
    /// Deletes that are always let through, within `per`.
    pub count: u64,
    /// The part of the container that may be deleted, from 0 to 1.
    pub ratio: f64,
    /// Over which time deletes are counted.
    pub per: Duration,
}

impl Default for DeleteLimit {
    fn default() -> Self {
        Self { count: 1000, ratio: 0.5, per: Duration::from_secs(3600) }
    }
}

impl DeleteLimit {
    /// Whether deletes are to be held, after `deletes` of them within `per`, when `objects_left` of `objects_before` are left.
    pub fn holds(&self, deletes: u64, objects_before: u64, objects_left: u64) -> bool {
        deletes > self.count && self.is_exceeded(objects_before, objects_left)
    }

    /// Whether a larger part of the container is gone than may be.
    pub fn is_exceeded(&self, objects_before: u64, objects_left: u64) -> bool {
        let lost = objects_before.saturating_sub(objects_left);
        objects_before > 0 && lost as f64 / objects_before as f64 > self.ratio
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use serde_json::{Value, json};

    use super::*;
    use crate::sync_config::parse_sync_config;

    /// The delete limit of a mapping that is configured so, or the problem with it.
    fn parse(limit: Option<Value>) -> Result<Option<DeleteLimit>, String> {
        let mut mapping = json!({"account": "a", "container": "c", "aws_bucket": "b"});
        if let Some(limit) = limit {
            mapping["delete_limit"] = limit;
        }
        let document =
            json!({"devices": "/d", "status_dir": "/s", "items_chunk": 1, "containers": [mapping]});
        match parse_sync_config(&document.to_string()) {
            Ok(parsed) => {
                assert_eq!(parsed.warnings, []);
                Ok(parsed.config.mappings[0].delete_limit)
            }
            Err(problems) => {
                assert_eq!(problems.len(), 1, "{problems:?}");
                Err(problems[0].to_string())
            }
        }
    }

    #[test]
    fn there_is_a_limit_unless_it_is_switched_off() {
        let of =
            |count, ratio, seconds| Ok(Some(DeleteLimit { count, ratio, per: Duration::from_secs(seconds) }));
        for (configured, expected) in [
            (None, of(1000, 0.5, 3600)),
            (Some(json!(null)), of(1000, 0.5, 3600)),
            (Some(json!({})), of(1000, 0.5, 3600)),
            (Some(json!(false)), Ok(None)),
            (Some(json!({"count": 0, "ratio": 0, "per": 1})), of(0, 0.0, 1)),
            (Some(json!({"count": 5, "ratio": 1.0, "per": 2_592_000})), of(5, 1.0, 2_592_000)),
            (Some(json!({"ratio": 0.25})), of(1000, 0.25, 3600)),
        ] {
            assert_eq!(parse(configured.clone()), expected, "{configured:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_path() {
        for (configured, expected) in [
            (json!(true), "containers[0].delete_limit: found true; allowed: false, or an object"),
            (json!(5), "containers[0].delete_limit: found 5;"),
            (json!({"count": -1}), "containers[0].delete_limit.count: found -1; allowed: a whole number"),
            (
                json!({"ratio": 1.01}),
                "containers[0].delete_limit.ratio: found 1.01; allowed: a number from 0 to 1",
            ),
            (json!({"ratio": "half"}), "containers[0].delete_limit.ratio: found \"half\";"),
            (json!({"per": 0}), "containers[0].delete_limit.per: found 0;"),
            (
                json!({"per": 0.5}),
                "containers[0].delete_limit.per: found 0.5 seconds; allowed: a number of seconds from 1",
            ),
            (json!({"per": 2_592_001}), "containers[0].delete_limit.per: found 2592001 seconds;"),
        ] {
            let problem = parse(Some(configured)).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }

    #[test]
    fn a_container_that_does_not_shrink_loses_nothing() {
        assert!(!DeleteLimit::default().holds(1_000_000, 100, 100));
        assert!(!DeleteLimit::default().holds(1_000_000, 0, 0));
    }

    #[test]
    fn deletes_are_held_when_they_are_many_and_a_large_part() {
        let limit = |count, ratio| DeleteLimit { count, ratio, ..DeleteLimit::default() };
        for (limit, deletes, left, held) in [
            (DeleteLimit::default(), 0, 0, false),
            (DeleteLimit::default(), 1000, 0, false),
            (DeleteLimit::default(), 1001, 0, true),
            (DeleteLimit::default(), 1001, 1000, true),
            (DeleteLimit::default(), 1001, 1001, false),
            (DeleteLimit::default(), 1_000_000, 10_000_000, false),
            (limit(0, 0.0), 0, 0, false),
            (limit(0, 0.0), 1, 1_000_000, true),
            (limit(0, 0.5), 1, 0, true),
            (limit(0, 1.0), u64::MAX, 0, false),
            (limit(u64::MAX, 0.0), u64::MAX, 0, false),
        ] {
            let before = u64::saturating_add(left, deletes);
            assert_eq!(limit.holds(deletes, before, left), held, "{limit:?} {deletes} {left}");
        }
    }
}
