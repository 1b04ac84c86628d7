//! What a comparison prints: a line for each difference as it is found, and the sums at the end.

use serde_json::json;
use swift_s3_proto::v1::{CompareContainerResponse, Difference, DifferenceKind};

use super::state::State;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::{Format, Output, csv_line};
use crate::ctl::table::Tone;
use crate::ctl::text::harmless;
use crate::ctl::units::{bytes, count};

const COLUMNS: [&str; 8] =
    ["kind", "container", "object", "local_bytes", "remote_bytes", "local_etag", "remote_etag", "detail"];

pub(super) fn header(output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Csv => output.raw(&csv_line(&COLUMNS.map(str::to_owned))),
        _ => Ok(()),
    }
}

/// The word of a kind of difference.
fn word(kind: DifferenceKind) -> (&'static str, Tone) {
    match kind {
        DifferenceKind::Unspecified => ("unknown", Tone::Odd),
        DifferenceKind::Missing => ("missing", Tone::Bad),
        DifferenceKind::Different => ("different", Tone::Bad),
        DifferenceKind::Extra => ("extra", Tone::Bad),
        DifferenceKind::Archived => ("archived", Tone::Plain),
        DifferenceKind::Kept => ("kept", Tone::Plain),
        DifferenceKind::Expired => ("expired", Tone::Plain),
        DifferenceKind::Pending => ("pending", Tone::Odd),
        DifferenceKind::NotCompared => ("uncompared", Tone::Odd),
    }
}

/// The differences of a page.
pub(super) fn page(
    container: &str,
    page: &CompareContainerResponse,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut text = String::new();
    for difference in &page.differences {
        match output.format() {
            Format::Table => text.push_str(&line(container, difference, output.colours())),
            Format::Csv => text.push_str(&csv(container, difference, output.is_terminal())),
            Format::Json | Format::Jsonl => {
                let mut value = json::value(difference)?;
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("container".to_owned(), container.into());
                }
                output.json_line(&value)?;
            }
        }
    }
    if text.is_empty() { Ok(()) } else { output.raw(&text) }
}

fn line(container: &str, difference: &Difference, colours: bool) -> String {
    let (word, tone) = word(difference.kind());
    let sizes = match (difference.local_bytes, difference.remote_bytes) {
        (Some(local), Some(remote)) => format!("{} here, {} there", bytes(local), bytes(remote)),
        (Some(local), None) => bytes(local),
        (None, Some(remote)) => bytes(remote),
        (None, None) => String::new(),
    };
    format!(
        "{}  {}  ({sizes}): {}\n",
        tone.paint(&format!("{word:<9}"), colours),
        harmless(&format!("{container}/{}", difference.object)),
        harmless(&difference.detail)
    )
}

fn csv(container: &str, difference: &Difference, is_terminal: bool) -> String {
    let number = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
    let fields = [
        word(difference.kind()).0.to_owned(),
        container.to_owned(),
        difference.object.clone(),
        number(difference.local_bytes),
        number(difference.remote_bytes),
        difference.local_etag.clone(),
        difference.remote_etag.clone(),
        difference.detail.clone(),
    ];
    if is_terminal { csv_line(&fields.map(|field| harmless(&field).into_owned())) } else { csv_line(&fields) }
}

/// The sums.
pub(super) fn summary(state: &State, output: &mut Output) -> Result<(), Failure> {
    let counts = state.counts();
    match output.format() {
        Format::Json | Format::Jsonl => {
            let mut value = serde_json::to_value(counts).unwrap_or_default();
            if let Some(fields) = value.as_object_mut() {
                fields.insert("is_equal".to_owned(), (counts.exit(counts.errors()) == Exit::Done).into());
            }
            output.json_line(&json!({ "mapping_id": state.place().mapping_id, "summary": value }))
        }
        Format::Csv => Ok(()),
        Format::Table => {
            let verdict = match counts.errors() {
                0 if counts.unproven() > 0 => Tone::Odd.paint("not proven equal", output.colours()),
                0 => Tone::Good.paint("equal", output.colours()),
                errors => Tone::Bad.paint(&count(errors, "difference"), output.colours()),
            };
            let mut text = format!(
                "{verdict}: {} in {}, {} here; {} by listing requests\n",
                count(counts.compared, "name"),
                count(counts.containers, "container"),
                bytes(counts.bytes),
                counts.list_requests,
            );
            for (what, number) in [
                ("equal", counts.equal),
                ("of these by size only", counts.size_only),
                ("missing", counts.missing),
                ("different", counts.different),
                ("extra", counts.extra),
                ("archived", counts.archived),
                ("kept", counts.kept),
                ("expired", counts.expired),
                ("pending", counts.pending),
                ("not compared", counts.not_compared),
                ("containers deleted meanwhile", counts.gone),
                ("left out by the mapping", counts.excluded),
            ] {
                if number > 0 || matches!(what, "equal" | "missing" | "different" | "extra") {
                    text.push_str(&format!("  {number:>12}  {what}\n"));
                }
            }
            output.raw(&text)
        }
    }
}
