//! GET and HEAD of archived objects, with Swift's own semantics.
//!
//! | module | does |
//! |---|---|
//! | `ask` | what the client wants |
//! | [`conditions`], [`ranges`] | what the request's headers make of an object |
//! | [`facts`] | what Swift would tell of the object |
//! | `reply` | the answer's head |
//! | [`byteranges`] | bodies of several ranges |
//! | `source` | the remote's content, taken up again where it breaks |
//! | `lanes` | several ranges of a big content at once |
//! | `content` | the answer's body |
//! | [`manifest`], `companion` | manifests of large objects |
//! | `presence` | whether the bucket or container is there at all |
//! | `rights` | whether the client may read what a large object is made of |
//!
//! A plain GET, also of a range that has a first byte, is one request to the remote. Everything else looks at the object first.

mod ask;
pub mod byteranges;
mod companion;
pub mod conditions;
mod content;
pub mod facts;
mod lanes;
pub mod manifest;
mod presence;
pub mod ranges;
mod reply;
mod rights;
mod source;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use http::header::HeaderValue;
use rand::RngExt as _;
use swift_s3_store::{AnswerNotes, Body, IN_ARCHIVE, RemoteObject};
use tokio::time::Instant;

use crate::Response;
use crate::body::full;
use crate::context::Context;
use crate::copy::ClientSwift;
use crate::glacier;
use crate::policy::Route;
use crate::remote::{self, Failure, put_request_ids};
use crate::restore::{Archived, SwiftWriter};
use ask::{Ask, Form};
use companion::{Companions, Wanted};
use conditions::Conditions;
use facts::{Facts, Kind, Side};
use lanes::Room;
use presence::Presence;
use reply::Plan;
use source::{OpenError, Reading, Source};

/// The longest name that S3 and Swift take, in bytes: what is longer is on no remote.
const MAX_KEY_BYTES: usize = 2048;
/// How often an object is looked at again that is replaced between the look and the read.
const MAX_LOOKS: u32 = 3;
/// The largest manifest that is read from another Swift cluster.
const MAX_MANIFEST_BYTES: usize = 24 << 20;

/// What all reads of the process share.
#[derive(Debug, Default)]
pub struct Reads {
    companions: Companions,
    presence: Presence,
    room: Room,
}

impl Reads {
    /// Pieces of contents that are read ahead of their clients.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.room.taken()
    }
}

/// An object that Swift does not have.
pub struct Miss<'a> {
    /// Where it may be.
    pub route: Arc<Route>,
    /// Its name.
    pub object: String,
    /// The client's request: GET or HEAD.
    pub request: http::request::Parts,
    /// The headers of Swift's 404.
    pub local_headers: HeaderMap,
    /// The way into Swift for what is written back, if there is one.
    pub writer: Option<Arc<dyn SwiftWriter>>,
    /// Swift, as the client sees it.
    pub swift: &'a dyn ClientSwift,
}

/// In the extensions of an answer with the whole content: what is known of that.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeContent {
    /// Its MD5, as the remote's ETag has it.
    pub md5: Option<[u8; 16]>,
    /// What the remote said.
    pub object: RemoteObject,
}

/// Whether a request is for an object that is there, whatever it is: `If-Match: *`.
#[must_use]
pub fn wants_any(headers: &HeaderMap) -> bool {
    Conditions::parse(headers).wants_any()
}

/// Answers from the remote; `None` when that has nothing either, and Swift's own answer stands.
pub async fn answer(context: &Arc<Context>, miss: Miss<'_>) -> Option<Response> {
    let started = Instant::now();
    let ask = Ask::of(&miss.request);
    let key = miss.route.keys.object_key(&miss.object);
    if key.len() > MAX_KEY_BYTES || miss.route.keys.is_manifest_key(&key) {
        return None;
    }
    let side = if miss.route.store().swift().is_some() { Side::Swift } else { Side::S3 };
    let reader = Reader {
        context,
        route: &miss.route,
        object: &miss.object,
        key: &key,
        side,
        ask: &ask,
        client: &miss.request,
        swift: miss.swift,
    };
    let answer = match reader.answer().await {
        Ok(answer) => answer?,
        Err(failure) => {
            if !matches!(failure, Failure::Resting(_)) {
                tracing::warn!(remote = miss.route.remote.label, key, error = %failure, "an archived object cannot be read");
            }
            failure.response()
        }
    };
    context.metrics.first_byte.record(started.elapsed().as_secs_f64(), &[]);
    Some(restored(context, miss, answer))
}

/// Has the content written back on its way, if it is given in full and that is wanted.
fn restored(context: &Arc<Context>, miss: Miss<'_>, answer: Response) -> Response {
    let (Some(whole), Some(writer)) = (answer.extensions().get::<WholeContent>(), miss.writer) else {
        return answer;
    };
    let remote = whole.object.clone();
    let archived = Archived { route: miss.route, object: miss.object, remote, writer };
    match context.restores.begin(archived) {
        Some(tee) => answer.map(|body| tee.wrap(body)),
        None => answer,
    }
}

/// What a request is answered with.
struct Reader<'a> {
    context: &'a Context,
    route: &'a Route,
    object: &'a str,
    key: &'a str,
    side: Side,
    ask: &'a Ask,
    client: &'a http::request::Parts,
    swift: &'a dyn ClientSwift,
}

/// An object that was found.
struct Found {
    facts: Facts,
    object: RemoteObject,
    notes: AnswerNotes,
}

/// A range that was opened at once, and its content.
type Opened = (Range<u64>, Body);

impl Reader<'_> {
    async fn answer(&self) -> Result<Option<Response>, Failure> {
        for _ in 0..MAX_LOOKS {
            let Some((mut found, opened)) = self.find().await? else {
                self.context.reads.presence.confirm(&self.context.metrics, self.route).await?;
                return Ok(None);
            };
            if found.facts.is_expired(SystemTime::now()) {
                return Ok(None);
            }
            if let Some(form) = self.ask.manifest
                && let Some(document) = self.document(&mut found, form).await?
            {
                return Ok(Some(self.give_document(&found, document)));
            }
            let samples = self.complete_etag(&mut found).await?;
            if let Some(refusal) = self.refusal(&found.facts, &samples).await? {
                return Ok(Some(refusal));
            }
            let plan = self.plan(&found.facts);
            match self.give(found, opened, &plan).await? {
                Given::Answer(answer) => return Ok(Some(*answer)),
                Given::Gone => return Ok(None),
                Given::Changed => {}
            }
        }
        Err(Failure::Changing)
    }

    /// Looks at the object, or opens it right away where that will do.
    async fn find(&self) -> Result<Option<(Found, Option<Opened>)>, Failure> {
        let metrics = &self.context.metrics;
        let remote = &self.route.remote;
        if let Some(range) = self.ask.at_once() {
            match source::fetch(metrics, remote, self.key, range.clone()).await {
                Ok(None) => return Ok(None),
                Ok(Some((found, notes))) => {
                    let facts = Facts::of(&found.object, self.side);
                    let start = range.as_ref().map_or(0, |range| range.start);
                    // Some remotes give the whole where a range covers it.
                    let given = if found.content_length == facts.length {
                        0..facts.length
                    } else {
                        start..start.saturating_add(found.content_length)
                    };
                    let opened = Some((given, found.body));
                    return Ok(Some((Found { facts, object: found.object, notes }, opened)));
                }
                // How long the object is, or in which archive, is told by a look only.
                Err(Failure::Store(error))
                    if source::is_unsatisfiable(&error) || error.code() == Some(IN_ARCHIVE) => {}
                Err(error) => return Err(error),
            }
        }
        let looked = remote::ask(metrics, remote, "head", remote.store.look(self.key)).await?;
        Ok(looked
            .map(|(object, notes)| (Found { facts: Facts::of(&object, self.side), object, notes }, None)))
    }

    /// The manifest instead of the content, if the object has one; then the facts become those of the manifest.
    async fn document(&self, found: &mut Found, form: Form) -> Result<Option<Vec<u8>>, Failure> {
        let document = match found.facts.kind {
            Kind::Plain => return Ok(None),
            // The manifest of a dynamic one is an object without content.
            Kind::Dynamic => Vec::new(),
            Kind::Static => match self.manifest(found, form).await? {
                Some(document) => document,
                None => return Ok(None),
            },
        };
        let facts = &mut found.facts;
        if facts.kind == Kind::Static && form == Form::Stored {
            facts.content_type = HeaderValue::from_static("application/json; charset=utf-8");
        }
        // It is an object like any other.
        facts.kind = Kind::Plain;
        facts.set_etag(&manifest::etag(&document));
        facts.length = u64::try_from(document.len()).unwrap_or(u64::MAX);
        Ok(Some(document))
    }

    async fn manifest(&self, found: &Found, form: Form) -> Result<Option<Vec<u8>>, Failure> {
        let reading = |companion: &[u8]| match form {
            Form::Stored => manifest::stored(companion),
            Form::Raw => manifest::raw(companion),
        };
        let metrics = &self.context.metrics;
        if let Some(swift) = self.route.store().swift() {
            let asking = swift.slo_manifest(self.key, MAX_MANIFEST_BYTES);
            let stored = remote::ask(metrics, &self.route.remote, "get", asking).await?;
            return Ok(stored.and_then(|stored| reading(&stored).ok()));
        }
        let Some(key) = self.route.keys.manifest_key(self.object) else { return Ok(None) };
        self.context.reads.companions.read(self.wanted(found, &key), reading).await
    }

    fn wanted<'w>(&'w self, found: &'w Found, key: &'w str) -> Wanted<'w> {
        Wanted {
            metrics: &self.context.metrics,
            remote: &self.route.remote,
            key,
            etag: &found.facts.remote_etag,
            length: found.facts.length,
            last_modified: found.object.last_modified,
        }
    }

    /// What a client is told who may not read the segments. Whoever wrote a static manifest could read them; a dynamic one is checked by nobody
    /// before it is read.
    async fn refusal(
        &self,
        facts: &Facts,
        samples: &[(String, String)],
    ) -> Result<Option<Response>, Failure> {
        let account = self.route.account();
        let questions = match (facts.kind, self.side) {
            (Kind::Static, _) if self.ask.is_head => return Ok(None),
            // The remote's name of the container is not the local one.
            (Kind::Dynamic, Side::Swift) => rights::question_for_owner(account),
            (kind, _) => rights::questions(account, kind, &facts.headers, samples),
        };
        rights::refusal(self.swift, self.client, facts.kind, questions).await.map_err(Failure::Swift)
    }

    /// On S3 the ETag that Swift gave to a static large object is worked out from its companion. Answers what tells whose segments they are.
    async fn complete_etag(&self, found: &mut Found) -> Result<Vec<(String, String)>, Failure> {
        if found.facts.kind != Kind::Static || self.side != Side::S3 {
            return Ok(Vec::new());
        }
        let Some(key) = self.route.keys.manifest_key(self.object) else { return Ok(Vec::new()) };
        let summary = self.context.reads.companions.summary(self.wanted(found, &key)).await;
        match summary {
            Ok(Some(summary)) => {
                found.facts.set_etag(&summary.etag);
                found.facts.set_manifest_etag(&summary.manifest_etag);
                Ok(summary.samples.clone())
            }
            Ok(None) => Ok(Vec::new()),
            Err(failure) => {
                // Another ETag than a moment ago would be worse than none.
                tracing::warn!(key, error = %failure, "a companion cannot be read");
                Err(Arc::try_unwrap(failure).unwrap_or(Failure::Changing))
            }
        }
    }

    fn plan(&self, facts: &Facts) -> Plan {
        let verdict = self.ask.conditions.judge(&facts.etag, facts.last_modified);
        let boundary = || format!("{:032x}", rand::rng().random::<u128>());
        // Several ranges take several answers, and without an ETag nothing says that they are of one object.
        let can_join = !facts.remote_etag.is_empty();
        let ranges = self.ask.ranges_of(facts).filter(|ranges| can_join || ranges.count() == 1);
        Plan::of(facts, verdict, ranges, boundary)
    }

    /// A manifest, or a part of it.
    fn give_document(&self, found: &Found, document: Vec<u8>) -> Response {
        let plan = self.plan(&found.facts);
        let mut answer = plan.head(&found.facts);
        let slice = |range: &Range<u64>| {
            let start = usize::try_from(range.start).unwrap_or(usize::MAX);
            let end = usize::try_from(range.end).unwrap_or(usize::MAX);
            document.get(start..end).unwrap_or_default().to_vec()
        };
        if !self.ask.is_head {
            match &plan {
                Plan::Whole => *answer.body_mut() = full(document),
                Plan::One(range) => *answer.body_mut() = full(slice(range)),
                Plan::Several(frame) => {
                    let mut body = Vec::new();
                    for range in frame.ranges() {
                        body.extend_from_slice(&frame.head(range));
                        body.extend_from_slice(&slice(range));
                        body.extend_from_slice(&frame.separator());
                    }
                    body.extend_from_slice(&frame.tail());
                    *answer.body_mut() = full(body);
                }
                _ => {}
            }
        }
        put_request_ids(&mut answer, &found.notes);
        answer
    }

    async fn give(&self, mut found: Found, opened: Option<Opened>, plan: &Plan) -> Result<Given, Failure> {
        let mut answer = plan.head(&found.facts);
        if self.ask.is_head {
            glacier::put_state(&found.object, &found.notes, answer.headers_mut());
        } else {
            let wanted = match plan {
                Plan::Whole => Some(0..found.facts.length),
                Plan::One(range) => Some(range.clone()),
                Plan::Several(frame) => frame.ranges().first().cloned(),
                _ => None,
            };
            if let Some(wanted) = wanted.filter(|wanted| wanted.start < wanted.end) {
                let source = self.source(&found);
                let (body, notes) = match opened {
                    Some((range, body)) if range == wanted => (body, None),
                    _ => match source.open(wanted.clone()).await {
                        Ok((body, notes)) => (body, Some(notes)),
                        Err(OpenError::Gone) => return Ok(Given::Gone),
                        Err(OpenError::Changed) => return Ok(Given::Changed),
                        Err(OpenError::Failed(Failure::Store(error))) if error.code() == Some(IN_ARCHIVE) => {
                            return Ok(Given::answer(glacier::refuse(&found.object, &found.notes)));
                        }
                        Err(OpenError::Failed(failure)) => return Err(failure),
                    },
                };
                if let Some(notes) = notes {
                    found.notes = notes;
                }
                let reading = Reading::new(source.clone(), wanted, Some(body));
                *answer.body_mut() = match plan {
                    Plan::Whole => content::part(reading, found.facts.content_md5),
                    Plan::Several(frame) => content::parts(source, frame.clone(), reading),
                    _ => content::part(reading, None),
                };
            } else {
                // Its end is not wanted.
                drop(opened);
            }
            if *plan == Plan::Whole {
                let md5 = found.facts.content_md5;
                answer.extensions_mut().insert(WholeContent { md5, object: found.object });
            }
        }
        put_request_ids(&mut answer, &found.notes);
        Ok(Given::answer(answer))
    }

    fn source(&self, found: &Found) -> Source {
        let facts = &found.facts;
        Source {
            remote: Arc::clone(&self.route.remote),
            key: Arc::from(self.key),
            metrics: self.context.metrics.clone(),
            etag: Arc::from(facts.remote_etag.as_str()),
            length: facts.length,
            last_modified: found.object.last_modified,
            // Another Swift answers each range of a large object with a look at its manifest.
            room: (self.side == Side::S3).then(|| self.context.reads.room.clone()),
        }
    }
}

enum Given {
    Answer(Box<Response>),
    Gone,
    /// It is another object by now.
    Changed,
}

impl Given {
    fn answer(answer: Response) -> Self {
        Self::Answer(Box::new(answer))
    }
}
