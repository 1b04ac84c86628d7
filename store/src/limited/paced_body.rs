//! A body that is let go no faster than gates allow.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use crate::body::{Body, BoxError};
use crate::limited::RateGate;

/// How often a body that waits at a gate says that it is alive, by an empty frame: whoever sends it gives up on a source
/// that is silent for a minute.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The bytes of its source, in pieces that the gates let through at once. While nothing is limited, frames pass
/// unchanged.
pub(super) struct PacedBody {
    source: Body,
    gates: Arc<[Arc<RateGate>]>,
    /// Taken from the source and not let go yet.
    held: Bytes,
    /// The first bytes of `held`, waiting at the gates.
    waiting: Option<(usize, Waiting, Pin<Box<Sleep>>)>,
}

impl PacedBody {
    pub(super) fn new(source: Body, gates: Arc<[Arc<RateGate>]>) -> Self {
        Self { source, gates, held: Bytes::new(), waiting: None }
    }

    /// How much of `held` goes to the gates next; `None` when they are all open.
    fn piece(&self) -> Option<usize> {
        let piece = self.gates.iter().filter_map(|gate| gate.piece()).min()?;
        Some(piece.clamp(1, self.held.len()))
    }

    /// Sends the next of the held bytes to the gates; gives them all if no gate is in the way.
    fn queue(&mut self) -> Option<Bytes> {
        let Some(piece) = self.piece() else {
            return Some(std::mem::take(&mut self.held));
        };
        let gates = Arc::clone(&self.gates);
        let passed = Box::pin(async move {
            for gate in &*gates {
                gate.bytes(piece).await;
            }
        });
        self.waiting = Some((piece, passed, Box::pin(tokio::time::sleep(SIGN_OF_LIFE))));
        None
    }
}

impl http_body::Body for PacedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let Some((piece, passed, sign)) = &mut this.waiting {
                if passed.as_mut().poll(context).is_ready() {
                    let piece = *piece;
                    this.waiting = None;
                    return Poll::Ready(Some(Ok(Frame::data(this.held.split_to(piece)))));
                }
                ready!(sign.as_mut().poll(context));
                let next = tokio::time::Instant::now() + SIGN_OF_LIFE;
                sign.as_mut().reset(next);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::new()))));
            }
            if !this.held.is_empty() {
                match this.queue() {
                    Some(all) => return Poll::Ready(Some(Ok(Frame::data(all)))),
                    None => continue,
                }
            }
            let frame = match ready!(Pin::new(&mut this.source).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => this.held = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        let source = self.source.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(source.lower().saturating_add(held));
        if let Some(upper) = source.upper().and_then(|upper| upper.checked_add(held)) {
            hint.set_upper(upper);
        }
        hint
    }
}
