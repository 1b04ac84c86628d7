//! `swift-demo`: the product at work on this machine, until Ctrl-C.
//!
//! Starts a three-node Swift, an S3 store and one worker per node, uploads with the ordinary `swift` client, shows the objects
//! arriving, archives one, and says what to type next.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::control_process::{Control, program};
use swift_s3_tests::python::environment_program;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::s3_client::S3Client;
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_cluster::{SwiftCluster, SwiftOptions};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::wait;
use swift_s3_tests::worker_process::Worker;
use tokio::signal::unix::{SignalKind, signal};

const BUCKET: &str = "demo-bucket";
const MIRROR: &str = "photos";
const ARCHIVE: &str = "attic";
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            _ => return ExitCode::FAILURE,
        };
    tokio::select! {
        outcome = demonstrate() => match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("demo: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = interrupt.recv() => {
            println!("\ndemo: stopping everything and removing its files");
            ExitCode::SUCCESS
        }
    }
}

async fn demonstrate() -> Result<()> {
    println!("demo: starting Swift (3 nodes, 3 replicas) and an S3 store on loopback; about ten seconds");
    let (cluster, store) =
        tokio::try_join!(SwiftCluster::start(SwiftOptions::default()), S3Server::start(S3ServerKind::S3sFs))?;
    let bucket = store.create_bucket(BUCKET).await?;
    let client = cluster.client().await?;
    let folder = RunDirectory::create("demo")?;
    let account = client.account().to_owned();
    for container in [MIRROR, ARCHIVE] {
        client.put_container(container).await?;
    }

    println!("demo: starting the control plane, and one swift-s3-sync per node under it");
    let mapping = |container: &str| MappingJson::new(&account, container, store.access(), BUCKET);
    let config = SyncJson::new()
        .set("poll_interval", 5)
        .set("verification_slack", 60)
        .set("log_level", "info")
        .mapping(mapping(MIRROR))
        .mapping(mapping(ARCHIVE).set("retain_local", false).set("propagate_delete", false));
    let control = Control::start(folder.folder("control")?).await?;
    control.apply(&config).await?;
    let mut workers = Vec::new();
    for node in cluster.nodes() {
        let worker = Worker::new(&cluster, node.index(), folder.folder(format!("worker{}", node.index()))?)?;
        worker.start_under(&[control.url()], &[])?;
        workers.push(worker);
    }
    control.wait_synced(workers.len()).await?;
    for worker in &workers {
        worker.wait_for_log("following a container", ARRIVAL_LIMIT).await?;
    }

    let keys = |container: &str| KeyMapping::new(&account, container, None);
    println!(
        "\ndemo: a mirror. Everything in container {MIRROR} goes to s3://{BUCKET}/{}",
        keys(MIRROR).key_prefix()
    );
    for (name, content) in
        [("hello.txt", "hello"), ("holiday/beach at noon.txt", "sun"), ("été.txt", "chaud")]
    {
        upload(&cluster, &folder, MIRROR, name, content)?;
        let started = Instant::now();
        let key = keys(MIRROR).object_key(name);
        arrives(&bucket, &key, content.as_bytes()).await?;
        println!("  in S3 {:.2} s after the upload: {key}", started.elapsed().as_secs_f64());
    }

    println!(
        "\ndemo: an archive. Objects in container {ARCHIVE} go to S3, and then their local copies go away"
    );
    upload(&cluster, &folder, ARCHIVE, "old-report.txt", "worth keeping")?;
    let key = keys(ARCHIVE).object_key("old-report.txt");
    arrives(&bucket, &key, b"worth keeping").await?;
    println!("  in S3: {key}");
    wait::until("the local copy to go", ARRIVAL_LIMIT, async || gone(&client).await).await?;
    println!("  Swift answers 404 for {ARCHIVE}/old-report.txt: its disks are free, S3 has it");

    tell_what_to_type(&cluster, &store, &control)?;
    std::future::pending().await
}

/// Uploads as a user would, with the `swift` client.
fn upload(
    cluster: &SwiftCluster,
    folder: &RunDirectory,
    container: &str,
    name: &str,
    content: &str,
) -> Result<()> {
    println!("  $ swift upload {container} '{name}'");
    let file = folder.path().join("upload");
    std::fs::write(&file, content)?;
    let status = Command::new("/usr/bin/swift")
        .args(["-A", &format!("{}/auth/v1.0", cluster.proxy_url()), "-U", "test:tester", "-K", "testing"])
        .args(["upload", "--object-name", name, container])
        .arg(&file)
        .env("LC_ALL", "C.UTF-8")
        .stdout(Stdio::null())
        .status()
        .context("could not run the swift client (Debian's python3-swiftclient; make setup installs it)")?;
    if !status.success() {
        bail!("the swift client failed: {status}");
    }
    Ok(())
}

async fn arrives(bucket: &S3Client, key: &str, content: &[u8]) -> Result<()> {
    wait::until(&format!("{key} in the bucket"), ARRIVAL_LIMIT, async || match bucket.get(key).await? {
        Some(object) if object.body == content => Ok(()),
        Some(_) => bail!("other content"),
        None => bail!("not there yet"),
    })
    .await
}

async fn gone(client: &SwiftClient) -> Result<()> {
    match client.get_object(ARCHIVE, "old-report.txt").await?.status {
        404 => Ok(()),
        status => bail!("Swift answers {status}"),
    }
}

fn tell_what_to_type(cluster: &SwiftCluster, store: &S3Server, control: &Control) -> Result<()> {
    let access = store.access();
    println!("\ndemo: everything keeps running until Ctrl-C. In another terminal:\n");
    println!("  export ST_AUTH={}/auth/v1.0 ST_USER=test:tester ST_KEY=testing", cluster.proxy_url());
    println!("  swift upload {MIRROR} README.md          # arrives in S3 within a second");
    println!("  swift post {MIRROR} README.md -m Color:red");
    println!("  swift delete {MIRROR} hello.txt          # goes away in S3 too");
    println!("  swift list {ARCHIVE}                      # archived objects are not listed locally\n");
    println!("  export RCLONE_CONFIG_S3_TYPE=s3 RCLONE_CONFIG_S3_PROVIDER=Other \\");
    println!("         RCLONE_CONFIG_S3_ENDPOINT={} \\", access.endpoint);
    println!(
        "         RCLONE_CONFIG_S3_ACCESS_KEY_ID={} RCLONE_CONFIG_S3_SECRET_ACCESS_KEY={}",
        access.identity, access.secret
    );
    println!("  rclone ls s3:{BUCKET}\n");
    println!("  export SWIFT_S3_CONTROL={}", control.url());
    println!("  alias swift-s3ctl={}", program("swift-s3ctl")?.display());
    println!("  swift-s3ctl status                       # how far behind is everything?");
    println!("  swift-s3ctl nodes");
    println!("  swift-s3ctl explain AUTH_test/{MIRROR}/hello.txt");
    println!("  swift-s3ctl pause AUTH_test/{MIRROR}      # and resume");
    println!("  swift-s3ctl config get > sync.json       # change it, then:");
    println!("  swift-s3ctl config apply sync.json       # in force on all nodes at once");
    println!("  swift-s3ctl watch\n");
    println!("  alias grpcurl={}", environment_program("grpcurl")?.display());
    println!("  grpcurl -plaintext {} list", control.address());
    println!("  grpcurl -plaintext {} swift_s3_sync.v1.StatusService/GetStatus", control.address());
    Ok(())
}
