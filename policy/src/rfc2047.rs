//! Encoded words: text of any bytes within the printable ASCII of a header value.
//!
//! Source: RFC 2047. Two departures, both so that old and new versions read each other: a word has no upper
//! length, because a folded value does not fit an HTTP header; and the characters that form Q leaves as they
//! are are those of Python 2's `email.header`.
//!
//! Bytes that are not UTF-8 are labelled `UNKNOWN-8BIT` (RFC 1428). The predecessor hands out words of any
//! charset but UTF-8 as they are, where wrongly labelled bytes would break its reader.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};

const UTF_8: &str = "UTF-8";
const UNKNOWN: &str = "UNKNOWN-8BIT";

/// Decodes with or without padding, as mail readers do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Writes bytes as one encoded word: form B if that is shorter, else form Q.
pub(crate) fn encode(value: &[u8]) -> String {
    let charset = if std::str::from_utf8(value).is_ok() { UTF_8 } else { UNKNOWN };
    let base64_length = value.len().div_ceil(3) * 4;
    let quoted_length: usize = value.iter().map(|&byte| quoted_width(byte)).sum();
    if base64_length < quoted_length {
        let encoded = general_purpose::STANDARD.encode(value);
        return format!("=?{charset}?B?{encoded}?=");
    }
    let mut word = format!("=?{charset}?Q?");
    for &byte in value {
        push_quoted(&mut word, byte);
    }
    word.push_str("?=");
    word
}

/// Reads a value that consists of encoded words, separated by white space, and nothing else.
///
/// `None` for any other text, for a charset that is neither UTF-8 nor a part of it nor `UNKNOWN-8BIT`, and for
/// broken base64: such a value stands for itself. The answer can be invalid UTF-8.
pub(crate) fn decode(value: &str) -> Option<Vec<u8>> {
    let mut rest = value.trim_matches(is_white_space);
    let mut decoded = Vec::new();
    loop {
        let (mut bytes, behind) = decode_word(rest)?;
        decoded.append(&mut bytes);
        if behind.is_empty() {
            return Some(decoded);
        }
        let next = behind.trim_start_matches(is_white_space);
        if next.len() == behind.len() {
            return None;
        }
        rest = next;
    }
}

/// Whether any reader could take a part of the value for an encoded word.
pub(crate) fn looks_encoded(value: &str) -> bool {
    let mut rest = value;
    while let Some((_, word)) = rest.split_once("=?") {
        if let Some((_, encoding, payload)) = split_word(word)
            && matches!(encoding, "q" | "Q" | "b" | "B")
            && payload.contains("?=")
        {
            return true;
        }
        rest = word;
    }
    false
}

/// Splits what follows `=?` into charset, encoding, and the rest.
fn split_word(word: &str) -> Option<(&str, &str, &str)> {
    let (charset, rest) = word.split_once('?')?;
    let (encoding, payload) = rest.split_once('?')?;
    Some((charset, encoding, payload))
}

fn decode_word(text: &str) -> Option<(Vec<u8>, &str)> {
    let (charset, encoding, rest) = split_word(text.strip_prefix("=?")?)?;
    // A language may follow the charset: RFC 2231, section 5.
    let charset = charset.split('*').next().unwrap_or(charset);
    let known = ["utf-8", "utf8", "us-ascii", UNKNOWN];
    if !known.iter().any(|name| charset.eq_ignore_ascii_case(name)) {
        return None;
    }
    let (payload, behind) = rest.split_once("?=")?;
    let bytes = match encoding {
        "q" | "Q" => decode_quoted(payload),
        "b" | "B" => LENIENT.decode(payload).ok()?,
        _ => return None,
    };
    Some((bytes, behind))
}

fn quoted_width(byte: u8) -> usize {
    if is_literal(byte) || byte == b' ' { 1 } else { 3 }
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'!' | b'*' | b'+' | b'/')
}

fn push_quoted(word: &mut String, byte: u8) {
    if byte == b' ' {
        word.push('_');
    } else if is_literal(byte) {
        word.push(char::from(byte));
    } else {
        word.push_str(&format!("={byte:02X}"));
    }
}

/// An equals sign without two hexadecimal digits behind it stands for itself.
fn decode_quoted(payload: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(payload.len());
    let mut rest = payload.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'_', _) => decoded.push(b' '),
            (b'=', [high, low, further @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = further;
                }
                _ => decoded.push(byte),
            },
            _ => decoded.push(byte),
        }
    }
    decoded
}

fn hex_digit(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

fn is_white_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}
