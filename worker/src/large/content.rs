//! The content of a large object as one body, made of pieces of local objects.
//!
//! A piece is opened when its turn comes, the first one when the remote begins to take the body: nothing is held open at the object
//! servers for a request that waits for a connection.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use swift_s3_policy::large_object::Piece;
use swift_s3_store::body::{self, BoxError};

use super::segments::Segments;
use crate::hashing_body::HashingBody;
use crate::swift::local_objects::{Content, Wanted};

/// What a body told while it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// MD5 of the whole body, once it was read to its end.
    pub md5: Arc<OnceLock<[u8; 16]>>,
    /// Bytes read from local objects.
    pub bytes: Arc<AtomicU64>,
}

/// A body that gives `pieces` of objects of `account`, in order. `md5` is that of all of it, if known.
///
/// Every piece that is a whole object is checked against its ETag before its last bytes go out.
pub(crate) fn content(
    segments: &Segments,
    account: &str,
    pieces: Vec<Piece>,
    md5: Option<[u8; 16]>,
    observed: &Observed,
) -> body::Body {
    let length = pieces.iter().map(Piece::length).fold(0, u64::saturating_add);
    let reading = Reading {
        segments: segments.clone(),
        account: account.to_owned(),
        pieces: pieces.into_iter(),
        current: None,
        // The digest of a single whole piece is checked once.
        checked_outside: md5.is_some(),
    };
    let source = body::from_stream(stream::try_unfold(reading, |mut reading| async {
        Ok::<_, BoxError>(reading.next().await?.map(|data| (data, reading)))
    }));
    let body = HashingBody::new(source, length, md5, Arc::clone(&observed.bytes));
    body::from_body(body.observed_by(Arc::clone(&observed.md5)))
}

struct Reading {
    segments: Segments,
    account: String,
    pieces: std::vec::IntoIter<Piece>,
    current: Option<body::Body>,
    checked_outside: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            if let Some(current) = &mut self.current {
                match current.frame().await {
                    Some(frame) => match frame?.into_data() {
                        Ok(data) => return Ok(Some(data)),
                        Err(_trailers) => continue,
                    },
                    None => self.current = None,
                }
            }
            let Some(piece) = self.pieces.next() else { return Ok(None) };
            match piece {
                Piece::Data(data) => return Ok(Some(Bytes::copy_from_slice(&data))),
                Piece::Object { .. } if piece.length() == 0 => {}
                Piece::Object { .. } => {
                    self.current =
                        Some(open(&self.segments, &self.account, &piece, self.checked_outside).await?);
                }
            }
        }
    }
}

async fn open(
    segments: &Segments,
    account: &str,
    piece: &Piece,
    checked_outside: bool,
) -> Result<body::Body, BoxError> {
    let Piece::Object { container, object, etag, bytes, range } = piece else { return Ok(body::empty()) };
    let wanted = Wanted {
        content: Content::Plain { etag: etag.clone(), length: *bytes },
        range: (!piece.is_whole()).then(|| range.clone()),
    };
    let opened = segments.open(account, container, object, &wanted).await?;
    Ok(match piece.md5().filter(|_| !checked_outside) {
        Some(md5) => body::from_body(HashingBody::new(opened, piece.length(), Some(md5), Arc::default())),
        None => body::from_body(opened),
    })
}
