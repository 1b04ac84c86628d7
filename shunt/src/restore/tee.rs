//! The content on its way to the client, and a copy of it for the restore.
//!
//! The client comes first: the copy waits in a small buffer, and when that is full the restore reads on by itself. What the client does
//! not get to the end is not restored: a body that is dropped early, fails or has another length breaks the restore off.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Body, BoxError};

/// Bytes that wait for Swift, of one restore. A read of the remote and the beginning of a PUT fit, and all restores together take little.
pub(super) const BUFFER_BYTES: usize = 1024 * 1024;
/// Pieces that wait: even of a remote that sends tiny ones.
const BUFFER_PIECES: usize = 1024;

/// How the copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was copied.
    Whole,
    /// The buffer was full; what follows must be read anew.
    Overflow,
    /// It broke off.
    Broken,
}

/// The end that copies.
#[derive(Debug)]
pub struct Tee {
    pieces: Option<mpsc::Sender<Bytes>>,
    shared: Arc<Shared>,
    /// Bytes that the whole content has.
    length: u64,
    passed: u64,
}

/// The end that the restore reads.
#[derive(Debug)]
pub(super) struct Copy {
    pieces: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: AtomicUsize,
    end: Mutex<End>,
    /// Cancelled when the client has not got the whole content.
    broken: CancellationToken,
}

impl Shared {
    fn set_end(&self, end: End) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

/// A tee for a content of `length` bytes, and its other end.
pub(super) fn tee(length: u64) -> (Tee, Copy, CancellationToken) {
    let (sender, pieces) = mpsc::channel(BUFFER_PIECES);
    let broken = CancellationToken::new();
    let shared = Arc::new(Shared {
        waiting: AtomicUsize::new(0),
        end: Mutex::new(End::Broken),
        broken: broken.clone(),
    });
    let copy = Copy { pieces, shared: Arc::clone(&shared) };
    (Tee { pieces: Some(sender), shared, length, passed: 0 }, copy, broken)
}

impl Tee {
    /// The same body, copied on its way. It must give the whole content, from its first byte on.
    #[must_use]
    pub fn wrap(mut self, body: Body) -> Body {
        // A body without bytes may never be asked for any.
        self.end_if_whole();
        TeeBody { body, tee: self }.boxed_unsync()
    }

    fn pass(&mut self, piece: &Bytes) {
        self.passed = self.passed.saturating_add(piece.len() as u64);
        if self.passed > self.length {
            self.break_off();
            return;
        }
        if let Some(pieces) = &self.pieces
            && !piece.is_empty()
        {
            let waiting = self.shared.waiting.fetch_add(piece.len(), Ordering::AcqRel);
            if waiting.saturating_add(piece.len()) > BUFFER_BYTES.max(piece.len())
                || pieces.try_send(piece.clone()).is_err()
            {
                self.shared.set_end(End::Overflow);
                self.pieces = None;
            }
        }
        self.end_if_whole();
    }

    /// Known by its length: whoever sends the body on stops asking once it has that many bytes.
    fn end_if_whole(&mut self) {
        if self.passed == self.length
            && let Some(pieces) = self.pieces.take()
        {
            self.shared.set_end(End::Whole);
            drop(pieces);
        }
    }

    fn break_off(&mut self) {
        self.shared.set_end(End::Broken);
        self.pieces = None;
        self.shared.broken.cancel();
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if self.passed != self.length {
            self.break_off();
        }
    }
}

impl Copy {
    /// The next piece, or how the copy ended.
    pub(super) async fn next(&mut self) -> Result<Bytes, End> {
        match self.pieces.recv().await {
            Some(piece) => {
                self.shared.waiting.fetch_sub(piece.len(), Ordering::AcqRel);
                Ok(piece)
            }
            None => Err(*self.shared.end.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

struct TeeBody {
    body: Body,
    tee: Tee,
}

impl HttpBody for TeeBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(piece) = frame.data_ref() {
                    this.tee.pass(piece);
                }
            }
            Poll::Ready(Some(Err(_))) => this.tee.break_off(),
            Poll::Ready(None) if this.tee.passed != this.tee.length => this.tee.break_off(),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn body_of(pieces: Vec<Result<&'static [u8], &'static str>>) -> Body {
        let frames = pieces
            .into_iter()
            .map(|piece| piece.map(|bytes| Frame::data(Bytes::from_static(bytes))).map_err(BoxError::from));
        StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())).boxed_unsync()
    }

    async fn copied(copy: &mut Copy) -> (Vec<u8>, End) {
        let mut all = Vec::new();
        loop {
            match copy.next().await {
                Ok(piece) => all.extend_from_slice(&piece),
                Err(end) => return (all, end),
            }
        }
    }

    #[tokio::test]
    async fn the_copy_is_what_the_client_gets() {
        let (tee, mut copy, broken) = tee(6);
        let body = tee.wrap(body_of(vec![Ok(b"abc"), Ok(b""), Ok(b"def")]));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
        assert_eq!(copied(&mut copy).await, (b"abcdef".to_vec(), End::Whole));
        assert!(!broken.is_cancelled());
    }

    #[tokio::test]
    async fn nothing_is_whole_when_it_is_empty() {
        let (tee, mut copy, broken) = tee(0);
        drop(tee.wrap(body_of(vec![])));
        assert_eq!(copied(&mut copy).await, (Vec::new(), End::Whole));
        assert!(!broken.is_cancelled());
    }

    #[tokio::test]
    async fn what_the_client_does_not_get_is_not_restored() {
        for (name, length, pieces, frames) in [
            ("fails", 6, vec![Ok(&b"abc"[..]), Err("reset")], 9),
            ("ends early", 6, vec![Ok(b"abc")], 9),
            ("goes on", 3, vec![Ok(b"abc"), Ok(b"def")], 9),
            ("is not wanted any more", 6, vec![Ok(b"abc"), Ok(b"def")], 1),
        ] {
            let (tee, mut copy, broken) = tee(length);
            let mut body = tee.wrap(body_of(pieces));
            for _ in 0..frames {
                if body.frame().await.is_none() {
                    break;
                }
            }
            drop(body);
            assert!(broken.is_cancelled(), "a body that {name}");
            if name != "goes on" {
                assert_eq!(copied(&mut copy).await.1, End::Broken, "a body that {name}");
            }
        }
    }

    #[tokio::test]
    async fn a_slow_restore_never_holds_the_client() {
        let piece: &'static [u8] = vec![7; BUFFER_BYTES / 4].leak();
        let (tee, mut copy, broken) = tee(piece.len() as u64 * 8);
        let body = tee.wrap(body_of(vec![Ok(piece); 8]));
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), piece.len() * 8);
        let (kept, end) = copied(&mut copy).await;
        assert_eq!((kept.len(), end), (BUFFER_BYTES, End::Overflow));
        assert!(!broken.is_cancelled(), "the rest can be read anew");
    }

    #[tokio::test]
    async fn one_piece_may_be_larger_than_the_buffer() {
        let large = Bytes::from(vec![1; BUFFER_BYTES * 2]);
        let (tee, mut copy, _broken) = tee(large.len() as u64);
        let body = tee.wrap(Full::new(large.clone()).map_err(|never| match never {}).boxed_unsync());
        body.collect().await.unwrap();
        assert_eq!(copied(&mut copy).await, (large.to_vec(), End::Whole));
    }
}
