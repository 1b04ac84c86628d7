//! `swift-demo`: the product at work on this machine, until Ctrl-C.
//!
//! Starts a three-node Swift, an S3 store and one worker per node, uploads with the ordinary `swift` client, shows the objects
//! arriving, archives one, reads it through the shunt as if it had never left, and says what to type next. With `--etcd` three members of etcd
//! are there too: the workers agree through them on who carries what, and two control processes share their state in them.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::control_process::{Control, program};
use swift_s3_tests::etcd_cluster::{EtcdCluster, EtcdOptions};
use swift_s3_tests::python::environment_program;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::s3_client::S3Client;
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::shunt_process::{Policy, Shunt, ShuntOptions};
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
/// The file that a control process writes the address of its web pages to.
const PAGES: &str = "pages";
/// One control process may go then.
const CONTROLS_WITH_ETCD: usize = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            _ => return ExitCode::FAILURE,
        };
    let with_etcd = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--etcd") => true,
        Some(other) => {
            eprintln!("demo: unknown argument {other}; there is --etcd");
            return ExitCode::from(2);
        }
    };
    tokio::select! {
        outcome = demonstrate(with_etcd) => match outcome {
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

async fn demonstrate(with_etcd: bool) -> Result<()> {
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

    let etcd = start_etcd(with_etcd).await?;
    let flags: Vec<String> =
        etcd.iter().flat_map(|etcd| ["--etcd".to_owned(), etcd.endpoints().join(",")]).collect();
    println!("demo: starting the control plane, and one swift-s3-sync per node under it");
    let mapping = |container: &str| MappingJson::new(&account, container, store.access(), BUCKET);
    let config = SyncJson::new()
        .set("poll_interval", 5)
        .set("verification_slack", 60)
        .set("log_level", "info")
        .mapping(mapping(MIRROR))
        .mapping(
            mapping(ARCHIVE)
                .set("retain_local", false)
                .set("propagate_delete", false)
                .set("merge_namespaces", true)
                .set("merge_writes", true),
        );
    let controls = start_controls(&folder, &flags).await?;
    let control = controls.first().context("no control process")?;
    wait::until("the configuration to be applied", ARRIVAL_LIMIT, async || control.apply(&config).await)
        .await?;
    let urls: Vec<String> = controls.iter().map(Control::url).collect();
    let mut workers = Vec::new();
    for node in cluster.nodes() {
        let worker = Worker::new(&cluster, node.index(), folder.folder(format!("worker{}", node.index()))?)?;
        worker.set_arguments(flags.clone());
        worker.start_under(&urls, &[])?;
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

    let shunt = put_shunt_in_front(&cluster, &folder, control).await?;
    tell_what_to_type(&cluster, &store, &controls, &shunt)?;
    if let Some(etcd) = &etcd {
        tell_about_etcd(etcd, &controls, &workers)?;
    }
    std::future::pending().await
}

async fn start_etcd(wanted: bool) -> Result<Option<EtcdCluster>> {
    if !wanted {
        return Ok(None);
    }
    println!("demo: starting three members of etcd");
    Ok(Some(EtcdCluster::start(EtcdOptions::default()).await?))
}

/// One with its own state, or several on etcd.
async fn start_controls(folder: &RunDirectory, etcd: &[String]) -> Result<Vec<Control>> {
    let count = if etcd.is_empty() { 1 } else { CONTROLS_WITH_ETCD };
    let mut controls = Vec::new();
    for index in 0..count {
        let folder = folder.folder(format!("control{index}"))?;
        let pages = folder.join(PAGES).to_string_lossy().into_owned();
        let mut flags = vec!["--http", "127.0.0.1:0", "--http-port-file", &pages];
        flags.extend(etcd.iter().map(String::as_str));
        controls.push(Control::start_with(folder, &flags).await?);
    }
    Ok(controls)
}

/// Where a control process serves its web pages.
fn pages_url(control: &Control) -> Result<String> {
    let address = std::fs::read_to_string(control.folder().join(PAGES))?;
    Ok(format!("http://{}/", address.trim()))
}

/// What there is to see of several processes that agree.
fn tell_about_etcd(etcd: &EtcdCluster, controls: &[Control], workers: &[Worker]) -> Result<()> {
    println!("\n  export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={}", etcd.endpoints().join(","));
    println!("  etcdctl get --prefix --keys-only /swift-s3-sync/workers/    # who is at home");
    let worker = workers.first().context("no worker")?;
    println!(
        "  kill -9 {}                            # the worker of node0; then, within ten seconds:",
        worker.pid()?
    );
    println!("  swift-s3ctl takeovers                    # who has its shares");
    println!("  swift-s3ctl nodes                        # and who is missing");
    println!(
        "  etcdctl watch --prefix /swift-s3-sync/workers/live/         # the same as it happens, with another one:"
    );
    let (stopped, control) = (workers.get(1).context("no worker")?, controls.first().context("no control")?);
    println!(
        "  kill -STOP {}; sleep 15; kill -CONT {}    # node1 loses its shares and gets them back",
        stopped.pid()?,
        stopped.pid()?
    );
    println!(
        "  kill -9 {}                            # one of the control processes; the other one leads",
        control.pid()?
    );
    println!("  swift-s3ctl status");
    println!(
        "  kill -9 {}                            # one member of etcd of three: nobody minds",
        etcd.pid(0)?
    );
    Ok(())
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
    let file = file.display().to_string();
    swift(&cluster.proxy_url(), &["upload", "--object-name", name, container, &file])?;
    Ok(())
}

/// Runs the `swift` client against a proxy; answers what it printed.
fn swift(proxy: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new("/usr/bin/swift")
        .args(["-A", &format!("{proxy}/auth/v1.0"), "-U", "test:tester", "-K", "testing"])
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stderr(Stdio::inherit())
        .output()
        .context("could not run the swift client (Debian's python3-swiftclient; make setup installs it)")?;
    if !output.status.success() {
        bail!("the swift client failed: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts the shunt in front of Swift, and shows the archived object through it.
async fn put_shunt_in_front(
    cluster: &SwiftCluster,
    folder: &RunDirectory,
    control: &Control,
) -> Result<Shunt> {
    println!("\ndemo: the shunt in front of Swift. Through it nothing has left:");
    let mut options = ShuntOptions::new(&cluster.proxy_url(), SyncJson::new());
    options.policy = Policy::Control(control.url());
    let shunt = Shunt::start(folder.folder("shunt")?, options).await?;
    let url = shunt.url()?;
    wait::until("the shunt to have its policy", ARRIVAL_LIMIT, async || {
        let ready = SwiftClient::new(&shunt.admin_url()?, "", None)?.get_raw("/ready").await?;
        if ready.status == 200 { Ok(()) } else { bail!("it answers {}", ready.status) }
    })
    .await?;
    let shown: [&[&str]; 3] = [
        &["list", ARCHIVE],
        &["stat", ARCHIVE, "old-report.txt"],
        &["download", ARCHIVE, "old-report.txt", "--output", "-"],
    ];
    for arguments in shown {
        println!("  $ swift -A {url}/auth/v1.0 {}", arguments.join(" "));
        let printed = swift(&url, arguments)?;
        for line in printed.lines().filter(|line| !line.trim().is_empty()) {
            println!("      {line}");
        }
    }
    Ok(shunt)
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

fn tell_what_to_type(
    cluster: &SwiftCluster,
    store: &S3Server,
    controls: &[Control],
    shunt: &Shunt,
) -> Result<()> {
    let control = controls.first().context("no control process")?;
    let urls: Vec<String> = controls.iter().map(Control::url).collect();
    let access = store.access();
    let pages: Vec<String> = controls.iter().map(pages_url).collect::<Result<_>>()?;
    println!("\ndemo: everything keeps running until Ctrl-C. In a browser on this machine:\n");
    println!("  {}\n\nIn another terminal:\n", pages.join("  or  "));
    println!("  export ST_AUTH={}/auth/v1.0 ST_USER=test:tester ST_KEY=testing", cluster.proxy_url());
    println!("  swift upload {MIRROR} README.md          # arrives in S3 within a second");
    println!("  swift post {MIRROR} README.md -m Color:red");
    println!("  swift delete {MIRROR} hello.txt          # goes away in S3 too");
    println!("  swift list {ARCHIVE}                      # archived objects are not listed locally");
    println!("  swift -A {}/auth/v1.0 list {ARCHIVE}   # but through the shunt they are", shunt.url()?);
    println!("  swift -A {}/auth/v1.0 delete {ARCHIVE} old-report.txt   # here and in S3", shunt.url()?);
    println!("  curl {}/metrics\n", shunt.admin_url()?);
    println!("  export RCLONE_CONFIG_S3_TYPE=s3 RCLONE_CONFIG_S3_PROVIDER=Other \\");
    println!("         RCLONE_CONFIG_S3_ENDPOINT={} \\", access.endpoint);
    println!(
        "         RCLONE_CONFIG_S3_ACCESS_KEY_ID={} RCLONE_CONFIG_S3_SECRET_ACCESS_KEY={}",
        access.identity, access.secret
    );
    println!("  rclone ls s3:{BUCKET}\n");
    println!("  export SWIFT_S3_CONTROL={}", urls.join(","));
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
