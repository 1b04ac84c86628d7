//! Which of Swift's three formats a client gets.
//!
//! Source: swift/common/middleware/listing_formats.py (`get_listing_content_type`), swift/common/swob.py (`Accept`).

use http::{HeaderMap, header};

use super::params::Params;

/// The formats of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A name in each line.
    Text,
    /// A list of objects.
    Json,
    /// `application/xml`.
    Xml,
    /// The same, called `text/xml`.
    TextXml,
}

/// In the order in which Swift offers them.
const OFFERED: [(Format, &str, &str); 4] = [
    (Format::Text, "text", "plain"),
    (Format::Json, "application", "json"),
    (Format::Xml, "application", "xml"),
    (Format::TextXml, "text", "xml"),
];

impl Format {
    /// Chooses by the parameter `format` of a query, else by `Accept`. `None`: Swift refuses the request and must be given it as it
    /// is.
    #[must_use]
    pub fn negotiate(query: &str, headers: &HeaderMap) -> Option<Self> {
        // Python reads headers as Latin-1, and joins several.
        let accept: Vec<String> = headers
            .get_all(header::ACCEPT)
            .iter()
            .map(|value| value.as_bytes().iter().copied().map(char::from).collect())
            .collect();
        Self::choose(Params::parse(query)?.format.as_deref(), &accept.join(","))
    }

    /// [`Self::negotiate`] with the values that decide.
    #[must_use]
    pub fn choose(parameter: Option<&str>, accept: &str) -> Option<Self> {
        match parameter {
            Some("json") => Some(Self::Json),
            Some("xml") => Some(Self::Xml),
            None | Some("") => best_match(accept),
            Some(_) => Some(Self::Text),
        }
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
            Self::TextXml => "text/xml; charset=utf-8",
        }
    }
}

/// One media range.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f64,
}

impl Range<'_> {
    fn is_exact(&self) -> bool {
        self.kind != "*" && self.subtype != "*"
    }

    fn fits(&self, kind: &str, subtype: &str) -> bool {
        (self.kind == "*" || self.kind == kind) && (self.subtype == "*" || self.subtype == subtype)
    }
}

fn best_match(accept: &str) -> Option<Format> {
    if accept.is_empty() {
        return Some(Format::Text);
    }
    let mut ranges = Vec::new();
    for element in accept.split(',') {
        ranges.push(range(element)?);
    }
    // Stable, as Swift's sort is: the first of equals wins.
    ranges.sort_by(|left, right| {
        right.quality.total_cmp(&left.quality).then(right.is_exact().cmp(&left.is_exact()))
    });
    let fitting = |range: &Range<'_>| {
        OFFERED.iter().find(|(_, kind, subtype)| range.fits(kind, subtype)).map(|(format, _, _)| *format)
    };
    ranges.iter().find_map(fitting)
}

/// Reads one element of the header; `None` where Swift finds it malformed.
fn range(element: &str) -> Option<Range<'_>> {
    let (kind, rest) = token(element.trim_start())?;
    let (subtype, extensions) = token(rest.strip_prefix('/')?)?;
    let mut rest = extensions;
    while let Some(next) = rest.trim_start().strip_prefix(';') {
        let (_, value) = token(next.trim_start())?;
        let value = value.trim_start().strip_prefix('=')?.trim_start();
        rest = match token(value) {
            Some((_, rest)) => rest,
            None => quoted(value)?,
        };
    }
    if !rest.trim_start().is_empty() {
        return None;
    }
    let mut quality = None;
    // Swift does not look for quotes here.
    for parameter in extensions.split(';').map(str::trim).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').filter(|(_, value)| !value.contains('='))?;
        if name.trim() == "q" {
            let value = value.trim().parse::<f64>().ok();
            if quality.is_some() || value.is_none() {
                return None;
            }
            quality = value;
        }
    }
    Some(Range { kind, subtype, quality: quality.unwrap_or(1.0) })
}

/// A token and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_separator = |character: char| {
        character <= ' ' || character == '\x7f' || "()<>@,;:\"/[]?={}\\".contains(character)
    };
    let end = text.find(is_separator).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// What follows a quoted text.
fn quoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?;
    let mut is_escaped = false;
    for (at, character) in inner.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return inner.get(at + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chosen(query: &str, accept: &str) -> Option<Format> {
        Format::choose(Params::parse(query).unwrap().format.as_deref(), accept)
    }

    #[test]
    fn the_parameter_overrides_the_header() {
        for (query, format) in [
            ("format=json", Format::Json),
            ("format=JSON", Format::Json),
            ("format=xml", Format::Xml),
            ("format=plain", Format::Text),
            ("format=whatever", Format::Text),
        ] {
            assert_eq!(chosen(query, "image/png"), Some(format), "{query}");
        }
        assert_eq!(chosen("format=", "application/json"), Some(Format::Json));
    }

    /// What Swift's own code answers to these is compared in `tests/listing_formats.rs`.
    #[test]
    fn the_header_is_weighed_as_swift_weighs_it() {
        for (accept, format) in [
            ("", Some(Format::Text)),
            ("*/*", Some(Format::Text)),
            ("application/*", Some(Format::Json)),
            ("text/xml", Some(Format::TextXml)),
            ("application/xml;q=0.5, application/json;q=0.9", Some(Format::Json)),
            ("*/*;q=0.1, text/xml", Some(Format::TextXml)),
            ("text/plain;q=0", Some(Format::Text)),
            ("image/png", None),
            ("nonsense", None),
            ("text/plain;q=x", None),
            ("text/plain;q=1;q=1", None),
            ("application/json; charset=\"utf-8\"", Some(Format::Json)),
            ("application/json; a=\"b;c\"", None),
        ] {
            assert_eq!(chosen("", accept), format, "{accept}");
        }
    }

    #[test]
    fn several_headers_are_one() {
        let mut headers = HeaderMap::new();
        assert_eq!(Format::negotiate("", &headers), Some(Format::Text));
        headers.append(header::ACCEPT, "text/plain;q=0.1".parse().unwrap());
        headers.append(header::ACCEPT, "application/xml".parse().unwrap());
        assert_eq!(Format::negotiate("", &headers), Some(Format::Xml));
        assert_eq!(Format::negotiate("format=%ff", &headers), None);
    }
}
