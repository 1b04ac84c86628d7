//! Objects that a shunt wrote back stay for `copy_after` from then on, whatever their timestamp says.

use swift_s3_policy::{Mapping, RESTORED_HEADER, Timestamp, restored_at};

use super::{Route, Transfer, Trouble, object_name};
use crate::feed::now;
use crate::swift::container_db::Row;

impl Transfer {
    /// When the object was restored, if it must not be archived yet for that reason.
    ///
    /// Restored objects have timestamps with an offset, so other rows cost nothing here. The object servers are asked and not a proxy,
    /// which may keep system metadata to itself.
    pub(super) async fn was_restored(&self, route: &Route, row: &Row) -> Result<Option<Timestamp>, Trouble> {
        if !may_wait(&route.mapping, row.timestamps.metadata) {
            return Ok(None);
        }
        let newest = self.local.newest(&object_name(route, row)).await?;
        // Something newer has a row of its own; what nobody can tell is for the archiver's own questions to find out.
        let found = newest.found.filter(|found| found.timestamp == row.timestamps.metadata);
        let now = now();
        let restored = found.and_then(|found| restored_at(found.header(RESTORED_HEADER)?, now));
        Ok(restored.filter(|restored| restored.plus(route.mapping.copy_after) > now))
    }
}

/// Whether a row can be one of a restored object that has to wait.
fn may_wait(mapping: &Mapping, timestamp: Timestamp) -> bool {
    timestamp.offset() != 0 && !mapping.retain_local && !mapping.copy_after.is_zero()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use swift_s3_policy::parse_sync_config;

    use super::*;

    #[test]
    fn only_rows_with_an_offset_in_mappings_that_archive_later_are_looked_at() {
        for (options, offset, waits) in [
            (r#""retain_local":false,"copy_after":60"#, 2, true),
            (r#""retain_local":false,"copy_after":60"#, 0, false),
            (r#""retain_local":false"#, 2, false),
            (r#""copy_after":60"#, 2, false),
        ] {
            let text = format!(
                r#"{{"devices":"/d","status_dir":"/s","items_chunk":10,"containers":[{{"account":"AUTH_a","container":"c",
                  "aws_bucket":"b","aws_identity":"i","aws_secret":"s","propagate_delete":false,{options}}}]}}"#
            );
            let parsed = parse_sync_config(&text).unwrap().config;
            let mapping = parsed.mappings.first().unwrap();
            assert_eq!(may_wait(mapping, Timestamp::new(1, offset)), waits, "{options} {offset}");
        }
    }
}
