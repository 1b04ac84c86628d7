//! Contents as bodies: one part of an object, or several with their frame.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream;
use md5::{Digest as _, Md5};
use swift_s3_store::{BoxError, body};

use super::byteranges::ByteRanges;
use super::source::{Reading, Source};
use crate::body::Body;

/// The content is not what its ETag says.
#[derive(Debug, thiserror::Error)]
#[error("the remote sent a content with another MD5 than its ETag says")]
struct OtherContent;

/// A part of an object. With `content_md5`, the part must be the whole, and its last piece is held back until it is known to be right.
pub(super) fn part(reading: Reading, content_md5: Option<[u8; 16]>) -> Body {
    let check = content_md5.map(|expected| Check { hash: Md5::new(), expected });
    let state = Part { reading, check, held: None, is_read: false };
    body::from_stream(stream::try_unfold(state, |mut state| async move {
        Ok::<_, BoxError>(state.next().await?.map(|piece| (piece, state)))
    }))
}

struct Check {
    hash: Md5,
    expected: [u8; 16],
}

struct Part {
    reading: Reading,
    check: Option<Check>,
    held: Option<Bytes>,
    is_read: bool,
}

impl Part {
    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        if self.check.is_none() {
            return self.reading.next().await;
        }
        while !self.is_read {
            let piece = self.reading.next().await?;
            match (piece, &mut self.check) {
                (Some(piece), Some(check)) => {
                    check.hash.update(&piece);
                    if let Some(before) = self.held.replace(piece) {
                        return Ok(Some(before));
                    }
                }
                _ => self.is_read = true,
            }
        }
        if let Some(check) = self.check.take_if(|_| self.held.is_some()) {
            let digest: [u8; 16] = check.hash.finalize().into();
            if digest != check.expected {
                tracing::warn!("the remote sent a content that is not what its ETag says");
                return Err(OtherContent.into());
            }
        }
        match self.held.take() {
            Some(last) => Ok(Some(last)),
            None => self.reading.next().await,
        }
    }
}

/// Several parts; `first` is open already.
pub(super) fn parts(source: Source, frame: ByteRanges, first: Reading) -> Body {
    let mut steps: VecDeque<Step> = VecDeque::new();
    let mut first = Some(first);
    for range in frame.ranges() {
        let reading = first.take().unwrap_or_else(|| Reading::new(source.clone(), range.clone(), None));
        steps.extend([
            Step::Frame(frame.head(range)),
            Step::Content(Box::new(reading)),
            Step::Frame(frame.separator()),
        ]);
    }
    steps.push_back(Step::Frame(frame.tail()));
    body::from_stream(stream::try_unfold(steps, |mut steps| async move {
        loop {
            match steps.pop_front() {
                None => return Ok::<_, BoxError>(None),
                Some(Step::Frame(bytes)) => return Ok(Some((bytes, steps))),
                Some(Step::Content(mut reading)) => {
                    let Some(piece) = reading.next().await? else { continue };
                    steps.push_front(Step::Content(reading));
                    return Ok(Some((piece, steps)));
                }
            }
        }
    }))
}

enum Step {
    Frame(Bytes),
    Content(Box<Reading>),
}
