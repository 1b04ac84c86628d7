//! The shunt against nginx as a plain reverse proxy, against Swift and S3 asked directly, side by side.

mod archived;
mod load;
mod nginx;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::usage::Usage;

use crate::mebibytes;
use load::{Load, Measured};
use nginx::Nginx;

/// Rounds of each measurement, by turns: what else the machine does hits all alike.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const SMALL: usize = 1024;
const LARGE: usize = 64 * 1024 * 1024;

/// Measures all of it, one after the other.
pub async fn run() -> Result<()> {
    pass_through().await?;
    archived::run().await
}

/// The proxies share one core; the server behind them and the clients share the other one.
async fn pass_through() -> Result<()> {
    println!(
        "\nbench: pass-through. One core for each proxy, the other one for clients and the server behind (nginx)"
    );
    let folder = RunDirectory::create("bench-shunt")?;
    let origin = Nginx::origin(folder.folder("origin")?, &[("small", SMALL), ("large", LARGE)]).await?;
    let nginx = Nginx::proxy(folder.folder("proxy")?, &origin.address).await?;
    // Another container is merged, so that each request is looked at.
    let access = swift_s3_tests::s3_client::S3Access {
        endpoint: "http://127.0.0.1:9".into(),
        identity: "i".into(),
        secret: "s".into(),
        region: "us-east-1".into(),
    };
    let config = SyncJson::new()
        .mapping(MappingJson::new("AUTH_a", "merged", &access, "bucket").set("merge_namespaces", true));
    let mut options = ShuntOptions::new(&format!("http://{}", origin.address), config);
    options.arguments = vec!["--log-level".into(), "warning".into()];
    let shunt = Shunt::start(folder.folder("shunt")?, options).await?;
    let through = shunt.url()?.trim_start_matches("http://").to_owned();
    pin(std::process::id(), 1)?;
    pin(origin.pid(), 1)?;
    pin(nginx.pid(), 0)?;
    pin(shunt.pid()?, 0)?;

    let ways = [("directly", &origin.address), ("nginx", &nginx.address), ("shunt", &through)];
    for (what, path, connections) in [
        ("1 KiB, 32 connections", "/v1/AUTH_a/c/small", 32),
        ("1 KiB, 1 connection", "/v1/AUTH_a/c/small", 1),
        ("64 MiB, 2 connections", "/v1/AUTH_a/c/large", 2),
    ] {
        let mut results = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for ((_, address), results) in ways.iter().zip(&mut results) {
                results.push(Load::new(address, path, connections).run(ROUND).await?);
            }
        }
        println!("  {what}");
        let medians: Vec<Measured> = results.iter().map(|results| Measured::median(results)).collect();
        for ((name, _), median) in ways.iter().zip(&medians) {
            println!(
                "    {name:9} {:9.0} requests/s {:8.1} MiB/s  p50 {:7.3} ms  p99 {:7.3} ms",
                median.per_second,
                median.bytes_per_second / mebibytes_unit(),
                median.p50.as_secs_f64() * 1e3,
                median.p99.as_secs_f64() * 1e3
            );
        }
        let [direct, nginx, shunt] = medians.as_slice() else { continue };
        println!(
            "    shunt / nginx: {:.2} of the rate, {:+.3} ms at p50 (over direct {:+.3} ms)",
            shunt.bytes_per_second / nginx.bytes_per_second,
            (shunt.p50.as_secs_f64() - nginx.p50.as_secs_f64()) * 1e3,
            (shunt.p50.as_secs_f64() - direct.p50.as_secs_f64()) * 1e3,
        );
    }
    unpin(std::process::id())?;
    let usage = Usage::of(shunt.pid()?)?;
    println!("  shunt: peak memory {:.0} MiB", mebibytes(usage.peak_rss_bytes));
    Ok(())
}

fn mebibytes_unit() -> f64 {
    1_048_576.0
}

fn pin(pid: u32, core: u32) -> Result<()> {
    taskset(pid, &core.to_string())
}

fn unpin(pid: u32) -> Result<()> {
    taskset(pid, "0-1")
}

fn taskset(pid: u32, cores: &str) -> Result<()> {
    let output = Command::new("taskset")
        .args(["-a", "-p", "-c", cores, &pid.to_string()])
        .output()
        .context("run taskset (Debian's util-linux)")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
