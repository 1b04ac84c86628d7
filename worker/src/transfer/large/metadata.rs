//! New metadata for a large object that is remote already: it is copied onto itself, and no content is sent.

use swift_s3_store::multipart::copy_by_parts;
use swift_s3_store::{ErrorKind, RemoteObject};

use super::{Carrying, Layout};
use crate::transfer::{Transfer, Trouble};

impl Transfer {
    /// Answers the ETag that the object has then; `None` when the remote cannot do it, or the object changed meanwhile: then the content
    /// must be sent.
    pub(super) async fn update_in_place(
        &self,
        carrying: &Carrying<'_>,
        object: &RemoteObject,
    ) -> Result<Option<String>, Trouble> {
        let store = &carrying.route.store;
        let parts = match (&carrying.layout, store.multipart()) {
            // A copy in one piece would change an ETag that is made of parts.
            (Layout::Parts { parts, .. }, Some(multipart)) if object.etag.contains('-') => {
                if !object.etag.ends_with(&format!("-{}", parts.len())) {
                    return Ok(None);
                }
                Some((parts, multipart))
            }
            _ => None,
        };
        let updated = match parts {
            Some((parts, multipart)) => {
                copy_by_parts(multipart, carrying.key, parts, object, &carrying.metadata).await
            }
            None => {
                let class = object.storage_class.as_deref();
                store.replace_metadata(carrying.key, &object.etag, &carrying.metadata, class).await
            }
        };
        match updated {
            Ok(()) => Ok(Some(object.etag.clone())),
            Err(error) => match error.kind() {
                ErrorKind::Unsupported
                | ErrorKind::TooLarge
                | ErrorKind::Precondition
                | ErrorKind::NotFound => Ok(None),
                _ => Err(error.into()),
            },
        }
    }
}
