//! Pages of lists. A token says where the next page begins by the last entry's key, never by a count, so that nothing is
//! told twice or left out when entries come and go. It belongs to the question it was given for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tonic::Status;

/// A page without a size has this many entries.
pub const DEFAULT_PAGE: usize = 100;
/// A page has at most this many.
pub const LARGEST_PAGE: usize = 1_000;
/// No token that is given out is longer.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// How many entries a page of this asked size has.
#[must_use]
pub fn size(asked: u32) -> usize {
    match usize::try_from(asked).unwrap_or(LARGEST_PAGE) {
        0 => DEFAULT_PAGE,
        asked => asked.min(LARGEST_PAGE),
    }
}

/// Names a question: its kind and filters. A token of another question is refused.
#[derive(Clone, Debug)]
pub struct Question(String);

impl Question {
    /// A question with these filters.
    #[must_use]
    pub fn new(kind: &str, filters: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in std::iter::once(&kind).chain(filters) {
            digest.update(format!("{}:{part};", part.len()));
        }
        Self(URL_SAFE_NO_PAD.encode(digest.finalize().get(..12).unwrap_or_default()))
    }

    /// The token for the page behind `position`.
    #[must_use]
    pub fn token<P: Serialize>(&self, position: &P) -> String {
        // Positions are plain texts and numbers; those always encode.
        let json = serde_json::to_vec(&(&self.0, position)).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    }

    /// The position that a token stands for; none for an empty token.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if it was not given out for this question.
    pub fn position<P: DeserializeOwned>(&self, token: &str) -> Result<Option<P>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let refuse = || {
            Status::invalid_argument(
                "page_token is not one that was answered to this question; begin again with an empty one",
            )
        };
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refuse());
        }
        let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse())?;
        let (question, position): (String, P) = serde_json::from_slice(&json).map_err(|_| refuse())?;
        if question == self.0 { Ok(Some(position)) } else { Err(refuse()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn page_sizes_have_a_default_and_a_limit() {
        for (asked, expected) in [(0, 100), (1, 1), (1_000, 1_000), (1_001, 1_000), (u32::MAX, 1_000)] {
            assert_eq!(size(asked), expected);
        }
    }

    #[test]
    fn a_token_fits_its_own_question_only() {
        let question = Question::new("containers", &["a", "bc"]);
        let token = question.token(&("x".to_owned(), 5));
        assert_eq!(question.position::<(String, i32)>(&token).unwrap(), Some(("x".to_owned(), 5)));
        assert_eq!(question.position::<(String, i32)>("").unwrap(), None);
        for (other, token) in [
            (Question::new("containers", &["ab", "c"]), token.as_str()),
            (Question::new("failures", &["a", "bc"]), &token),
            (question.clone(), "5"),
            (question.clone(), "not base64!"),
            (question.clone(), token.get(1..).unwrap()),
        ] {
            let refused = other.position::<(String, i32)>(token).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        }
        assert!(question.position::<(i32, i32)>(&token).is_err());
    }
}
