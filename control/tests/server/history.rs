//! The past, as it is asked for over the wire. Time is told to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use swift_s3_control::history::{History, HistoryError};
use swift_s3_control::server::routes;
use swift_s3_proto::v1::*;
use tonic::Code;

use crate::support::{Server, document, eventually, feed};

const MINUTE: i64 = 60_000;
/// The beginning of a quarter of an hour.
const START: i64 = 28_000_005 * MINUTE;

/// A clock that stands where it was put.
#[derive(Clone)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    /// So many minutes after the start.
    fn set(&self, minutes: i64) {
        self.0.store(START + minutes * MINUTE + 30_000, Ordering::SeqCst);
    }

    fn history(&self, folder: &Path) -> History {
        let clock = Arc::clone(&self.0);
        History::with_clock(&folder.join("data"), move || clock.load(Ordering::SeqCst))
    }
}

/// Minutes after the start, and the lag; of all together, or of a mapping.
async fn told(server: &Server, mapping_id: &str, seconds: u32) -> (u32, Vec<(i64, Option<f64>)>) {
    let request = GetHistoryRequest { mapping_id: mapping_id.to_owned(), seconds };
    let answer = server.status().await.get_history(request).await.unwrap().into_inner();
    let minute = |sample: &Sample| sample.at.as_ref().unwrap().seconds / 60 - START / MINUTE;
    let samples = answer.samples.iter().map(|sample| (minute(sample), sample.lag_seconds));
    (answer.step_seconds, samples.collect())
}

#[tokio::test]
async fn the_past_is_told_with_its_gaps_and_survives_a_restart() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let clock = Clock::new();
    let server = Server::start_keeping(Arc::clone(&folder), clock.history(folder.path())).await;
    server.apply(&document(&["c", "d"]), 0).await.unwrap();
    let ids = server.mapping_ids();
    let node = server.worker("n").await;
    let sample = || server.control.history.sample(routes(&server.control).unwrap());
    // Nothing is known yet.
    clock.set(0);
    sample().await.unwrap();
    node.heartbeat(vec![feed("db", &ids[0], "c", 5)]).await;
    let lag =
        || async { server.status().await.get_status(GetStatusRequest {}).await.unwrap().into_inner().lag };
    eventually(lag, Option::is_some).await;
    for minute in [1, 2, 20] {
        clock.set(minute);
        sample().await.unwrap();
    }
    let expected = [(0, None), (1, Some(7.0)), (2, Some(7.0)), (20, Some(7.0))];
    assert_eq!(told(&server, "", 0).await, (60, expected.to_vec()));
    assert_eq!(told(&server, &ids[0], 0).await, (60, expected.to_vec()));
    assert_eq!(told(&server, &ids[1], 0).await.1[3], (20, None), "of this one nothing was ever known");
    assert_eq!(told(&server, "unknown", 0).await, (60, Vec::new()));
    assert_eq!(told(&server, "", 3 * 60).await, (60, vec![(20, Some(7.0))]));
    assert_eq!(told(&server, "", 86_401).await, (900, vec![(0, Some(7.0)), (15, Some(7.0))]));

    // Set back by a minute: what there was is replaced.
    clock.set(2);
    sample().await.unwrap();
    assert_eq!(told(&server, "", 0).await.1, expected[..3], "what is ahead is not the past");
    server.stop().await;
    clock.set(20);
    let server = Server::start_keeping(Arc::clone(&folder), clock.history(folder.path())).await;
    assert_eq!(told(&server, "", 0).await, (60, expected.to_vec()));
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_costs_the_past_and_nothing_else() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let file = folder.path().join("data").join("history.db");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "no database").unwrap();
    let clock = Clock::new();
    let server = Server::start_keeping(Arc::clone(&folder), clock.history(folder.path())).await;
    clock.set(1);
    server.control.history.sample(routes(&server.control).unwrap()).await.unwrap();
    assert_eq!(told(&server, "", 0).await.1, [(1, None)]);
    assert_eq!(std::fs::read(file.with_extension("db.unusable")).unwrap(), b"no database");
    server.stop().await;

    // Not even a file: nothing can be written or moved.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let server = Server::start_keeping(Arc::clone(&folder), clock.history(folder.path())).await;
    let failed = server.control.history.sample(routes(&server.control).unwrap()).await;
    assert!(matches!(failed, Err(HistoryError::Failed(_))), "{failed:?}");
    let refused = server.status().await.get_history(GetHistoryRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    server.apply(&document(&["c"]), 0).await.unwrap();
    server.stop().await;
}
