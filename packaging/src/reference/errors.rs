//! Every error that somebody can meet, and what to do about it.

mod remote;
mod rows;

use super::{MADE, cell, table};
use crate::programs;

const INTRODUCTION: &str = "\
Where something went wrong, one of the words below is told: in the log, in `swift-s3ctl failures`, in metrics, in the web pages. This page says what \
they mean and what to do. What to do when many things fail at once: [runbooks](../runbooks.md).

- [Rows set aside](#rows-set-aside)
- [Requests to remotes](#requests-to-remotes)
- [Answers of the control plane](#answers-of-the-control-plane)
- [Alerts of the control plane](#alerts-of-the-control-plane)
- [Problems of the configuration](#problems-of-the-configuration)
- [Exit codes](#exit-codes)
- [Answers of the shunt](../shunt.md#when-something-fails)
";

const ROWS: &str = "\
A row that fails does not hold the others: it is [set aside](../operations.md#rows-set-aside) with one of these reasons, and tried again by itself. \
`swift-s3ctl failures` lists them; without a control plane the log and the status files have them.
";

const REMOTE: &str = "\
The word in brackets of a failed request (`put failed for \"key\" (denied): AccessDenied, HTTP status 403, request id …`), the same as `outcome` in \
[metrics](metrics.md) and `error.type` in traces.
";

const PROBLEMS: &str = "\
`PATH: found …; allowed: …` (in `swift-s3ctl` `expected …`). The path is the place in the document, such as `containers[3].copy_after`. What is allowed \
for each key: [keys](configuration.md). All problems are told at once, a thousand at most. A file with one problem is refused as a whole where it is the \
only configuration; under a control plane, one mapping with which something is wrong on a node is refused there alone. Warnings have the same form, and \
change nothing. Values of secrets are never shown.
";

/// A word, what it means, and what to do.
pub(super) type Entry = (&'static str, &'static str, &'static str);

/// The page.
pub(super) fn page() -> String {
    [
        format!("# Errors\n\n{MADE}\n\n{INTRODUCTION}"),
        section("Rows set aside", ROWS, "reason", rows::entries()),
        section("Requests to remotes", REMOTE, "word", remote::of_requests()),
        section(
            "Answers of the control plane",
            "The code of a failed call, as gRPC names it.\n",
            "code",
            remote::of_calls(),
        ),
        section(
            "Alerts of the control plane",
            "What `swift-s3ctl status` and the web pages tell in words, and `swift_s3_control.alerts` counts by kind.\n",
            "kind",
            remote::of_alerts(),
        ),
        format!("## Problems of the configuration\n\n{PROBLEMS}"),
        exit_codes(),
    ]
    .join("\n")
}

fn section(title: &str, text: &str, what: &str, entries: Vec<Entry>) -> String {
    let rows = entries
        .into_iter()
        .map(|(word, means, remedy)| vec![format!("`{word}`"), means.to_owned(), remedy.to_owned()]);
    format!("## {title}\n\n{text}\n{}", table(&[what, "what it means", "what to do"], rows))
}

/// What each program says of its exit codes in `--help`.
fn exit_codes() -> String {
    let mut rows = Vec::new();
    for program in programs::all() {
        let name = program.command.get_name().to_owned();
        let notes = program.command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for (code, meaning) in codes(&notes) {
            rows.push(vec![format!("`{name}`"), code, meaning]);
        }
    }
    format!("## Exit codes\n\n{}", table(&["program", "code", "meaning"], rows))
}

/// The lines below `Exit status:`, each a number and a text that may go on in the next line.
fn codes(notes: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let lines = notes.lines().skip_while(|line| *line != "Exit status:").skip(1);
    for line in lines.take_while(|line| !line.trim().is_empty()) {
        let text = line.trim();
        match text.split_once("  ") {
            Some((code, meaning)) if code.parse::<u8>().is_ok() => {
                found.push((code.to_owned(), cell(meaning)));
            }
            _ => {
                if let Some((_, meaning)) = found.last_mut() {
                    meaning.push(' ');
                    meaning.push_str(text);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_read_from_the_help() {
        let notes =
            "Signals:\n  1  no\n\nExit status:\n  0  done\n  2  wrong usage,\n     or worse\n\nmore\n  3  no";
        let expected = [("0", "done"), ("2", "wrong usage, or worse")];
        assert_eq!(codes(notes), expected.map(|(code, meaning)| (code.to_owned(), meaning.to_owned())));
    }
}
