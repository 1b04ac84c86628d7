//! What the remote had before a client's DELETE went to Swift.

use std::fmt;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use swift_s3_store::RemoteObject;

const VERSION: &str = "v1";
/// A token of ours is shorter.
const MAX_TEXT_BYTES: usize = 4096;

/// One remote copy, so far as it can be told from another one of the same name. Goes into a header as it is displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    etag: String,
    length: u64,
    modified_micros: Option<u64>,
    has_companion: bool,
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token cannot be read")]
pub struct TokenError;

impl Token {
    /// The token of a remote copy; `has_companion` when a manifest is kept beside it.
    pub(super) fn of(object: &RemoteObject, has_companion: bool) -> Self {
        let since = object.last_modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
        Self {
            etag: object.etag.clone(),
            length: object.length,
            modified_micros: since.and_then(|since| u64::try_from(since.as_micros()).ok()),
            has_companion,
        }
    }

    /// Whether a manifest was kept beside it.
    pub(super) fn has_companion(&self) -> bool {
        self.has_companion
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.has_companion { "large" } else { "plain" };
        write!(formatter, "{VERSION} {kind} {} ", self.length)?;
        match self.modified_micros {
            Some(micros) => write!(formatter, "{micros}")?,
            None => formatter.write_str("-")?,
        }
        write!(formatter, " {}", utf8_percent_encode(&self.etag, NON_ALPHANUMERIC))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(TokenError);
        }
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(TokenError);
        if word()? != VERSION {
            return Err(TokenError);
        }
        let has_companion = match word()? {
            "large" => true,
            "plain" => false,
            _ => return Err(TokenError),
        };
        let length = word()?.parse().map_err(|_| TokenError)?;
        let modified_micros = match word()? {
            "-" => None,
            micros => Some(micros.parse().map_err(|_| TokenError)?),
        };
        let etag = percent_decode_str(word()?).decode_utf8().map_err(|_| TokenError)?.into_owned();
        if words.next().is_some() {
            return Err(TokenError);
        }
        Ok(Self { etag, length, modified_micros, has_companion })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_comes_back_from_its_text(
            etag in "\\PC{0,40}", length: u64, modified_micros: Option<u64>, has_companion: bool,
        ) {
            let token = Token { etag, length, modified_micros, has_companion };
            let text = token.to_string();
            prop_assert!(http::HeaderValue::from_str(&text).is_ok());
            prop_assert_eq!(text.parse(), Ok(token));
        }

        #[test]
        fn other_texts_are_refused(text in "\\PC{0,60}") {
            let _ = text.parse::<Token>();
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in
            ["", "v2 plain 1 - e", "v1 plain 1 -", "v1 odd 1 - e", "v1 plain x - e", "v1 plain 1 - e f"]
        {
            assert_eq!(text.parse::<Token>(), Err(TokenError), "{text}");
        }
    }
}
