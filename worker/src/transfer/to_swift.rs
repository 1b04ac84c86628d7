//! Another Swift cluster as the remote.
//!
//! Its listings lag behind, so they never settle anything: that a key is not listed saves a HEAD, no more.

mod containers;
mod large;
mod local;
mod plain;
mod proof;
mod removal;
mod segments;

use swift_s3_policy::RemoteMetadata;
use swift_s3_policy::swift_layout::{Expiry, ObjectRole, same_expiry, same_on_swift, to_swift};
use swift_s3_store::{RemoteObject, SwiftAccount};

use super::plain::must_ask;
use super::{Done, Hint, Outcome, Route, Transfer, Trouble, selected};
use crate::decide::Remote;
use crate::feed::now;
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::{LocalHead, LocalKind};

const X_OBJECT_MANIFEST: &str = "x-object-manifest";
const X_STATIC_LARGE_OBJECT: &str = "x-static-large-object";

impl Transfer {
    /// Carries a live row to a Swift remote.
    pub(super) async fn copy_to_swift(&self, route: &Route, row: &Row, hint: &Hint) -> Result<Done, Trouble> {
        if must_ask(row, hint) {
            let head = self.head_object(route, row).await?;
            if matches!(head.kind, LocalKind::Plain | LocalKind::Symlink) {
                return self.compare_on_swift(route, row, &head).await;
            }
        }
        let object = self.open_object(route, row).await?;
        if !selected(route, &object.head) {
            return Ok(Done::plain(Outcome::NotWanted));
        }
        match object.head.kind {
            LocalKind::Plain | LocalKind::Symlink => {
                // The listing may be older than what another node has written since.
                if *hint == Hint::Absent
                    && self.is_outdated(route, row, &object.head, &Remote::NotAsked).await?
                {
                    return Ok(Done::plain(Outcome::Superseded));
                }
                self.put_on_swift(route, row, object, hint).await
            }
            LocalKind::StaticLargeObject | LocalKind::DynamicLargeObject => {
                self.copy_large_to_swift(route, row, object).await
            }
        }
    }
}

/// What the copy of a local object is to have beside its content.
#[derive(Clone, Debug)]
struct Wanted {
    /// Without expiry and without what makes a manifest.
    metadata: RemoteMetadata,
    expiry: Expiry,
}

impl Wanted {
    fn of(route: &Route, head: &LocalHead, role: ObjectRole) -> Result<Self, Trouble> {
        let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let metadata = to_swift(headers)
            .map_err(|error| Trouble::Row(Failure::new(Reason::RemoteRefused, error.to_string())))?;
        Ok(Self { metadata, expiry: route.mapping.expiry_on_swift(role, local_expiry(head)) })
    }

    /// As it goes into a request that is sent now.
    fn to_send(&self) -> RemoteMetadata {
        let mut metadata = self.metadata.clone();
        metadata.headers.extend(self.expiry.header(seconds_now()));
        metadata
    }

    fn is_on(&self, remote: &RemoteObject) -> bool {
        same_on_swift(&self.metadata, &remote.metadata)
            && same_expiry(self.expiry, &remote.metadata.headers, written_at(remote), seconds_now())
    }
}

/// The second at which the local object expires.
fn local_expiry(head: &LocalHead) -> Option<u64> {
    let (_, value) = head.headers.iter().find(|(name, _)| name == "x-delete-at")?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

fn seconds_now() -> u64 {
    now().units() / 100_000
}

/// A route's remote as what it is. Routes to other remotes never come here.
fn account(route: &Route) -> Result<&dyn SwiftAccount, Trouble> {
    route
        .store
        .swift()
        .ok_or_else(|| Trouble::Row(Failure::new(Reason::Other, "the remote is no Swift cluster")))
}

/// The second at which the remote wrote an object last.
fn written_at(remote: &RemoteObject) -> Option<u64> {
    let since = remote.last_modified?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// Whether the local copy stays. It does when the remote one goes first: it will expire by itself.
fn keeps_local(route: &Route, wanted: &Wanted) -> bool {
    route.mapping.retain_local || wanted.expiry.has_passed(seconds_now())
}

/// Whether a remote object is a static large object.
fn is_slo(remote: &RemoteObject) -> bool {
    remote.metadata.headers.get(X_STATIC_LARGE_OBJECT).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Whether a remote object is a manifest, so that its length and ETag are those of its segments.
fn is_manifest(remote: &RemoteObject) -> bool {
    remote.metadata.headers.contains_key(X_OBJECT_MANIFEST) || is_slo(remote)
}
