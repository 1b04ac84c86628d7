//! Lets requests and bytes through at given rates.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use swift_s3_policy::Rates;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What is let through at once after a rest, as a part of a second. Short, so that nobody waits long for a turn and new
/// rates hold soon.
const BURST_PARTS: u32 = 10;

/// Bytes are counted in units, so that the time for one is far above the limiter's resolution of a nanosecond.
const MOST_UNITS_PER_SECOND: u64 = 1_000_000;

/// A gate for everything that shares a limit. Those who wait are let through in the order in which they came; one who
/// stops waiting leaves no trace. Without rates it is wide open and costs nothing.
///
/// It keeps to `requests_per_second` and `bytes_per_second`. How many things are done at the same time is up to
/// whoever starts them.
#[derive(Debug, Default)]
pub struct RateGate {
    requests: Lane,
    bytes: Lane,
}

impl RateGate {
    /// A gate with these rates.
    pub fn new(rates: Rates) -> Self {
        let gate = Self::default();
        gate.set(rates);
        gate
    }

    /// Changes the rates, for those who wait too. Rates that stay the same are not disturbed.
    pub fn set(&self, rates: Rates) {
        self.requests.set(rates.requests_per_second.map(u64::from));
        self.bytes.set(rates.bytes_per_second);
    }

    /// Waits until one more request may be sent.
    pub async fn request(&self) {
        self.requests.pass(1).await;
    }

    /// Waits until `count` more bytes may be sent.
    pub async fn bytes(&self, count: usize) {
        self.bytes.pass(u64::try_from(count).unwrap_or(u64::MAX)).await;
    }

    /// The bytes to ask for at a time, so that everybody gets a turn often; `None` while they are not limited.
    pub(super) fn piece(&self) -> Option<usize> {
        let meter = self.bytes.meter.load();
        let meter = meter.as_ref()?;
        let piece = u64::from(meter.turn.get()).saturating_mul(meter.unit);
        Some(usize::try_from(piece).unwrap_or(usize::MAX))
    }
}

/// One rate, and the queue in front of it.
#[derive(Debug, Default)]
struct Lane {
    meter: ArcSwapOption<Meter>,
    /// Held by the one whose turn it is. It hands the lock on in the order of arrival.
    turn: Mutex<()>,
}

impl Lane {
    fn set(&self, rate: Option<u64>) {
        let is_same = self.meter.load().as_ref().map(|meter| meter.rate) == rate;
        if !is_same {
            self.meter.store(rate.map(|rate| Meter::new(rate).into()));
        }
    }

    async fn pass(&self, mut count: u64) {
        if self.meter.load().is_none() {
            return;
        }
        let _turn = self.turn.lock().await;
        while count > 0 {
            // Looked up anew for every piece, as the rate may have changed.
            let Some(meter) = self.meter.load_full() else { return };
            count = count.saturating_sub(meter.pass_some(count).await);
        }
    }
}

/// A rate in force.
struct Meter {
    rate: u64,
    /// What one cell of the limiter stands for.
    unit: u64,
    /// Cells that are asked for at a time: half of what may pass at once, so that being woken late loses nothing.
    turn: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
}

impl Meter {
    fn new(rate: u64) -> Self {
        let unit = rate.div_ceil(MOST_UNITS_PER_SECOND).max(1);
        let cells = u32::try_from(rate / unit).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(cells.get() / BURST_PARTS).unwrap_or(NonZeroU32::MIN);
        let turn = NonZeroU32::new(burst.get() / 2).unwrap_or(NonZeroU32::MIN);
        let clock = TokioClock(Instant::now());
        let quota = Quota::per_second(cells).allow_burst(burst);
        Self { rate, unit, turn, limiter: RateLimiter::direct_with_clock(quota, clock), clock }
    }

    /// Waits until as much of `count` as is asked for at a time has passed, and says how much that was.
    async fn pass_some(&self, count: u64) -> u64 {
        let cells = u32::try_from(count.div_ceil(self.unit)).unwrap_or(u32::MAX);
        let cells = NonZeroU32::new(cells).map_or(NonZeroU32::MIN, |cells| cells.min(self.turn));
        // More than the burst could never pass, and is never asked for.
        while let Ok(Err(early)) = self.limiter.check_n(cells) {
            tokio::time::sleep(early.wait_time_from(self.clock.now())).await;
        }
        u64::from(cells.get()).saturating_mul(self.unit)
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Meter").field("rate", &self.rate).finish_non_exhaustive()
    }
}

/// Tokio's time since a start, so that waiting and measuring follow the same clock.
#[derive(Clone, Copy, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
