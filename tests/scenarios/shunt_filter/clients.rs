//! The clients that people use.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor, User};
use swift_s3_tests::site::Site;
use tokio::process::Command;

use super::{ARCHIVED, SEGMENTS, archived_site, open};

/// Runs a program to its end and answers what it printed; it must succeed.
async fn run(mut command: Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown}: {}\n{errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    // Neither this machine's settings nor a proxy for the internet.
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "AWS_CA_BUNDLE"] {
        command.env_remove(name);
    }
    command
}

fn expect_files(folder: &Path) -> Result<()> {
    for (name, content) in ARCHIVED {
        let found = std::fs::read(folder.join(name))?;
        ensure!(found == content.as_bytes(), "{name}: {found:?}");
    }
    ensure!(std::fs::read(folder.join("slo"))? == SEGMENTS.concat().as_bytes());
    ensure!(std::fs::read(folder.join("local"))? == b"content of local");
    Ok(())
}

fn folder(site: &Site, name: &str) -> Result<PathBuf> {
    site.directory().folder(name)
}

/// Arguments by which `swift` logs in.
fn swift_login(open: &OpenDoor) -> Result<[String; 6]> {
    let url = format!("{}/auth/v1.0", open.url()?);
    Ok(["-A".into(), url, "-U".into(), open.login(User::Owner), "-K".into(), User::KEY.into()])
}

#[tokio::test]
async fn the_swift_client_lists_stats_and_downloads() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let swift = async |arguments: &[&str]| {
            let mut command = program("/usr/bin/swift", &[]);
            command.args(swift_login(&open)?).args(arguments);
            run(command).await
        };
        let list = swift(&["list", "box"]).await?;
        ensure!(
            list.lines().eq(["empty", "folder/inner", "local", "plain", "slo", "é b/+%41"]),
            "{door}: {list}"
        );
        let stat = swift(&["stat", "box", "plain"]).await?;
        ensure!(stat.contains("Content Length: 16") && stat.contains("Meta Colour: grün"), "{door}: {stat}");
        let target = folder(&site, &format!("swift-{door}"))?;
        // It compares length and ETag of what it downloads.
        swift(&["download", "box", "--output-dir", &target.to_string_lossy()]).await?;
        expect_files(&target)?;
    }
    Ok(())
}

#[tokio::test]
async fn rclone_copies_archived_objects_by_swift_and_by_s3() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let rclone = async |environment: &[(&str, String)], arguments: &[&str]| {
        let mut command = program("/usr/bin/rclone", &["--config", "/dev/null", "--retries", "1"]);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        run(command).await
    };
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let login = [
            ("RCLONE_CONFIG_R_TYPE", "swift".to_owned()),
            ("RCLONE_CONFIG_R_AUTH", format!("{}/auth/v1.0", open.url()?)),
            ("RCLONE_CONFIG_R_USER", open.login(User::Owner)),
            ("RCLONE_CONFIG_R_KEY", User::KEY.to_owned()),
        ];
        let target = folder(&site, &format!("rclone-{door}"))?;
        rclone(&login, &["copy", "R:box", &target.to_string_lossy()]).await?;
        expect_files(&target)?;
        if door == Door::Filter {
            let login = [
                ("RCLONE_CONFIG_R_TYPE", "s3".to_owned()),
                ("RCLONE_CONFIG_R_PROVIDER", "Other".to_owned()),
                ("RCLONE_CONFIG_R_ENDPOINT", open.url()?),
                ("RCLONE_CONFIG_R_ACCESS_KEY_ID", open.login(User::Owner)),
                ("RCLONE_CONFIG_R_SECRET_ACCESS_KEY", User::KEY.to_owned()),
            ];
            let target = folder(&site, "rclone-s3")?;
            rclone(&login, &["copy", "R:box", &target.to_string_lossy()]).await?;
            expect_files(&target)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn s3cmd_sees_archived_objects_through_s3api() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let open = open(Door::Filter, &site).await?;
    let host = open.url()?.trim_start_matches("http://").to_owned();
    let target = folder(&site, "s3cmd")?;
    let s3cmd = async |arguments: &[&str]| {
        let mut command = program("/usr/bin/s3cmd", &["--config", "/dev/null", "--no-ssl"]);
        command.arg(format!("--host={host}")).arg(format!("--host-bucket={host}"));
        command
            .arg(format!("--access_key={}", open.login(User::Owner)))
            .arg(format!("--secret_key={}", User::KEY));
        command.arg("--region=us-east-1").args(arguments);
        run(command).await
    };
    let list = s3cmd(&["ls", "--recursive", "s3://box"]).await?;
    for (name, content) in ARCHIVED {
        let line = list.lines().find(|line| line.ends_with(&format!("s3://box/{name}")));
        let line = line.ok_or_else(|| anyhow::anyhow!("{name} is not in {list}"))?;
        ensure!(line.split_whitespace().nth(2) == Some(&content.len().to_string()), "{line}");
    }
    let info = s3cmd(&["info", "s3://box/plain"]).await?;
    ensure!(info.contains("File size: 16"), "{info}");
    s3cmd(&["get", "--force", "s3://box/plain", &target.join("plain").to_string_lossy()]).await?;
    ensure!(std::fs::read(target.join("plain"))? == b"content of plain");
    // A copy on the server: s3api asks for the source, then PUTs with X-Copy-From.
    s3cmd(&["cp", "s3://box/plain", "s3://desk/copied"]).await?;
    ensure!(site.swift.get_object("desk", "copied").await?.body == "content of plain");
    Ok(())
}

#[tokio::test]
async fn curl_reads_with_a_token() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let client = open.client().await?;
        let token = format!("X-Auth-Token: {}", client.token().unwrap_or_default());
        let url = format!("{}/box/plain", client.storage_url());
        let curl = async |arguments: &[&str]| {
            run(program("curl", &[&["-sS", "-H", &token], arguments].concat())).await
        };
        ensure!(curl(&[&url]).await? == "content of plain", "{door}");
        let twice = curl(&["-r", "0-6", &url, "-w", "%{http_code} %{num_connects} ", &url]).await?;
        ensure!(twice == "content206 1 content206 0 ", "{door}: {twice}");
        let head = curl(&["-I", &url]).await?;
        ensure!(head.to_lowercase().contains("content-length: 16\r\n"), "{door}: {head}");
    }
    Ok(())
}
