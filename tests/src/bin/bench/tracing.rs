//! What tracing costs the worker: the same small objects without any tracing, without a collector, with the usual part of them traced,
//! and with all.
//!
//! The settings take turns, so that whatever else the machine does falls on all of them alike. Processor time per object says more
//! than throughput here: both are printed, the median of the rounds, and each as a ratio to the rounds without any tracing.

use std::time::Duration;

use anyhow::{Result, ensure};
use swift_s3_tests::otlp_collector::Collector;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::swift_cluster::{SwiftCluster, SwiftOptions};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::worker_process::Worker;

const ROUNDS: usize = 5;
const BUCKET: &str = "tracing";
const CONTAINER: &str = "traced";

/// How the worker is started, and what it took, by round.
struct Setting {
    name: &'static str,
    environment: &'static [(&'static str, &'static str)],
    ratio: Option<&'static str>,
    elapsed: Vec<Duration>,
    cpu: Vec<Duration>,
}

/// Measures it with so many objects of 1 KiB.
pub async fn run(objects: usize) -> Result<()> {
    println!("\nbench: {objects} objects of 1 KiB with and without tracing, {ROUNDS} rounds each in turn");
    let options = SwiftOptions { log_requests: false, ..SwiftOptions::single_node() };
    let (cluster, store) =
        tokio::try_join!(SwiftCluster::start(options), S3Server::start(S3ServerKind::Memory))?;
    let bucket = store.create_bucket(BUCKET).await?;
    let swift = cluster.client().await?;
    let collector = Collector::start().await?;
    let folder = RunDirectory::create("tracing")?;
    swift.put_container(CONTAINER).await?;
    for number in 0..objects {
        swift.put_object(CONTAINER, &format!("object{number:06}"), vec![b'x'; 1_024], &[]).await?;
    }
    let worker = Worker::new(&cluster, 0, folder.folder("worker")?)?;
    let mapping = MappingJson::new(swift.account(), CONTAINER, store.access(), BUCKET).set("copy_after", 0);
    worker.configure(&SyncJson::new().set("log_level", "info").mapping(mapping))?;
    let setting =
        |name, ratio| Setting { name, environment: &[], ratio, elapsed: Vec::new(), cpu: Vec::new() };
    let mut settings = [
        Setting { environment: &[("OTEL_SDK_DISABLED", "true")], ..setting("no tracing", None) },
        setting("no collector", None),
        setting("1 % traced", Some("0.01")),
        setting("all traced", Some("1")),
    ];
    for round in 0..=ROUNDS {
        for setting in &mut settings {
            bucket.delete_all().await?;
            worker.forget()?;
            let mut arguments = vec!["--once"];
            if let Some(ratio) = setting.ratio {
                arguments.extend(["--otlp-endpoint", collector.endpoint(), "--trace-sample-ratio", ratio]);
            }
            let ended = worker.run(&arguments, setting.environment).await?.expect_code(0)?;
            // The first round warms caches up.
            if round > 0 {
                setting.elapsed.push(ended.elapsed);
                setting.cpu.push(ended.usage.cpu);
            }
        }
    }
    ensure!(!collector.spans().is_empty(), "nothing was traced");
    let [base, ..] = &settings;
    let (elapsed, cpu) = (median(&base.elapsed), median(&base.cpu));
    println!("{:<14} {:>10} {:>16} {:>12} {:>12}", "", "objects/s", "CPU ms/object", "throughput", "CPU");
    for setting in &settings {
        let (own, own_cpu) = (median(&setting.elapsed), median(&setting.cpu));
        println!(
            "{:<14} {:>10.0} {:>16.3} {:>12.3} {:>12.3}",
            setting.name,
            objects as f64 / own,
            own_cpu * 1e3 / objects as f64,
            elapsed / own,
            own_cpu / cpu
        );
    }
    println!("spans received: {}", collector.spans().len());
    println!("targets: 1 % traced >= 0.97 of the throughput without tracing");
    Ok(())
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2].as_secs_f64()
}
