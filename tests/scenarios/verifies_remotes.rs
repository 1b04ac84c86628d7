//! `swift-s3-verify` and `swift-s3ctl verify`: what operators run before they write a mapping.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use swift_s3_tests::control_process;
use swift_s3_tests::fault_proxy::{Fault, FaultProxy, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::{S3Server, S3ServerKind};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_cluster::SharedCluster;
use swift_s3_tests::swift_remote::{KEY, RESELLER_ADMIN, SwiftRemote, remote_options};

static REMOTE: SharedCluster = SharedCluster::new(remote_options);

/// Runs `swift-s3-verify`.
async fn verify(arguments: &[&str]) -> Result<Output> {
    run("swift-s3-verify", arguments).await
}

async fn run(program: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::new(control_process::program(program)?);
    command.args(arguments).env_remove("SWIFT_S3_VERIFY_PASSWORD").kill_on_drop(true);
    command.output().await.with_context(|| format!("run {program}"))
}

/// The only words on standard error, after the expected failure.
fn failed(output: &Output) -> Result<String> {
    ensure!(output.status.code() == Some(1), "{output:?}");
    Ok(String::from_utf8(output.stderr.clone())?.trim_end().to_owned())
}

fn passed(output: &Output) -> Result<String> {
    ensure!(output.status.code() == Some(0) && output.stderr.is_empty(), "{output:?}");
    let steps = String::from_utf8(output.stdout.clone())?;
    ensure!(!steps.contains('✗'), "{steps}");
    Ok(steps)
}

/// Everything in an account: containers, objects, ETags, times.
async fn tree(swift: &SwiftClient) -> Result<Vec<String>> {
    let mut tree = Vec::new();
    for container in swift.list_containers().await? {
        for entry in swift.list(&container).await? {
            tree.push(format!("{container} {entry:?}"));
        }
        tree.push(container);
    }
    Ok(tree)
}

/// A Swift remote, and the arguments that name it.
async fn swift() -> Result<(SwiftRemote, Vec<String>)> {
    let remote = SwiftRemote::on(REMOTE.get().await?).await?;
    let arguments = vec![
        "--protocol=swift".to_owned(),
        format!("--endpoint={}", remote.auth_url()),
        format!("--username={}", remote.user()),
        format!("--password={KEY}"),
    ];
    Ok((remote, arguments))
}

fn with<'a>(arguments: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn verify_of_an_empty_swift_account_lists_its_containers() -> Result<()> {
    let (remote, arguments) = swift().await?;
    passed(&verify(&with(&arguments, &[])).await?)?;
    let wrong = verify(&with(&arguments[..3], &["--password=wrong"])).await?;
    assert_eq!(failed(&wrong)?, "Failed to list containers/buckets: 401 Unauthorized");
    assert!(String::from_utf8_lossy(&wrong.stdout).contains('✗'));
    assert!(tree(&remote.swift).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn verify_of_a_swift_container_leaves_it_as_it_was() -> Result<()> {
    let (remote, arguments) = swift().await?;
    remote.swift.put_container("some").await?;
    remote.swift.put_object("some", "o", "x", &[]).await?;
    let before = tree(&remote.swift).await?;
    let steps = passed(&verify(&with(&arguments, &["--bucket=some"])).await?)?;
    assert_eq!(steps.lines().count(), 5, "{steps}");
    assert_eq!(tree(&remote.swift).await?, before);
    let methods: Vec<String> = remote.faults.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["GET", "HEAD", "PUT", "POST", "HEAD", "GET", "DELETE"]);

    let unknown = verify(&with(&arguments, &["--bucket=none"])).await?;
    assert_eq!(failed(&unknown)?, "Unexpected status code checking PUT: 404 Not Found");
    let wrong = verify(&with(&arguments[..3], &["--password=wrong", "--bucket=some"])).await?;
    assert_eq!(failed(&wrong)?, "Unexpected status code checking PUT: 401 Unauthorized");
    assert_eq!(tree(&remote.swift).await?, before);
    Ok(())
}

#[tokio::test]
async fn verify_removes_what_it_wrote_when_a_step_in_between_fails() -> Result<()> {
    let (remote, arguments) = swift().await?;
    remote.swift.put_container("some").await?;
    let before = tree(&remote.swift).await?;
    for (method, expected) in [
        ("POST", "Unexpected status code checking POST: 403 Forbidden"),
        ("GET", "Unexpected status code when listing objects: 403 Forbidden"),
    ] {
        let not_login = |seen: &swift_s3_tests::fault_proxy::Seen| !seen.target.starts_with("/auth/");
        remote.faults.inject(Rule::new(Fault::error(403, "x")).method(method).when(not_login));
        for bucket in ["--bucket=some", "--bucket=/*"] {
            assert_eq!(failed(&verify(&with(&arguments, &[bucket])).await?)?, expected);
            assert_eq!(tree(&remote.swift).await?, before, "{method} {bucket}");
        }
        remote.faults.heal();
    }
    // It arrived, and nobody heard of it.
    remote.faults.inject(Rule::new(Fault::LoseAnswer).method("PUT"));
    let lost = failed(&verify(&with(&arguments, &["--bucket=some"])).await?)?;
    assert!(lost.starts_with("Unexpected status code checking PUT: "), "{lost}");
    remote.faults.heal();
    assert_eq!(tree(&remote.swift).await?, before);
    // What cannot be removed is named.
    remote.faults.inject(Rule::new(Fault::error(403, "x")).method("DELETE"));
    let left = failed(&verify(&with(&arguments, &["--bucket=some"])).await?)?;
    assert!(left.contains("403 Forbidden; some/cloud_sync_test_object is left behind"), "{left}");
    Ok(())
}

#[tokio::test]
async fn verify_of_all_swift_containers_makes_one_and_removes_it() -> Result<()> {
    let (remote, arguments) = swift().await?;
    for policy in [&[][..], &["--storage-policy=silver"]] {
        let all = with(&arguments, &["--bucket=/*"]);
        passed(&verify(&[&all, policy].concat()).await?)?;
        assert!(tree(&remote.swift).await?.is_empty());
    }
    let bad = verify(&with(&arguments, &["--bucket=/*", "--storage-policy=unheard-of"])).await?;
    let bad = failed(&bad)?;
    assert!(bad.contains("400 Bad Request") && bad.contains("Invalid X-Storage-Policy"), "{bad}");
    assert!(tree(&remote.swift).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn verify_works_in_the_account_that_is_named() -> Result<()> {
    let (remote, arguments) = swift().await?;
    remote.swift.put_container("some").await?;
    let account = format!("--account={}", remote.swift.account());
    let (user, key) =
        (format!("--username={}", RESELLER_ADMIN.0), format!("--password={}", RESELLER_ADMIN.1));
    let admin = with(&arguments[..2], &[&user, &key, &account]);
    for more in [&[][..], &["--bucket=some"], &["--bucket=/*"]] {
        passed(&verify(&[&admin, more].concat()).await?)?;
    }
    let other = failed(&verify(&with(&arguments, &["--account=AUTH_test", "--bucket=some"])).await?)?;
    assert_eq!(other, "Unexpected status code checking PUT: 403 Forbidden");
    let s3 = ["--protocol=s3", "--endpoint=http://h", "--username=u", "--password=p", "--account=a"];
    assert_eq!(failed(&verify(&s3).await?)?, "Invalid argument: account is only valid with swift protocol");
    Ok(())
}

#[tokio::test]
async fn verify_names_what_is_wrong_with_its_arguments() -> Result<()> {
    let basic = ["--endpoint=http://h", "--username=u", "--password=p"];
    let table = [
        (&["--protocol=s3", "--bucket=a/b"][..], "Invalid argument: slash is not allowed in container name"),
        (&["--protocol=s3", "--auth-type=keystone_v2"], "Keystone auth requires swift protocol."),
        (
            &["--protocol=swift", "--auth-type=keystone_v3"],
            "Invalid argument: keystone_v3 requires --project-name, --project-domain-name, --user-domain-name",
        ),
    ];
    for (more, expected) in table {
        assert_eq!(failed(&verify(&[&basic[..], more].concat()).await?)?, expected);
    }
    // Usage errors of the options themselves are the parser's.
    assert_eq!(verify(&["--protocol=s3"]).await?.status.code(), Some(2));
    Ok(())
}

#[tokio::test]
async fn verify_read_only_reads_and_nothing_else() -> Result<()> {
    let (remote, arguments) = swift().await?;
    let read_only = |bucket: &'static str| verify_owned(with(&arguments, &["--read-only", bucket]));
    assert_eq!(failed(&read_only("--bucket=/*").await?)?, "No buckets/containers found");
    remote.swift.put_container("some").await?;
    assert_eq!(failed(&read_only("--bucket=some").await?)?, "No objects found in some");
    remote.swift.put_object_stream("some", "large", 50_000_000, 1, &[]).await?;
    remote.faults.forget();
    for bucket in ["--bucket=some", "--bucket=/*"] {
        passed(&read_only(bucket).await?)?;
    }
    assert!(remote.faults.seen().iter().all(|seen| ["GET", "HEAD"].contains(&seen.method.as_str())));
    let unknown = read_only("--bucket=none").await?;
    assert_eq!(failed(&unknown)?, "Unexpected status code when listing objects: 404 Not Found");
    for (method, expected) in [
        ("HEAD", "Unexpected status code checking HEAD: 403 Forbidden"),
        ("GET", "Unexpected status code checking GET: 403 Forbidden"),
    ] {
        let object = Rule::new(Fault::error(403, "x")).method(method).key_containing("/some/large");
        remote.faults.inject(object);
        assert_eq!(failed(&read_only("--bucket=some").await?)?, expected);
        remote.faults.heal();
    }
    Ok(())
}

async fn verify_owned(arguments: Vec<&str>) -> Result<Output> {
    verify(&arguments).await
}

#[tokio::test]
async fn verify_of_s3_writes_below_its_prefix_and_leaves_nothing() -> Result<()> {
    for kind in [S3ServerKind::Memory, S3ServerKind::Moto] {
        let s3 = S3Server::start(kind).await?;
        let faults = FaultProxy::start(s3.endpoint()).await?;
        let access = s3.access();
        let (endpoint, user, key) = (
            format!("--endpoint={}", faults.endpoint()),
            format!("--username={}", access.identity),
            format!("--password={}", access.secret),
        );
        let basic = ["--protocol=s3", &endpoint, &user, &key];
        passed(&verify(&basic).await?)?;
        let bucket = s3.create_bucket("some").await?;
        for (prefix, expected) in [
            (&[][..], "some/4dbbd/verify-auth/testing-ï/fabcab/cloud_sync_test"),
            (&["--prefix=p/q"], "some/p/q/cloud_sync_test"),
            (&["--prefix="], "some/cloud_sync_test"),
        ] {
            faults.forget();
            passed(&verify(&[&basic, &["--bucket=some"][..], prefix].concat()).await?)?;
            let put = faults.seen().into_iter().find(|seen| seen.operation == Operation::Put);
            let put = put.context("nothing written")?;
            assert_eq!(format!("some/{}", put.key), expected, "{kind:?}");
            assert!(bucket.keys("").await?.is_empty());
        }
        let unknown = verify(&[&basic, &["--bucket=none"][..]].concat()).await?;
        assert_eq!(failed(&unknown)?, "Unexpected status code checking PUT: 404 Not Found", "{kind:?}");
        if kind == S3ServerKind::Memory {
            let wrong = ["--protocol=s3", &endpoint, &user, "--password=wrong"];
            assert_eq!(failed(&verify(&wrong).await?)?, "Failed to list containers/buckets: 403 Forbidden");
            let wrong = verify(&[&wrong, &["--bucket=some"][..]].concat()).await?;
            assert_eq!(failed(&wrong)?, "Unexpected status code checking PUT: 403 Forbidden");
        }
    }
    Ok(())
}

#[tokio::test]
async fn verify_read_only_of_s3_lists_below_the_prefix_itself() -> Result<()> {
    let s3 = S3Server::start(S3ServerKind::Memory).await?;
    let access = s3.access();
    let (endpoint, user, key) = (
        format!("--endpoint={}", access.endpoint),
        format!("--username={}", access.identity),
        format!("--password={}", access.secret),
    );
    let basic = ["--protocol=s3", &endpoint, &user, &key, "--read-only"];
    assert_eq!(
        failed(&verify(&[&basic, &["--bucket=/*"][..]].concat()).await?)?,
        "No buckets/containers found"
    );
    let bucket = s3.create_bucket("some").await?;
    bucket.put("p/o", "content", &[], None).await?;
    for (place, steps) in [
        (&["--bucket=some"][..], 3),
        (&["--bucket=some", "--prefix="], 3),
        (&["--bucket=some", "--prefix=p"], 3),
        (&["--bucket=/*"], 4),
    ] {
        let shown = passed(&verify(&[&basic, place].concat()).await?)?;
        assert_eq!(shown.lines().count(), steps, "{place:?}: {shown}");
    }
    let elsewhere = verify(&[&basic, &["--bucket=some", "--prefix=q"][..]].concat()).await?;
    assert_eq!(failed(&elsewhere)?, "No objects found in some under prefix q");
    assert_eq!(bucket.keys("").await?, ["p/o"]);
    Ok(())
}

#[tokio::test]
async fn ctl_verify_takes_its_password_from_a_file_and_answers_json() -> Result<()> {
    let (remote, arguments) = swift().await?;
    remote.swift.put_container("some").await?;
    let directory = swift_s3_tests::run_directory::RunDirectory::create("verify")?;
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{KEY}\n"))?;
    let file = format!("--password-file={}", file.display());
    let from_file = with(&arguments[..3], &[&file, "--bucket=some"]);
    let output = run("swift-s3ctl", &[&["verify"], &from_file[..], &["-o", "json"]].concat()).await?;
    ensure!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["steps"].as_array().map(Vec::len), Some(5));

    let unknown = with(&arguments[..3], &[&file, "--bucket=none"]);
    let output = run("swift-s3ctl", &[&["verify"], &unknown[..]].concat()).await?;
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(shown.contains("Unexpected status code checking PUT: 404 Not Found"), "{shown}");
    Ok(())
}
