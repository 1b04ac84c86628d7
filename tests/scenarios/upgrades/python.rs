//! From the Python daemon to this program and back, with the files, the objects and the pipeline line that it leaves.
//!
//! docs/migrating-from-python.md is this, step by step.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use swift_s3_policy::KeyMapping;
use swift_s3_tests::control_process::program;
use swift_s3_tests::operation::RequestCounts;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor};
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::worker_process::Worker;

use super::*;
use crate::CLUSTER;

/// Objects that Python carried, and as many that it had not got to.
const HALF: u64 = 8;
/// What a worker logs when it goes on where Python stopped.
const TAKEN_OVER: &str = "continuing from the cursor of the Python daemon";
/// A value, and how Python stored it: base64 where that is shorter than quoted-printable.
const MARKS: [(&str, &str); 3] = [
    ("Bar baz", "Bar baz"),
    ("é", "=?UTF-8?B?w6k=?="),
    ("café au lait, tres bon", "=?UTF-8?Q?caf=C3=A9_au_lait=2C_tres_bon?="),
];

fn name(number: u64) -> String {
    format!("o{number:02}")
}

fn key(site: &Site, container: &str, name: &str) -> String {
    KeyMapping::new(site.swift.account(), container, None).object_key(name)
}

/// `sync.json` as it was written for Python: every key that it knew, one that nobody knows, and the containers `kept` and `moved`.
fn old_file(site: &Site) -> SyncJson {
    let mapping = |container| {
        site.mapping(container)
            .set("encryption", true)
            .set("custom_prefix", Value::Null)
            .set("copy_after", 0)
            .set("exclude_pattern", "^$")
            .set("selection_criteria", json!({}))
            .set("retain_local_segments", false)
            .set("remote_delete_after", 0)
    };
    let moved = mapping("moved").set("retain_local", false).set("propagate_delete", false);
    let kept = mapping("kept").set("retain_local", true).set("propagate_delete", true);
    SyncJson::new()
        .set("verification_slack", 60)
        .set("swift_bind_ip", "0.0.0.0")
        .set("bulk_process", false)
        .set("internal_client_path", "/etc/swift/internal-client.conf")
        .set("internal_client_logname", "ContainerCrawler")
        .set("migrations", json!([]))
        .set(
            "migrator_settings",
            json!({"items_chunk": 1000, "status_file": "/var/lib/1space/migrator.status"}),
        )
        .set("enumerator_wrokers", 10)
        .without("log_level")
        .mapping(moved.set("merge_namespaces", true).set("restore_object", true))
        .mapping(kept)
}

/// The file of one node's worker, as a whole.
fn configure(site: &Site) -> Result<()> {
    for worker in &site.workers {
        // Python took all addresses of the machine; the nodes of a test are told apart by theirs.
        let ip = site.cluster.node(worker.node()).ip();
        worker.configure(&old_file(site).set("swift_bind_ip", ip.to_string()))?;
    }
    Ok(())
}

fn status_file(site: &Site, worker: &Worker, container: &str) -> PathBuf {
    worker.status_dir().join(site.swift.account()).join(container)
}

fn database_id(site: &Site, container: &str, node: usize) -> Result<String> {
    let path = site.cluster.container_db_path(site.swift.account(), container, node)?;
    Ok(rusqlite::Connection::open(path)?.query_row("SELECT id FROM container_info", [], |row| row.get(0))?)
}

/// Writes an object to Swift and, if Python has carried it, to the bucket as Python did.
async fn write(site: &Site, container: &str, number: u64, carried: bool) -> Result<()> {
    let name = name(number);
    let content = format!("content of {container}/{name}");
    let (mark, stored) = MARKS[usize::try_from(number)? % MARKS.len()];
    let headers = [("Content-Type", "text/plain"), ("X-Object-Meta-Mark", mark)];
    site.swift.put_object(container, &name, content.clone(), &headers).await?;
    if carried {
        let put =
            site.bucket.sdk().put_object().bucket(site.bucket.bucket()).key(key(site, container, &name));
        let put = put.content_type("text/plain").metadata("mark", stored);
        put.body(content.into_bytes().into()).send().await?;
    }
    Ok(())
}

/// What Python leaves: half of the objects carried, its cursors behind their rows.
async fn left_by_python() -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    for container in ["kept", "moved"] {
        site.swift.put_container(container).await?;
        for number in 0..HALF {
            write(&site, container, number, true).await?;
        }
    }
    // Of what is archived only the remote copy is left.
    for number in 0..HALF {
        site.swift.delete_object("moved", &name(number)).await?.success()?;
    }
    for worker in &site.workers {
        for (container, keeps) in [("kept", true), ("moved", false)] {
            let rows = site.cluster.container_rows(site.swift.account(), container, worker.node()).await?;
            let last = rows.last().context("no rows")?.rowid;
            let entry = json!({
                "aws_bucket": site.bucket.bucket(), "last_row": last, "last_verified_row": last,
                "policy": {"copy_after": 0, "retain_local": keeps, "propagate_delete": keeps},
                "metadata_hash": "d751713988987e9331980363e24189ce",
            });
            let status = json!({database_id(&site, container, worker.node())?: entry});
            let path = status_file(&site, worker, container);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(&path, status.to_string())?;
        }
    }
    // What Python had not got to when it was stopped.
    for number in HALF..2 * HALF {
        write(&site, "kept", number, false).await?;
        write(&site, "moved", number, false).await?;
    }
    site.swift.delete_object("kept", &name(0)).await?.success()?;
    site.swift.put_object("kept", &name(1), "overwritten", &[("Content-Type", "text/plain")]).await?;
    configure(&site)?;
    site.faults.forget();
    Ok(site)
}

/// Waits until everything is where it belongs, and fails if anything was sent that was there.
async fn expect_the_rest_and_nothing_else(site: &Site) -> Result<()> {
    site.wait_equal("kept", SOON).await?;
    wait::until("the archive to be emptied", SOON, async || {
        let local = site.swift.list("moved").await?;
        ensure!(local.is_empty(), "{} are local", local.len());
        Ok(())
    })
    .await?;
    for worker in &site.workers {
        ensure!(worker.log_text().matches(TAKEN_OVER).count() == 2, "worker {} began anew", worker.node());
    }
    let sent: Vec<String> = of(site, Operation::Put);
    let mut wanted: Vec<String> = (HALF..2 * HALF)
        .flat_map(|number| ["kept", "moved"].map(|container| key(site, container, &name(number))))
        .chain([key(site, "kept", &name(1))])
        .collect();
    wanted.sort();
    ensure!(sent == wanted, "sent {sent:?}, not {wanted:?}");
    ensure!(of(site, Operation::Copy).is_empty(), "metadata were sent again");
    ensure!(of(site, Operation::Delete).contains(&key(site, "kept", &name(0))), "a delete was lost");
    for number in 0..2 * HALF {
        let found = site.bucket.get(&key(site, "moved", &name(number))).await?.context("lost")?;
        ensure!(found.body == format!("content of moved/{}", name(number)), "{number} is another");
    }
    Ok(())
}

/// The keys of all requests of one kind.
fn of(site: &Site, operation: Operation) -> Vec<String> {
    let seen = site.faults.seen().into_iter().filter(|seen| seen.operation == operation);
    let mut keys: Vec<String> = seen.map(|seen| seen.key).collect();
    keys.sort();
    keys
}

/// Python's own entry of a container on a node.
fn entry(site: &Site, worker: &Worker, container: &str) -> Result<Value> {
    let document: Value = serde_json::from_slice(&fs::read(status_file(site, worker, container))?)?;
    Ok(document.get(database_id(site, container, worker.node())?).context("Python's entry is gone")?.clone())
}

/// What Python would send when it goes on from its own cursors: objects whose ETag in the bucket is another one than in the row, and
/// deletes of what is still there.
async fn python_would_send(site: &Site) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for worker in &site.workers {
        let cursor = entry(site, worker, "kept")?.get("last_row").and_then(Value::as_i64).unwrap_or(0);
        let rows = site.cluster.container_rows(site.swift.account(), "kept", worker.node()).await?;
        let newer: Vec<_> = rows.into_iter().filter(|row| row.rowid > cursor).collect();
        ensure!(!newer.is_empty(), "its cursor moved");
        for row in newer {
            let remote = site.bucket.head(&key(site, "kept", &row.name)).await?.map(|object| object.etag);
            let local = site.swift.head_object("kept", &row.name).await?.header("etag").map(str::to_owned);
            if remote != local {
                found.push(format!("{}: {remote:?} instead of {local:?}", row.name));
            }
        }
    }
    Ok(found)
}

#[tokio::test]
async fn what_the_python_daemon_left_is_taken_over_and_can_be_given_back() -> Result<()> {
    let site = left_by_python().await?;
    // Before anything is stopped.
    let checked = site.workers[0].run(&["--check-config"], &[]).await?.expect_code(0)?;
    for word in ["enumerator_wrokers", "internal_client_path"] {
        ensure!(checked.log.contains(word), "nothing about {word}: {}", checked.log);
    }
    ensure!(site.faults.seen().is_empty(), "the check asked the remote");
    let before: Vec<Value> =
        site.workers.iter().map(|worker| entry(&site, worker, "kept")).collect::<Result<_>>()?;

    // Node by node: Python is stopped, this program is started on the same file.
    for worker in &site.workers {
        worker.start()?;
    }
    expect_the_rest_and_nothing_else(&site).await?;

    // The line of the pipeline stays; the shunt has the same file.
    let open = OpenDoor::open(Door::Filter, &site, &old_file(&site)).await?;
    let client = open.client().await?;
    for number in [0, HALF] {
        let read = client.get_object("moved", &name(number)).await?.success()?;
        ensure!(read.body == format!("content of moved/{}", name(number)), "another content");
        let mark = MARKS[usize::try_from(number)? % MARKS.len()].0;
        ensure!(read.header("x-object-meta-mark") == Some(mark), "{:?}", read.headers);
    }
    drop(open);

    // The way back: Python finds its own entries, looks at what came since, and has nothing to send.
    for worker in &site.workers {
        ensure!(worker.stop().await? == 0, "it did not stop well");
    }
    let after: Vec<Value> =
        site.workers.iter().map(|worker| entry(&site, worker, "kept")).collect::<Result<_>>()?;
    ensure!(before == after, "Python's entries were changed: {before:?}, {after:?}");
    let again = python_would_send(&site).await?;
    ensure!(again.is_empty(), "Python would send {again:?}");

    // And once more to this program, after Python has saved what it did: its save keeps what it does not know.
    for worker in &site.workers {
        let path = status_file(&site, worker, "kept");
        let mut document: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let rows = site.cluster.container_rows(site.swift.account(), "kept", worker.node()).await?;
        let id = database_id(&site, "kept", worker.node())?;
        document[id]["last_row"] = json!(rows.last().context("no rows")?.rowid);
        fs::write(&path, document.to_string())?;
    }
    expect_a_quiet_start(&site).await
}

/// Nothing is sent by a start on what is there, and not by one that has lost all cursors.
async fn expect_a_quiet_start(site: &Site) -> Result<()> {
    for forgets in [false, true] {
        site.faults.forget();
        for worker in &site.workers {
            if forgets {
                worker.forget()?;
            }
            worker.run_once().await?.expect_code(0)?;
        }
        let counts: RequestCounts = site.faults.requests();
        let sent = counts.of(Operation::Put) + counts.of(Operation::Copy) + counts.of(Operation::Delete);
        ensure!(sent == 0, "forgets: {forgets}, {counts}");
    }
    site.expect_equal("kept").await
}

#[tokio::test]
async fn what_the_python_daemon_left_is_taken_over_under_a_control_plane() -> Result<()> {
    let site = left_by_python().await?;
    let control = Control::start(site.directory().folder("control")?).await?;
    let mut ctl = Command::new(program("swift-s3ctl")?);
    ctl.args(["--control", &control.url(), "config", "apply"]).arg(site.workers[0].config_path());
    let output = tokio::task::spawn_blocking(move || ctl.output()).await??;
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success() && told.concat().contains("enumerator_wrokers"), "{told:?}");
    site.start_workers_under(&control)?;
    control.wait_synced(site.workers.len()).await?;
    expect_the_rest_and_nothing_else(&site).await
}
