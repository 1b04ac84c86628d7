//! Reading through a proxy of the cluster, for what object servers cannot give in the clear.

use std::ops::Range;
use std::str::FromStr;

use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use hyper::body::Incoming;
use swift_s3_policy::Timestamp;

use super::segment::insert_range;
use super::{LocalError, LocalHead, LocalObjects, ObjectName, POLICY_INDEX};
use crate::swift::backend::push_encoded;

/// The address of a Swift proxy that asks for no token, for instance `http://127.0.0.1:8081`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalUrl {
    authority: Authority,
    base: String,
}

/// An address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address like http://127.0.0.1:8081, got {0}")]
pub struct InternalUrlError(&'static str);

impl FromStr for InternalUrl {
    type Err = InternalUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| InternalUrlError("something else"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(InternalUrlError("https, which only public proxies need")),
            _ => return Err(InternalUrlError("no http:// in front")),
        }
        let authority = uri.authority().ok_or(InternalUrlError("no host"))?.clone();
        if authority.as_str().contains('@') {
            return Err(InternalUrlError("credentials, which a proxy without auth does not take"));
        }
        if uri.query().is_some() {
            return Err(InternalUrlError("a query"));
        }
        let base = match uri.path().trim_end_matches('/') {
            "" => "/v1",
            base => base,
        };
        Ok(Self { authority, base: base.to_owned() })
    }
}

const NEWEST: HeaderName = HeaderName::from_static("x-newest");
/// A shunt on the way would answer with what the remote holds for what is not here.
const BYPASS: HeaderName = HeaderName::from_static(swift_s3_policy::SHUNT_BYPASS_HEADER);

/// Whether the proxy shall compare all replicas.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thoroughness {
    FirstAnswer,
    AllReplicas,
}

impl LocalObjects {
    /// Asks the proxy; `stored` is what an object server said, `why` the reason to ask further. Where a `range` is asked for, the length in
    /// the head is that of the answer.
    pub(super) async fn through_proxy(
        &self,
        method: Method,
        name: &ObjectName<'_>,
        at_least: Timestamp,
        stored: &LocalHead,
        why: &str,
        range: Option<&Range<u64>>,
    ) -> Result<(LocalHead, Response<Incoming>), LocalError> {
        let Some(proxy) = self.proxy.as_deref() else {
            return Err(LocalError::NeedsProxy(format!(
                "{why}, and no internal_url is configured to read it"
            )));
        };
        let mut newest = None;
        for thoroughness in [Thoroughness::FirstAnswer, Thoroughness::AllReplicas] {
            let (head, response) = self.ask_proxy(&method, proxy, name, thoroughness, range).await?;
            // A proxy tells no offset.
            let wanted = if head.timestamp.offset() == 0 { at_least.with_offset(0) } else { at_least };
            if head.timestamp < wanted {
                newest = newest.max(Some(head.timestamp));
                continue;
            }
            if let Some(evidence) = head.still_encrypted(stored) {
                return Err(LocalError::NeedsProxy(format!(
                    "{why}, and the proxy at internal_url does not decrypt it: {evidence}"
                )));
            }
            return Ok((head, response));
        }
        Err(newest.map_or(LocalError::Missing, |newest| LocalError::Stale { newest }))
    }

    async fn ask_proxy(
        &self,
        method: &Method,
        proxy: &InternalUrl,
        name: &ObjectName<'_>,
        thoroughness: Thoroughness,
        range: Option<&Range<u64>>,
    ) -> Result<(LocalHead, Response<Incoming>), LocalError> {
        let mut target = proxy.base.clone();
        push_encoded(&mut target, name.account);
        push_encoded(&mut target, name.container);
        push_encoded(&mut target, name.object);
        // As stored: the manifest itself, the link itself.
        target.push_str("?multipart-manifest=get&symlink=get");
        let headers = |headers: &mut HeaderMap| {
            headers.insert(POLICY_INDEX, HeaderValue::from(name.policy_index));
            headers.insert(BYPASS, HeaderValue::from_static("true"));
            if thoroughness == Thoroughness::AllReplicas {
                headers.insert(NEWEST, HeaderValue::from_static("true"));
            }
            insert_range(headers, range);
        };
        let server = &proxy.authority;
        let response = self
            .backend
            .to("proxy")
            .send(method.clone(), server, &target, headers)
            .await
            .map_err(|error| LocalError::Unavailable(format!("internal_url: {error}")))?;
        let status = response.status();
        if status == StatusCode::OK || (range.is_some() && status == StatusCode::PARTIAL_CONTENT) {
            let head = LocalHead::read(response.headers())
                .map_err(|problem| LocalError::Unavailable(format!("internal_url {server}: {problem}")))?;
            return Ok((head, response));
        }
        self.backend.finish(response, server).await;
        Err(match status {
            StatusCode::NOT_FOUND => LocalError::Missing,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => LocalError::NeedsProxy(format!(
                "internal_url {server} answered {status}: it must be a proxy without auth in its pipeline"
            )),
            _ => LocalError::Unavailable(format!("internal_url {server} answered {status}")),
        })
    }
}
