//! Polls a condition to a deadline and tells, when it never holds, why it did not hold last.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to wait between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(25);

/// Asks `probe` until it answers `Ok`, at most for `limit`; the last `Err` is the reason of the failure.
///
/// # Errors
/// When the limit passes, with `what` and the last reason.
pub async fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> std::result::Result<T, E>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(reason) if started.elapsed() >= limit => {
                bail!("{what}: not within {limit:?}; last: {reason:#}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
