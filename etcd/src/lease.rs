//! Leases, and when they are over by our own clock.
//!
//! etcd takes away what a lease holds when it was not renewed for the lease's time, counted from when it *received* the last renewal. We
//! count from when we *sent* it, and a margin less, so that we stop before anybody else can begin, without a message from anybody: also
//! when this process was stopped, or the machine slept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{BootTime, boot_time};
use crate::error::{ErrorKind, EtcdError};
use crate::requests::{Etcd, Repeat};

/// Renewals per lease time.
const RENEWALS: u32 = 4;
/// A member that gives no lease within this time is left for the next one. Logging in takes etcd a while, on purpose.
const GRANT_LIMIT: Duration = Duration::from_secs(3);
/// A renewal that failed is repeated after this pause.
const PAUSE: Duration = Duration::from_millis(200);

/// The time during which a lease is ours. Clones watch the same lease. Once over it never begins again.
#[derive(Clone, Debug)]
pub struct Term(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Milliseconds of [`boot_time`].
    deadline: AtomicU64,
    over: CancellationToken,
}

impl Term {
    fn until(deadline: BootTime) -> Self {
        let deadline = AtomicU64::new(deadline.as_millis());
        Self(Arc::new(Inner { deadline, over: CancellationToken::new() }))
    }

    /// True as long as nobody else can own what the lease holds. Reads the clock.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.0.over.is_cancelled() && boot_time().as_millis() < self.0.deadline.load(Ordering::Acquire)
    }

    /// Comes back when the term is over.
    pub async fn over(&self) {
        loop {
            let left = self.left();
            if left.is_zero() || self.0.over.is_cancelled() {
                self.end();
                return;
            }
            tokio::select! {
                () = self.0.over.cancelled() => return,
                // The clock is read again: timers do not run while the process is stopped.
                () = tokio::time::sleep(left.min(Duration::from_secs(1))) => {}
            }
        }
    }

    fn left(&self) -> Duration {
        let deadline = self.0.deadline.load(Ordering::Acquire);
        Duration::from_millis(deadline.saturating_sub(boot_time().as_millis()))
    }

    /// Ends it.
    pub fn end(&self) {
        self.0.over.cancel();
    }

    /// Moves the deadline. False: it had passed before the news came.
    fn extend(&self, deadline: BootTime) -> bool {
        if !self.is_valid() {
            self.end();
            return false;
        }
        self.0.deadline.fetch_max(deadline.as_millis(), Ordering::AcqRel);
        true
    }
}

/// A lease that is renewed until it is dropped, revoked or lost.
#[derive(Debug)]
pub struct Lease {
    id: i64,
    etcd: Etcd,
    term: Term,
    renewing: JoinHandle<()>,
}

impl Lease {
    /// Takes a lease for the time of the settings.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn grant(etcd: &Etcd) -> Result<Self, EtcdError> {
        let wanted = etcd.settings().lease;
        let seconds = i64::try_from(wanted.as_secs()).unwrap_or(i64::MAX).max(1);
        let sent = boot_time();
        let granted = etcd
            .call("taking a lease", Repeat::Freely, GRANT_LIMIT, |mut client| async move {
                client.lease_grant(seconds, None).await
            })
            .await?;
        // etcd may give longer leases than asked for, never shorter ones.
        let time = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(0)).min(wanted);
        let term = Term::until(sent.plus(usable(time)));
        let id = granted.id();
        let renewing = tokio::spawn(renew(etcd.clone(), id, wanted, term.clone()));
        Ok(Self { id, etcd: etcd.clone(), term, renewing })
    }

    /// Its name in etcd.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// How long it is ours.
    #[must_use]
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Gives it back: everything it holds goes at once.
    pub async fn revoke(self) {
        self.term.end();
        self.renewing.abort();
        let id = self.id;
        let revoked = self
            .etcd
            .call("giving a lease back", Repeat::Freely, Duration::from_secs(1), |mut client| async move {
                client.lease_revoke(id).await
            })
            .await;
        if let Err(error) = revoked {
            tracing::debug!(%error, "the lease ends by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.term.end();
        self.renewing.abort();
    }
}

/// How much of a lease is used: clocks differ a little in speed, and a request takes a moment from its check to the wire.
fn usable(time: Duration) -> Duration {
    let margin = (time / 10).clamp(Duration::from_millis(200), Duration::from_secs(2));
    time.saturating_sub(margin)
}

/// All members are tried within the time that is left.
fn request_limit(lease: Duration) -> Duration {
    (lease / 6).clamp(Duration::from_millis(400), Duration::from_secs(2))
}

async fn renew(etcd: Etcd, id: i64, lease: Duration, term: Term) {
    let mut pause = lease / RENEWALS;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = term.over() => return,
        }
        let sent = boot_time();
        let renewed = etcd
            .call("renewing a lease", Repeat::Freely, request_limit(lease), |mut client| async move {
                // The first answer of the stream is checked by the client: a time to live of 0 is an error.
                client.lease_keep_alive(id).await.map(|_| ())
            })
            .await;
        match renewed {
            Ok(()) => {
                if !term.extend(sent.plus(usable(lease))) {
                    return;
                }
                pause = lease / RENEWALS;
            }
            Err(error) if error.kind() == ErrorKind::LeaseGone => {
                tracing::debug!(%error, "the lease is gone");
                term.end();
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "could not renew the lease; trying again");
                pause = PAUSE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_is_over_never_begins_again() {
        let term = Term::until(boot_time().plus(Duration::from_secs(60)));
        assert!(term.is_valid());
        assert!(term.extend(boot_time().plus(Duration::from_secs(120))));
        term.end();
        assert!(!term.is_valid());
        assert!(!term.extend(boot_time().plus(Duration::from_secs(120))));
        assert!(!term.is_valid());
    }

    #[test]
    fn news_that_come_after_the_deadline_do_not_count() {
        let term = Term::until(boot_time());
        assert!(!term.extend(boot_time().plus(Duration::from_secs(60))));
        assert!(!term.is_valid());
    }

    #[tokio::test]
    async fn the_end_is_told_without_a_message() {
        let term = Term::until(boot_time().plus(Duration::from_millis(30)));
        let waited = tokio::time::timeout(Duration::from_secs(10), term.over()).await;
        assert!(waited.is_ok() && !term.is_valid());
    }

    #[test]
    fn the_margin_is_a_part_of_the_lease() {
        assert_eq!(usable(Duration::from_secs(10)), Duration::from_secs(9));
        assert_eq!(usable(Duration::from_secs(2)), Duration::from_millis(1_800));
        assert_eq!(usable(Duration::from_secs(600)), Duration::from_secs(598));
    }
}
