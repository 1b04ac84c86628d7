//! Big contents that the remote sends slower than the client takes them: several ranges are read at once, ahead of the client.
//!
//! One connection to a distant store carries a few ten MB in a second, whatever lies between. What is read ahead waits in memory, so there is room
//! for few at a time; whoever finds none goes on with one connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use swift_s3_store::BoxError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::source::{Reading, Source};

/// What one lane reads at a time.
const PIECE_BYTES: u64 = 4 << 20;
/// Lanes of one content.
const LANES: u32 = 4;
/// Pieces of all contents together, which makes 32 MiB.
const MAX_PIECES: usize = 8;
/// What is left must be worth it.
const MIN_LEFT_BYTES: u64 = 4 * PIECE_BYTES;
/// How much is read over one connection before it is judged, each time.
pub(super) const WINDOW_BYTES: u64 = 8 << 20;
/// A connection that is faster leaves little to gain, and the processor has other things to do.
const FAST_BYTES_PER_SECOND: u64 = 150 << 20;

/// Room for pieces, shared by all requests.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_PIECES)))
    }
}

impl Room {
    /// Pieces that are held.
    pub(super) fn taken(&self) -> usize {
        MAX_PIECES.saturating_sub(self.0.available_permits())
    }
}

/// Whether more connections would help, after `bytes` came in `took`, of which `waited` was spent waiting for the remote.
pub(super) fn is_worth_it(bytes: u64, took: Duration, waited: Duration, left: u64) -> bool {
    let is_slow = u128::from(bytes) * 1_000_000 < u128::from(FAST_BYTES_PER_SECOND) * took.as_micros();
    left >= MIN_LEFT_BYTES && is_slow && waited.saturating_mul(4) >= took.saturating_mul(3)
}

type Piece = (VecDeque<Bytes>, OwnedSemaphorePermit);

/// Pieces on their way, in order.
pub(super) struct Lanes {
    source: Source,
    room: Room,
    /// Where the next piece begins.
    next: u64,
    end: u64,
    /// Each in a task of its own: the time that a client pauses is not the remote's.
    coming: FuturesOrdered<AbortOnDropHandle<Result<Piece, BoxError>>>,
    /// Being handed out.
    current: Option<Piece>,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Lanes")
            .field("next", &self.next)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Lanes {
    /// Reads on from `at`; `None` when there is no room for all lanes.
    pub(super) fn open(source: &Source, room: &Room, at: u64, end: u64) -> Option<Self> {
        let mut permits = Arc::clone(&room.0).try_acquire_many_owned(LANES).ok()?;
        let mut lanes = Self {
            source: source.clone(),
            room: room.clone(),
            next: at,
            end,
            coming: FuturesOrdered::new(),
            current: None,
        };
        while let Some(permit) = permits.split(1) {
            lanes.send_for_piece(permit);
        }
        Some(lanes)
    }

    fn send_for_piece(&mut self, permit: OwnedSemaphorePermit) {
        if self.next >= self.end {
            return;
        }
        let range = self.next..self.end.min(self.next.saturating_add(PIECE_BYTES));
        self.next = range.end;
        let mut reading = Reading::new(self.source.clone(), range, None);
        let piece = async move {
            let mut piece = VecDeque::new();
            while let Some(bytes) = reading.next().await? {
                piece.push_back(bytes);
            }
            Ok((piece, permit))
        };
        self.coming.push_back(AbortOnDropHandle::new(tokio::spawn(piece.in_current_span())));
    }

    /// The next bytes, never empty; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            if let Some((piece, _)) = &mut self.current
                && let Some(bytes) = piece.pop_front()
            {
                return Ok(Some(bytes));
            }
            // The room of what was handed out is used again.
            let permit = match self.current.take() {
                Some((_, permit)) => Some(permit),
                None => self.missing_permit(),
            };
            if let Some(permit) = permit {
                self.send_for_piece(permit);
            }
            match self.coming.next().await {
                Some(piece) => self.current = Some(piece??),
                None => return Ok(None),
            }
        }
    }

    fn missing_permit(&self) -> Option<OwnedSemaphorePermit> {
        let is_short = self.coming.len() < usize::try_from(LANES).unwrap_or(usize::MAX);
        is_short.then(|| Arc::clone(&self.room.0).try_acquire_owned().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_opened_for_a_remote_that_is_slower_than_its_client() {
        let (second, bytes) = (Duration::from_secs(1), WINDOW_BYTES);
        let table = [
            ("slow remote", bytes, second, second, 1 << 30, true),
            ("slow client", bytes, second, second / 2, 1 << 30, false),
            ("fast remote", bytes, second / 40, second / 40, 1 << 30, false),
            ("little left", bytes, second, second, MIN_LEFT_BYTES - 1, false),
            ("no time at all", bytes, Duration::ZERO, Duration::ZERO, 1 << 30, false),
        ];
        for (name, bytes, took, waited, left, expected) in table {
            assert_eq!(is_worth_it(bytes, took, waited, left), expected, "{name}");
        }
    }
}
