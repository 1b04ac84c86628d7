//! Opening an object that a manifest names: the write with a certain ETag, in whole or in part.
//!
//! A manifest tells no time, so the ETag decides which replica is new enough.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use swift_s3_policy::Timestamp;

use super::{
    LocalBody, LocalError, LocalHead, LocalKind, LocalObjects, ObjectName, POLICY_INDEX, hindrance,
    object_path, target,
};
use crate::swift::backend::BackendError;
use crate::swift::swift_conf::PolicyKind;
use crate::swift::topology::{ObjectPlace, Replica};

/// What is wanted of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Which content it must have.
    pub content: Content,
    /// Which bytes; `None` for all.
    pub range: Option<Range<u64>>,
}

/// Which content an object must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// These bytes.
    Plain {
        /// Their MD5 in hex; `None` takes any.
        etag: Option<String>,
        /// Their number, of the whole object.
        length: u64,
    },
    /// The manifest of a static large object with this ETag.
    Manifest(String),
}

impl LocalObjects {
    /// Opens what a manifest names; of a `range` just these bytes come. Whole content is not checked here against its MD5.
    ///
    /// # Errors
    /// [`LocalError::Differs`] when no replica that answers has the wanted content, and the others of [`LocalObjects::open`].
    ///
    /// # Cancel safety
    /// Cancel-safe; a connection in use is closed.
    pub(crate) async fn open_named(
        &self,
        name: &ObjectName<'_>,
        wanted: &Wanted,
    ) -> Result<(LocalHead, LocalBody), LocalError> {
        let place = self.place(name)?;
        let path = object_path(&place, name);
        let mut unfit = None;
        let mut trouble = None;
        for replica in self.in_order(&place.replicas) {
            let response = match self.ask_for_part(replica, &path, &place, name.policy_index, wanted).await {
                Ok(response) => response,
                Err(error) => {
                    trouble = Some(error.to_string());
                    continue;
                }
            };
            let server = &replica.device.authority;
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
                StatusCode::NOT_FOUND => {
                    self.backend.finish(response, server).await;
                    continue;
                }
                // Another content may be too short for the range.
                StatusCode::RANGE_NOT_SATISFIABLE => {
                    self.backend.finish(response, server).await;
                    unfit = Some(LocalError::Differs {
                        expected: expected(wanted),
                        found: "that of a shorter object".to_owned(),
                    });
                    continue;
                }
                status => {
                    trouble = Some(format!("{server} answered {status}"));
                    self.backend.finish(response, server).await;
                    continue;
                }
            }
            let head = match LocalHead::read(response.headers()) {
                Ok(head) => head,
                Err(problem) => {
                    trouble = Some(format!("{server}: {problem}"));
                    continue;
                }
            };
            if let Some(why) = hindrance(&head, place.kind) {
                drop(response);
                let at_least = Timestamp::from_units(0);
                let (head, response) = self
                    .through_proxy(Method::GET, name, at_least, &head, &why, wanted.range.as_ref())
                    .await?;
                return self.checked(head, response, wanted);
            }
            match self.checked(head, response, wanted) {
                Ok(opened) => return Ok(opened),
                Err(error) => unfit = Some(error),
            }
        }
        Err(match (unfit, trouble) {
            // Whoever did not answer may have the right content.
            (_, Some(trouble)) => LocalError::Unavailable(trouble),
            (Some(error), None) => error,
            (None, None) => LocalError::Missing,
        })
    }

    async fn ask_for_part(
        &self,
        replica: &Replica,
        path: &str,
        place: &ObjectPlace,
        policy_index: u32,
        wanted: &Wanted,
    ) -> Result<Response<Incoming>, BackendError> {
        let method = match place.kind {
            PolicyKind::Replication => Method::GET,
            PolicyKind::ErasureCoding => Method::HEAD,
        };
        let range = wanted.range.as_ref().filter(|_| method == Method::GET);
        self.backend
            .send(method.clone(), &replica.device.authority, &target(replica, path), |headers| {
                headers.insert(POLICY_INDEX, HeaderValue::from(policy_index));
                insert_range(headers, range);
            })
            .await
    }

    /// The body, if the answer is what was asked for.
    fn checked(
        &self,
        head: LocalHead,
        response: Response<Incoming>,
        wanted: &Wanted,
    ) -> Result<(LocalHead, LocalBody), LocalError> {
        let total = match (&wanted.range, response.status()) {
            (Some(range), StatusCode::PARTIAL_CONTENT) => {
                let told = content_range(response.headers())
                    .filter(|(told, _)| told == range)
                    .ok_or_else(|| LocalError::Unavailable(other_range(range, response.headers())))?;
                told.1
            }
            (Some(range), _) if *range != (0..head.length) => {
                return Err(LocalError::Unavailable(other_range(range, response.headers())));
            }
            _ => head.length,
        };
        match &wanted.content {
            Content::Manifest(etag) => {
                // Whether it is the right one shows when it has been read, where a proxy keeps this header to itself.
                let found = head.text("x-object-sysmeta-slo-etag").unwrap_or_else(|| etag.clone());
                if head.kind != LocalKind::StaticLargeObject || found != *etag {
                    return Err(LocalError::Differs { expected: etag.clone(), found });
                }
            }
            Content::Plain { etag, length } => {
                match head.kind {
                    LocalKind::StaticLargeObject => {
                        return Err(LocalError::NoSegment("a static large object"));
                    }
                    LocalKind::Symlink => return Err(LocalError::NoSegment("a symlink")),
                    LocalKind::Plain | LocalKind::DynamicLargeObject => {}
                }
                let same = etag.as_ref().is_none_or(|etag| etag.eq_ignore_ascii_case(&head.etag));
                if !same || total != *length {
                    let found = format!("{} with {total} bytes", head.etag);
                    return Err(LocalError::Differs { expected: expected(wanted), found });
                }
            }
        }
        let length = wanted.range.as_ref().map_or(total, |range| range.end.saturating_sub(range.start));
        let body = LocalBody::new(response.into_body(), length, self.backend.timeouts().stall);
        Ok((head, body))
    }
}

fn expected(wanted: &Wanted) -> String {
    match &wanted.content {
        Content::Manifest(etag) => etag.clone(),
        Content::Plain { etag, length } => {
            format!("{} with {length} bytes", etag.as_deref().unwrap_or("any"))
        }
    }
}

fn other_range(wanted: &Range<u64>, headers: &HeaderMap) -> String {
    let told = headers.get(header::CONTENT_RANGE).map_or("nothing", |told| told.to_str().unwrap_or("?"));
    format!("asked for bytes {}-{}, the answer says {told}", wanted.start, wanted.end.saturating_sub(1))
}

/// The range of a partial answer, and the length of the whole.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    Some((first.parse().ok()?..end, total.parse().ok()?))
}

pub(super) fn insert_range(headers: &mut HeaderMap, range: Option<&Range<u64>>) {
    if let Some(range) = range
        && let Ok(value) =
            HeaderValue::try_from(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
    {
        headers.insert(header::RANGE, value);
    }
}
