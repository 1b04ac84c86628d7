//! `explain`: why is this object (not) at the remote?

use swift_s3_proto::v1::{ExplainObjectRequest, ExplainObjectResponse, ObjectFindings, ObjectState};

use super::label;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::Output;
use crate::ctl::table::{Cell, Table, Tone};
use crate::ctl::units::{bytes, date};

/// Reads ACCOUNT/CONTAINER/OBJECT from one argument or from three.
///
/// # Errors
/// Usage.
pub(super) fn parse(words: &[String]) -> Result<ExplainObjectRequest, Failure> {
    let parts: Vec<&str> = match words {
        [path] => path.splitn(3, '/').collect(),
        words => words.iter().map(String::as_str).collect(),
    };
    match parts.as_slice() {
        [account, container, object]
            if !account.is_empty() && !container.is_empty() && !object.is_empty() =>
        {
            Ok(ExplainObjectRequest {
                account: (*account).to_owned(),
                container: (*container).to_owned(),
                object: (*object).to_owned(),
            })
        }
        _ => Err(Failure::usage(format!(
            "found \"{}\", expected ACCOUNT/CONTAINER/OBJECT in one argument, or in three",
            words.join(" ")
        ))),
    }
}

pub(super) async fn run(
    server: &Connection,
    request: ExplainObjectRequest,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let name = format!("{}/{}", label(&request.account, &request.container), request.object);
    let answer = server.call("explain the object", server.status().explain_object(request)).await?;
    if output.is_table() {
        show(&name, &answer, output)?;
    } else {
        output.json(&json::value(&answer)?)?;
    }
    Ok(Exit::Done)
}

fn show(name: &str, answer: &ExplainObjectResponse, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!("{name}: {}", answer.verdict))?;
    if !answer.findings.is_empty() {
        let mut table = Table::new(&[
            "NODE",
            "FIRST",
            "MAPPING",
            "STATE",
            "ROW>",
            "CURSOR>",
            "SWIFT HAS",
            "REMOTE HAS",
            "REMOTE KEY",
            "WHY",
        ]);
        for findings in &answer.findings {
            table.row(row(findings));
        }
        output.raw("\n")?;
        output.raw(&table.render(output.colours()))?;
    }
    if !answer.silent_nodes.is_empty() {
        output.line(&format!("no answer from: {}", answer.silent_nodes.join(", ")))?;
    }
    Ok(())
}

fn state_word(state: ObjectState) -> (&'static str, Tone) {
    match state {
        ObjectState::Unspecified => ("unknown", Tone::Odd),
        ObjectState::NoRow => ("no row", Tone::Odd),
        ObjectState::NotWanted => ("not wanted", Tone::Odd),
        ObjectState::WaitingForAge => ("waits for its age", Tone::Plain),
        ObjectState::Queued => ("queued", Tone::Plain),
        ObjectState::Parked => ("set aside", Tone::Bad),
        ObjectState::Done => ("done", Tone::Good),
        ObjectState::Paused => ("paused", Tone::Odd),
        ObjectState::DeleteHeld => ("delete held", Tone::Bad),
        ObjectState::OwnedElsewhere => ("of another node", Tone::Plain),
    }
}

fn row(findings: &ObjectFindings) -> Vec<Cell> {
    let (word, tone) = state_word(findings.state());
    let swift = findings.row.as_ref().map_or_else(
        || "no row".to_owned(),
        |row| if row.deleted { "tombstone".to_owned() } else { bytes(row.size) },
    );
    let remote = match &findings.remote {
        Some(remote) if remote.exists => {
            format!("{}, {}", bytes(remote.size), date(remote.last_modified.as_ref()))
        }
        Some(_) => "nothing".to_owned(),
        None if findings.remote_trouble.is_empty() => "unknown".to_owned(),
        None => format!("unknown: {}", findings.remote_trouble),
    };
    vec![
        findings.node_id.as_str().into(),
        if findings.is_owner { "yes" } else { "no" }.into(),
        findings.mapping_id.as_str().into(),
        Cell::toned(word, tone),
        findings.row.as_ref().map_or_else(String::new, |row| row.rowid.to_string()).into(),
        findings.cursor.to_string().into(),
        swift.into(),
        remote.into(),
        findings.remote_key.as_str().into(),
        findings.explanation.as_str().into(),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(words: &[&str]) -> Result<(String, String, String), Failure> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words).map(|request| (request.account, request.container, request.object))
    }

    #[test]
    fn objects_are_named_in_one_word_or_three() {
        let object = |name: &str| ("AUTH_a".to_owned(), "c".to_owned(), name.to_owned());
        assert_eq!(words(&["AUTH_a/c/d/e f"]).unwrap(), object("d/e f"));
        assert_eq!(words(&["AUTH_a/c//x"]).unwrap(), object("/x"));
        assert_eq!(words(&["AUTH_a", "c", "d/e"]).unwrap(), object("d/e"));
        for wrong in [&["AUTH_a/c"][..], &["AUTH_a/c/"], &["/c/o"], &["a", "b"], &["a", "", "o"]] {
            assert!(words(wrong).is_err(), "{wrong:?}");
        }
    }
}
