//! Every key of `sync.json`.

use swift_s3_policy::sync_config::keys::{
    Change, DELETE_LIMIT, Fallback, GLOBAL, Key, LIMITS, MAPPING, Remotes, SYSLOG, Since, TIMETABLE,
};

use super::{MADE, table};

const INTRODUCTION: &str = "\
Every key that may stand in `sync.json`. What belongs together, and how, is in [configuration](../configuration.md).

| a change | is in force |
|---|---|
| live | with SIGHUP, or as soon as a control plane has pushed it. Transfers under way finish with what they began with |
| compared | the same; the mapping is another one then, and its containers are compared with the remote from their first row on, by listings. \
Only what differs is sent |
| restart | with the next start; the log says so, and the old value stays until then |
| none | never: the key has no effect here |

Since: \u{201c}Python\u{201d} is what the Python daemon had already, with the same meaning and default; else the version of this program that brought it.
";

/// The page.
pub(super) fn page() -> String {
    let mapping = |remotes: Remotes| {
        let keys: Vec<Key> = MAPPING.iter().filter(|key| key.remotes == remotes).copied().collect();
        keys_of(&keys)
    };
    [
        format!("# Keys of the configuration\n\n{MADE}\n\n{INTRODUCTION}"),
        section("The document", "", &keys_of(&GLOBAL)),
        section(
            "Mappings",
            "Elements of `containers`. These are for remotes of both kinds:",
            &mapping(Remotes::All),
        ),
        section(
            "Mappings to S3",
            "These have no effect on Swift remotes; a warning names them.",
            &mapping(Remotes::S3),
        ),
        section(
            "Mappings to another Swift cluster",
            "These have no effect on S3 remotes; a warning names them.",
            &mapping(Remotes::Swift),
        ),
        section(
            "limits",
            "At top level for all mappings together, in a mapping for that one. Both hold; \
             [more](../configuration.md#limits).",
            &keys_of(&LIMITS),
        ),
        section("limits.timetable", "", &keys_of(&TIMETABLE)),
        section(
            "delete_limit",
            "[What it is for](../configuration.md#delete_limit).",
            &keys_of(&DELETE_LIMIT),
        ),
        section("syslog", "", &keys_of(&SYSLOG)),
    ]
    .join("\n")
}

fn section(title: &str, text: &str, table: &str) -> String {
    let text = if text.is_empty() { String::new() } else { format!("{text}\n\n") };
    format!("## {title}\n\n{text}{table}")
}

fn keys_of(keys: &[Key]) -> String {
    let rows = keys.iter().map(|key| {
        vec![
            format!("`{}`", key.name),
            key.kind.to_owned(),
            match key.fallback {
                Fallback::Required => "**required**".to_owned(),
                Fallback::Value(value) => format!("`{value}`"),
                Fallback::Words(words) => words.to_owned(),
            },
            match key.change {
                Change::Live => "live",
                Change::Compared => "compared",
                Change::Restart => "restart",
                Change::Nothing => "none",
            }
            .to_owned(),
            match key.since {
                Since::Predecessor => "Python".to_owned(),
                Since::Version(version) => version.to_owned(),
            },
            key.meaning.to_owned(),
        ]
    });
    table(&["key", "type", "default", "a change", "since", "meaning"], rows)
}
