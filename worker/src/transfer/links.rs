//! Symbolic links: what is carried under a link's name is what it leads to, as any client of Swift would get it.
//!
//! A change of the target makes no row for the link, so a copy is as old as the last write of the link or the last check of its row.
//!
//! Source: `swift/common/middleware/symlink.py` of Swift 2.30.1.

use percent_encoding::percent_decode;

use super::restored::was_restored_since;
use super::{Route, Transfer, Trouble, object_name};
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::{AtLeast, LocalHead, LocalKind, LocalObject, ObjectName};

/// Links in a row that are followed: Swift's `symloop_max` as it comes.
const MAX_LINKS: usize = 2;

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    account: String,
    container: String,
    object: String,
}

impl Transfer {
    /// Opens the row's object, or what it leads to if it is a link. The times are those of the row's object.
    pub(super) async fn open_object(&self, route: &Route, row: &Row) -> Result<LocalObject, Trouble> {
        let object = self.local.open(&object_name(route, row), row.timestamps.into()).await?;
        refuse_restored_since(row, &object.head)?;
        if object.head.kind != LocalKind::Symlink {
            return Ok(object);
        }
        let (target, policy_index) = self.follow(route, &object.head).await?;
        let mut found =
            self.local.open(&target.name(policy_index), AtLeast::default()).await.map_err(broken)?;
        found.head = dated_as(&object.head, found.head);
        Ok(found)
    }

    /// The headers of the row's object, or of what it leads to if it is a link. The times are those of the row's object.
    pub(super) async fn head_object(&self, route: &Route, row: &Row) -> Result<LocalHead, Trouble> {
        let head = self.local.head(&object_name(route, row), row.timestamps.into()).await?;
        refuse_restored_since(row, &head)?;
        if head.kind != LocalKind::Symlink {
            return Ok(head);
        }
        let (target, policy_index) = self.follow(route, &head).await?;
        let found = self.local.head(&target.name(policy_index), AtLeast::default()).await.map_err(broken)?;
        Ok(dated_as(&head, found))
    }

    /// Finds the end of a link, with the storage policy of its container.
    async fn follow(&self, route: &Route, link: &LocalHead) -> Result<(Target, u32), Trouble> {
        let mut target = target_of(link, &route.account)?;
        for _ in 0..MAX_LINKS {
            let place = self.container_place(&target.account, &target.container)?;
            let index =
                self.segment_use.servers().policy_index(&place, &target.account, &target.container).await;
            let unavailable = |problem: String| Trouble::Row(Failure::new(Reason::LocalUnavailable, problem));
            let index = index.map_err(|error| unavailable(error.to_string()))?.unwrap_or(0);
            let head = self.local.head(&target.name(index), AtLeast::default()).await.map_err(broken)?;
            if head.kind != LocalKind::Symlink {
                return Ok((target, index));
            }
            target = target_of(&head, &target.account)?;
        }
        Err(failure(format!("more than {MAX_LINKS} symbolic links lead to one another")))
    }
}

impl Target {
    fn name(&self, policy_index: u32) -> ObjectName<'_> {
        ObjectName { account: &self.account, container: &self.container, object: &self.object, policy_index }
    }
}

/// What was restored since the row was written is judged by its own row.
fn refuse_restored_since(row: &Row, head: &LocalHead) -> Result<(), Trouble> {
    if was_restored_since(row, head) {
        return Err(Trouble::Row(Failure::new(Reason::Restored, "the object was restored since")));
    }
    Ok(())
}

fn failure(message: String) -> Trouble {
    Trouble::Row(Failure::new(Reason::Symlink, message))
}

fn broken(error: impl std::fmt::Display) -> Trouble {
    failure(format!("the target of the symbolic link cannot be had: {error}"))
}

fn dated_as(link: &LocalHead, target: LocalHead) -> LocalHead {
    LocalHead { timestamp: link.timestamp, data_timestamp: link.data_timestamp, ..target }
}

/// Reads a link, which lies in `account`; its parts are percent-encoded.
fn target_of(link: &LocalHead, account: &str) -> Result<Target, Trouble> {
    // Object servers tell the stored form, proxies the public one.
    let text = |name: &str| {
        let value = link.header(&format!("x-object-sysmeta-symlink-{name}"));
        let value = value.or_else(|| link.header(&format!("x-symlink-{name}")))?;
        Some(percent_decode(value).decode_utf8_lossy().into_owned())
    };
    let path = text("target").unwrap_or_default();
    match path.split_once('/') {
        Some((container, object)) if !container.is_empty() && !object.is_empty() => Ok(Target {
            account: text("target-account").unwrap_or_else(|| account.to_owned()),
            container: container.to_owned(),
            object: object.to_owned(),
        }),
        _ => Err(failure(format!("the symbolic link leads to {path:?}, which is no object"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use swift_s3_policy::Timestamp;

    use super::*;

    fn link(headers: &[(&str, &str)]) -> LocalHead {
        LocalHead {
            timestamp: Timestamp::default(),
            data_timestamp: Timestamp::default(),
            length: 0,
            etag: String::new(),
            content_type: String::new(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            kind: LocalKind::Symlink,
        }
    }

    fn parts(target: &Target) -> (&str, &str, &str) {
        (&target.account, &target.container, &target.object)
    }

    #[test]
    fn links_lead_where_swift_says() {
        let stored = link(&[("x-object-sysmeta-symlink-target", "c%20d/o%252F/\u{e9}")]);
        assert_eq!(parts(&target_of(&stored, "a").unwrap()), ("a", "c d", "o%2F/\u{e9}"));
        let elsewhere = link(&[("x-symlink-target", "c/o"), ("x-symlink-target-account", "AUTH_b")]);
        assert_eq!(parts(&target_of(&elsewhere, "a").unwrap()), ("AUTH_b", "c", "o"));
        for bad in ["", "c", "c/", "/o"] {
            assert!(target_of(&link(&[("x-symlink-target", bad)]), "a").is_err(), "{bad}");
        }
    }
}
