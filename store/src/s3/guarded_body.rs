//! Watches an upload's body on its way out: that it has exactly the length that was announced, that it keeps moving, and
//! why it ended when it ended badly.
//!
//! The frame that completes the length is held back until the source has said that nothing follows. A body that ends
//! early, late or with an error therefore never leaves in full, and the remote, which was told the length, drops it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use crate::body::{Body, BoxError};

/// Why a body did not arrive as announced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("source ended early: expected {expected} bytes, got {got}")]
    Short { expected: u64, got: u64 },
    #[error("source did not end: expected {expected} bytes, got more")]
    Long { expected: u64 },
    #[error("source failed after {got} of {expected} bytes: {source}")]
    Source { expected: u64, got: u64, source: BoxError },
    #[error("source gave nothing for {} s after {got} of {expected} bytes", waited.as_secs())]
    Stalled { expected: u64, got: u64, waited: Duration },
}

/// The transport's side of a body that broke off; the cause itself goes to [`Watch::take_fault`].
#[derive(Debug, thiserror::Error)]
#[error("upload broken off by its source")]
struct BrokenOff;

/// What the source says when it is asked.
type PolledFrame = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// What the body and the one that waits for the answer both see.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Bytes that were announced.
    expected: u64,
    started: Instant,
    /// Milliseconds after `started` at which something last moved.
    moved_ms: AtomicU64,
    /// Bytes taken from the source.
    taken: AtomicU64,
    /// The source was asked and has not answered yet.
    waits_for_source: AtomicBool,
    /// The last byte is on its way out.
    complete: AtomicBool,
    /// `None` once nobody waits for the answer any more.
    source: Mutex<Option<Body>>,
    /// Whoever sends the body, asleep until the source gives something.
    sender: AtomicWaker,
    fault: Mutex<Option<BodyFault>>,
}

impl Watch {
    fn new(source: Body, expected: u64) -> Self {
        Self {
            expected,
            started: Instant::now(),
            moved_ms: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            waits_for_source: AtomicBool::new(false),
            complete: AtomicBool::new(expected == 0),
            source: Mutex::new(Some(source)),
            sender: AtomicWaker::new(),
            fault: Mutex::new(None),
        }
    }

    fn note_movement(&self) {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(elapsed_ms, Ordering::Relaxed);
    }

    fn last_movement(&self) -> Instant {
        self.started + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }

    /// Whether nothing moved for `limit`, and it was the remote that was waited for, not the source.
    pub(crate) fn is_held_by_remote(&self, limit: Duration) -> bool {
        !self.waits_for_source.load(Ordering::Relaxed) && self.last_movement() + limit <= Instant::now()
    }

    fn take_source(&self) -> Option<Body> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, fault: BodyFault) {
        let mut slot = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(fault);
    }

    /// Whether the transport has been given the whole body.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Why the body broke off, if it did.
    pub(crate) fn take_fault(&self) -> Option<BodyFault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Lets the source go when the one who waits for the answer goes. A remote may answer (a refusal, say) long before it
/// has the whole body, or stop reading; the transport would go on with the source, or hold it, for nothing.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Arc<Watch>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        drop(self.0.take_source());
        self.0.sender.wake();
    }
}

/// A body that gives exactly `length` bytes or fails.
#[derive(Debug)]
pub(crate) struct GuardedBody {
    length: u64,
    given: u64,
    /// The frame that completes the length, until the source has ended.
    held: Option<Bytes>,
    done: bool,
    watch: Arc<Watch>,
}

impl GuardedBody {
    /// Guards `source`; the [`Watch`] tells how it is getting on.
    pub(crate) fn new(source: Body, length: u64) -> (Self, Arc<Watch>) {
        let watch = Arc::new(Watch::new(source, length));
        let body = Self { length, given: 0, held: None, done: false, watch: Arc::clone(&watch) };
        (body, watch)
    }

    /// Makes sure that an empty source is empty: the transport does not ask a body that is announced as such.
    pub(crate) async fn drain_empty(&mut self) -> Result<(), ()> {
        debug_assert_eq!(self.length, 0);
        let frame = std::future::poll_fn(|context| Pin::new(&mut *self).poll_frame(context)).await;
        match frame {
            None => Ok(()),
            Some(_) => Err(()),
        }
    }

    /// `None` when the source has been let go.
    fn poll_source(&self, context: &mut Context<'_>) -> Option<PolledFrame> {
        let mut source = self.watch.source.lock().unwrap_or_else(PoisonError::into_inner);
        let polled = Pin::new(source.as_mut()?).poll_frame(context);
        if polled.is_pending() {
            // Under the lock: a source that is let go after this wakes this waker.
            self.watch.sender.register(context.waker());
        }
        Some(polled)
    }

    fn break_off(&mut self, fault: BodyFault) -> PolledFrame {
        self.done = true;
        self.watch.fail(fault);
        Poll::Ready(Some(Err(BrokenOff.into())))
    }
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        loop {
            let Some(polled) = this.poll_source(context) else {
                this.done = true;
                return Poll::Ready(Some(Err(BrokenOff.into())));
            };
            let Poll::Ready(polled) = polled else {
                this.watch.waits_for_source.store(true, Ordering::Relaxed);
                return Poll::Pending;
            };
            this.watch.waits_for_source.store(false, Ordering::Relaxed);
            this.watch.note_movement();
            let (expected, got) = (this.length, this.given);
            let data = match polled {
                None => {
                    this.done = true;
                    return match this.held.take() {
                        Some(last) => {
                            this.watch.complete.store(true, Ordering::Relaxed);
                            Poll::Ready(Some(Ok(Frame::data(last))))
                        }
                        None if got < expected => this.break_off(BodyFault::Short { expected, got }),
                        None => Poll::Ready(None),
                    };
                }
                Some(Err(source)) => {
                    return this.break_off(BodyFault::Source { expected, got, source });
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
            };
            if data.is_empty() {
                continue;
            }
            let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
            if size > expected - got {
                return this.break_off(BodyFault::Long { expected });
            }
            this.given += size;
            this.watch.taken.store(this.given, Ordering::Relaxed);
            if this.given < expected {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            this.held = Some(data);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, |held| u64::try_from(held.len()).unwrap_or(u64::MAX));
        SizeHint::with_exact(self.length - self.given + held)
    }
}

/// Nothing moved for too long: neither did the body, nor did the remote answer.
#[derive(Debug, thiserror::Error)]
#[error("nothing moved for {} s", .0.as_secs())]
pub(crate) struct Stalled(Duration);

/// Waits for `answer` for as long as the watched body keeps moving, and then for `limit`.
///
/// # Errors
/// [`Stalled`]; when it was the source that gave nothing, [`Watch::take_fault`] says so.
pub(crate) async fn while_moving<F: Future>(
    answer: F,
    watch: &Watch,
    limit: Duration,
) -> Result<F::Output, Stalled> {
    let mut answer = std::pin::pin!(answer);
    let mut alarm = std::pin::pin!(tokio::time::sleep_until(watch.last_movement() + limit));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = answer.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        while alarm.as_mut().poll(context).is_ready() {
            let deadline = watch.last_movement() + limit;
            if deadline <= Instant::now() {
                return Poll::Ready(Err(stalled(watch, limit)));
            }
            alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    })
    .await
}

fn stalled(watch: &Watch, limit: Duration) -> Stalled {
    if watch.waits_for_source.load(Ordering::Relaxed) {
        watch.fail(BodyFault::Stalled {
            expected: watch.expected,
            got: watch.taken.load(Ordering::Relaxed),
            waited: limit,
        });
    }
    Stalled(limit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::body;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    fn guarded(length: u64, chunks: &[&'static [u8]]) -> (GuardedBody, Arc<Watch>) {
        let chunks: Vec<_> =
            chunks.iter().map(|chunk| Ok::<_, BoxError>(Bytes::from_static(chunk))).collect();
        GuardedBody::new(body::from_stream(stream::iter(chunks)), length)
    }

    #[tokio::test]
    async fn a_body_of_the_announced_length_passes_unchanged() {
        let (body, watch) = guarded(6, &[b"ab", b"", b"cd", b"ef"]);
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(&body.collect().await.unwrap().to_bytes()[..], b"abcdef");
        assert!(watch.take_fault().is_none());
    }

    #[tokio::test]
    async fn the_last_frame_waits_for_the_end_of_the_source() {
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let source = stream::iter([Ok::<_, BoxError>(Bytes::from("ab"))]).chain(stream::once(async move {
            let _ = receive.await;
            Ok(Bytes::new())
        }));
        let (mut body, _watch) = GuardedBody::new(body::from_stream(source), 2);
        let mut frame = std::pin::pin!(body.frame());
        let waits = std::future::poll_fn(|context| Poll::Ready(frame.as_mut().poll(context).is_pending()));
        assert!(waits.await);
        send.send(()).unwrap();
        let frame = frame.await.unwrap().unwrap();
        assert_eq!(&frame.into_data().unwrap()[..], b"ab");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_body_whose_source_was_let_go_breaks_off() {
        let (mut body, watch) = guarded(4, &[b"ab", b"cd"]);
        body.frame().await.unwrap().unwrap();
        drop(StopOnDrop(watch));
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_nothing_moves_for_the_limit() {
        let limit = Duration::from_secs(60);
        let (_body, watch) = guarded(1, &[b"a"]);
        let started = Instant::now();
        let waited = while_moving(std::future::pending::<()>(), &watch, limit).await;
        assert!(waited.is_err());
        assert_eq!(started.elapsed().as_secs(), 60);
        assert!(watch.take_fault().is_none(), "the source was not asked");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_goes_on_while_the_body_moves() {
        let limit = Duration::from_secs(60);
        let source = stream::unfold(0u8, |count| async move {
            if count == 9 {
                return None;
            }
            tokio::time::sleep(Duration::from_secs(50)).await;
            Some((Ok::<_, BoxError>(Bytes::from("x")), count + 1))
        });
        let (body, watch) = GuardedBody::new(body::from_stream(source), 9);
        let sent = while_moving(body.collect(), &watch, limit).await.unwrap();
        assert_eq!(sent.unwrap().to_bytes().len(), 9);
        assert_eq!(watch.started.elapsed().as_secs(), 450);
    }

    proptest! {
        /// Whatever the source gives, the body in full leaves exactly when the length is right.
        #[test]
        fn only_the_announced_length_leaves_in_full(
            sizes in proptest::collection::vec(0usize..5, 0..6),
            length in 0u64..20,
            fails in any::<bool>(),
        ) {
            let given: usize = sizes.iter().sum();
            let mut chunks: Vec<Result<Bytes, BoxError>> = sizes
                .iter()
                .map(|size| Ok(Bytes::from(vec![0; *size])))
                .collect();
            if fails {
                chunks.push(Err("failed".into()));
            }
            let (mut body, watch) =
                GuardedBody::new(body::from_stream(stream::iter(chunks)), length);
            let (mut left, mut failed) = (0, false);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                while let Some(frame) = body.frame().await {
                    match frame {
                        Ok(frame) => left += frame.into_data().unwrap().len() as u64,
                        Err(_) => failed = true,
                    }
                }
            });
            let right = given as u64 == length && !fails;
            prop_assert_eq!(failed, !right);
            prop_assert_eq!(watch.take_fault().is_some(), !right);
            prop_assert_eq!(left == length && length > 0, right && length > 0);
        }
    }
}
