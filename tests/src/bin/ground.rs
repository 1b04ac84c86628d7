//! `swift-ground`: a Swift cluster and an S3 server in the foreground, for people, demonstrations and benchmarks.
//!
//! Prints one line of JSON with addresses, keys and paths, then waits for SIGINT, SIGTERM or the end of its standard input,
//! and leaves nothing behind.

use std::io::Write;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::swift_cluster::{ServerKind, SwiftCluster, SwiftOptions};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
swift-ground [options]

Runs a Swift cluster and an S3 server until SIGINT, SIGTERM or the end of standard input.
Standard output gets one line of JSON. With a terminal or /dev/null as standard input, use --no-stdin.

  --nodes N          storage nodes, 1 to 9 (3)
  --replicas N       replicas (3, or as many as there are nodes)
  --s3 KIND          memory, files, moto, swift or none (memory)
  --bucket NAME      a bucket to create (ground)
  --container NAME   a container of AUTH_test to create (none)
  --policies         a second replicated policy and one with erasure coding
  --quiet            servers log no requests; for benchmarks
  --no-stdin         do not end with standard input";

struct Arguments {
    swift: SwiftOptions,
    s3: Option<S3ServerKind>,
    bucket: String,
    containers: Vec<String>,
    watch_stdin: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Some(arguments) = arguments()? else {
        println!("{HELP}");
        return Ok(());
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let run = async {
        let (cluster, server) = start(&arguments).await?;
        let mut output = std::io::stdout();
        writeln!(output, "{}", describe(&cluster, server.as_ref(), &arguments).await?)?;
        output.flush()?;
        if arguments.watch_stdin {
            end_of_input().await;
        } else {
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    // Leaving the scope ends the processes and removes the files.
    tokio::select! {
        outcome = run => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn start(arguments: &Arguments) -> Result<(SwiftCluster, Option<S3Server>)> {
    let server = async {
        match arguments.s3 {
            Some(kind) => S3Server::start(kind).await.map(Some),
            None => Ok(None),
        }
    };
    let (cluster, server) = tokio::try_join!(SwiftCluster::start(arguments.swift.clone()), server)?;
    if let Some(server) = &server {
        server.create_bucket(&arguments.bucket).await?;
    }
    let client = cluster.client().await?;
    for container in &arguments.containers {
        client.put_container(container).await?;
    }
    Ok((cluster, server))
}

async fn describe(cluster: &SwiftCluster, server: Option<&S3Server>, arguments: &Arguments) -> Result<Value> {
    let client = cluster.client().await?;
    let nodes: Vec<Value> = cluster
        .nodes()
        .iter()
        .map(|node| {
            json!({
                "ip": node.ip(), "devices": node.devices(),
                "account_port": node.port(ServerKind::Account),
                "container_port": node.port(ServerKind::Container),
                "object_port": node.port(ServerKind::Object),
            })
        })
        .collect();
    let s3 = server.map(|server| {
        let access = server.access();
        json!({
            "endpoint": access.endpoint, "access_key": access.identity, "secret_key": access.secret,
            "region": access.region, "bucket": arguments.bucket,
        })
    });
    Ok(json!({
        "swift": {
            "proxy_url": cluster.proxy_url(),
            "auth_url": format!("{}/auth/v1.0", cluster.proxy_url()),
            "user": "test:tester", "key": "testing", "account": client.account(),
            "storage_url": client.storage_url(), "token": client.token(),
            "internal_url": cluster.internal_url()?,
            "swift_dir": cluster.swift_dir(),
            "nodes": nodes,
        },
        "s3": s3,
        "directory": cluster.directory().path(),
        "logs": cluster.directory().path().join("logs"),
        "pid": std::process::id(),
    }))
}

/// Reads in a thread of its own, which nothing waits for: a blocked read must not hold the end of the program up.
async fn end_of_input() {
    let (sender, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(sender);
    });
    let _ = ended.await;
}

fn arguments() -> Result<Option<Arguments>> {
    let mut swift = SwiftOptions::default();
    let mut s3 = Some(S3ServerKind::Memory);
    let mut bucket = "ground".to_owned();
    let mut containers = Vec::new();
    let mut watch_stdin = true;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--nodes" => swift.nodes = value()?.parse().context("--nodes")?,
            "--replicas" => swift.replicas = value()?.parse().context("--replicas")?,
            "--bucket" => bucket = value()?,
            "--container" => containers.push(value()?),
            "--policies" => {
                swift.second_policy = true;
                swift.erasure_coding = true;
            }
            "--quiet" => swift.log_requests = false,
            "--no-stdin" => watch_stdin = false,
            "--s3" => {
                s3 = match value()?.as_str() {
                    "memory" => Some(S3ServerKind::Memory),
                    "files" => Some(S3ServerKind::S3sFs),
                    "moto" => Some(S3ServerKind::Moto),
                    "swift" => Some(S3ServerKind::SwiftS3Api),
                    "none" => None,
                    other => bail!("--s3 {other}: memory, files, moto, swift or none"),
                }
            }
            _ => bail!("unknown argument {word}\n\n{HELP}"),
        }
    }
    Ok(Some(Arguments { swift, s3, bucket, containers, watch_stdin }))
}
