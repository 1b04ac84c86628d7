//! One operation is one trace, from Swift to the remote; what fails is never left out, and a collector that is away holds nobody up.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use swift_s3_tests::otlp_collector::{Collector, PROMPT};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;

use crate::CLUSTER;

#[tokio::test]
async fn a_collector_that_never_answers_holds_nobody_up() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let collector = Collector::silent().await?;
    site.swift.put_container("c").await?;
    for number in 0..50 {
        site.swift.put_object("c", &format!("o{number}"), "content", &[]).await?;
    }
    site.map([site.mapping("c").set("copy_after", 0)])?;
    for worker in &site.workers {
        worker.set_arguments(collector.arguments());
        let began = Instant::now();
        worker.run(&["--once"], &PROMPT).await?.expect_code(0)?;
        // The last attempt to send is given five seconds.
        ensure!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    }
    site.expect_equal("c").await
}
