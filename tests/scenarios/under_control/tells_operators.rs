//! What operators are told, by whatever tool they use, and what they are never told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use swift_s3_proto::v1::{ExplainObjectRequest, ObjectState};
use swift_s3_tests::control_process::program;
use swift_s3_tests::python::environment_program;

use super::*;

fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{arguments:?}: {}: {out}{errors}", output.status);
    Ok(format!("{out}{errors}"))
}

#[tokio::test]
async fn grpcurl_needs_nothing_but_the_address() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    put(&site, &["a"]).await?;
    site.wait_equal("c", SOON).await?;
    let address = control.address().to_string();
    let grpcurl = environment_program("grpcurl")?;
    let (grpcurl, at) = (grpcurl.as_os_str(), address.as_str());
    let services = run(grpcurl, &["-plaintext", at, "list"])?;
    for service in ["ConfigService", "NodeService", "PolicyService", "StatusService"] {
        ensure!(services.contains(&format!("swift_s3_sync.v1.{service}")), "{services}");
    }
    ensure!(services.contains("grpc.health.v1.Health"), "{services}");
    let status = run(grpcurl, &["-plaintext", at, "swift_s3_sync.v1.StatusService/GetStatus"])?;
    ensure!(status.contains("NODE_STATE_SYNCED"), "{status}");
    let health = run(grpcurl, &["-plaintext", at, "grpc.health.v1.Health/Check"])?;
    ensure!(health.contains("SERVING"), "{health}");
    Ok(())
}

#[tokio::test]
async fn the_command_line_tells_status_and_reasons() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping.set("exclude_pattern", "^tmp")).await?;
    put(&site, &["a", "tmp"]).await?;
    wait_lag(&control, "zero", |lag| lag.rows == 0).await?;
    let (ctl, url) = (program("swift-s3ctl")?, control.url());
    let ctl = |arguments: &[&str]| run(&ctl, &[&["--control", url.as_str()], arguments].concat());
    let status = ctl(&["status"])?;
    ensure!(status.contains("SYNCED") || status.contains("synced"), "{status}");
    let nodes = ctl(&["nodes"])?;
    ensure!(site.workers.iter().all(|worker| nodes.contains(&worker.node_id())), "{nodes}");
    ensure!(ctl(&["mappings"])?.contains(site.swift.account()), "mappings");
    let object = format!("{}/c/tmp", site.swift.account());
    let explained = ctl(&["explain", &object])?;
    ensure!(explained.contains("exclude_pattern"), "{explained}");
    let json: serde_json::Value = serde_json::from_str(&ctl(&["--output", "json", "containers"])?)?;
    ensure!(json.to_string().contains("\"c\""), "{json}");
    Ok(())
}

#[tokio::test]
async fn an_object_is_explained_from_row_to_bucket() -> Result<()> {
    let (site, control) = controlled(|mapping| mapping).await?;
    put(&site, &["here"]).await?;
    site.wait_equal("c", SOON).await?;
    wait_lag(&control, "zero", |lag| lag.rows == 0).await?;
    let explain = async |object: &str| {
        let request = ExplainObjectRequest {
            account: site.swift.account().to_owned(),
            container: "c".to_owned(),
            object: object.to_owned(),
        };
        Ok::<_, anyhow::Error>(control.status()?.explain_object(request).await?.into_inner())
    };
    let here = explain("here").await?;
    let owner = here.findings.iter().find(|found| found.is_owner).context("nobody owns it")?;
    ensure!(owner.state() == ObjectState::Done, "{owner:?}");
    ensure!(owner.remote.as_ref().is_some_and(|remote| remote.exists && remote.size == 4), "{owner:?}");
    ensure!(here.findings.len() == 3, "{here:?}");
    let nowhere = explain("nowhere").await?;
    ensure!(nowhere.findings.iter().all(|found| found.state() == ObjectState::NoRow), "{nowhere:?}");
    Ok(())
}

#[tokio::test]
async fn a_secret_shows_nowhere() -> Result<()> {
    const PLANTED: &str = "pl4nted-s3cret";
    let (site, control) = controlled(|mapping| mapping).await?;
    let wanted = config()
        .mapping(site.mapping("c"))
        .mapping(site.mapping("d").set("aws_secret", PLANTED).set("aws_session_token", PLANTED));
    control.apply(&wanted).await?;
    let mut broken = wanted.document(&[]);
    if let Some(mapping) = broken.pointer_mut("/containers/1") {
        mapping["copy_after"] = serde_json::json!(PLANTED.len());
        mapping["aws_secret"] = serde_json::json!([PLANTED]);
    }
    let validated = control
        .config()?
        .validate_config(swift_s3_proto::v1::ValidateConfigRequest { document: broken.to_string() })
        .await?;
    wait::until("the nodes to answer", SOON, async || {
        let nodes = control.nodes().await?;
        ensure!(nodes.iter().all(|node| !node.problems.is_empty()), "{nodes:?}");
        Ok::<(), anyhow::Error>(())
    })
    .await?;
    let ctl = |arguments: &[&str]| {
        run(program("swift-s3ctl")?, &[&["--control", control.url().as_str()], arguments].concat())
    };
    let mut told = format!("{validated:?}{:?}{:?}", control.nodes().await?, control.mappings().await?);
    for arguments in [
        &["config", "get"][..],
        &["config", "history"],
        &["config", "diff", "--from", "1", "--to", "2"],
        &["status"],
        &["nodes"],
    ] {
        told += &ctl(arguments)?;
    }
    told += &control.log_text();
    site.workers.iter().for_each(|worker| told += &worker.log_text());
    for secret in [PLANTED, site.access().secret.as_str()] {
        let at =
            told.find(secret).map(|at| told.get(at.saturating_sub(200)..at).unwrap_or_default().to_owned());
        ensure!(at.is_none(), "after {at:?}");
    }
    let mut folders = vec![control.data_dir()];
    folders.extend(site.workers.iter().map(|worker| worker.status_dir()));
    for folder in folders {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let holds = entry.metadata()?.is_file()
                && fs::read(entry.path())?.windows(PLANTED.len()).any(|bytes| bytes == PLANTED.as_bytes());
            let mode = entry.metadata()?.permissions().mode() & 0o077;
            ensure!(!holds || mode == 0, "{} is readable by others", entry.path().display());
        }
    }
    Ok(())
}
