//! Whole containers are compared with their remotes, and repaired on demand.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;
use swift_s3_proto::v1::{ExplainObjectRequest, ObjectState};
use swift_s3_tests::control_process::program;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;

use super::*;
use crate::follows_shards::shard;

/// How one run of the program ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    errors: String,
}

impl Ran {
    fn lines(&self) -> Result<Vec<Value>> {
        self.out.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{self:?}"))).collect()
    }

    /// Kinds of differences by name.
    fn kinds(&self) -> Result<BTreeMap<String, String>> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let lines = self.lines()?;
        let kinds = lines.iter().filter_map(|line| Some((text(line, "object")?, text(line, "kind")?)));
        Ok(kinds.collect())
    }

    fn sum(&self, what: &str) -> Result<u64> {
        let lines = self.lines()?;
        let sums = lines.iter().find_map(|line| line.get("summary")).context("no summary")?;
        sums.get(what).and_then(Value::as_u64).with_context(|| format!("no {what} in {sums}"))
    }
}

fn ctl(control: &Control, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program("swift-s3ctl")?);
    command.args(["--control", &control.url(), "--timeout", "30s"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

async fn run(control: &Control, arguments: &[&str]) -> Result<Ran> {
    let mut command = ctl(control, arguments)?;
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        errors: text(&output.stderr),
    })
}

async fn audit(control: &Control, more: &[&str]) -> Result<Ran> {
    let id = control.mapping().await?.mapping_id;
    run(control, &[&["audit", "--mapping", id.as_str(), "-o", "json"], more].concat()).await
}

/// A site whose workers verify each other's rows at once.
async fn site(change: impl FnOnce(MappingJson) -> MappingJson) -> Result<(Site, Control)> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    let config = SyncJson::new().mapping(change(site.mapping("c")));
    let control = site.start_controlled(&config).await?;
    Ok((site, control))
}

/// Waits until every node is done with these names: none of them will touch what is changed from here on.
async fn settled(site: &Site, control: &Control, names: &[String]) -> Result<()> {
    for name in names {
        wait::until(&format!("all nodes to be done with {name}"), SOON, async || {
            let request = ExplainObjectRequest {
                account: site.swift.account().to_owned(),
                container: "c".to_owned(),
                object: name.clone(),
            };
            let found = control.status()?.explain_object(request).await?.into_inner().findings;
            let done = found.iter().filter(|found| found.state() == ObjectState::Done).count();
            ensure!(done == 3, "{found:?}");
            Ok::<(), anyhow::Error>(())
        })
        .await?;
    }
    Ok(())
}

async fn key(site: &Site, name: &str) -> Result<String> {
    let keys = site.bucket.keys("").await?;
    keys.into_iter()
        .find(|key| key.ends_with(&format!("/c/{name}")))
        .with_context(|| format!("no key of {name}"))
}

fn names(count: u32) -> Vec<String> {
    (0..count).map(|number| format!("o{number:02}")).collect()
}

async fn put_all(site: &Site, names: &[String]) -> Result<()> {
    for name in names {
        site.swift.put_object("c", name, format!("content of {name}"), &[]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_audit_finds_what_differs_and_a_repair_makes_it_equal() -> Result<()> {
    let (site, control) = site(|mapping| mapping.set("exclude_pattern", "^tmp")).await?;
    let mut all = names(20);
    all.extend(["grün/ü \u{1F600}".to_owned(), "a,\"b\"\nc".to_owned()]);
    put_all(&site, &all).await?;
    put(&site, &["tmp"]).await?;
    settled(&site, &control, &all).await?;
    let equal = audit(&control, &[]).await?;
    ensure!(equal.code == 0 && equal.kinds()?.is_empty(), "{equal:?}");
    ensure!((equal.sum("equal")?, equal.sum("excluded")?) == (22, 1), "{equal:?}");

    let stray = key(&site, "o00").await?.replace("o00", "strày");
    site.bucket.delete(&key(&site, "o03").await?).await?;
    site.bucket.delete(&key(&site, "grün/ü \u{1F600}").await?).await?;
    site.bucket.put(&key(&site, "o05").await?, "content of oXX", &[], None).await?;
    site.bucket.put(&key(&site, "o06").await?, "shorter", &[], None).await?;
    site.bucket.put(&stray, "nobody's", &[], None).await?;
    let found = audit(&control, &["--page", "4"]).await?;
    ensure!(found.code == 3, "{found:?}");
    let expected = [
        ("o03", "missing"),
        ("grün/ü \u{1F600}", "missing"),
        ("o05", "different"),
        ("o06", "different"),
        ("strày", "extra"),
    ];
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
    ensure!(found.kinds()? == expected, "{found:?}");

    let before = site.bucket.list("").await?.len();
    let shown = audit(&control, &["--repair", "--delete-extra", "--never-archived", "--dry-run"]).await?;
    ensure!(shown.code == 3 && shown.errors.contains("4 names handled again"), "{shown:?}");
    ensure!(site.bucket.list("").await?.len() == before, "a dry run changed the bucket");
    let repaired = audit(&control, &["--repair", "--yes"]).await?;
    ensure!(repaired.code == 3 && site.bucket.head(&stray).await?.is_some(), "{repaired:?}");
    ensure!(audit(&control, &[]).await?.kinds()?.len() == 1, "only what is extra is left");
    let repaired = audit(&control, &["--repair", "--delete-extra", "--never-archived", "--yes"]).await?;
    ensure!(repaired.code == 0, "{repaired:?}");
    site.expect_equal("c").await.or_else(|error| {
        // The object that the mapping excludes is not there.
        let text = format!("{error:#}");
        if text.contains("tmp") && !text.contains("o0") && !text.contains("str") {
            Ok(())
        } else {
            Err(error)
        }
    })?;
    ensure!(audit(&control, &[]).await?.code == 0, "equal at last");
    Ok(())
}

#[tokio::test]
async fn differences_come_as_csv_and_as_text_too() -> Result<()> {
    let (site, control) = site(|mapping| mapping).await?;
    let all = vec!["a,\"b\"".to_owned(), "o".to_owned()];
    put_all(&site, &all).await?;
    settled(&site, &control, &all).await?;
    site.bucket.delete(&key(&site, "a,\"b\"").await?).await?;
    let id = control.mapping().await?.mapping_id;
    let csv = run(&control, &["audit", "--mapping", &id, "-o", "csv"]).await?;
    ensure!(csv.code == 3, "{csv:?}");
    ensure!(
        csv.out.starts_with("kind,container,object,") && csv.out.contains("missing,c,\"a,\"\"b\"\"\",16,,"),
        "{csv:?}"
    );
    let text = run(&control, &["audit", "--mapping", &id]).await?;
    ensure!(
        text.out.contains("missing    c/a,\"b\"") && text.out.contains("1 difference: 2 names"),
        "{text:?}"
    );
    let other = run(&control, &["status", "-o", "csv"]).await?;
    ensure!(other.code == 2, "{other:?}");
    Ok(())
}

#[tokio::test]
async fn what_an_archive_holds_alone_is_no_error_and_never_deleted() -> Result<()> {
    let (site, control) = site(|mapping| mapping.set("retain_local", false)).await?;
    put_all(&site, &names(6)).await?;
    wait::until("the objects to be archived", SOON, async || {
        let left = site.swift.list("c").await?.len();
        ensure!(left == 0, "{left} are left");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    let found = wait::until("an audit without rows under way", SOON, async || {
        let found = audit(&control, &["--repair", "--delete-extra", "--never-archived", "--yes"]).await?;
        ensure!(found.sum("archived")? == 6, "{found:?}");
        Ok::<Ran, anyhow::Error>(found)
    })
    .await?;
    ensure!(found.code == 0 && found.sum("extra")? == 0, "{found:?}");
    ensure!(site.bucket.keys("").await?.len() == 6, "an archived object is gone");
    Ok(())
}

#[tokio::test]
async fn a_container_that_is_split_is_compared_shard_by_shard() -> Result<()> {
    let (site, control) = site(|mapping| mapping).await?;
    let all = names(30);
    put_all(&site, &all).await?;
    settled(&site, &control, &all).await?;
    shard(&site, "c", 10).await?;
    site.bucket.delete(&key(&site, "o17").await?).await?;
    let found = wait::until("the shards to be followed", SOON, async || {
        let found = audit(&control, &["--page", "7"]).await?;
        ensure!(found.sum("compared")? == 30 && found.sum("pending")? == 0, "{found:?}");
        Ok::<Ran, anyhow::Error>(found)
    })
    .await?;
    let missing = BTreeMap::from([("o17".to_owned(), "missing".to_owned())]);
    ensure!(found.code == 3 && found.kinds()? == missing, "{found:?}");
    let repaired = audit(&control, &["--repair", "--yes"]).await?;
    ensure!(repaired.code == 0, "{repaired:?}");
    site.expect_equal("c").await
}

#[tokio::test]
async fn an_audit_goes_on_after_its_end_and_that_of_the_workers() -> Result<()> {
    let (site, control) = site(|mapping| mapping).await?;
    let all = names(40);
    put_all(&site, &all).await?;
    settled(&site, &control, &all).await?;
    for name in ["o05", "o35"] {
        site.bucket.delete(&key(&site, name).await?).await?;
    }
    let state = site.directory().path().join("audit.state");
    let state = state.to_str().context("a path")?;
    let id = control.mapping().await?.mapping_id;
    let arguments = ["audit", "--mapping", id.as_str(), "-o", "json", "--page", "10", "--state", state];

    site.faults.inject(Rule::new(Fault::Stall).on(Operation::Head).key_containing("o35"));
    let mut killed = ctl(&control, &arguments)?.spawn()?;
    wait::until("the first three pages", SOON, async || {
        let text = std::fs::read_to_string(state)?;
        ensure!(text.contains("\"in_container\": 30"), "{text}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    killed.kill()?;
    let output = killed.wait_with_output()?;
    let first = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(first.contains("o05") && !first.contains("o35"), "{first}");

    let mut second = ctl(&control, &arguments)?;
    let second = tokio::task::spawn_blocking(move || second.output());
    for worker in &site.workers {
        worker.kill().await?;
    }
    site.faults.heal();
    site.start_workers_under(&control)?;
    let output = second.await??;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let ran = Ran {
        code: output.status.code().unwrap_or(-1),
        out: told,
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    ensure!(ran.code == 3, "{ran:?}");
    ensure!(ran.sum("compared")? == 40 && ran.sum("missing")? + ran.sum("pending")? == 2, "{ran:?}");
    ensure!(!ran.out.contains("\"o05\""), "what was told before is not told again: {ran:?}");

    let config = SyncJson::new().mapping(site.mapping("c")).mapping(site.mapping("d"));
    control.apply_everywhere(&config, 3).await?;
    let other = format!("{}/d", site.swift.account());
    let refused = run(&control, &["audit", "--mapping", &other, "--state", state]).await?;
    ensure!(refused.code == 2 && refused.errors.contains("another comparison"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn rows_that_are_not_due_are_no_errors_and_no_proof() -> Result<()> {
    let (site, control) = site(|mapping| mapping.set("copy_after", 3600)).await?;
    put_all(&site, &names(3)).await?;
    let found = wait::until("the container to be followed", SOON, async || {
        let found = audit(&control, &[]).await?;
        ensure!(found.code == 5 && found.sum("pending")? == 3, "{found:?}");
        Ok::<Ran, anyhow::Error>(found)
    })
    .await?;
    ensure!(found.out.contains("younger than copy_after"), "{found:?}");
    Ok(())
}
