//! Words from elsewhere, made harmless.
//!
//! Object names, messages and documents come from users and servers. On a terminal, control characters can move the
//! cursor or forge lines, and invisible or direction-changing characters can make a name look like another.

use std::borrow::Cow;
use std::fmt::Write;

/// True for what must not reach a terminal as it is.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` on one line, with every control, invisible and direction-changing character written as an escape.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => clean.push_str("\\n"),
            '\r' => clean.push_str("\\r"),
            '\t' => clean.push_str("\\t"),
            _ if !is_harmful(character) => clean.push(character),
            _ if u32::from(character) < 0x100 => {
                let _ = write!(clean, "\\x{:02x}", u32::from(character));
            }
            _ => {
                let _ = write!(clean, "\\u{{{:x}}}", u32::from(character));
            }
        }
    }
    Cow::Owned(clean)
}

/// What templates put into pages: as [`harmless`] gives it, and with nothing left that would be markup.
#[derive(Clone, Copy, Debug, Default)]
pub struct Harmless;

impl askama::filters::Escaper for Harmless {
    fn write_escaped_str<W: Write>(&self, dest: W, text: &str) -> std::fmt::Result {
        askama::filters::Html.write_escaped_str(dest, &harmless(text))
    }
}

/// Text as it is, with nothing that would be markup: for what visitors edit or send back, and for documents of many lines.
#[must_use]
pub fn exact(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    // Writing to a string cannot fail.
    let _ = askama::filters::Escaper::write_escaped_str(&askama::filters::Html, &mut escaped, text);
    escaped
}

/// JSON that means the same, with harmful characters as `\u` escapes. Line breaks between elements stay; carriage
/// returns, which only stand between elements too, go.
#[must_use]
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    let layout = |character| matches!(character, '\n' | '\t');
    if !json.chars().any(|character| is_harmful(character) && !layout(character)) {
        return Cow::Borrowed(json);
    }
    let mut clean = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if character == '\r' {
            continue;
        }
        if is_harmful(character) && !layout(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_letters_stay() {
        for (text, expected) in [
            ("photos/2024/été.jpg", "photos/2024/été.jpg"),
            ("a\x1b[31mred", "a\\x1b[31mred"),
            ("line\nbreak\ttab\r", "line\\nbreak\\ttab\\r"),
            ("c1 \u{9b}2J and del \u{7f}", "c1 \\x9b2J and del \\x7f"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("写真 😀", "写真 😀"),
        ] {
            assert_eq!(harmless(text), expected);
        }
    }

    #[test]
    fn json_keeps_its_meaning_and_its_lines() {
        let value = serde_json::json!({"name": "a\u{9b}b\u{202e}c\u{e0041}\x1b", "other": ["é", 1]});
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let clean = harmless_json(&pretty);
        assert!(clean.chars().all(|c| c == '\n' || !is_harmful(c)), "{clean}");
        assert_eq!(clean.lines().count(), pretty.lines().count());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).unwrap(), value);
        assert_eq!(harmless_json("{\r\n\t\"a\\r\": 1}"), "{\n\t\"a\\r\": 1}");
    }
}
