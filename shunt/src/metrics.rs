//! What the shunt counts.

mod catalogue;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, UpDownCounter};
use swift_s3_daemon::metrics::{Metrics as Process, RemoteRequests, label};
use swift_s3_daemon::telemetry::propagation;
use swift_s3_store::{EndedRequest, Remotes, RequestObserver};

use crate::context::Context;
use crate::policy::Outcome;
use crate::restore::OUTCOMES;
use catalogue as all;

pub use catalogue::METRICS;

/// Where requests come in.
const DOORS: [&str; 2] = ["proxy", "filter"];
/// Content that is under way is counted at the latest when so much of it has passed: an object may take hours.
const COUNT_BYTES: u64 = 8 << 20;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Instruments>);

/// The instruments.
#[derive(Debug)]
pub struct Instruments {
    requests: Histogram<f64>,
    active: UpDownCounter<i64>,
    swift: Histogram<f64>,
    io: Counter<u64>,
    remote: Counter<u64>,
    /// Seconds until the first byte of an answer of the shunt's own.
    pub first_byte: Histogram<f64>,
    /// Bytes of archived content handed out.
    pub remote_content: Counter<u64>,
    /// Remote bodies resumed after they broke.
    pub resumed: Counter<u64>,
    cache: Counter<u64>,
    restores: Counter<u64>,
    restore_duration: Histogram<f64>,
    /// Bytes of objects written back.
    pub restored_content: Counter<u64>,
    listing_rows: Counter<u64>,
    /// Listings without the remote's names.
    pub partial_listings: Counter<u64>,
    connections: UpDownCounter<i64>,
    refused_connections: Counter<u64>,
}

impl Deref for Metrics {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.0
    }
}

impl Default for Metrics {
    /// Counts for nobody.
    fn default() -> Self {
        Self::new(&Process::default())
    }
}

impl Metrics {
    /// Counts in the metrics of this process.
    #[must_use]
    pub fn new(process: &Process) -> Self {
        let meter = process.meter(METRICS);
        let instruments = Instruments {
            requests: all::REQUEST_DURATION.histogram(&meter),
            active: all::ACTIVE_REQUESTS.up_down(&meter),
            swift: all::SWIFT_DURATION.histogram(&meter),
            io: all::IO.counter(&meter),
            remote: all::REMOTE_REQUESTS.counter(&meter),
            first_byte: all::FIRST_BYTE.histogram(&meter),
            remote_content: all::REMOTE_CONTENT.counter(&meter),
            resumed: all::RESUMED.counter(&meter),
            cache: all::CACHE_LOOKUPS.counter(&meter),
            restores: all::RESTORES.counter(&meter),
            restore_duration: all::RESTORE_DURATION.histogram(&meter),
            restored_content: all::RESTORE_CONTENT.counter(&meter),
            listing_rows: all::LISTING_ROWS.counter(&meter),
            partial_listings: all::PARTIAL_LISTINGS.counter(&meter),
            connections: all::CONNECTIONS.up_down(&meter),
            refused_connections: all::REFUSED_CONNECTIONS.counter(&meter),
        };
        instruments.begin();
        Self(Arc::new(instruments))
    }

    /// Counts content of a client on its way.
    #[must_use]
    pub fn transfer(&self, door: &'static str, direction: Direction) -> Transfer {
        Transfer { metrics: self.clone(), door, direction, uncounted: 0 }
    }
}

impl Instruments {
    /// Counts nothing of everything whose words are known: the first event of a series that begins with it would be no increase.
    fn begin(&self) {
        for outcome in OUTCOMES {
            self.restores.add(0, &[label("outcome", outcome)]);
        }
        for door in DOORS {
            self.refused_connections.add(0, &[label("door", door)]);
        }
        for cache in ["companions", "presence", "readers"] {
            for outcome in ["hit", "miss"] {
                self.cache.add(0, &[label("cache", cache), label("outcome", outcome)]);
            }
        }
        self.listed(0, 0);
    }

    /// A client's request has come in.
    pub(crate) fn request_began(&self, door: &'static str) {
        self.active.add(1, &[label("door", door)]);
    }

    /// A client's request is over; `fault` says in one word why it did not end well. `None`: only a step of it is.
    pub(crate) fn request_ended(&self, request: &Request, took: Option<Duration>) {
        self.active.add(-1, &[label("door", request.door)]);
        let Some(took) = took else { return };
        let [mut status, mut fault] = [const { None }; 2];
        if let Some(code) = request.status {
            status = Some(label("http.response.status_code", i64::from(code.as_u16())));
        }
        if let Some(word) = request.fault {
            fault = Some(label("error.type", word));
        }
        let (method, door) = (label("http.request.method", request.method), label("door", request.door));
        let operation = label("operation", request.operation);
        let took = took.as_secs_f64();
        match (status, fault) {
            (Some(status), None) => self.requests.record(took, &[method, door, operation, status]),
            (Some(status), Some(fault)) => {
                self.requests.record(took, &[method, door, operation, status, fault])
            }
            (None, Some(fault)) => self.requests.record(took, &[method, door, operation, fault]),
            (None, None) => self.requests.record(took, &[method, door, operation]),
        }
    }

    /// Swift was asked.
    pub(crate) fn asked_swift(
        &self,
        method: &'static str,
        way: &'static str,
        outcome: KeyValue,
        took: Duration,
    ) {
        let labels = [label("http.request.method", method), label("way", way), outcome];
        self.swift.record(took.as_secs_f64(), &labels);
    }

    /// Counts a request to a remote.
    pub fn asked_remote(&self, operation: &'static str, outcome: &'static str) {
        self.remote.add(1, &[label("operation", operation), label("outcome", outcome)]);
    }

    /// Something that is kept in memory was looked for.
    pub fn looked_up(&self, cache: &'static str, was_there: bool) {
        let outcome = if was_there { "hit" } else { "miss" };
        self.cache.add(1, &[label("cache", cache), label("outcome", outcome)]);
    }

    /// Counts a restore, or one that was not begun; `took` is the time of one that was.
    pub fn restored(&self, outcome: &'static str, took: Option<Duration>) {
        let labels = [label("outcome", outcome)];
        self.restores.add(1, &labels);
        debug_assert!(OUTCOMES.contains(&outcome), "{outcome} is not counted from the start");
        if let Some(took) = took {
            self.restore_duration.record(took.as_secs_f64(), &labels);
        }
    }

    /// Counts what a listing was made of.
    pub fn listed(&self, local: usize, remote: usize) {
        for (source, rows) in [("local", local), ("remote", remote)] {
            self.listing_rows.add(u64::try_from(rows).unwrap_or(u64::MAX), &[label("source", source)]);
        }
    }

    /// A connection was taken.
    pub fn connected(&self, door: &'static str) {
        self.connections.add(1, &[label("door", door)]);
    }

    /// A connection has ended.
    pub fn disconnected(&self, door: &'static str) {
        self.connections.add(-1, &[label("door", door)]);
    }

    /// A connection was closed at once, because there were too many.
    pub fn refused_connection(&self, door: &'static str) {
        self.refused_connections.add(1, &[label("door", door)]);
    }
}

/// A client's request that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Where it came in.
    pub(crate) door: &'static str,
    /// Its method, one of those that Swift knows.
    pub(crate) method: &'static str,
    /// What was done for it.
    pub(crate) operation: &'static str,
    /// What it was answered with, if it was.
    pub(crate) status: Option<StatusCode>,
    /// In one word why it did not get its answer in full.
    pub(crate) fault: Option<&'static str>,
}

/// Which way content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client.
    Receive,
    /// To a client.
    Transmit,
}

/// Content of one client on its way. What is not counted yet is when it is dropped.
#[derive(Debug)]
pub struct Transfer {
    metrics: Metrics,
    door: &'static str,
    direction: Direction,
    uncounted: u64,
}

impl Transfer {
    /// So many bytes have passed.
    pub fn passed(&mut self, bytes: usize) {
        self.uncounted = self.uncounted.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.uncounted >= COUNT_BYTES {
            self.count();
        }
    }

    fn count(&mut self) {
        let bytes = std::mem::take(&mut self.uncounted);
        if bytes > 0 {
            let direction = match self.direction {
                Direction::Receive => "receive",
                Direction::Transmit => "transmit",
            };
            self.metrics.io.add(bytes, &[label("door", self.door), label("network.io.direction", direction)]);
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.count();
    }
}

/// Remotes whose requests are counted in the metrics of this process. Those to Swift clusters go out with their trace.
#[must_use]
pub fn remotes(process: &Process) -> Remotes {
    Remotes::observed(Arc::new(Counted(RemoteRequests::new(&process.meter(METRICS)))))
}

struct Counted(RemoteRequests);

impl RequestObserver for Counted {
    fn sending(&self, headers: &mut HeaderMap) {
        propagation::pass_on_current(headers);
    }

    fn ended(&self, request: &EndedRequest) {
        self.0.ended(request.provider, request.operation, request.outcome, request.duration);
    }
}

/// Tells, whenever somebody looks, how things stand in `context`.
pub fn observe(process: &Process, context: &Arc<Context>) {
    let meter = process.meter(METRICS);
    let looking = |look: fn(&Context, &dyn AsyncInstrument<u64>)| {
        let context = Arc::clone(context);
        move |seen: &dyn AsyncInstrument<u64>| look(&context, seen)
    };
    all::READ_AHEAD
        .observe(&meter, looking(|context, seen| seen.observe(number(context.reads.pieces()), &[])));
    all::RESTORE_ACTIVE
        .observe(&meter, looking(|context, seen| seen.observe(number(context.restores.under_way()), &[])));
    all::RESTORE_LIMIT
        .observe(&meter, looking(|context, seen| seen.observe(number(context.restores.limit()), &[])));
    all::LISTING_PLACES
        .observe(&meter, looking(|context, seen| seen.observe(number(context.listings.lines()), &[])));
    all::LISTING_PLACES_LIMIT
        .observe(&meter, looking(|_, seen| seen.observe(number(crate::listing::MAX_LINES), &[])));
    all::CONFIG_REVISION
        .observe(&meter, looking(|context, seen| seen.observe(context.policies.state().revision(), &[])));
    let aged = Arc::clone(context);
    all::CONFIG_AGE.observe_f64(&meter, move |seen| {
        if let Some(age) = aged.policies.state().age() {
            seen.observe(age.as_secs_f64(), &[]);
        }
    });
    all::CONFIG_RELOADS.observe(
        &meter,
        looking(|context, seen| {
            for outcome in Outcome::ALL {
                seen.observe(context.policies.state().count(outcome), &[label("outcome", outcome.as_str())]);
            }
        }),
    );
    all::MAPPINGS.observe(
        &meter,
        looking(|context, seen| {
            let table = context.policies.current();
            let broken = table.broken();
            seen.observe(number(table.len().saturating_sub(broken)), &[label("state", "ok")]);
            seen.observe(number(broken), &[label("state", "broken")]);
        }),
    );
    all::CONTROL_CONNECTED.observe(
        &meter,
        looking(|context, seen| {
            if let Some(is_connected) = context.policies.state().is_connected() {
                seen.observe(u64::from(is_connected), &[]);
            }
        }),
    );
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Labels by name of the metric, as they stand in the text.
    fn labels(text: &str) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, rest) = line.split_once('{').unwrap_or((line, ""));
            let name = name.split(' ').next().unwrap();
            let name =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let pairs = rest.split('}').next().unwrap().split(',').filter(|pair| !pair.is_empty());
            let names = pairs.map(|pair| pair.split('=').next().unwrap().to_owned());
            found.entry(name.to_owned()).or_default().extend(names.filter(|label| label != "le"));
        }
        found
    }

    #[tokio::test]
    async fn labels_are_those_that_are_declared() {
        let process = Process::default();
        let metrics = Metrics::new(&process);
        let context = Arc::new(Context::for_tests(metrics.clone()));
        observe(&process, &context);
        metrics.request_began("proxy");
        for (status, fault) in [
            (Some(StatusCode::OK), None),
            (Some(StatusCode::OK), Some("broken_body")),
            (None, Some("client_gone")),
        ] {
            let request = Request { door: "proxy", method: "GET", operation: "read", status, fault };
            metrics.request_ended(&request, Some(Duration::from_millis(3)));
        }
        metrics.asked_swift("GET", "upstream", label("http.response.status_code", 404), Duration::ZERO);
        metrics.asked_swift("GET", "upstream", label("error.type", "unreachable"), Duration::ZERO);
        metrics.transfer("proxy", Direction::Receive).passed(3);
        metrics.asked_remote("get", "ok");
        metrics.looked_up("readers", true);
        metrics.restored("restored", Some(Duration::ZERO));
        metrics.restored_content.add(1, &[]);
        metrics.listed(1, 2);
        metrics.connected("proxy");
        metrics.refused_connection("proxy");
        for counter in [&metrics.remote_content, &metrics.resumed, &metrics.partial_listings] {
            counter.add(1, &[]);
        }
        metrics.first_byte.record(0.1, &[]);
        let ended =
            EndedRequest { provider: "s3", operation: "get", outcome: "ok", duration: Duration::ZERO };
        Counted(RemoteRequests::new(&process.meter(METRICS))).ended(&ended);
        let text = process.render();
        let found = labels(&text);
        for metric in METRICS {
            let declared: BTreeSet<String> =
                metric.labels.iter().map(|label| label.replace('.', "_")).collect();
            // Only once there is a configuration, or a control plane.
            if !["swift_s3_sync.config.age", "swift_s3_sync.control.connected"].contains(&metric.name) {
                assert_eq!(found.get(&metric.prometheus_name()), Some(&declared), "{}", metric.name);
            }
        }
        assert!(
            text.contains("swift_s3_shunt_io_bytes_total{door=\"proxy\",network_io_direction=\"receive\"} 3"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn what_may_raise_an_alarm_is_counted_from_zero_and_control_only_where_there_is_one() {
        let process = Process::default();
        let context = Arc::new(Context::for_tests(Metrics::new(&process)));
        observe(&process, &context);
        let text = process.render();
        for line in [
            "swift_s3_shunt_restores_total{outcome=\"gatekeeper\"} 0",
            "swift_s3_shunt_refused_connections_total{door=\"filter\"} 0",
            "swift_s3_shunt_partial_listings_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("\nswift_s3_sync_control_connected "), "{text}");
        context.policies.state().set_connected(false);
        assert!(process.render().contains("\nswift_s3_sync_control_connected 0\n"));
        context.policies.state().set_connected(true);
        assert!(process.render().contains("\nswift_s3_sync_control_connected 1\n"));
    }

    #[test]
    fn words_that_are_told_are_those_that_are_documented() {
        for word in crate::swift_call::FAULTS {
            assert!(all::SWIFT_DURATION.help.contains(word), "{word}");
        }
        for word in ["client_gone", "broken_body"] {
            assert!(all::REQUEST_DURATION.help.contains(word), "{word}");
        }
        for outcome in Outcome::ALL {
            assert!(all::CONFIG_RELOADS.help.contains(outcome.as_str()), "{outcome:?}");
        }
    }
}
