//! Missing, empty, truncated and hostile input is told clearly, and what it does not concern goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_cluster::SwiftOptions;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use crate::CLUSTER;
use crate::own_copies::{OwnDevices, replace, swift_dir};
use crate::worker_state::parked;

const SOON: Duration = Duration::from_secs(20);

async fn site_with(containers: &[&str]) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    for container in containers {
        site.swift.put_container(container).await?;
        for number in 0..3 {
            site.swift
                .put_object(container, &format!("o{number}"), format!("{container} {number}"), &[])
                .await?;
        }
    }
    Ok(site)
}

fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("packed");
    fs::write(&path, content)?;
    ensure!(Command::new("gzip").arg(&path).status()?.success(), "gzip failed");
    Ok(fs::read(path.with_extension("gz"))?)
}

/// A ring of version 1 with this header and these assignments.
fn ring(header: &Value, assignments: &[u8]) -> Result<Vec<u8>> {
    let header = header.to_string();
    let mut content = b"R1NG\x00\x01".to_vec();
    content.extend(u32::try_from(header.len())?.to_be_bytes());
    content.extend(header.as_bytes());
    content.extend(assignments);
    gzip(&content)
}

/// Runs a round that must be refused, and answers what was said.
async fn refusal(site: &Site) -> Result<String> {
    Ok(site.workers[0].run_once().await?.expect_code(2)?.log)
}

#[tokio::test]
async fn a_swift_conf_that_cannot_be_used_is_refused() -> Result<()> {
    let site = site_with(&[]).await?;
    let folder = swift_dir(&site)?;
    site.configure(&SyncJson::new().set("swift_dir", json!(folder)).mapping(site.mapping("c")))?;
    let conf = folder.join("swift.conf");
    let good = fs::read(&conf)?;
    for (content, told) in [
        (&b""[..], "empty file"),
        (b"\n\n", "empty file"),
        (b"[storage-policy:0]\nname = gold\ndefault = yes\n", "swift_hash_path_prefix"),
        (b"[swift-hash]\nswift_hash_path_suffix =\n", "swift_hash_path_prefix"),
        (b"\x00\xff\x13 garbage", "swift.conf"),
        (b"not an ini file at all\n", "swift.conf"),
    ] {
        fs::write(&conf, content)?;
        let said = refusal(&site).await?;
        assert!(
            said.contains("swift_dir: found") && said.contains("swift.conf") && said.contains(told),
            "{said}"
        );
    }
    fs::remove_file(&conf)?;
    let said = refusal(&site).await?;
    assert!(said.contains("swift.conf") && said.contains("No such file"), "{said}");
    fs::write(&conf, good)?;
    site.workers[0].run_once().await?.expect_code(0)?;
    Ok(())
}

#[tokio::test]
async fn a_container_ring_that_cannot_be_used_is_refused() -> Result<()> {
    let site = site_with(&[]).await?;
    let folder = swift_dir(&site)?;
    site.configure(&SyncJson::new().set("swift_dir", json!(folder)).mapping(site.mapping("c")))?;
    let path = folder.join("container.ring.gz");
    let good = fs::read(&path)?;
    let device = json!({"id": 0, "ip": "127.0.0.1", "port": 6201, "device": "d1", "region": 1, "zone": 1,
                        "weight": 1.0, "replication_ip": "127.0.0.1", "replication_port": 6201, "meta": ""});
    let header = |shift: i64, replicas: u64| json!({"part_shift": shift, "replica_count": replicas, "byteorder": "little", "devs": [device]});
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no gzip", b"this is no ring".to_vec()),
        ("half", good[..good.len() / 2].to_vec()),
        ("end missing", good[..good.len() - 9].to_vec()),
        ("gzip of nothing", gzip(b"")?),
        ("gzip of text", gzip(b"this is no ring either")?),
        ("unknown version", gzip(b"R1NG\x00\x63{}")?),
        ("a header of 4 GiB", gzip(b"R1NG\x00\x01\xff\xff\xff\xff{}")?),
        ("a header that is no JSON", gzip(b"R1NG\x00\x01\x00\x00\x00\x02}{")?),
        ("fewer assignments than partitions", ring(&header(30, 1), &[0; 2])?),
        ("a device that is not there", ring(&header(31, 1), &[7, 0, 7, 0])?),
        ("a shift without sense", ring(&header(-5, 1), &[0; 8])?),
        ("a shift beyond the word", ring(&header(77, 1), &[0; 8])?),
        ("more partitions than any memory holds", ring(&header(0, 1), &[0; 8])?),
        ("more replicas than any memory holds", ring(&header(31, 4_000_000_000), &[0; 8])?),
    ];
    for (what, content) in &hostile {
        fs::write(&path, content)?;
        let said = refusal(&site).await?;
        let named = said.contains("container.ring.gz") || said.contains("the container ring names no device");
        assert!(said.contains("swift_dir: found") && named && !said.contains("panicked"), "{what}: {said}");
        // Where reading failed, the system's or the unpacker's reason is there too.
        assert!(!said.contains("container.ring.gz;"), "{what}: {said}");
    }
    fs::remove_file(&path)?;
    let said = refusal(&site).await?;
    assert!(said.contains("container.ring.gz does not exist"), "{said}");
    fs::write(&path, good)?;
    site.workers[0].run_once().await?.expect_code(0)?;
    Ok(())
}

#[tokio::test]
async fn a_broken_object_ring_holds_only_the_rows_of_its_policy() -> Result<()> {
    let options = SwiftOptions { second_policy: true, ..SwiftOptions::single_node() };
    let site = Site::start(options, S3ServerKind::Memory).await?;
    for (container, policy) in [("gold", "gold"), ("silver", "silver")] {
        site.swift.put_container_with(container, &[("X-Storage-Policy", policy)]).await?;
        site.swift.put_object(container, "o", policy, &[]).await?;
    }
    let folder = swift_dir(&site)?;
    let config = SyncJson::new()
        .set("swift_dir", json!(folder))
        // Without a proxy to ask instead.
        .set("internal_url", "")
        .mapping(site.mapping("silver"))
        .mapping(site.mapping("gold"));
    site.configure(&config)?;
    let path = folder.join("object-1.ring.gz");
    let good = fs::read(&path)?;
    for broken in [&b""[..], b"garbage"] {
        fs::write(&path, broken)?;
        let outcome = site.workers[0].run_once().await?.expect_code(1)?;
        assert!(outcome.log.contains("object-1.ring.gz"), "{}", outcome.log);
        let found = parked(&site, "silver")?;
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["o"], "{found:?}");
        site.expect_equal("gold").await?;
    }
    fs::write(&path, good)?;
    site.sync().await?;
    site.expect_equal("silver").await?;
    assert!(parked(&site, "silver")?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_damaged_container_database_holds_only_its_own_mapping() -> Result<()> {
    let site = site_with(&["bad", "good"]).await?;
    let own = OwnDevices::of(&site, 0)?;
    let config = SyncJson::new()
        .set("devices", json!(own.devices))
        .mapping(site.mapping("bad"))
        .mapping(site.mapping("good"));
    site.workers[0].configure(&config)?;
    let path = own.refresh(&site, "bad").await?;
    let whole = fs::read(&path)?;
    let mut scrambled = whole.clone();
    scrambled[4096..].iter_mut().for_each(|byte| *byte ^= 0xa5);
    let foreign = {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("foreign.db");
        rusqlite::Connection::open(&path)?.execute_batch("CREATE TABLE holiday (photo TEXT)")?;
        fs::read(path)?
    };
    let damages: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("truncated in the header", &whole[..50]),
        ("truncated in a page", &whole[..whole.len() / 2 + 7]),
        (
            "no database",
            b"this is not a database, and long enough not to look like a truncated one. ".as_slice(),
        ),
        ("scrambled pages", &scrambled),
        ("of another program", &foreign),
    ];
    for (round, (what, damaged)) in damages.into_iter().enumerate() {
        replace(&path, damaged)?;
        site.swift.put_object("good", &format!("round{round}"), what, &[]).await?;
        own.refresh(&site, "good").await?;
        let outcome = site.workers[0].run_once().await?.expect_code(1)?;
        let named = outcome.log.lines().any(|line| {
            (line.contains("WARN") || line.contains("ERROR"))
                && line.contains(path.to_str().unwrap_or_default())
        });
        assert!(named && !outcome.log.contains("panicked"), "{what}: {}", outcome.log);
        site.expect_equal("good").await?;
    }
    own.refresh(&site, "bad").await?;
    site.workers[0].run_once().await?.expect_code(0)?;
    site.expect_equal("bad").await
}

#[tokio::test]
async fn wrong_credentials_hold_only_their_own_mapping() -> Result<()> {
    let site = site_with(&["bad", "good"]).await?;
    let worker = &site.workers[0];
    let secret = "a-wrong-secret";
    // The codes are the server's own.
    for (wrong, code) in [
        (site.mapping("bad").set("aws_secret", secret), "SignatureDoesNotMatch"),
        (site.mapping("bad").set("aws_identity", "nobody-knows-me"), "NotSignedUp"),
    ] {
        worker.configure(&SyncJson::new().mapping(wrong).mapping(site.mapping("good")))?;
        let outcome = worker.run_once().await?.expect_code(1)?;
        let told = outcome.log.lines().any(|line| line.contains("ERROR") && line.contains(code));
        assert!(told && !outcome.log.contains(secret), "{}", outcome.log);
        site.expect_equal("good").await?;
        assert!(parked(&site, "bad")?.is_empty(), "the objects are not to blame");
    }
    worker.configure(&SyncJson::new().mapping(site.mapping("bad")).mapping(site.mapping("good")))?;
    worker.run_once().await?.expect_code(0)?;
    site.expect_equal("bad").await
}

#[tokio::test]
async fn a_missing_bucket_holds_only_its_own_mapping() -> Result<()> {
    let site = site_with(&["bad", "good"]).await?;
    let worker = &site.workers[0];
    // A delete has nothing to be deleted; many rows are looked for in listings, few one by one.
    site.swift.delete_object("bad", "o0").await?;
    let bucket = site.s3.client("not-there-yet");
    let config = SyncJson::new()
        .mapping(site.mapping("bad").set("aws_bucket", bucket.bucket()))
        .mapping(site.mapping("good"));
    worker.configure(&config)?;
    for many in [false, true] {
        if many {
            for number in 0..20 {
                site.swift.put_object("bad", &format!("many{number}"), "x", &[]).await?;
            }
        }
        let outcome = worker.run_once().await?.expect_code(1)?;
        let told = outcome.log.lines().any(|line| {
            line.contains("ERROR") && line.contains("NoSuchBucket") && line.contains("not-there-yet")
        });
        assert!(told, "{}", outcome.log);
        site.expect_equal("good").await?;
        assert!(parked(&site, "bad")?.is_empty(), "the objects are not to blame");
    }
    bucket.create_bucket().await?;
    worker.run_once().await?.expect_code(0)?;
    assert_eq!(bucket.keys("").await?.len(), 22);
    Ok(())
}

/// A file system of a few pages, taken away at the end.
struct TinyDisk(PathBuf);

impl TinyDisk {
    /// Nothing when this user may not mount.
    fn mount(at: PathBuf) -> Result<Option<Self>> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&at).status()?;
        Ok(mounted.success().then_some(Self(at)))
    }

    /// Fills it to the last page.
    fn fill(&self) -> Result<PathBuf> {
        let filler = self.0.join("filler");
        let full =
            fs::write(&filler, vec![b'x'; 128 * 1024]).is_err_and(|error| error.raw_os_error() == Some(28));
        ensure!(full, "the disk is not full");
        Ok(filler)
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "could not unmount {}", self.0.display());
    }
}

#[tokio::test]
async fn a_full_disk_costs_no_object_and_work_goes_on_when_there_is_room() -> Result<()> {
    let site = site_with(&["c"]).await?;
    let Some(disk) = TinyDisk::mount(site.directory().folder("disk")?)? else {
        eprintln!("not tried: this user may not mount a file system");
        return Ok(());
    };
    let worker = &site.workers[0];
    let config = SyncJson::new().set("status_dir", json!(disk.0)).mapping(site.mapping("c"));
    worker.configure(&config)?;
    // The lock takes no page; it must be there before the disk is full, as on a disk that filled up slowly.
    fs::write(disk.0.join(".swift-s3-sync.lock"), "")?;
    let filler = disk.fill()?;
    let outcome = worker.run_once().await?.expect_code(1)?;
    assert!(
        outcome.log.contains("could not save progress") && outcome.log.contains("No space left"),
        "{}",
        outcome.log
    );
    worker.start()?;
    worker.wait_for_log("could not save progress", SOON).await?;
    site.swift.put_object("c", "late", "x", &[]).await?;
    fs::remove_file(filler)?;
    site.wait_equal("c", SOON).await?;
    let status = disk.0.join(site.swift.account()).join("c");
    wait::until("a status file", SOON, async || {
        serde_json::from_slice::<Value>(&fs::read(&status)?).map_err(anyhow::Error::from)
    })
    .await?;
    assert_eq!(worker.stop().await?, 0);
    assert_eq!(leftovers(&disk.0)?, Vec::<PathBuf>::new(), "no half-written files stay");
    // What was carried while the disk was full was found again, not sent again.
    assert_eq!(site.s3.requests().await?.of(Operation::Put), 4);
    worker.run_once().await?.expect_code(0)?;
    assert_eq!(site.s3.requests().await?.of(Operation::Put), 4);
    Ok(())
}

fn leftovers(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for account in fs::read_dir(root)?.flatten().filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(account.path())?.flatten() {
            if file.file_name().to_string_lossy().ends_with("-tmp") {
                found.push(file.path());
            }
        }
    }
    Ok(found)
}
