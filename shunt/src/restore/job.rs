//! One restore, from the question what Swift knows of the object to the last PUT.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use swift_s3_policy::large_object::{ManifestError, ObjectEntry, companion_of_pieces, dlo_source, rebuild};
use swift_s3_policy::{
    KeyMapping, Mapping, RESTORED_HEADER, SHUNT_BYPASS_HEADER, Timestamp, holds_segments, restore_timestamp,
    restored_mark,
};
use swift_s3_store::{GetObject, ObjectStore, RemoteObject, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::channel_body::channel;
use super::headers::{Shape, headers_of, is_converted, keeps_versions, shape_of};
use super::plan::{Homes, NestedManifest, Object, Plan, Segment, empty_etag, plan_large};
use super::source::{Source, SourceError};
use super::{Archived, SwiftWriter, Unfit};
use crate::metrics::Metrics;
use crate::swift_call::{NoAnswer, SwiftCall, Way};
use crate::swift_path::{container_path, object_path};
use crate::{Body, BoxError};

/// A request without a body to speak of gets its answer within this, or the end of a PUT's body its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Swift that takes nothing for so long has given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Questions about segments that are asked ahead of the content.
const LOOK_AHEAD: usize = 2;
/// Segments whose answers are awaited while the next one is sent.
const UNANSWERED: usize = 1;
/// The largest manifest that Swift takes. Source: `max_manifest_size` in `slo.py`.
const MAX_MANIFEST_BYTES: usize = 8 * 1024 * 1024;
/// Segments of a dynamic large object on a Swift remote.
const MAX_LISTED: usize = 10_000;
const PAGE_KEYS: u16 = 1_000;

/// Questions about an object of which no tombstone is told.
const LOOKS: usize = 3;

const X_TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");
const X_BACKEND_TIMESTAMP: HeaderName = HeaderName::from_static("x-backend-timestamp");
const X_NEWEST: HeaderName = HeaderName::from_static("x-newest");
const X_OBJECT_MANIFEST: HeaderName = HeaderName::from_static("x-object-manifest");
const BYPASS: HeaderName = HeaderName::from_static(SHUNT_BYPASS_HEADER);
const RESTORED: HeaderName = HeaderName::from_static(RESTORED_HEADER);
const MANIFEST_PUT: &str = "?multipart-manifest=put";

/// Why a restore came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum GivenUp {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the way into Swift passes a gatekeeper, or asks for credentials")]
    Gatekeeper,
    #[error("{0}")]
    Superseded(&'static str),
    #[error("segment {0} is there with other content")]
    SegmentDiffers(String),
    #[error("its manifest cannot be used: {0}")]
    Manifest(String),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{what}: Swift answered {status}")]
    Refused { what: String, status: StatusCode },
    #[error("{what}: {error}")]
    Sending { what: String, error: BoxError },
    #[error("the remote: {0}")]
    Remote(#[from] StoreError),
}

impl GivenUp {
    /// The word for metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Unfit(unfit) => unfit.as_str(),
            Self::Gatekeeper => "gatekeeper",
            Self::Superseded(_) => "superseded",
            Self::SegmentDiffers(_) => "segment_differs",
            Self::Manifest(_) => "manifest",
            Self::Source(SourceError::Broken) => "client_gone",
            Self::Source(_) | Self::Remote(_) => "remote",
            Self::Refused { .. } => "refused",
            Self::Sending { .. } => "swift",
        }
    }

    /// True when nobody needs to be told.
    pub(super) fn is_expected(&self) -> bool {
        matches!(
            self,
            Self::Unfit(_) | Self::Gatekeeper | Self::Superseded(_) | Self::Source(SourceError::Broken)
        )
    }
}

impl From<ManifestError> for GivenUp {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error.to_string())
    }
}

/// What is restored, and where to.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) writer: Arc<dyn SwiftWriter>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) mapping: Arc<Mapping>,
    pub(super) keys: KeyMapping,
    pub(super) account: String,
    pub(super) container: String,
    pub(super) object: String,
    /// The remote copy, as it was when its content began to be read.
    pub(super) remote: RemoteObject,
    /// Others may change the remote copy through the shunt.
    pub(super) check_after: bool,
    pub(super) metrics: Metrics,
}

/// What Swift has under a name.
enum Local {
    Present { etag: String, length: Option<u64> },
    Absent { tombstone: Option<Timestamp> },
}

/// A PUT whose answer is not here yet.
struct Unanswered {
    what: String,
    path: String,
    etag: String,
    length: u64,
    answer: AbortOnDropHandle<Result<Response<Body>, BoxError>>,
    /// Swift has had its time.
    late: CancellationToken,
}

impl Job {
    pub(super) fn new(archived: Archived, metrics: Metrics) -> Self {
        let Archived { route, object, remote, writer } = archived;
        Self {
            writer,
            store: Arc::clone(&route.remote.store),
            mapping: Arc::clone(&route.mapping),
            keys: route.keys.clone(),
            account: route.account().to_owned(),
            container: route.container.clone(),
            object,
            remote,
            check_after: route.merge().writes,
            metrics,
        }
    }

    /// The remote key.
    pub(super) fn key(&self) -> String {
        self.keys.object_key(&self.object)
    }

    /// Restores the object; answers its length.
    ///
    /// # Cancel safety
    /// Dropping it breaks off what is being sent, and Swift stores nothing of that.
    pub(super) async fn run(&self, mut source: Source) -> Result<u64, GivenUp> {
        let now = now();
        let on_swift = self.mapping.remote.swift().is_some();
        let headers = headers_of(&self.remote, &self.mapping, seconds(now))?;
        let shape = shape_of(&self.remote, on_swift);
        if on_swift && is_converted(&self.remote.metadata, &shape) {
            return Err(Unfit::Converted.into());
        }
        if !self.writer.is_below_gatekeeper(&self.account, &self.container).await {
            return Err(GivenUp::Gatekeeper);
        }
        self.refuse_versions().await?;
        let path = object_path(&self.account, &self.container, &self.object);
        let timestamp = match self.look_well(&path).await? {
            Local::Present { .. } => return Err(GivenUp::Superseded("the object is there")),
            Local::Absent { tombstone } => restore_timestamp(tombstone, self.modified(), now)
                .ok_or(GivenUp::Superseded("a user deleted the object"))?,
        };
        // The tombstone may be that of a newer write, archived since the content began to be read: then the remote has that one already.
        if !self.is_unchanged().await? {
            return Err(GivenUp::Superseded("the remote copy changed meanwhile"));
        }
        let plan = match &shape {
            Shape::Plain => Plan::default(),
            Shape::Static | Shape::Dynamic(_) => self.plan_large(&shape, on_swift).await?,
        };
        // The remote names them, and whoever writes there may not name any container of the account.
        if !plan.containers.iter().all(|named| may_hold_segments(&self.mapping, &self.container, named)) {
            return Err(Unfit::UnknownHome.into());
        }
        for container in &plan.containers {
            self.ensure_container(container).await?;
        }
        let used = self.write_segments(&plan.segments, &mut source, timestamp, now).await?;
        for nested in &plan.nested {
            self.write_nested(nested, timestamp, now).await?;
        }
        self.write_object(&plan.object, &path, headers, &mut source, timestamp, now).await?;
        self.undo_if_gone(&used, &path, timestamp).await?;
        if self.check_after {
            self.undo_if_changed(&path, timestamp).await?;
        }
        Ok(self.remote.length)
    }

    /// Whether the remote has what the client gets, and nothing else.
    async fn is_unchanged(&self) -> Result<bool, GivenUp> {
        let found = self.store.head(&self.key()).await?;
        Ok(found.is_some_and(|found| is_same(&found, &self.remote)))
    }

    fn modified(&self) -> Option<Timestamp> {
        let since = self.remote.last_modified?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Timestamp::from_unix_micros(u64::try_from(since.as_micros()).ok()?))
    }

    async fn plan_large(&self, shape: &Shape, on_swift: bool) -> Result<Plan, GivenUp> {
        if !on_swift {
            let companion = self.keys.manifest_key(&self.object).unwrap_or_default();
            let companion = self.store.get(&companion, None).await?;
            let companion =
                companion.ok_or_else(|| GivenUp::Manifest("its companion is missing".to_owned()))?;
            let companion = read_all(companion).await?;
            return Ok(plan_large(rebuild(&companion, self.remote.length)?, shape, Homes::AsNamed)?);
        }
        let json = match shape {
            Shape::Dynamic(source) => self.listed(source).await?,
            Shape::Plain | Shape::Static => {
                let swift = self.store.swift().ok_or(Unfit::Converted)?;
                let manifest = swift.slo_manifest(&self.key(), MAX_MANIFEST_BYTES).await?;
                manifest.ok_or(SourceError::Replaced)?
            }
        };
        let homes = Homes::OnSwift(&self.mapping, &self.container);
        Ok(plan_large(rebuild(&json, self.remote.length)?, shape, homes)?)
    }

    /// The segments of a dynamic large object on a Swift remote, in the form of a companion.
    async fn listed(&self, source: &[u8]) -> Result<Vec<u8>, GivenUp> {
        let (container, prefix) = dlo_source(source).ok_or(Unfit::UnknownHome)?;
        let prefix = format!("{container}/{prefix}");
        let mut keys: Vec<String> = Vec::new();
        let mut segments = Vec::new();
        loop {
            let page = self.store.list(&prefix, keys.last().map(String::as_str), PAGE_KEYS).await?;
            let is_last = page.entries.is_empty() || !page.truncated;
            for entry in page.entries {
                let (container, object) = entry.key.split_once('/').ok_or(Unfit::UnknownHome)?;
                segments.push(ObjectEntry {
                    container: container.to_owned(),
                    object: object.to_owned(),
                    etag: entry.etag.ok_or(Unfit::UnknownHome)?,
                    bytes: entry.length,
                    range: None,
                    content_type: None,
                    last_modified: None,
                    nested: None,
                });
                keys.push(entry.key);
            }
            if keys.len() > MAX_LISTED {
                return Err(GivenUp::Manifest("it has too many segments".to_owned()));
            }
            if is_last {
                return Ok(companion_of_pieces(&segments)?);
            }
        }
    }

    /// Fails if the object's container keeps versions: what is written back, and the tombstones of the archiver, would be versions like others.
    async fn refuse_versions(&self) -> Result<(), GivenUp> {
        let path = container_path(&self.account, &self.container);
        let found = self.ask(Method::HEAD, &path, HeaderMap::new()).await?;
        succeeded("look at the container", &found)?;
        if keeps_versions(found.headers()) {
            return Err(Unfit::Versioned.into());
        }
        Ok(())
    }

    async fn ensure_container(&self, container: &str) -> Result<(), GivenUp> {
        let path = container_path(&self.account, container);
        let found = self.ask(Method::HEAD, &path, HeaderMap::new()).await?;
        if found.status() != StatusCode::NOT_FOUND {
            return succeeded("look at a container", &found);
        }
        let created = self.ask(Method::PUT, &path, HeaderMap::new()).await?;
        succeeded("create a container", &created)
    }

    /// Sends the segments as the content passes by; answers those that were there already.
    async fn write_segments<'a>(
        &self,
        segments: &'a [Segment],
        source: &mut Source,
        timestamp: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<&'a Segment>, GivenUp> {
        let mut used = Vec::new();
        let paths: Vec<String> = segments
            .iter()
            .map(|segment| object_path(&self.account, &segment.container, &segment.object))
            .collect();
        let mut looks = stream::iter(paths.clone())
            .map(|path| async move { self.look(&path).await }.boxed())
            .buffered(LOOK_AHEAD);
        let mut unanswered: VecDeque<Unanswered> = VecDeque::new();
        for (segment, path) in segments.iter().zip(&paths) {
            let Some(found) = looks.next().await else { break };
            let length = segment.content.end.saturating_sub(segment.content.start);
            let tombstone = match found? {
                Local::Present { etag, length: found } => {
                    if !etag.eq_ignore_ascii_case(&segment.etag) || found != Some(length) {
                        return Err(GivenUp::SegmentDiffers(path.clone()));
                    }
                    used.push(segment);
                    continue;
                }
                Local::Absent { tombstone } => tombstone,
            };
            let written = restore_timestamp(tombstone, segment.modified.or(Some(timestamp)), now)
                .ok_or(GivenUp::Superseded("a user deleted a segment"))?;
            let mut headers = self.dated(written, now);
            let content_type = segment.content_type.as_deref().map(HeaderValue::from_str);
            if let Some(Ok(content_type)) = content_type {
                headers.insert(header::CONTENT_TYPE, content_type);
            }
            insert_etag(&mut headers, &segment.etag)?;
            source.skip_to(segment.content.start).await?;
            unanswered.push_back(self.put(path, &segment.etag, headers, length, source).await?);
            if unanswered.len() > UNANSWERED
                && let Some(oldest) = unanswered.pop_front()
            {
                self.end_of_segment(oldest).await?;
            }
        }
        while let Some(oldest) = unanswered.pop_front() {
            self.end_of_segment(oldest).await?;
        }
        Ok(used)
    }

    /// Takes a restored manifest away again if segments that were there before are gone: a worker may remove them with another large object that
    /// it archives, until it sees this manifest.
    async fn undo_if_gone(&self, used: &[&Segment], path: &str, timestamp: Timestamp) -> Result<(), GivenUp> {
        for segment in used {
            let found = object_path(&self.account, &segment.container, &segment.object);
            if matches!(self.look(&found).await?, Local::Absent { .. }) {
                self.take_away(path, timestamp, "a segment went while the object was restored").await?;
                return Err(GivenUp::Superseded("a segment went meanwhile"));
            }
        }
        Ok(())
    }

    /// Deletes what was restored at this time, and nothing newer.
    async fn take_away(&self, path: &str, timestamp: Timestamp, why: &str) -> Result<(), GivenUp> {
        let found = self.ask(Method::HEAD, path, HeaderMap::new()).await?;
        let written = found.headers().get(X_TIMESTAMP).and_then(|value| value.to_str().ok()?.parse().ok());
        if written.is_some_and(|written: Timestamp| written.units() != timestamp.units()) {
            // A POST would be lost with the object: Swift compares with the time of the data only.
            tracing::warn!(path, why, "the restored object stays: a user has changed it since");
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        let later = timestamp.with_offset(timestamp.offset().saturating_add(1));
        headers.insert(X_TIMESTAMP, text(&later.to_string()));
        let answer = self.ask(Method::DELETE, path, headers).await?;
        tracing::info!(
            path,
            status = answer.status().as_u16(),
            why,
            "the restored object was taken away again"
        );
        Ok(())
    }

    async fn end_of_segment(&self, mut put: Unanswered) -> Result<(), GivenUp> {
        let answer = wait_for(&mut put).await?;
        let Unanswered { what, path, etag, length, .. } = put;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            // Somebody was quicker: another restore, or a user.
            StatusCode::ACCEPTED | StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                match self.look(&path).await? {
                    Local::Present { etag: found, length: bytes }
                        if found.eq_ignore_ascii_case(&etag) && bytes == Some(length) =>
                    {
                        Ok(())
                    }
                    Local::Present { .. } => Err(GivenUp::SegmentDiffers(path)),
                    Local::Absent { .. } => Err(GivenUp::Superseded("a user deleted a segment")),
                }
            }
            status => Err(GivenUp::Refused { what, status }),
        }
    }

    async fn write_nested(
        &self,
        nested: &NestedManifest,
        timestamp: Timestamp,
        now: Timestamp,
    ) -> Result<(), GivenUp> {
        let path = object_path(&self.account, &nested.container, &nested.object);
        let tombstone = match self.look(&path).await? {
            Local::Present { etag, .. } if etag.eq_ignore_ascii_case(&nested.etag) => return Ok(()),
            Local::Present { .. } => return Err(GivenUp::SegmentDiffers(path)),
            Local::Absent { tombstone } => tombstone,
        };
        let written = restore_timestamp(tombstone, Some(timestamp), now)
            .ok_or(GivenUp::Superseded("a user deleted a segment"))?;
        let mut headers = self.dated(written, now);
        let content_type = nested.content_type.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(content_type)) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        insert_etag(&mut headers, &nested.etag)?;
        let target = format!("{path}{MANIFEST_PUT}");
        let put = self.put_bytes(&target, headers, nested.json.clone()).await?;
        match put.status() {
            StatusCode::CREATED => Ok(()),
            status => Err(GivenUp::Refused { what: format!("PUT {path}"), status }),
        }
    }

    async fn write_object(
        &self,
        object: &Object,
        path: &str,
        headers: HeaderMap,
        source: &mut Source,
        timestamp: Timestamp,
        now: Timestamp,
    ) -> Result<(), GivenUp> {
        let mut all = self.dated(timestamp, now);
        // The worker must know which remote copy it may replace.
        all.insert(RESTORED, text(&restored_mark(seconds(now), &self.remote.etag)));
        all.extend(headers);
        let answer = match object {
            Object::Content => {
                // Only an MD5 is of use: what other ETags stand for, Swift cannot check.
                if is_md5(&self.remote.etag) && !self.remote.kms {
                    insert_etag(&mut all, &self.remote.etag)?;
                }
                let mut put = self.put(path, &self.remote.etag, all, self.remote.length, source).await?;
                wait_for(&mut put).await?
            }
            Object::Static { json, etag } => {
                insert_etag(&mut all, etag)?;
                self.put_bytes(&format!("{path}{MANIFEST_PUT}"), all, json.clone()).await?
            }
            Object::Dynamic(manifest) => {
                insert_etag(&mut all, &empty_etag())?;
                let value = HeaderValue::from_bytes(manifest).map_err(|_| Unfit::Metadata)?;
                all.insert(X_OBJECT_MANIFEST, value);
                self.put_bytes(path, all, Vec::new()).await?
            }
        };
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            StatusCode::ACCEPTED | StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                Err(GivenUp::Superseded("somebody wrote or deleted the object meanwhile"))
            }
            status => Err(GivenUp::Refused { what: format!("PUT {path}"), status }),
        }
    }

    /// Takes the restored object away again when the remote copy changed while it was written: somebody gave that other metadata through
    /// the shunt, and what is here would win over it. A user's write since is newer and stays.
    async fn undo_if_changed(&self, path: &str, timestamp: Timestamp) -> Result<(), GivenUp> {
        // If the remote has nothing any more, what was restored is the only copy.
        let Some(found) = self.store.head(&self.key()).await? else { return Ok(()) };
        if is_same(&found, &self.remote) {
            return Ok(());
        }
        self.take_away(path, timestamp, "the remote copy changed while it was restored").await?;
        Err(GivenUp::Superseded("the remote copy changed meanwhile"))
    }

    /// Begins a PUT, and gives it the next `length` bytes of the source.
    async fn put(
        &self,
        path: &str,
        etag: &str,
        mut headers: HeaderMap,
        length: u64,
        source: &mut Source,
    ) -> Result<Unanswered, GivenUp> {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let (sender, body) = channel(length);
        let what = format!("PUT {path}");
        let request = request(Method::PUT, path, headers, body, &what)?;
        let (writer, metrics) = (Arc::clone(&self.writer), self.metrics.clone());
        let late = CancellationToken::new();
        let is_late = late.clone().cancelled_owned();
        let task =
            tokio::spawn(async move { send(&*writer, &metrics, request, is_late).await }.in_current_span());
        let mut put = Unanswered {
            what,
            path: path.to_owned(),
            etag: etag.to_owned(),
            length,
            answer: AbortOnDropHandle::new(task),
            late,
        };
        let fed = feed(&sender, length, source, &put).await;
        if put.late.is_cancelled() {
            // It says so, and ends.
            drop((&mut put.answer).await);
        }
        fed.map(|()| put)
    }

    async fn put_bytes(
        &self,
        path: &str,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response<Body>, GivenUp> {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        let what = format!("PUT {path}");
        let request = request(Method::PUT, path, headers, swift_s3_store::body::from_bytes(body), &what)?;
        self.exchange(what, request).await
    }

    /// As [`Job::look`], again and again while no tombstone is told of: Swift hands on what one replica says, and another one may have it.
    async fn look_well(&self, path: &str) -> Result<Local, GivenUp> {
        for _ in 1..LOOKS {
            let local = self.look(path).await?;
            if !matches!(local, Local::Absent { tombstone: None }) {
                return Ok(local);
            }
        }
        self.look(path).await
    }

    /// Asks what Swift has, on all replicas.
    async fn look(&self, path: &str) -> Result<Local, GivenUp> {
        let mut headers = HeaderMap::new();
        headers.insert(X_NEWEST, HeaderValue::from_static("true"));
        let answer = self.ask(Method::HEAD, path, headers).await?;
        let header = |name: HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
        match answer.status() {
            StatusCode::NOT_FOUND => {
                let told = header(X_BACKEND_TIMESTAMP).map(str::parse::<Timestamp>);
                match told {
                    None => Ok(Local::Absent { tombstone: None }),
                    Some(Ok(time)) if time == Timestamp::default() => Ok(Local::Absent { tombstone: None }),
                    Some(Ok(time)) => Ok(Local::Absent { tombstone: Some(time) }),
                    Some(Err(_)) => Err(GivenUp::Superseded("Swift's tombstone cannot be understood")),
                }
            }
            status if status.is_success() => Ok(Local::Present {
                etag: header(header::ETAG).unwrap_or_default().trim_matches('"').to_owned(),
                length: header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            }),
            status => Err(GivenUp::Refused { what: format!("HEAD {path}"), status }),
        }
    }

    async fn ask(&self, method: Method, path: &str, headers: HeaderMap) -> Result<Response<Body>, GivenUp> {
        let what = format!("{method} {path}");
        let request = request(method, path, headers, swift_s3_store::body::empty(), &what)?;
        self.exchange(what, request).await
    }

    async fn exchange(&self, what: String, request: Request<Body>) -> Result<Response<Body>, GivenUp> {
        let late = tokio::time::sleep(ANSWER_TIMEOUT);
        let answer = send(&*self.writer, &self.metrics, request, late).await;
        answer.map_err(|error| GivenUp::Sending { what, error })
    }

    /// The headers of everything that is written.
    fn dated(&self, timestamp: Timestamp, now: Timestamp) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(X_TIMESTAMP, text(&timestamp.to_string()));
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        headers.insert(RESTORED, HeaderValue::from(seconds(now)));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers
    }
}

/// Sends a request into Swift, as a part of the restore's trace.
async fn send(
    writer: &dyn SwiftWriter,
    metrics: &Metrics,
    mut request: Request<Body>,
    late: impl Future<Output = ()>,
) -> Result<Response<Body>, BoxError> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let call = SwiftCall::begin(metrics, Way::Restore, (&method, &path), request.headers_mut());
    call.until(writer.send(request), late, |error| &**error).await.map_err(|ended| match ended {
        NoAnswer::TimedOut => "no answer in time".into(),
        NoAnswer::Failed(error) | NoAnswer::SourceBroke(error) => error,
    })
}

/// Gives a PUT its bytes. Ends early, without an error, when its answer is there already.
async fn feed(
    sender: &mpsc::Sender<Bytes>,
    length: u64,
    source: &mut Source,
    put: &Unanswered,
) -> Result<(), GivenUp> {
    let mut left = length;
    while left > 0 {
        let piece = source.next(left).await?;
        left = left.saturating_sub(piece.len() as u64);
        match tokio::time::timeout(STALL_TIMEOUT, sender.send(piece)).await {
            Ok(Ok(())) => {}
            // Swift has answered, or is gone: the answer tells.
            Ok(Err(_)) => return Ok(()),
            Err(_) => {
                put.late.cancel();
                return Err(GivenUp::Sending {
                    what: put.what.clone(),
                    error: "Swift takes nothing more".into(),
                });
            }
        }
    }
    Ok(())
}

async fn wait_for(put: &mut Unanswered) -> Result<Response<Body>, GivenUp> {
    let answered = match tokio::time::timeout(ANSWER_TIMEOUT, &mut put.answer).await {
        Ok(answered) => answered,
        Err(_) => {
            put.late.cancel();
            (&mut put.answer).await
        }
    };
    let failed = |error| GivenUp::Sending { what: put.what.clone(), error };
    answered.map_err(|error| failed(Box::new(error)))?.map_err(failed)
}

fn request(
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: Body,
    what: &str,
) -> Result<Request<Body>, GivenUp> {
    let request = Request::builder().method(method).uri(path).body(body);
    let mut request =
        request.map_err(|error| GivenUp::Sending { what: what.to_owned(), error: Box::new(error) })?;
    *request.headers_mut() = headers;
    request.headers_mut().insert(BYPASS, HeaderValue::from_static("true"));
    Ok(request)
}

fn succeeded(what: &str, answer: &Response<Body>) -> Result<(), GivenUp> {
    if answer.status().is_success() {
        return Ok(());
    }
    Err(GivenUp::Refused { what: what.to_owned(), status: answer.status() })
}

async fn read_all(opened: GetObject) -> Result<Vec<u8>, GivenUp> {
    let mut body = opened.body;
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| GivenUp::Manifest(error.to_string()))?;
        whole.extend_from_slice(&frame.into_data().unwrap_or_default());
        if whole.len() > MAX_MANIFEST_BYTES {
            return Err(GivenUp::Manifest("it is too long".to_owned()));
        }
    }
    Ok(whole)
}

fn insert_etag(headers: &mut HeaderMap, etag: &str) -> Result<(), GivenUp> {
    let value = HeaderValue::from_str(etag).map_err(|_| Unfit::Metadata)?;
    headers.insert(header::ETAG, value);
    Ok(())
}

/// Whether two answers tell of one and the same remote copy.
fn is_same(one: &RemoteObject, other: &RemoteObject) -> bool {
    one.etag == other.etag
        && one.length == other.length
        && one.last_modified == other.last_modified
        && one.metadata == other.metadata
}

/// Whether segments may be written to a container: only where the mapping or custom says that they belong.
fn may_hold_segments(mapping: &Mapping, own: &str, named: &str) -> bool {
    named == own || mapping.container.covers(named) || holds_segments(named)
}

fn is_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Digits, points and underscores only.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

fn seconds(time: Timestamp) -> u64 {
    time.units() / 100_000
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::time::UNIX_EPOCH;

    use swift_s3_policy::{RemoteMetadata, parse_sync_config};

    use super::*;

    #[test]
    fn segments_go_where_they_belong_only() {
        for (selector, named, expected) in [
            ("c", "c", true),
            ("c", "c_segments", true),
            ("c", "d+segments", true),
            ("c", "private", false),
            ("c", "_segments", false),
            ("/*", "private", true),
        ] {
            let text = format!(
                r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[{{"account":"AUTH_a","container":"{selector}",
                  "aws_bucket":"b","aws_identity":"i","aws_secret":"s"}}]}}"#
            );
            let config = parse_sync_config(&text).unwrap().config;
            assert_eq!(may_hold_segments(&config.mappings[0], "c", named), expected, "{selector}: {named}");
        }
    }

    #[test]
    fn a_copy_that_was_stored_again_is_another_one() {
        let first = RemoteObject {
            etag: "e".into(),
            length: 1,
            metadata: RemoteMetadata::default(),
            storage_class: None,
            archived: false,
            last_modified: Some(UNIX_EPOCH),
            kms: false,
        };
        assert!(is_same(&first, &first.clone()));
        for other in [
            RemoteObject { etag: "f".into(), ..first.clone() },
            RemoteObject { length: 2, ..first.clone() },
            RemoteObject { last_modified: Some(UNIX_EPOCH + Duration::from_secs(1)), ..first.clone() },
            RemoteObject {
                metadata: RemoteMetadata { content_type: "a/b".into(), ..RemoteMetadata::default() },
                ..first.clone()
            },
        ] {
            assert!(!is_same(&first, &other), "{other:?}");
        }
    }
}
