//! What operators do to a daemon at work, and what it tells them.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::wait;

use crate::CLUSTER;
use crate::own_copies::{OwnDevices, replace};

const SOON: Duration = Duration::from_secs(20);
/// Never comes in a test: whatever happens was noticed in another way.
const NO_POLL_SECONDS: u32 = 3600;

async fn new_site(containers: &[&str]) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    for container in containers {
        site.swift.put_container(container).await?;
    }
    Ok(site)
}

fn without_poll(mappings: impl IntoIterator<Item = MappingJson>) -> SyncJson {
    let config = SyncJson::new().set("poll_interval", NO_POLL_SECONDS);
    mappings.into_iter().fold(config, SyncJson::mapping)
}

/// Puts an object that takes `seconds` to upload, and waits until its upload has begun.
async fn begin_slow_upload(site: &Site, name: &'static str, seconds: u64) -> Result<()> {
    const BYTES: u64 = 256 * 1024;
    let slow = Fault::SlowRequest(BYTES / seconds);
    site.faults.inject(Rule::new(slow).on(Operation::Put).key_containing(name));
    site.swift.put_object_stream("c", name, BYTES, 1, &[]).await?;
    wait_for_upload(site, name).await
}

async fn wait_for_upload(site: &Site, name: &str) -> Result<()> {
    wait::until("the upload", SOON, async || {
        let begun = site
            .faults
            .seen()
            .iter()
            .any(|seen| seen.operation == Operation::Put && seen.key.ends_with(name));
        if begun { Ok(()) } else { Err("not begun") }
    })
    .await
}

/// How often an object was sent, with the statuses of the answers.
fn uploads_of(site: &Site, name: &str) -> Vec<Option<u16>> {
    let seen = site.faults.seen().into_iter();
    seen.filter(|seen| seen.operation == Operation::Put && seen.key.ends_with(name))
        .map(|seen| seen.status)
        .collect()
}

#[tokio::test]
async fn a_stopping_daemon_finishes_its_transfers() -> Result<()> {
    let site = new_site(&["c"]).await?;
    let worker = &site.workers[0];
    site.map([site.mapping("c")])?;
    worker.start()?;
    worker.wait_for_log("following a container", SOON).await?;
    begin_slow_upload(&site, "slow", 2).await?;
    assert_eq!(worker.stop().await?, 0);
    site.expect_equal("c").await?;
    site.faults.heal();
    worker.run_once().await?.expect_code(0)?;
    assert_eq!(uploads_of(&site, "slow"), [Some(200)], "what was finished is not sent again");
    Ok(())
}

#[tokio::test]
async fn a_stopping_daemon_abandons_what_does_not_end_and_the_next_start_completes_it() -> Result<()> {
    let site = new_site(&["c"]).await?;
    let worker = &site.workers[0];
    site.map([site.mapping("c")])?;
    site.faults.inject(Rule::new(Fault::Stall).on(Operation::Put).key_containing("stuck"));
    worker.start()?;
    worker.wait_for_log("following a container", SOON).await?;
    site.swift.put_object("c", "stuck", "x", &[]).await?;
    wait_for_upload(&site, "stuck").await?;
    // Rows behind the stuck one are carried meanwhile, and are not lost either.
    site.swift.put_object("c", "behind", "x", &[]).await?;
    let asked = Instant::now();
    assert_eq!(worker.stop().await?, 0);
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    assert!(worker.log_text().contains("abandoning transfers"));
    site.faults.heal();
    worker.run_once().await?.expect_code(0)?;
    site.expect_equal("c").await
}

#[tokio::test]
async fn a_second_signal_ends_the_daemon_at_once() -> Result<()> {
    let site = new_site(&["c"]).await?;
    let worker = &site.workers[0];
    site.map([site.mapping("c")])?;
    site.faults.inject(Rule::new(Fault::Stall).on(Operation::Put));
    worker.start()?;
    site.swift.put_object("c", "stuck", "x", &[]).await?;
    wait_for_upload(&site, "stuck").await?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(worker.pid()?)?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    worker.wait_for_log("stopping", SOON).await?;
    let asked = Instant::now();
    assert_eq!(worker.stop().await?, 0);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_reload_adds_and_removes_mappings() -> Result<()> {
    let site = new_site(&["first", "second"]).await?;
    let worker = &site.workers[0];
    site.swift.put_object("first", "one", "x", &[]).await?;
    site.swift.put_object("second", "one", "x", &[]).await?;
    worker.configure(&without_poll([site.mapping("first")]))?;
    worker.start()?;
    site.wait_equal("first", SOON).await?;
    worker.configure(&without_poll([site.mapping("first"), site.mapping("second")]))?;
    worker.reload()?;
    site.wait_equal("second", SOON).await?;

    worker.configure(&without_poll([site.mapping("second")]))?;
    worker.reload()?;
    let status = worker.status_dir().join(site.swift.account());
    wait::until("end of the first mapping", SOON, async || {
        if status.join("first").exists() { Err("still remembered") } else { Ok(()) }
    })
    .await?;
    site.swift.put_object("first", "two", "x", &[]).await?;
    site.swift.put_object("second", "two", "x", &[]).await?;
    site.wait_equal("second", SOON).await?;
    assert_eq!(site.differences("first").await?.0.len(), 1, "nobody follows it any more");
    assert_eq!(worker.stop().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_reload_rotates_credentials_and_drops_no_transfer() -> Result<()> {
    let site = new_site(&["c"]).await?;
    let worker = &site.workers[0];
    worker.configure(&without_poll([site.mapping("c")]))?;
    worker.start()?;
    worker.wait_for_log("following a container", SOON).await?;
    begin_slow_upload(&site, "slow", 3).await?;
    worker.configure(&without_poll([site.mapping("c").set("aws_secret", "revoked")]))?;
    worker.reload()?;
    worker.wait_for_log("read again and in force", SOON).await?;
    assert_eq!(uploads_of(&site, "slow"), [None], "the reload came too late to try anything");
    site.wait_equal("c", SOON).await?;
    assert_eq!(uploads_of(&site, "slow"), [Some(200)], "the transfer went on with what it had begun with");

    site.swift.put_object("c", "later", "x", &[]).await?;
    worker.wait_for_log("SignatureDoesNotMatch", SOON).await?;
    worker.configure(&without_poll([site.mapping("c")]))?;
    worker.reload()?;
    site.wait_equal("c", SOON).await?;
    assert_eq!(worker.stop().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_bad_file_changes_nothing_in_a_running_daemon_and_is_told() -> Result<()> {
    let site = new_site(&["c"]).await?;
    let worker = &site.workers[0];
    worker.configure(&without_poll([site.mapping("c")]))?;
    worker.start()?;
    worker.wait_for_log("following a container", SOON).await?;
    let good = fs::read(worker.config_path())?;
    for (round, (bad, told)) in [
        (b"{ no json".to_vec(), "no JSON"),
        (Vec::new(), "line 1, column 0"),
        (json!({"containers": [{}]}).to_string().into_bytes(), "containers[0].aws_bucket: found nothing"),
        (
            String::from_utf8(good.clone())?
                .replace("\"aws_secret\": \"", "\"aws_secret\": \"\\u0007")
                .into_bytes(),
            "containers[0].aws_secret",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&worker.config_path(), &bad)?;
        let before = worker.log_text().len();
        worker.reload()?;
        let what = format!("{told} in the log");
        wait::until(&what, SOON, async || {
            let log = worker.log_text();
            let new = log.get(before..).unwrap_or_default();
            ensure!(new.contains(told) && new.contains("the old one stays in force"), "{new}");
            Ok(())
        })
        .await?;
        site.swift.put_object("c", &format!("o{round}"), "x", &[]).await?;
        site.wait_equal("c", SOON).await?;
    }
    fs::remove_file(worker.config_path())?;
    worker.reload()?;
    worker.wait_for_log("No such file", SOON).await?;
    replace(&worker.config_path(), &good)?;
    worker.reload()?;
    worker.wait_for_log("read again and in force", SOON).await?;
    assert_eq!(worker.stop().await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_needs_a_restart_is_told_at_a_reload() -> Result<()> {
    let site = new_site(&["c"]).await?;
    let worker = &site.workers[0];
    worker.configure(&without_poll([site.mapping("c")]))?;
    worker.start()?;
    worker.wait_for_log("following a container", SOON).await?;
    worker.configure(&without_poll([site.mapping("c")]).set("status_dir", "/tmp/elsewhere"))?;
    worker.reload()?;
    worker.wait_for_log("a change of status_dir needs a restart", SOON).await?;
    site.swift.put_object("c", "o", "x", &[]).await?;
    site.wait_equal("c", SOON).await?;
    assert_eq!(worker.stop().await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_idle_daemon_notices_a_database_that_was_replaced() -> Result<()> {
    let site = new_site(&["c"]).await?;
    let own = OwnDevices::of(&site, 0)?;
    site.swift.put_object("c", "first", "x", &[]).await?;
    let path = own.refresh(&site, "c").await?;
    let worker = &site.workers[0];
    worker.configure(&without_poll([site.mapping("c")]).set("devices", json!(own.devices)))?;
    worker.start()?;
    site.wait_equal("c", SOON).await?;
    site.swift.put_object("c", "second", "x", &[]).await?;
    own.refresh(&site, "c").await?;
    site.wait_equal("c", SOON).await?;
    // Another node's copy, as a replicator brings it: another id, other ROWIDs.
    site.swift.put_object("c", "third", "x", &[]).await?;
    site.cluster.direct_container_head(site.swift.account(), "c", 1).await?.success()?;
    replace(&path, &fs::read(site.cluster.container_db_path(site.swift.account(), "c", 1)?)?)?;
    site.wait_equal("c", SOON).await?;
    assert_eq!(site.s3.requests().await?.of(Operation::Put), 3);
    assert_eq!(worker.stop().await?, 0);
    Ok(())
}

/// Sums of the counters that arrived at a socket so far.
fn counters(socket: &UdpSocket) -> Result<BTreeMap<String, i64>> {
    socket.set_nonblocking(true)?;
    let mut sums = BTreeMap::new();
    let mut packet = [0; 65_536];
    while let Ok(length) = socket.recv(&mut packet) {
        for line in std::str::from_utf8(&packet[..length])?.lines() {
            let (name, value) = line.split_once(':').context("a counter has a value")?;
            let Some(value) = value.strip_suffix("|c") else { bail!("{line} is no counter") };
            *sums.entry(name.to_owned()).or_default() += value.parse::<i64>()?;
        }
    }
    Ok(sums)
}

#[tokio::test]
async fn counters_reach_statsd_under_the_names_that_dashboards_know() -> Result<()> {
    let site = new_site(&["cõn.t"]).await?;
    let worker = &site.workers[0];
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let config = SyncJson::new()
        .set("statsd_host", "127.0.0.1")
        .set("statsd_port", socket.local_addr()?.port())
        .set("statsd_prefix", "site.one")
        .mapping(site.mapping("cõn.t").set("custom_prefix", "a/b"));
    worker.configure(&config)?;
    let endpoint = site.access().endpoint.replace(':', "%3A").replace('/', "%2F").replace('.', "%2E");
    let base = format!("site.one.{endpoint}.{}.site%2Fa%2Fb.c%C3%B5n%2Et", site.swift.account());
    let expected = |pairs: &[(&str, i64)]| -> BTreeMap<String, i64> {
        pairs.iter().map(|(metric, value)| (format!("{base}.{metric}"), *value)).collect()
    };
    site.swift.put_object("cõn.t", "three", "abc", &[]).await?;
    site.swift.put_object("cõn.t", "five", "abcde", &[]).await?;
    worker.run_once().await?.expect_code(0)?;
    assert_eq!(counters(&socket)?, expected(&[("copied_objects", 2), ("bytes", 8)]));
    // Checked again and found equal; then changed in place.
    worker.forget()?;
    worker.run_once().await?.expect_code(0)?;
    site.swift.post_object("cõn.t", "five", &[("X-Object-Meta-Color", "red")]).await?;
    worker.run_once().await?.expect_code(0)?;
    assert_eq!(site.s3.requests().await?.of(Operation::Copy), 1, "the POST was carried");
    assert_eq!(counters(&socket)?, BTreeMap::new());
    site.swift.delete_object("cõn.t", "three").await?;
    worker.run_once().await?.expect_code(0)?;
    assert_eq!(counters(&socket)?, expected(&[("deleted_objects", 1)]));
    // A host that nobody listens on, and one that no name server knows, cost nothing but the counters.
    for host in ["127.0.0.1", "no-such-host.invalid"] {
        worker.configure(&config.clone().set("statsd_host", host).set("statsd_port", 9))?;
        site.swift.put_object("cõn.t", host, "x", &[]).await?;
        worker.run_once().await?.expect_code(0)?;
    }
    Ok(())
}

#[tokio::test]
async fn logs_go_to_console_file_and_syslog_line_by_line() -> Result<()> {
    let site = new_site(&["c"]).await?;
    let worker = &site.workers[0];
    let syslog = UdpSocket::bind("127.0.0.1:0")?;
    syslog.set_read_timeout(Some(SOON))?;
    let hostile = "x\n2026-01-01T00:00:00Z ERROR \"forged\"";
    site.swift.put_object("c", hostile, "x", &[]).await?;
    for format in ["text", "json"] {
        let log = site.directory().path().join(format!("{format}.log"));
        let config = SyncJson::new()
            .set("log_file", json!(log))
            .set("log_format", format)
            .set("syslog", json!({"host": "127.0.0.1", "port": syslog.local_addr()?.port()}))
            .mapping(site.mapping("c"));
        worker.configure(&config)?;
        worker.forget()?;
        let outcome = worker.run_once().await?.expect_code(0)?;
        let text = fs::read_to_string(&log)?;
        assert_eq!(outcome.log, text, "console and file tell the same");
        assert!(text.contains("forged"), "the object was not told: {text}");
        let mut packet = [0; 65_536];
        let length = syslog.recv(&mut packet)?;
        let first = std::str::from_utf8(&packet[..length])?;
        let line = first.strip_prefix("<30>swift-s3-sync: ").context("a syslog line has priority and tag")?;
        assert_eq!(Some(line), text.lines().next());
        for line in text.lines() {
            if format == "json" {
                let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
                for field in ["timestamp", "level", "message", "target"] {
                    assert!(value.get(field).is_some_and(Value::is_string), "{field} in {line}");
                }
            } else {
                let level = line.split_whitespace().nth(1).unwrap_or_default();
                assert!(["INFO", "DEBUG", "WARN"].contains(&level), "no line of ours: {line}\nin {text}");
            }
        }
        // Drains what the next round must not read.
        syslog.set_nonblocking(true)?;
        while syslog.recv(&mut packet).is_ok() {}
        syslog.set_nonblocking(false)?;
    }
    Ok(())
}
