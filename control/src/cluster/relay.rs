//! Hands calls on to the leader, as they come, and its answers back.
//!
//! Who took the connection decides whether the call is allowed: tokens and certificates may be known here only. The leader is
//! told who asks, and believes it from whoever knows the secret that it put into etcd for its term.

use std::error::Error as _;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use swift_s3_daemon::telemetry::propagation;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower_service::Service;
use tracing::Span;

use super::board::{Limited, nobody};
use crate::access::{Caller, Role};

/// The proof of a control process.
const SECRET: HeaderName = HeaderName::from_static("swift-s3-relay-secret");
/// Who asks, percent-encoded.
const CALLER: HeaderName = HeaderName::from_static("swift-s3-relay-caller");
/// As what; absent where access control is off.
const ROLE: HeaderName = HeaderName::from_static("swift-s3-relay-role");

/// A leader that does not accept a connection by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A leader that is cut off from here, but not from etcd, is noticed after these two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A leader that does not answer for so long makes this process of no use; shorter, it is just being exchanged.
const PATIENCE: Duration = Duration::from_secs(5);
/// It is asked again so often, and has so long to answer.
const PROBE: Duration = Duration::from_secs(2);
/// What a slow client lets lie here of one answer.
const STREAM_WINDOW: u32 = 256 * 1024;
/// All answers share one connection. It must never fill because some clients are slow: others would wait for them. This is
/// the largest that HTTP/2 knows; what lies here is bounded by the streams, and comes from a control process.
const CONNECTION_WINDOW: u32 = i32::MAX.unsigned_abs();

/// What a relayed call says about itself.
#[derive(Clone)]
pub(crate) struct Relayed {
    secret: HeaderValue,
    /// Who asks.
    pub(crate) caller: Caller,
}

impl Relayed {
    /// Takes what belongs to the relay off the headers, whoever sent it. `None`: the call was not relayed.
    pub(crate) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let [secret, caller, role] = [SECRET, CALLER, ROLE].map(|name| {
            let value = headers.get(&name).cloned();
            while headers.remove(&name).is_some() {}
            value
        });
        let text = |value: Option<HeaderValue>| {
            let value = value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
            percent_decode_str(value).decode_utf8_lossy().into_owned()
        };
        let told = role.map(|role| role.to_str().ok().and_then(Role::parse));
        // A role of a newer version is not the right to do everything: such a call proves nothing.
        let secret = if told == Some(None) { Some(HeaderValue::from_static("")) } else { secret };
        Some(Self { secret: secret?, caller: Caller { name: text(caller), role: told.flatten() } })
    }

    /// Every byte is looked at, so that the time tells nothing about how much of it was right.
    pub(super) fn proves(&self, secret: &str) -> bool {
        let (told, known) = (self.secret.as_bytes(), secret.as_bytes());
        told.len() == known.len() && told.iter().zip(known).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
    }

    fn put(headers: &mut HeaderMap, secret: &str, caller: &Caller) -> Option<()> {
        let mut proof = HeaderValue::from_str(secret).ok()?;
        proof.set_sensitive(true);
        headers.insert(SECRET, proof);
        let name = utf8_percent_encode(&caller.name, NON_ALPHANUMERIC).to_string();
        headers.insert(CALLER, HeaderValue::from_str(&name).ok()?);
        if let Some(role) = caller.role {
            headers.insert(ROLE, HeaderValue::from_static(role.as_str()));
        }
        Some(())
    }
}

impl fmt::Debug for Relayed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Relayed").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// Another process that leads.
pub struct Leader {
    address: String,
    secret: Arc<str>,
    channel: Channel,
    /// Fires when it leads no more.
    gone: CancellationToken,
    /// Since when it does not answer, as far as is known here.
    failing: Arc<Mutex<Option<Instant>>>,
}

impl fmt::Debug for Leader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Leader").field(&self.address).finish()
    }
}

impl Leader {
    /// The leader at this URL. Connects when it is first needed.
    ///
    /// # Errors
    /// A sentence, when the URL or the certificates cannot be used.
    pub fn new(address: &str, secret: &str, tls: Option<ClientTlsConfig>) -> Result<Self, String> {
        let wrong = |error: tonic::transport::Error| format!("{address}: {error}");
        let mut endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        match (address.starts_with("https://"), tls) {
            (true, Some(tls)) => endpoint = endpoint.tls_config(tls).map_err(wrong)?,
            (true, None) => return Err(format!("{address}: the leader has TLS, this process has none")),
            (false, _) => {}
        }
        Ok(Self {
            address: address.to_owned(),
            secret: Arc::from(secret),
            channel: endpoint.connect_lazy(),
            gone: CancellationToken::new(),
            failing: Arc::default(),
        })
    }

    /// Names its term; nobody else may know it.
    pub(super) fn term(&self) -> Arc<str> {
        Arc::clone(&self.secret)
    }

    /// # Errors
    /// When it has answered nothing for a while.
    pub(crate) fn is_reached(&self) -> Result<(), String> {
        let since = *lock(&self.failing);
        match since.map(|since| since.elapsed()) {
            Some(elapsed) if elapsed >= PATIENCE => {
                Err(format!("the leader at {} has not answered for {} s", self.address, elapsed.as_secs()))
            }
            _ => Ok(()),
        }
    }

    /// It did not answer. Whoever chooses among control processes may send no calls here any more, so it is asked until it answers.
    fn note_failure(&self) {
        let mut failing = lock(&self.failing);
        if failing.is_some() {
            return;
        }
        *failing = Some(Instant::now());
        drop(failing);
        let (failing, gone) = (Arc::clone(&self.failing), self.gone.clone());
        let mut health = HealthClient::new(self.channel.clone());
        tokio::spawn(async move {
            let asking = async {
                while lock(&failing).is_some() {
                    tokio::time::sleep(PROBE).await;
                    let asked = health.check(HealthCheckRequest::default());
                    // Any word of it will do.
                    match tokio::time::timeout(PROBE, asked).await {
                        Ok(Err(status)) if status.source().is_some() => {}
                        Ok(_) => *lock(&failing) = None,
                        Err(_) => {}
                    }
                }
            };
            gone.run_until_cancelled(asking).await;
        });
    }

    /// Ends calls under way.
    pub fn leave(&self) {
        self.gone.cancel();
    }

    pub(super) async fn relay(&self, request: http::Request<Body>) -> http::Response<Body> {
        tokio::select! {
            () = self.gone.cancelled() => nobody("the leader is gone").into_http(),
            response = self.send(request) => response,
        }
    }

    async fn send(&self, mut request: http::Request<Body>) -> http::Response<Body> {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        // Extensions are about the connection to here.
        *request.extensions_mut() = http::Extensions::new();
        let headers = request.headers_mut();
        headers.remove(http::header::AUTHORIZATION);
        // The leader's part of the work is part of the same trace. A stream has no span here; what its client said goes on as it is.
        propagation::pass_on(&Span::current(), headers);
        if Relayed::put(headers, &self.secret, &caller).is_none() {
            return nobody("the leader's secret cannot be sent").into_http();
        }
        let mut channel = self.channel.clone();
        let sent = match poll_fn(|context| channel.poll_ready(context)).await {
            Ok(()) => channel.call(request).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(response) => {
                *lock(&self.failing) = None;
                let ended = Box::pin(self.gone.clone().cancelled_owned());
                response.map(|body| Body::new(Limited { body: Some(body), term: None, ended, _token: None }))
            }
            Err(error) => {
                self.note_failure();
                tracing::debug!(leader = %self.address, %error, "the leader does not answer");
                nobody(&format!("the leader at {} does not answer", self.address)).into_http()
            }
        }
    }
}

fn lock(failing: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    failing.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn who_asks_is_handed_on_and_taken_off_again() {
        for caller in [
            Caller { name: "Ops, ö\n".to_owned(), role: Some(Role::Operator) },
            Caller { name: String::new(), role: None },
        ] {
            let mut headers = HeaderMap::new();
            // What a client invents is replaced.
            headers.append(CALLER, HeaderValue::from_static("root"));
            headers.append(CALLER, HeaderValue::from_static("root"));
            headers.append(ROLE, HeaderValue::from_static("operator"));
            drop(Relayed::take(&mut headers));
            assert!(headers.is_empty());
            Relayed::put(&mut headers, "secret", &caller).unwrap();
            let taken = Relayed::take(&mut headers).unwrap();
            assert!(headers.is_empty());
            assert_eq!(taken.caller, caller);
            assert!(taken.proves("secret") && !taken.proves("secre") && !taken.proves("secres"));
            assert!(!format!("{taken:?}").contains("secret\""), "{taken:?}");
        }
        assert!(Relayed::take(&mut HeaderMap::new()).is_none());
    }

    #[tokio::test]
    async fn a_leader_that_cannot_be_reached_for_a_while_is_told_and_forgotten_once_it_answers() {
        // Nobody listens there any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let leader = Leader::new(&address, "secret", None).unwrap();
        let call = || http::Request::builder().uri("/a.B/C").body(Body::default()).unwrap();
        leader.relay(call()).await;
        assert_eq!(leader.is_reached(), Ok(()), "it may be back at once");
        *lock(&leader.failing) = Instant::now().checked_sub(PATIENCE);
        assert!(leader.is_reached().unwrap_err().contains("has not answered for 5 s"));
        *lock(&leader.failing) = None;
        assert_eq!(leader.is_reached(), Ok(()));
    }
}
