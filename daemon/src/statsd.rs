//! Statsd counters, added up in memory and sent once a second.
//!
//! One packet per metric and second instead of one per chunk of a body: a busy worker must not flood the network
//! with its own bookkeeping. Without a host every call is a no-op.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use cadence::{Counted, StatsdClient, UdpMetricSink};
use swift_s3_policy::Statsd as StatsdSettings;

/// Counters are kept by full metric name; more names than this are dropped, so that an account with very many
/// containers cannot grow the table without bound between two flushes.
const MAX_NAMES: usize = 100_000;

/// A handle to the counters. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    settings: StatsdSettings,
    pending: Mutex<HashMap<String, i64>>,
    client: Mutex<Option<StatsdClient>>,
}

impl Counters {
    /// Counters that are sent to `settings`, or nowhere when it is `None`.
    #[must_use]
    pub fn new(settings: Option<&StatsdSettings>) -> Self {
        Self {
            inner: settings.map(|settings| {
                Arc::new(Inner {
                    settings: settings.clone(),
                    pending: Mutex::default(),
                    client: Mutex::default(),
                })
            }),
        }
    }

    /// The configured name prefix, if any.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.inner.as_ref()?.settings.prefix.as_deref()
    }

    /// True when somebody receives these counters; callers may skip building names otherwise.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.inner.is_some()
    }

    /// Adds `amount` to the counter of this full metric name. Never blocks on the network.
    pub fn add(&self, name: &str, amount: u64) {
        let Some(inner) = &self.inner else { return };
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        if amount == 0 {
            return;
        }
        let mut pending = inner.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sum) = pending.get_mut(name) {
            *sum = sum.saturating_add(amount);
        } else if pending.len() < MAX_NAMES {
            pending.insert(name.to_owned(), amount);
        }
    }

    /// Sends what has been added since the last call. Metrics are best effort: a host that cannot be resolved costs
    /// the counts of this interval and a debug line.
    pub fn flush(&self) {
        let Some(inner) = &self.inner else { return };
        let batch = std::mem::take(&mut *inner.pending.lock().unwrap_or_else(PoisonError::into_inner));
        if batch.is_empty() {
            return;
        }
        let mut client = inner.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.is_none() {
            *client = connect(&inner.settings);
        }
        if let Some(client) = client.as_ref() {
            for (name, amount) in batch {
                if let Err(error) = client.count(&name, amount) {
                    tracing::debug!(%error, "could not send a statsd counter");
                }
            }
        }
    }
}

/// A socket of the address family of `host`, and the address to send to.
pub(crate) fn udp_socket_for(host: &str, port: u16) -> io::Result<(UdpSocket, SocketAddr)> {
    let address = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")))?;
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Ok((UdpSocket::bind((any, 0))?, address))
}

fn connect(settings: &StatsdSettings) -> Option<StatsdClient> {
    let sink = udp_socket_for(&settings.host, settings.port)
        .map_err(cadence::MetricError::from)
        .and_then(|(socket, address)| UdpMetricSink::from(address, socket));
    match sink {
        // The full name is built by the caller: the prefix is part of the original's naming rule.
        Ok(sink) => Some(StatsdClient::from_sink("", sink)),
        Err(error) => {
            tracing::debug!(%error, host = %settings.host, "could not reach the statsd host");
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_and_sends_one_packet_per_name() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let settings = StatsdSettings {
            host: "127.0.0.1".into(),
            port: receiver.local_addr().unwrap().port(),
            prefix: None,
        };
        let counters = Counters::new(Some(&settings));
        counters.add("a.bytes", 3);
        counters.add("a.bytes", 4);
        counters.flush();
        let mut buffer = [0; 128];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), "a.bytes:7|c");
    }

    #[test]
    fn without_a_host_nothing_is_kept() {
        let counters = Counters::new(None);
        counters.add("a", 1);
        counters.flush();
        assert!(!counters.is_enabled());
    }
}
