//! The merged listing as Swift writes listings.
//!
//! Source: swift/common/middleware/listing_formats.py, swift/container/server.py (`create_listing`); Python's `json.dumps` and
//! `xml.etree.ElementTree`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use swift_s3_store::{Entry, ObjectEntry};

use super::format::Format;
use super::merge::Line;
use super::rows::{NotAListing, Text};

/// What S3 does not tell in its listings.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Bytes of a line whose texts are short.
const USUAL_LINE: usize = 256;

/// Writes a page. `container` is the local container's name, `location` what `content_location` calls the remote.
///
/// # Errors
/// When a line of Swift's own lacks what XML needs.
pub fn render(
    format: Format,
    lines: &[Line<'_>],
    container: &str,
    location: &str,
) -> Result<String, NotAListing> {
    match format {
        Format::Text => Ok(text(lines)),
        Format::Json => Ok(json(lines, location)),
        Format::Xml | Format::TextXml => xml(lines, container),
    }
}

fn text(lines: &[Line<'_>]) -> String {
    let mut out = String::with_capacity(lines.iter().map(|line| line.text().len() + 1).sum());
    for line in lines {
        out.push_str(line.text());
        out.push('\n');
    }
    out
}

fn json(lines: &[Line<'_>], location: &str) -> String {
    let mut location_text = String::new();
    push_json(&mut location_text, location);
    let mut out = String::with_capacity(lines.len() * USUAL_LINE);
    out.push('[');
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            out.push_str(", ");
        }
        match line {
            Line::Local(row) => out.push_str(row.raw),
            Line::Both(row) => {
                let open = row.raw.strip_suffix('}').unwrap_or(row.raw).trim_end();
                out.push_str(open);
                out.push_str(", \"content_location\": [");
                out.push_str(&location_text);
                out.push_str(", \"swift\"]}");
            }
            Line::Remote(row) => {
                push_remote(&mut out, row.entry(), row.text());
                out.push_str(", \"content_location\": [");
                out.push_str(&location_text);
                out.push_str("]}");
            }
        }
    }
    out.push(']');
    out
}

/// A line of the remote's, without its end.
fn push_remote(out: &mut String, entry: &Entry, text: &str) {
    match entry {
        Entry::Folder(_) => {
            out.push_str("{\"subdir\": ");
            push_json(out, text);
        }
        Entry::Object(object) => {
            let _ = write!(out, "{{\"bytes\": {}, \"hash\": ", object.length);
            push_json(out, object.etag.as_deref().unwrap_or_default());
            out.push_str(", \"name\": ");
            push_json(out, text);
            out.push_str(", \"content_type\": ");
            push_json(out, content_type(object));
            let _ = write!(out, ", \"last_modified\": \"{}\"", IsoTime(object.last_modified));
            if let Some(etag) = &object.slo_etag {
                out.push_str(", \"slo_etag\": ");
                push_json(out, &format!("\"{etag}\""));
            }
        }
    }
}

fn content_type(object: &ObjectEntry) -> &str {
    object.content_type.as_deref().unwrap_or(UNKNOWN_TYPE)
}

/// A text as `json.dumps` writes it: in ASCII.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// What XML shows of a line of Swift's.
#[derive(Deserialize)]
struct LocalFields<'a> {
    #[serde(borrow)]
    hash: Text<'a>,
    bytes: u64,
    #[serde(borrow)]
    content_type: Text<'a>,
    #[serde(borrow)]
    last_modified: Text<'a>,
}

fn xml(lines: &[Line<'_>], container: &str) -> Result<String, NotAListing> {
    let mut out = String::with_capacity(lines.len() * USUAL_LINE + 128);
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<container name=\"");
    push_attribute(&mut out, container);
    if lines.is_empty() {
        out.push_str("\" />");
        return Ok(out);
    }
    out.push_str("\">");
    for line in lines {
        match line {
            Line::Local(row) | Line::Both(row) if row.is_folder => push_folder(&mut out, &row.text),
            Line::Local(row) | Line::Both(row) => {
                let fields: LocalFields<'_> = serde_json::from_str(row.raw).map_err(|_| NotAListing)?;
                push_object(
                    &mut out,
                    &row.text,
                    &fields.hash.0,
                    fields.bytes,
                    &fields.content_type.0,
                    &fields.last_modified.0,
                );
            }
            Line::Remote(row) => match row.entry() {
                Entry::Folder(_) => push_folder(&mut out, row.text()),
                Entry::Object(object) => push_object(
                    &mut out,
                    row.text(),
                    object.etag.as_deref().unwrap_or_default(),
                    object.length,
                    content_type(object),
                    &IsoTime(object.last_modified).to_string(),
                ),
            },
        }
    }
    out.push_str("</container>");
    Ok(out)
}

fn push_folder(out: &mut String, text: &str) {
    out.push_str("<subdir name=\"");
    push_attribute(out, text);
    out.push_str("\">");
    push_element(out, "name", text);
    out.push_str("</subdir>");
}

fn push_object(out: &mut String, name: &str, hash: &str, bytes: u64, content_type: &str, modified: &str) {
    out.push_str("<object>");
    push_element(out, "name", name);
    push_element(out, "hash", hash);
    push_element(out, "bytes", &bytes.to_string());
    push_element(out, "content_type", content_type);
    push_element(out, "last_modified", modified);
    out.push_str("</object>");
}

fn push_element(out: &mut String, tag: &str, text: &str) {
    if text.is_empty() {
        let _ = write!(out, "<{tag} />");
        return;
    }
    let _ = write!(out, "<{tag}>{}</{tag}>", escaped(text, &['&', '<', '>']));
}

fn push_attribute(out: &mut String, text: &str) {
    out.push_str(&escaped(text, &['&', '<', '>', '"', '\r', '\n', '\t']));
}

fn escaped<'t>(text: &'t str, special: &[char]) -> Cow<'t, str> {
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if !special.contains(&character) {
            out.push(character);
            continue;
        }
        out.push_str(match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\r' => "&#13;",
            '\n' => "&#10;",
            _ => "&#09;",
        });
    }
    Cow::Owned(out)
}

/// A time such as `2024-02-29T10:11:12.345670`; of an unknown one the first there is.
struct IsoTime(Option<SystemTime>);

impl std::fmt::Display for IsoTime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let since = since.unwrap_or(Duration::ZERO);
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        write!(
            formatter,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}",
            second / 3600,
            second / 60 % 60,
            second % 60,
            since.subsec_micros()
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days.saturating_add(719_468);
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}
