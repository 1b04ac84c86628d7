//! Looks at what this process takes of its machine, for heartbeats.

use std::sync::Arc;
use std::time::Duration;

use swift_s3_daemon::process_load::{ProcessLoad, Taken};
use swift_s3_proto::v1;
use tokio_util::sync::CancellationToken;

use super::reporter::Statuses;
use crate::board::Board;

/// Between two looks. People look at it; nothing is decided by it.
const EVERY: Duration = Duration::from_secs(10);

/// Looks until told to stop.
pub async fn run(board: Arc<Board>, statuses: Arc<Statuses>, stop: CancellationToken) {
    let load = ProcessLoad::begin();
    loop {
        // A look that does not come back must hold up nothing, heartbeats least of all.
        let taken = tokio::task::spawn_blocking(move || load.read());
        tokio::select! {
            taken = taken => {
                let taken = taken.ok().flatten();
                statuses.put_load(taken.map(|taken| told(&taken, board.transfers())));
            }
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn told(taken: &Taken, (transfers, max_transfers): (usize, usize)) -> v1::NodeLoad {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    v1::NodeLoad {
        cpu_seconds: taken.cpu.as_secs_f64(),
        memory_bytes: taken.memory_bytes,
        open_files: taken.open_files,
        max_open_files: taken.max_open_files,
        transfers: count(transfers),
        max_transfers: count(max_transfers),
        uptime_seconds: taken.uptime.as_secs_f64(),
    }
}
