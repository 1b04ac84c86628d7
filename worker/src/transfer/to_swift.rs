//! Another Swift cluster as the remote.

use super::{Done, Hint, Route, Transfer, Trouble};
use crate::reason::{Failure, Reason};
use crate::swift::container_db::Row;

impl Transfer {
    /// Carries a live row to a Swift remote.
    pub(super) async fn copy_to_swift(
        &self,
        _route: &Route,
        _row: &Row,
        _hint: &Hint,
    ) -> Result<Done, Trouble> {
        Err(Trouble::Row(Failure::new(Reason::Other, "Swift remotes are not served yet")))
    }

    /// Carries a tombstone, which is known to be a user's, to a Swift remote.
    pub(super) async fn delete_from_swift(
        &self,
        _route: &Route,
        _row: &Row,
        _hint: &Hint,
    ) -> Result<Done, Trouble> {
        Err(Trouble::Row(Failure::new(Reason::Other, "Swift remotes are not served yet")))
    }
}
