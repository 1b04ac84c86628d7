//! Python's `configparser` dialect, as far as `swift.conf` uses it, over bytes.
//!
//! Swift decodes the file as Latin-1 and encodes the values back, so a value is the bytes in the file. Written here
//! because the ini crates trim, unquote and comment differently, and one byte of difference moves every object.

use std::collections::BTreeMap;

/// A parsed file: sections in their order, with options by lower-case name.
#[derive(Debug, Default)]
pub(super) struct Ini {
    order: Vec<String>,
    sections: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

const DEFAULTS: &str = "DEFAULT";

impl Ini {
    /// Reads the text of a file. The message of a failure names the line.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut ini = Self::default();
        let mut section: Option<String> = None;
        // The option that an indented line would continue, and how far it was indented itself.
        let mut option: Option<(String, usize)> = None;
        for (number, line) in (1usize..).zip(lines(text)) {
            let value = strip(line);
            if value.is_empty() || value.starts_with(b"#") || value.starts_with(b";") {
                continue;
            }
            let indent = line.iter().take_while(|byte| is_space(**byte)).count();
            if let (Some(section), Some((name, option_indent))) = (&section, &option)
                && indent > *option_indent
            {
                let continued =
                    ini.sections.entry(section.clone()).or_default().entry(name.clone()).or_default();
                continued.push(b'\n');
                continued.extend_from_slice(value);
                continue;
            }
            if let Some(header) = section_header(value) {
                let header = text_of(header);
                if header != DEFAULTS && !ini.order.contains(&header) {
                    ini.order.push(header.clone());
                }
                ini.sections.entry(header.clone()).or_default();
                section = Some(header);
                option = None;
                continue;
            }
            let Some(section) = &section else {
                return Err(format!("line {number}: expected a [section] first, got something else"));
            };
            let Some(end) = value.iter().position(|byte| matches!(byte, b'=' | b':')) else {
                return Err(format!("line {number}: expected name = value, got something else"));
            };
            let (name, rest) = value.split_at(end);
            let name = text_of(strip(name)).to_lowercase();
            let value = strip(rest.get(1..).unwrap_or_default());
            ini.sections.entry(section.clone()).or_default().insert(name.clone(), value.to_vec());
            option = Some((name, indent));
        }
        Ok(ini)
    }

    /// The names of the sections, in the order of the file.
    pub(super) fn sections(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// One value, from the section or else from `[DEFAULT]`; `None` when neither has it or there is no such section.
    ///
    /// # Errors
    /// A lone `%`, which Python takes as the start of a reference to another value.
    pub(super) fn value(&self, section: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(options) = self.sections.get(section) else { return Ok(None) };
        let defaults = self.sections.get(DEFAULTS);
        let Some(raw) = options.get(name).or_else(|| defaults?.get(name)) else { return Ok(None) };
        let mut value = Vec::with_capacity(raw.len());
        let mut bytes = raw.iter();
        while let Some(byte) = bytes.next() {
            if *byte == b'%' && bytes.next() != Some(&b'%') {
                return Err("expected %% for a percent sign, got a single one".to_owned());
            }
            value.push(*byte);
        }
        Ok(Some(value))
    }
}

/// Lines as Python's text files have them: `\n`, `\r\n` and `\r` end one.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').flat_map(|line| line.split(|byte| *byte == b'\r'))
}

fn section_header(value: &[u8]) -> Option<&[u8]> {
    let rest = value.strip_prefix(b"[")?;
    let end = rest.iter().rposition(|byte| *byte == b']').filter(|end| *end > 0)?;
    rest.get(..end)
}

fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn strip(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// What `str.strip()` of Python takes away from Latin-1 text.
const fn is_space(byte: u8) -> bool {
    matches!(byte, 0x09..=0x0d | 0x1c..=0x20 | 0x85 | 0xa0)
}
