#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn pattern(pattern: &str) -> ExcludePattern {
    ExcludePattern::parse(pattern).unwrap().unwrap()
}

#[test]
fn the_match_is_anchored_at_the_start_only() {
    let segments = pattern("seg");
    assert!(segments.excludes("segments/1"));
    assert!(segments.excludes("seg"));
    assert!(!segments.excludes("my-seg"));
    // Both alternatives are anchored.
    let either = pattern("a|b");
    assert!(either.excludes("b1") && !either.excludes("1b"));
    let anchored = pattern("^seg");
    assert!(anchored.excludes("segments") && !anchored.excludes("my\nseg"));
}

#[test]
fn default_and_empty_patterns_exclude_nothing() {
    assert!(ExcludePattern::parse("").unwrap().is_none());
    assert!(ExcludePattern::parse("^$").unwrap().is_none());
}

#[test]
fn names_and_patterns_are_unicode_text() {
    assert!(pattern("é+/").excludes("éé/x"));
    assert!(pattern("(?i)É").excludes("é"));
    assert!(pattern(r"\w+$").excludes("größe"));
}

/// Each line was tried with Python 3.11's `re.match`.
#[test]
fn pythons_dialect_is_understood() {
    for (text, name, excluded) in [
        (".*/$", "a/", true),
        (".*/$", "a/\n", true),
        (".*/$", "a/\n\n", false),
        (".*/$", "a/\nb", false),
        (r".*/\Z", "a/", true),
        (r".*/\Z", "a/\n", false),
        ("(?m)a$", "a\nb", true),
        ("(?im:a$)", "A\nb", true),
        ("a$b", "ab", false),
        (r"a\$b", "a$b", true),
        ("[$]", "$", true),
        (r"(?P<word>\w+)-(?P=word)$", "ab-ab", true),
        (r"(?P<word>\w+)-(?P=word)$", "ab-cd", false),
        (r"(a)(b)\2\1$", "abba", true),
        (r"(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)\10$", "abcdefghijj", true),
        (r"(a)\1\060", "aa0", true),
        ("(?!keep/)", "drop/x", true),
        ("(?!keep/)", "keep/x", false),
        (".*(?<=/tmp)", "a/tmp/b", true),
        ("(?x) a b  # comment", "ab", true),
        (r"(?x) a\ b", "a b", true),
        ("(?#comment with $)a", "a", true),
        ("a{,2}b", "aab", true),
        ("a{,2}b", "aaab", false),
        ("a{2}$", "aa", true),
        ("a{1,}$", "aaa", true),
        ("{x}", "{x}", true),
        ("a{}", "a{}", true),
        ("a{1", "a{1", true),
        ("[[]x", "[x", true),
        ("[]x]+$", "]x]", true),
        ("[^]]", "]", false),
        ("[a&&b]$", "&", true),
        ("[a~~b]$", "~", true),
        ("[+-]$", "-", true),
        (r"[\b]", "\u{8}", true),
        (r"a\012", "a\n", true),
        (r"a\0", "a\0", true),
        (r"[\101]", "A", true),
        (r"\.\-\_\@\/\%", ".-_@/%", true),
        (r"\é", "é", true),
        (r"\x41\t", "A\t", true),
        ("a*?$", "aaa", true),
    ] {
        assert_eq!(pattern(text).try_excludes(name), Ok(excluded), "{text} on {name:?}");
    }
}

#[test]
fn broken_and_foreign_patterns_are_refused() {
    for text in [
        "(",
        ")",
        "a)(b",
        "[",
        "[]",
        "*",
        "a\\",
        r"\h",
        r"\p{L}",
        r"\z",
        "[a--b]",
        "(?#open",
        "(?L)a",
        r"\777",
        "(?P<a>x",
        r"[\Z]",
        "(a{1000}){1000}{1000}",
    ] {
        assert!(ExcludePattern::parse(text).is_err(), "{text}");
    }
    assert!(ExcludePattern::parse(&"a".repeat(20_000)).is_err());
}

#[test]
fn a_match_without_end_is_reported_and_excludes_nothing() {
    let hopeless = pattern(r"(a*)*\1b");
    let name = "a".repeat(200);
    let error = hopeless.try_excludes(&name).unwrap_err();
    assert!(error.to_string().contains("exclude pattern"), "{error}");
    assert!(!hopeless.excludes(&name));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_pattern_panics(text in r"[\[\](){}?*+|^$\\a-dZm0-3,&~:#<>=P! -]{0,16}", name in "[a-d\n]{0,6}") {
        if let Ok(Some(exclude)) = ExcludePattern::parse(&text) {
            let _ = exclude.try_excludes(&name);
        }
    }

    #[test]
    fn a_literal_name_excludes_exactly_what_starts_with_it(literal in "[a-z/]{1,6}", name in "[a-z/]{0,8}") {
        prop_assert_eq!(pattern(&literal).excludes(&name), name.starts_with(&literal));
    }
}
