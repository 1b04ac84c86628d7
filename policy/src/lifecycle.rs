//! When copies in a bucket expire: one lifecycle rule per mapped container.
//!
//! A bucket's lifecycle configuration is one document that other people edit too, and it is replaced as a
//! whole. So the plan touches nothing but the rule for our own key prefix, and does nothing at all when an
//! enabled rule of somebody else already covers our keys.

use std::time::Duration;

const NANOS_PER_DAY: u128 = 86_400_000_000_000;

/// `remote_delete_after` in whole days, as S3 counts: half a day rounds up, less rounds to 0.
pub fn expiration_days(after: Duration) -> u32 {
    let days = (after.as_nanos() + NANOS_PER_DAY / 2) / NANOS_PER_DAY;
    u32::try_from(days).unwrap_or(u32::MAX)
}

/// What matters of one rule of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifecycleRule {
    /// The rule's name.
    pub id: Option<String>,
    /// Which keys it is about: `Filter.Prefix` (also inside `Filter.And`), else the older `Prefix`. None: all keys.
    pub prefix: Option<String>,
    /// Whether nothing but its prefix says which keys it is about: false where tags or sizes narrow it.
    pub covers_whole: bool,
    /// Whether it is in force.
    pub enabled: bool,
    /// After how many days it deletes current versions, if it does.
    pub days: Option<u32>,
}

/// What to do with a bucket's lifecycle configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecyclePlan {
    /// The rule is there already.
    Keep,
    /// Write all rules back, ours in place of the one at the index, or behind them.
    Write {
        /// Index into the rules that were read.
        replace_index: Option<usize>,
    },
    /// Another enabled rule covers our keys: nothing may be written.
    Conflict {
        /// The name of that rule, or what it covers.
        rule: String,
    },
    /// Less than half a day: S3 cannot express it.
    TooShort,
}

/// Decides about the rule that expires everything under `key_prefix` after `days`.
///
/// Ours is the rule with exactly our prefix. An enabled rule conflicts if it covers our keys: it has a shorter
/// prefix that ours starts with, or none. A rule below our prefix does not conflict. A rule with exactly our
/// prefix that expires nothing and does not bear our name is somebody's transition or clean-up rule; replacing
/// it would lose it, so it conflicts too. So does one with our prefix that tags or sizes narrow: most keys would never expire by it.
pub fn plan_lifecycle(existing: &[LifecycleRule], key_prefix: &str, days: u32) -> LifecyclePlan {
    if days == 0 {
        return LifecyclePlan::TooShort;
    }
    let is_wanted = |rule: &LifecycleRule| {
        rule.enabled
            && rule.covers_whole
            && rule.prefix.as_deref() == Some(key_prefix)
            && rule.days == Some(days)
    };
    if existing.iter().any(is_wanted) {
        return LifecyclePlan::Keep;
    }
    if let Some(rule) = existing.iter().find(|rule| conflicts(rule, key_prefix)) {
        return LifecyclePlan::Conflict { rule: describe(rule) };
    }
    let replace_index = existing.iter().position(|rule| rule.prefix.as_deref() == Some(key_prefix));
    LifecyclePlan::Write { replace_index }
}

/// The rule that [`plan_lifecycle`] once wrote for exactly `key_prefix`, by its index: it bears the prefix as its name, is about nothing
/// else, and expires what is there. Without a prefix our rules have no name of their own, so none is ours.
pub fn own_expiration(existing: &[LifecycleRule], key_prefix: &str) -> Option<usize> {
    existing.iter().position(|rule| {
        !key_prefix.is_empty()
            && rule.id.as_deref() == Some(key_prefix)
            && rule.prefix.as_deref() == Some(key_prefix)
            && rule.covers_whole
            && rule.days.is_some()
    })
}

fn conflicts(rule: &LifecycleRule, key_prefix: &str) -> bool {
    let has_our_name = rule.id.as_deref() == Some(key_prefix);
    match rule.prefix.as_deref() {
        Some(prefix) if prefix == key_prefix => !rule.covers_whole || (rule.days.is_none() && !has_our_name),
        // Names are unique in a bucket: ours could not be written beside it.
        _ if has_our_name => true,
        Some(prefix) => rule.enabled && key_prefix.starts_with(prefix),
        None => rule.enabled,
    }
}

fn describe(rule: &LifecycleRule) -> String {
    match (&rule.id, &rule.prefix) {
        (Some(id), _) => id.clone(),
        (None, Some(prefix)) => format!("unnamed rule for prefix {prefix:?}"),
        (None, None) => "unnamed rule for the whole bucket".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "e5d922/AUTH_test/sync-s3/";

    fn rule(id: &str, prefix: Option<&str>, enabled: bool, days: Option<u32>) -> LifecycleRule {
        let prefix = prefix.map(str::to_owned);
        LifecycleRule { id: Some(id.to_owned()), prefix, covers_whole: true, enabled, days }
    }

    fn narrowed(rule: LifecycleRule) -> LifecycleRule {
        LifecycleRule { covers_whole: false, ..rule }
    }

    fn conflict(rule: &str) -> LifecyclePlan {
        LifecyclePlan::Conflict { rule: rule.to_owned() }
    }

    #[test]
    fn days_round_half_up() {
        for (seconds, days) in [
            (0.0, 0),
            (43_199.0, 0),
            (43_199.999, 0),
            (43_200.0, 1),
            (86_400.0, 1),
            (129_599.0, 1),
            (129_600.0, 2),
            (33.0 * 86_400.0, 33),
        ] {
            assert_eq!(expiration_days(Duration::from_secs_f64(seconds)), days, "{seconds}");
        }
        assert_eq!(expiration_days(Duration::MAX), u32::MAX);
    }

    #[test]
    fn plans_follow_from_the_rules_that_exist() {
        let write = |replace_index| LifecyclePlan::Write { replace_index };
        let unrelated = || rule("logs", Some("logs/"), true, Some(7));
        let cases = [
            (vec![], write(None)),
            (vec![unrelated()], write(None)),
            (vec![rule(OURS, Some(OURS), true, Some(33))], LifecyclePlan::Keep),
            (vec![unrelated(), rule("any", Some(OURS), true, Some(33))], LifecyclePlan::Keep),
            (vec![unrelated(), rule(OURS, Some(OURS), true, Some(5))], write(Some(1))),
            (vec![unrelated(), rule(OURS, Some(OURS), false, Some(33))], write(Some(1))),
            (vec![rule(OURS, Some(OURS), true, None)], write(Some(0))),
            (vec![rule("cold", Some(OURS), true, None)], conflict("cold")),
            (vec![unrelated(), rule("all", None, true, Some(1))], conflict("all")),
            (vec![rule("all", Some(""), true, Some(1))], conflict("all")),
            (vec![rule("parent", Some("e5d922/"), true, None)], conflict("parent")),
            (vec![rule("fakerule", Some(""), false, Some(30_000))], write(None)),
            (vec![rule("off", None, false, Some(1))], write(None)),
            (vec![rule("below", Some("e5d922/AUTH_test/sync-s3/x"), true, Some(1))], write(None)),
            (vec![rule("sibling", Some("e5d922/AUTH_test/sync-s30/"), true, Some(1))], write(None)),
            (vec![rule(OURS, Some("elsewhere/"), false, Some(1))], conflict(OURS)),
            (vec![narrowed(rule("tagged", Some(OURS), true, Some(33)))], conflict("tagged")),
            (vec![narrowed(rule(OURS, Some(OURS), true, Some(33)))], conflict(OURS)),
            (vec![narrowed(rule("large", Some("e5d922/"), true, Some(33)))], conflict("large")),
            (vec![rule(OURS, Some(OURS), true, Some(5)), rule("all", None, true, Some(9))], conflict("all")),
        ];
        for (existing, plan) in cases {
            assert_eq!(plan_lifecycle(&existing, OURS, 33), plan, "{existing:?}");
        }
    }

    #[test]
    fn only_a_rule_with_our_name_our_prefix_and_an_expiration_is_ours() {
        let stranger = || rule("logs", Some("logs/"), true, Some(7));
        let cases = [
            (vec![], None),
            (vec![stranger(), rule(OURS, Some(OURS), true, Some(33))], Some(1)),
            (vec![rule(OURS, Some(OURS), false, Some(33))], Some(0)),
            (vec![rule(OURS, Some(OURS), true, None)], None),
            (vec![rule("any", Some(OURS), true, Some(33))], None),
            (vec![rule(OURS, Some("elsewhere/"), true, Some(33))], None),
            (vec![rule(OURS, None, true, Some(33))], None),
            (vec![narrowed(rule(OURS, Some(OURS), true, Some(33)))], None),
        ];
        for (existing, own) in cases {
            assert_eq!(own_expiration(&existing, OURS), own, "{existing:?}");
        }
        assert_eq!(own_expiration(&[rule("", Some(""), true, Some(1))], ""), None);
    }

    #[test]
    fn zero_days_are_never_written() {
        assert_eq!(plan_lifecycle(&[], OURS, 0), LifecyclePlan::TooShort);
    }

    #[test]
    fn unnamed_conflicting_rules_are_described() {
        let unnamed = |prefix: Option<&str>| LifecycleRule { id: None, ..rule("", prefix, true, Some(1)) };
        assert_eq!(
            plan_lifecycle(&[unnamed(Some("e5"))], OURS, 1),
            conflict("unnamed rule for prefix \"e5\"")
        );
        assert_eq!(plan_lifecycle(&[unnamed(None)], OURS, 1), conflict("unnamed rule for the whole bucket"));
    }
}
