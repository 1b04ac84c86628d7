//! What a changed configuration would move is reckoned before it is applied.

use std::process::Command;

use serde_json::Value;
use swift_s3_tests::control_process::program;

use super::*;

async fn plan(site: &Site, control: &Control, config: &SyncJson, more: &[&str]) -> Result<Value> {
    let file = site.directory().path().join("planned.json");
    std::fs::write(&file, config.document(&[]).to_string())?;
    let mut command = Command::new(program("swift-s3ctl")?);
    command
        .args(["--control", &control.url(), "--timeout", "30s", "-o", "json", "plan", "--file"])
        .arg(&file);
    command.args(more);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(&text)?)
}

fn number(plan: &Value, index: usize, key: &str) -> Option<u64> {
    plan.pointer(&format!("/mappings/{index}/{key}"))?.as_u64()
}

#[tokio::test]
async fn a_new_mapping_is_counted_before_anybody_follows_it() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    site.swift.put_container("d").await?;
    for index in 0..12 {
        site.swift.put_object("d", &format!("o{index}"), "0123456789", &[]).await?;
    }
    site.swift.put_object("d", "tmp", "not wanted", &[]).await?;
    let with = |mapping: MappingJson| config().mapping(site.mapping("c")).mapping(mapping);
    let wanted = with(site.mapping("d").set("exclude_pattern", "^tmp"));
    let planned = plan(&site, &control, &wanted, &["--bandwidth", "12"]).await?;
    ensure!(planned.pointer("/mappings/1").is_none(), "only what is new: {planned}");
    ensure!(
        number(&planned, 0, "objects") == Some(12) && number(&planned, 0, "bytes") == Some(120),
        "{planned}"
    );
    ensure!(
        number(&planned, 0, "excluded") == Some(1) && number(&planned, 0, "puts") == Some(12),
        "{planned}"
    );
    ensure!(planned.pointer("/mappings/0/seconds").and_then(Value::as_f64) == Some(10.0), "{planned}");
    ensure!(
        planned.pointer("/total/cost/requests").and_then(Value::as_f64).is_some_and(|cost| cost > 0.0),
        "{planned}"
    );
    ensure!(site.bucket.keys("").await?.is_empty(), "a plan moves nothing");

    let absent = plan(&site, &control, &with(site.mapping("nowhere")), &[]).await?;
    ensure!(number(&absent, 0, "absent") == Some(1) && number(&absent, 0, "objects") == Some(0), "{absent}");
    Ok(())
}

#[tokio::test]
async fn a_changed_mapping_is_told_what_it_checks_and_what_it_moves() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping.set("exclude_pattern", "^tmp")).await?;
    put(&site, &["a", "b", "tmp1", "tmp2"]).await?;
    wait_lag(&control, "zero", |lag| lag.rows == 0).await?;
    let planned = plan(&site, &control, &config().mapping(site.mapping("c")), &[]).await?;
    ensure!(planned.pointer("/mappings/0/status").and_then(Value::as_str) == Some("changed"), "{planned}");
    ensure!(
        planned.pointer("/mappings/0/changes/0").and_then(Value::as_str) == Some("exclude_pattern"),
        "{planned}"
    );
    ensure!(
        number(&planned, 0, "rechecked") == Some(2) && number(&planned, 0, "objects") == Some(2),
        "{planned}"
    );
    Ok(())
}
