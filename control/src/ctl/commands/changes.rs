//! Differences between documents, for people.

use swift_s3_proto::v1::{Change, ChangeKind};

use crate::ctl::table::Tone;
use crate::ctl::text::harmless;
use crate::ctl::units::count;

/// One line for each change: `+` is new, `-` is gone, `~` is different.
#[must_use]
pub(super) fn render(changes: &[Change], colours: bool) -> String {
    changes.iter().map(|change| line(change, colours)).collect()
}

fn line(change: &Change, colours: bool) -> String {
    let (sign, tone) = match change.kind() {
        ChangeKind::Added => ("+", Tone::Good),
        ChangeKind::Removed => ("-", Tone::Bad),
        ChangeKind::Changed => ("~", Tone::Odd),
        ChangeKind::Unspecified => ("?", Tone::Plain),
    };
    let mapping = if change.mapping.is_empty() { String::new() } else { format!(" ({})", change.mapping) };
    let values = match (change.before.as_str(), change.after.as_str()) {
        ("", "") => String::new(),
        ("", value) | (value, "") => format!(": {value}"),
        (before, after) => format!(": {before} -> {after}"),
    };
    let text = format!("{sign} {}{mapping}{values}", change.path);
    format!("{}\n", tone.paint(&harmless(&text), colours))
}

/// `3 changes: 1 new, 1 gone, 1 different`
#[must_use]
pub(super) fn summary(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no differences".to_owned();
    }
    let of = |kind| changes.iter().filter(|change| change.kind() == kind).count();
    let parts: Vec<String> = [
        (of(ChangeKind::Added), "new"),
        (of(ChangeKind::Removed), "gone"),
        (of(ChangeKind::Changed), "different"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, word)| format!("{number} {word}"))
    .collect();
    format!("{}: {}", count(changes.len() as u64, "change"), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: ChangeKind, path: &str, mapping: &str, before: &str, after: &str) -> Change {
        Change {
            kind: kind.into(),
            path: path.into(),
            mapping: mapping.into(),
            before: before.into(),
            after: after.into(),
            ..Change::default()
        }
    }

    #[test]
    fn changes_read_as_a_diff() {
        let changes = [
            change(ChangeKind::Changed, "containers[0].copy_after", "AUTH_a/b", "3600", "60"),
            change(ChangeKind::Added, "workers", "", "", "8"),
            change(ChangeKind::Removed, "x\x1b[2J", "", "\"y\"", ""),
        ];
        assert_eq!(
            render(&changes, false),
            "~ containers[0].copy_after (AUTH_a/b): 3600 -> 60\n+ workers: 8\n- x\\x1b[2J: \"y\"\n"
        );
        assert_eq!(summary(&changes), "3 changes: 1 new, 1 gone, 1 different");
        assert_eq!(summary(&[]), "no differences");
        assert!(render(&changes, true).starts_with("\x1b[33m~ containers[0]"));
    }
}
