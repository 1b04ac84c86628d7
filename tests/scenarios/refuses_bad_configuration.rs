//! What is wrong with a configuration is told before any work starts: all of it, by JSON path, without secrets.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use swift_s3_tests::process::{Process, ProcessOptions};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::worker_process::worker_program;

use crate::CLUSTER;
use crate::trial::{LIMIT, Trial, path};

#[tokio::test]
async fn a_correct_file_passes_the_check_and_a_round() -> Result<()> {
    let trial = Trial::new().await?;
    trial.write(&trial.document())?;
    trial.check().await?.expect(0, &["ok, 1 mappings"]);
    trial.round().await?.expect(0, &["started"]);
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_read_as_json_is_named() -> Result<()> {
    let trial = Trial::new().await?;
    let config = trial.config();
    trial.round().await?.expect(2, &[path(&config), "No such file"]);
    for (bytes, told) in [
        (&b""[..], "line 1, column 0"),
        (b"{\"devices\": ", "line 1, column"),
        (b"{\n \"devices\": /srv\n}", "line 2, column 13"),
        (b"[]", "an empty list; allowed: a JSON object"),
        (b"null", "found null; allowed: a JSON object"),
        (b"{\"devices\": \"\xff\"}", "allowed: UTF-8 text"),
        (b"devices = /srv", "no JSON"),
    ] {
        fs::write(&config, bytes)?;
        trial.round().await?.expect(2, &[path(&config), told]);
    }
    let file = fs::OpenOptions::new().write(true).open(&config)?;
    file.set_len(65 * 1024 * 1024)?;
    trial.round().await?.expect(2, &[path(&config), "more than 64 MiB"]);
    fs::remove_file(&config)?;
    fs::create_dir(&config)?;
    trial.round().await?.expect(2, &[path(&config), "directory"]);
    trial.run_with(&["--once"], &[]).await?.expect(2, &["--config"]);
    trial.run_with(&["--config", "x", "--log-level", "loud"], &[]).await?.expect(2, &["loud", "warning"]);
    Ok(())
}

#[tokio::test]
async fn all_mistakes_are_told_at_once_by_their_paths() -> Result<()> {
    let trial = Trial::new().await?;
    let mut document = json!({
        "devices": 5, "status_dir": "", "items_chunk": 0, "poll_interval": "5", "workers": 0,
        "enumerator_workers": 1.5, "verification_slack": -1, "swift_bind_ip": "localhost", "internal_url": "ftp://x",
        "log_level": "loud", "log_format": "xml", "syslog": {"port": 70_000, "proto": "tls"}, "http_proxy": 1,
        "statsd_host": 5, "statsd_port": 0,
        "containers": [
            {"account": "a/b", "container": "c/d", "aws_bucket": "", "aws_endpoint": "s3.example", "aws_identity": "x",
             "copy_after": "soon", "retain_local": "yes", "propagate_delete": 1, "encryption": null,
             "exclude_pattern": "(", "selection_criteria": {"AND": {}}, "remote_delete_after": 5, "aws_region": "é",
             "aws_addressing_style": "dns", "merge_namespaces": 3},
            "not an object",
            {},
            {"account": "AUTH_a", "container": "/*", "aws_bucket": "b", "custom_prefix": "p"},
        ],
    });
    trial.write(&document)?;
    let told = trial.round().await?;
    let paths = [
        "devices",
        "status_dir",
        "items_chunk",
        "poll_interval",
        "workers",
        "enumerator_workers",
        "verification_slack",
        "swift_bind_ip",
        "internal_url",
        "log_level",
        "log_format",
        "syslog.port",
        "syslog.proto",
        "http_proxy",
        "statsd_host",
        "statsd_port",
        "containers[0].account",
        "containers[0].container",
        "containers[0].aws_bucket",
        "containers[0].aws_endpoint",
        "containers[0].aws_secret",
        "containers[0].copy_after",
        "containers[0].retain_local",
        "containers[0].propagate_delete",
        "containers[0].encryption",
        "containers[0].exclude_pattern",
        "containers[0].selection_criteria",
        "containers[0].remote_delete_after",
        "containers[0].aws_region",
        "containers[0].aws_addressing_style",
        "containers[0].merge_namespaces",
        "containers[1]",
        "containers[2].account",
        "containers[2].container",
        "containers[2].aws_bucket",
        "containers[3].custom_prefix",
    ];
    told.expect(2, &["poll_interval: found the string \"5\"; allowed: a number of seconds"]);
    let lines: Vec<&str> = told.text.lines().map(str::trim_start).collect();
    for path in paths {
        let starts = [format!("{path}: found"), format!("{path}."), format!("{path}[")];
        let found = lines.iter().any(|line| starts.iter().any(|start| line.starts_with(start.as_str())));
        assert!(found, "{path} is not among\n{}", told.text);
    }
    assert!(lines.iter().skip(1).all(|line| line.contains("; allowed: ")), "{}", told.text);
    document["containers"] = json!({"account": "a"});
    trial.write(&document)?;
    trial.round().await?.expect(2, &["containers: found an object with 1 key"]);
    Ok(())
}

#[tokio::test]
async fn missing_keys_are_told_with_the_misspelt_ones() -> Result<()> {
    let trial = Trial::new().await?;
    trial.changed(|document| {
        document["device"] = document["devices"].take();
        let mapping = &mut document["containers"][0];
        mapping["aws_buket"] = mapping["aws_bucket"].take();
    })?;
    trial.round().await?.expect(
        2,
        &[
            "devices: found nothing, but \"device\"",
            "containers[0].aws_bucket: found nothing, but \"aws_buket\"",
        ],
    );
    Ok(())
}

#[tokio::test]
async fn unknown_keys_are_warned_of_and_do_no_harm() -> Result<()> {
    let trial = Trial::new().await?;
    trial.changed(|document| {
        document["worker"] = json!(3);
        document["// note"] = json!("as comments go");
        document["containers"][0]["retain_locl"] = json!(false);
        document["containers"][0]["colour"] = json!("red");
    })?;
    for told in [trial.round().await?, trial.check().await?] {
        told.expect(
            0,
            &[
                "worker: found an unknown key",
                "did you mean \"workers\"?",
                "containers[0].retain_locl: found an unknown key",
                "did you mean \"retain_local\"?",
                "containers[0].colour: found an unknown key",
            ],
        );
        told.expect_absent("note");
    }
    Ok(())
}

#[tokio::test]
async fn keys_of_swift_remotes_are_checked_and_without_effect_elsewhere() -> Result<()> {
    let trial = Trial::new().await?;
    trial.changed(|document| document["containers"][0]["protocol"] = json!("foo"))?;
    trial.round().await?.expect(2, &["containers[0].protocol: found \"foo\""]);
    trial.changed(|document| {
        document["containers"][0]["protocol"] = json!("swift");
        document["containers"][0]["auth_type"] = json!("keystone_v3");
    })?;
    let missing = "without project_name, project_domain_name, user_domain_name";
    trial.round().await?.expect(2, &["containers[0].auth_type: found", missing]);
    trial.changed(|document| document["containers"][0]["convert_dlo"] = json!(true))?;
    trial.round().await?.expect(0, &["containers[0].convert_dlo: found true"]);
    // Files that say that these things are off, as many do, are fine.
    trial.changed(|document| {
        for (key, off) in
            [("convert_dlo", json!(false)), ("min_segment_size", json!(0)), ("tenant_name", Value::Null)]
        {
            document["containers"][0][key] = off;
        }
    })?;
    trial.round().await?.expect(0, &[]);
    Ok(())
}

#[tokio::test]
async fn archiving_with_propagated_deletes_is_warned_of() -> Result<()> {
    let trial = Trial::new().await?;
    let warning = "containers[0].propagate_delete: found true, together with retain_local false";
    trial.changed(|document| document["containers"][0]["retain_local"] = json!(false))?;
    trial.round().await?.expect(0, &[warning]);
    trial.check().await?.expect(0, &[warning]);
    trial.changed(|document| {
        document["containers"][0]["retain_local"] = json!(false);
        document["containers"][0]["propagate_delete"] = json!(false);
    })?;
    let told = trial.round().await?;
    told.expect(0, &[]);
    told.expect_absent("propagate_delete");
    Ok(())
}

#[tokio::test]
async fn containers_that_would_overwrite_each_other_are_refused() -> Result<()> {
    let trial = Trial::new().await?;
    trial.changed(|document| {
        let mut first = document["containers"][0].clone();
        first["custom_prefix"] = json!("shared");
        let mut second = first.clone();
        second["container"] = json!("another");
        document["containers"] = json!([first, second]);
    })?;
    trial.round().await?.expect(2, &["containers[1].custom_prefix", "prefix of containers[0]"]);
    Ok(())
}

#[tokio::test]
async fn a_log_file_or_the_console_is_required() -> Result<()> {
    let trial = Trial::new().await?;
    trial.write(&trial.document())?;
    let config = trial.config();
    let once = ["--config", path(&config), "--once"];
    trial.run_with(&once, &[]).await?.expect(2, &["log_file: found nothing", "--console"]);
    let log = trial.folder.path().join("worker.log");
    trial.changed(|document| document["log_file"] = json!(log))?;
    let told = trial.run_with(&once, &[]).await?;
    told.expect(0, &[]);
    assert_eq!(told.text, "", "the log is in its file only");
    assert!(fs::read_to_string(&log)?.contains("started"));
    trial.changed(|document| document["log_file"] = json!(trial.folder.path().join("no/folder/log")))?;
    trial.run_with(&once, &[]).await?.expect(2, &["no/folder/log", "No such file"]);
    Ok(())
}

#[tokio::test]
async fn the_level_of_the_command_line_wins_over_the_file() -> Result<()> {
    let trial = Trial::new().await?;
    let config = trial.config();
    let syslog = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let port = syslog.local_addr()?.port();
    // A syslog host gives a line at debug, the start a line at info.
    for (file, option, variable, levels) in [
        ("error", None, None, ""),
        ("info", None, None, "I"),
        ("debug", None, None, "DI"),
        ("error", Some("debug"), None, "DI"),
        ("DEBUG", Some("error"), None, ""),
        ("error", None, Some("info"), "I"),
        ("error", Some("info"), Some("debug"), "I"),
    ] {
        trial.changed(|document| {
            document["log_level"] = json!(file);
            document["syslog"] = json!({"host": "127.0.0.1", "port": port});
        })?;
        let mut arguments = vec!["--config", path(&config), "--once", "--console"];
        arguments.extend(option.into_iter().flat_map(|level| ["--log-level", level]));
        let environment: Vec<(&str, &str)> =
            variable.into_iter().map(|level| ("SWIFT_S3_SYNC_LOG_LEVEL", level)).collect();
        let told = trial.run_with(&arguments, &environment).await?;
        told.expect(0, &[]);
        let case = format!("{file} {option:?} {variable:?}\n{}", told.text);
        assert_eq!(told.text.contains("using syslog"), levels.contains('D'), "{case}");
        assert_eq!(told.text.contains("started"), levels.contains('I'), "{case}");
    }
    Ok(())
}

#[tokio::test]
async fn checking_a_configuration_changes_nothing_and_needs_no_log() -> Result<()> {
    let trial = Trial::new().await?;
    trial.write(&trial.document())?;
    trial.check().await?.expect(0, &["ok, 1 mappings"]);
    assert_eq!(fs::read_dir(&trial.status)?.count(), 0, "the status folder is as it was");
    // Also beside a daemon that is at work.
    let config = trial.config();
    let daemon = trial.start(&["--config", path(&config), "--console"], &[])?;
    daemon.wait_for_log("started", LIMIT).await?;
    let checked = Process::start(
        ProcessOptions::new("check", worker_program()?, trial.folder.path().join("checked")).arguments([
            "--config",
            path(&config),
            "--check-config",
        ]),
    )?;
    assert_eq!(checked.wait(LIMIT).await?, 0, "{}", checked.log_text());
    assert_eq!(daemon.stop(LIMIT).await?, 0);
    trial.changed(|document| document["devices"] = json!("/no/such/folder"))?;
    trial.check().await?.expect(2, &["devices: found /no/such/folder: No such file"]);
    Ok(())
}

#[tokio::test]
async fn without_containers_it_returns_at_once() -> Result<()> {
    let trial = Trial::new().await?;
    let config = trial.config();
    for containers in [json!([]), Value::Null] {
        trial.changed(|document| document["containers"] = containers)?;
        // In loop mode, without a signal.
        let told = trial.run_with(&["--config", path(&config), "--console"], &[]).await?;
        told.expect(0, &["no containers; nothing to do"]);
    }
    Ok(())
}

#[tokio::test]
async fn what_the_file_names_on_this_machine_must_be_there() -> Result<()> {
    let trial = Trial::new().await?;
    let file = trial.folder.path().join("a-file");
    fs::write(&file, "")?;
    trial.changed(|document| {
        document["devices"] = json!(file);
        document["status_dir"] = json!("/no/such/status");
        document["swift_dir"] = json!("/no/such/swift");
    })?;
    trial.round().await?.expect(
        2,
        &["devices: found", "status_dir: found /no/such/status", "swift_dir: found", "3 problem(s)"],
    );
    // What root may not write to either: no folder at all, and a folder of the kernel's.
    for status in [file.as_path(), Path::new("/proc/self")] {
        trial.changed(|document| document["status_dir"] = json!(status))?;
        let told = trial.round().await?;
        told.expect(2, &["status_dir: found", path(status), "can be written"]);
        trial.check().await?.expect(2, &["status_dir: found", path(status)]);
    }
    Ok(())
}

#[tokio::test]
async fn two_daemons_do_not_share_a_status_folder() -> Result<()> {
    let trial = Trial::new().await?;
    trial.write(&trial.document())?;
    let config = trial.config();
    let first = trial.start(&["--config", path(&config), "--console"], &[])?;
    first.wait_for_log("started", LIMIT).await?;
    let second = Process::start(
        ProcessOptions::new("second", worker_program()?, trial.folder.path().join("second")).arguments([
            "--config",
            path(&config),
            "--console",
        ]),
    )?;
    assert_eq!(second.wait(LIMIT).await?, 2);
    let told = second.log_text();
    assert!(told.contains("status_dir") && told.contains("in use by another swift-s3-sync"), "{told}");
    // However the first one ended, its hold ends with it.
    first.sigkill()?;
    first.wait(LIMIT).await?;
    trial.round().await?.expect(0, &[]);
    Ok(())
}

#[tokio::test]
async fn secrets_come_from_files_and_from_the_environment() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.swift.put_object("c", "o", b"x".as_slice(), &[]).await?;
    let access = site.access();
    let file = site.directory().path().join("secret");
    fs::write(&file, format!("{}\n", access.secret))?;
    let mapping = site
        .mapping("c")
        .set("aws_identity", json!({"env": "TRIAL_IDENTITY"}))
        .set("aws_secret", json!({"file": file}));
    site.map([mapping])?;
    let worker = &site.workers[0];
    let environment = [("TRIAL_IDENTITY", access.identity.as_str())];
    worker.run(&["--once"], &environment).await?.expect_code(0)?;
    site.expect_equal("c").await?;
    let outcome = worker.run(&["--once"], &[]).await?.expect_code(2)?;
    assert!(outcome.log.contains("containers[0].aws_identity: found environment variable TRIAL_IDENTITY"));
    fs::write(&file, "\n")?;
    let outcome = worker.run(&["--once"], &environment).await?.expect_code(2)?;
    assert!(outcome.log.contains("containers[0].aws_secret: found secret file"), "{}", outcome.log);
    fs::remove_file(&file)?;
    let outcome = worker.run(&["--once"], &[]).await?.expect_code(2)?;
    assert!(outcome.log.contains("aws_identity") && outcome.log.contains(path(&file)), "{}", outcome.log);
    Ok(())
}

/// No text of an ordinary log looks like this.
const PLANTED: &str = "pLaNt3d.5ecret";

#[tokio::test]
async fn secrets_are_never_shown() -> Result<()> {
    // Where the file is wrong, also in the keys of the secrets themselves.
    let trial = Trial::new().await?;
    let numeric = 987_123_654_987_u64;
    trial.changed(|document| {
        document["http_proxy"] = json!(format!("http://user:{PLANTED}@:bad:port"));
        document["internal_url"] = json!(format!("http://user:{PLANTED}@proxy.example"));
        let mapping = &mut document["containers"][0];
        mapping["aws_endpoint"] = json!(format!("http://key:{PLANTED}@s3.example"));
        mapping["aws_identity"] = json!([PLANTED]);
        mapping["aws_secret"] = json!(numeric);
        mapping["aws_session_token"] = json!(format!("{PLANTED}\u{7}"));
        document["containers"] = json!([mapping.clone(), {"aws_secret": {"file": 5, "text": PLANTED}}]);
    })?;
    let told = trial.round().await?;
    told.expect(
        2,
        &["aws_identity", "aws_secret", "aws_session_token", "aws_endpoint", "http_proxy", "internal_url"],
    );
    told.expect_absent(PLANTED);
    told.expect_absent(&numeric.to_string());
    // And where they are used, at the most talkative level, with a server that refuses them.
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.swift.put_object("c", "o", b"x".as_slice(), &[]).await?;
    let worker = &site.workers[0];
    let log = site.directory().path().join("trace.log");
    let mapping =
        site.mapping("c").set("aws_secret", PLANTED).set("aws_session_token", format!("token-{PLANTED}"));
    let config = SyncJson::new().set("log_file", json!(log)).set("log_format", "json").mapping(mapping);
    worker.configure(&config)?;
    let outcome = worker.run(&["--once", "--log-level", "trace"], &[]).await?.expect_code(1)?;
    let file = fs::read_to_string(&log)?;
    assert!(outcome.log.contains("TRACE") || outcome.log.contains("DEBUG"), "{}", outcome.log);
    assert!(!outcome.log.contains(PLANTED) && !file.contains(PLANTED), "the secret is in the log");
    let status = fs::read_to_string(worker.status_dir().join(site.swift.account()).join("c"))?;
    assert!(!status.contains(PLANTED), "the secret is in the status file");
    Ok(())
}
