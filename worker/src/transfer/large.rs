//! Large objects to S3 and Google.

use super::{Done, Hint, Route, Transfer, Trouble};
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;
use crate::swift::local_objects::LocalObject;

impl Transfer {
    /// Carries a static or dynamic large object; `manifest` is what Swift keeps of it under its own name.
    pub(super) async fn copy_large(
        &self,
        _route: &Route,
        _row: &Row,
        _key: &str,
        _manifest: LocalObject,
        _hint: &Hint,
    ) -> Result<Done, Trouble> {
        let message =
            "static and dynamic large objects are not carried by this version; the local copy is kept";
        Err(Trouble::Row(Failure::new(Reason::LargeObject, message)))
    }
}
