//! One token for all requests of a store: fetched by one caller while the others wait, renewed before it expires, and
//! fetched anew when the cluster refuses it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use swift_s3_policy::SHUNT_BYPASS_HEADER;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::body::{self, Body};
use crate::error::{ErrorKind, StoreError};
use crate::metering::{Operation, RequestCounter};
use crate::observing::{Asked, Key, Observer, Patience, SWIFT};
use crate::swift::auth::{Auth, Login};
use crate::swift::classify;
use crate::swift::request::{Call, Target};
use crate::swift::wire::{Wire, WireError};

/// A token is renewed this long before it expires, or after nine tenths of its life if that is later.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(60);
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Catalogs of large clouds have some ten thousand bytes.
const MAX_LOGIN_BYTES: usize = 4 * 1024 * 1024;
/// The first try and two more: what fails longer is better repeated later, with the work that waits for it.
const MAX_ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// Asks a shunt in front of the cluster to keep out: what a remote holds must not be mixed with what lies behind it.
const BYPASS: HeaderName = HeaderName::from_static(SHUNT_BYPASS_HEADER);

/// A token and where it is good for something.
pub(crate) struct Access {
    storage_url: String,
    token: HeaderValue,
    /// `None`: nobody knows when it expires.
    renew_at: Option<Instant>,
    /// The cluster has taken it once. One that is refused before that is no use to ask for again.
    proven: AtomicBool,
}

/// How a login failed, for all who waited for it.
#[derive(Clone)]
struct Failure {
    kind: ErrorKind,
    status: Option<u16>,
    message: String,
    retry_after: Option<Duration>,
}

/// See the module.
pub(crate) struct Session {
    wire: Wire,
    auth: Auth,
    observer: Observer,
    counter: RequestCounter,
    current: Mutex<Option<Arc<Access>>>,
    /// Held by the one who logs in; keeps how the last login failed.
    login: tokio::sync::Mutex<Option<Failure>>,
    /// Logins that have ended.
    logins: AtomicU64,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(wire: Wire, auth: Auth, observer: Observer) -> Self {
        Self {
            wire,
            auth,
            observer,
            counter: RequestCounter::default(),
            current: Mutex::new(None),
            login: tokio::sync::Mutex::new(None),
            logins: AtomicU64::new(0),
        }
    }

    pub(crate) fn counter(&self) -> &RequestCounter {
        &self.counter
    }

    /// Sends a request whose body, if any, is in memory; repeats it after a passing fault if that does no harm.
    ///
    /// Whatever status but 401 comes back is for the caller to judge.
    pub(crate) async fn send(&self, call: &Call) -> Result<Response<Incoming>, StoreError> {
        let mut logged_in_again = false;
        let mut attempt = 1;
        loop {
            let access = self.access(call).await?;
            let request = access.request(call, body::from_bytes(call.body.clone()))?;
            let repeatable = call.is_repeatable() && attempt < MAX_ATTEMPTS;
            let exchange = self.exchange(call, request, Patience::Answer(call.timeout));
            match tokio::time::timeout(call.timeout, exchange).await {
                Ok(Ok(answer)) if answer.status() == StatusCode::UNAUTHORIZED => {
                    let is_worth_a_login = self.refuse(&access) && !logged_in_again;
                    let error = classify::refused(call, answer).await;
                    if !is_worth_a_login {
                        return Err(error);
                    }
                    logged_in_again = true;
                    continue;
                }
                Ok(Ok(answer)) => {
                    access.prove();
                    let passing = matches!(answer.status().as_u16(), 408 | 499 | 500 | 502..=504);
                    if !passing || !repeatable {
                        return Ok(answer);
                    }
                    // To its end, so that the connection can be used again.
                    let _ = classify::read_text(answer.into_body()).await;
                }
                Ok(Err(error)) if !repeatable => return Err(classify::unanswered(call, error)),
                Err(_) if !repeatable => return Err(timed_out(call)),
                Ok(Err(_)) | Err(_) => {}
            }
            tokio::time::sleep(FIRST_BACKOFF * attempt * attempt).await;
            attempt += 1;
        }
    }

    /// The token for a request that [`Self::exchange`] sends.
    pub(crate) async fn access(&self, call: &Call) -> Result<Arc<Access>, StoreError> {
        if let Some(access) = self.usable() {
            return Ok(access);
        }
        let seen = self.logins.load(Ordering::Acquire);
        let mut last = self.login.lock().await;
        if let Some(access) = self.usable() {
            return Ok(access);
        }
        // Somebody tried while we waited. A second try would only add to whatever troubles the server.
        if self.logins.load(Ordering::Acquire) != seen
            && let Some(failure) = &*last
        {
            return Err(failure.error(call));
        }
        let outcome = self.log_in().await;
        self.logins.fetch_add(1, Ordering::AcqRel);
        match outcome {
            Ok(login) => {
                *last = None;
                let access = Arc::new(Access::new(login));
                *self.lock() = Some(Arc::clone(&access));
                Ok(access)
            }
            Err(failure) => {
                let error = failure.error(call);
                *last = Some(failure);
                Err(error)
            }
        }
    }

    /// Sends a request once. Whoever gives up when `patience` is at its end has met a cluster that hangs.
    pub(crate) async fn exchange(
        &self,
        call: &Call,
        mut request: Request<Body>,
        patience: Patience,
    ) -> Result<Response<Incoming>, WireError> {
        let operation = operation_of(call);
        self.counter.count(operation);
        let watched = self.observer.begin(&asked(call, operation, request.uri()), patience);
        let span = watched.span();
        let exchange = async {
            self.observer.sending(request.headers_mut());
            let answer = self.wire.send(request).await;
            match &answer {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    let kind = classify::kind(&call.method, status);
                    watched.answered(status, kind, classify::request_id(answer.headers()));
                }
                Err(_) => watched.failed(ErrorKind::Unavailable),
            }
            answer
        };
        exchange.instrument(span).await
    }

    /// Forgets a token that the cluster refused; answers whether a new one may be better.
    pub(crate) fn refuse(&self, access: &Arc<Access>) -> bool {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, access)) {
            *current = None;
        }
        access.proven.load(Ordering::Relaxed)
    }

    fn usable(&self) -> Option<Arc<Access>> {
        let current = self.lock();
        let access = current.as_ref()?;
        let fresh = access.renew_at.is_none_or(|at| Instant::now() < at);
        fresh.then(|| Arc::clone(access))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Access>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn log_in(&self) -> Result<Login, Failure> {
        tokio::time::timeout(LOGIN_TIMEOUT, self.ask_for_token())
            .await
            .unwrap_or_else(|_| Err(Failure::unavailable("the login took too long")))
    }

    async fn ask_for_token(&self) -> Result<Login, Failure> {
        let login = self.auth.request().map_err(|error| Failure::new(ErrorKind::Invalid, error))?;
        let mut request = Request::builder()
            .method(login.method)
            .uri(login.url)
            .body(body::from_bytes(login.body))
            .map_err(|_| Failure::new(ErrorKind::Invalid, "auth_url cannot be asked"))?;
        request.headers_mut().extend(login.headers);
        let answer = self
            .wire
            .send(request)
            .await
            .map_err(|error| Failure::unavailable(&classify::root_cause(&error)))?;
        let (parts, body) = answer.into_parts();
        if !parts.status.is_success() {
            let status = parts.status.as_u16();
            let text = classify::plain(&classify::read_text(body).await);
            return Err(Failure {
                kind: login_kind(status),
                status: Some(status),
                message: format!("login refused: {text}").trim_end_matches([' ', ':']).to_owned(),
                retry_after: classify::retry_after(&parts.headers),
            });
        }
        let body = match Limited::new(body, MAX_LOGIN_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(Failure::unavailable("the answer to the login is too long"));
            }
            Err(error) => return Err(Failure::unavailable(&classify::root_cause(&*error))),
        };
        self.auth
            .read(&parts.headers, &body)
            .map_err(|error| Failure::unavailable(&format!("answer to the login: {error}")))
    }
}

/// Everything but a plain refusal may pass.
fn login_kind(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        429 | 498 => ErrorKind::Throttled,
        _ => ErrorKind::Unavailable,
    }
}

fn asked<'a>(call: &'a Call, operation: Operation, uri: &'a Uri) -> Asked<'a> {
    let (container, key) = match &call.target {
        Target::Account => ("", ""),
        Target::Container(name) => (name.as_str(), ""),
        Target::Object { container, name } => (container.as_str(), name.as_str()),
    };
    Asked {
        provider: SWIFT,
        operation,
        method: call.method.as_str(),
        bucket: container,
        key: Key::Plain(key),
        server: uri.authority().map_or("", Authority::as_str),
    }
}

/// What a request counts as.
fn operation_of(call: &Call) -> Operation {
    match call.method {
        Method::HEAD => Operation::Head,
        Method::PUT => Operation::Put,
        Method::POST => Operation::Copy,
        Method::DELETE => Operation::Delete,
        _ if matches!(call.target, Target::Object { .. }) => Operation::Get,
        _ => Operation::List,
    }
}

pub(crate) fn timed_out(call: &Call) -> StoreError {
    let text = format!("no answer within {} s", call.timeout.as_secs());
    classify::failure(call, ErrorKind::Unavailable).with_message(Some(&text))
}

impl Access {
    fn new(login: Login) -> Self {
        let renew_at = login.lifetime.and_then(|lifetime| {
            let margin = RENEW_BEFORE_EXPIRY.min(lifetime / 10);
            Instant::now().checked_add(lifetime.saturating_sub(margin))
        });
        Self { storage_url: login.storage_url, token: login.token, renew_at, proven: AtomicBool::new(false) }
    }

    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// The request for a call, with its token.
    pub(crate) fn request(&self, call: &Call, body: Body) -> Result<Request<Body>, StoreError> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.url(&self.storage_url))
            .body(body)
            .map_err(|error| {
                classify::failure(call, ErrorKind::Invalid).with_message(Some(&error.to_string()))
            })?;
        *request.headers_mut() = call.headers.clone();
        request.headers_mut().insert(X_AUTH_TOKEN, self.token.clone());
        request.headers_mut().insert(BYPASS, HeaderValue::from_static("true"));
        if matches!(call.method, Method::PUT | Method::POST)
            && !call.headers.contains_key(header::CONTENT_LENGTH)
        {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(call.body.len()));
        }
        Ok(request)
    }
}

impl Failure {
    fn new(kind: ErrorKind, message: &str) -> Self {
        Self { kind, status: None, message: message.to_owned(), retry_after: None }
    }

    fn unavailable(message: &str) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// As the failure of a call that needed the token.
    fn error(&self, call: &Call) -> StoreError {
        let error = classify::failure(call, self.kind)
            .with_message(Some(&self.message))
            .with_retry_after(self.retry_after);
        match self.status {
            Some(status) => error.with_status(status),
            None => error,
        }
    }
}
