//! Whatever breaks, in the end S3 holds what Swift holds, and nothing was done for nothing.

mod killed_workers;
mod many_objects;
mod remote_outages;
mod stale_uploads;
mod swift_outages;
