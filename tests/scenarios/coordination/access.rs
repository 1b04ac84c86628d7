//! An etcd that asks who one is, over TLS.

use super::*;

const PASSWORD: &str = "pa55-of-the-workers";

async fn guarded(password: &str) -> Result<EtcdFleet> {
    let options = EtcdOptions {
        tls: true,
        client_certificates: true,
        root_password: Some("of-the-root".to_owned()),
        ..EtcdOptions::single()
    };
    let fleet = fleet_on(options, LEASE).await?;
    let prefix = format!("{}workers/", fleet.prefix());
    fleet.etcd.add_user("workers", PASSWORD, &prefix).await?;
    let file = fleet.site.directory().path().join("etcd-password");
    std::fs::write(&file, format!("{password}\n"))?;
    let (certificate, key) = fleet.etcd.client_certificate_files()?;
    // The certificates are for the members' own addresses, not for gates before them.
    let mut arguments = fleet.arguments();
    for (flag, path) in [
        ("--etcd-password-file", file),
        ("--etcd-ca-cert", fleet.etcd.authority_file()?),
        ("--etcd-client-cert", certificate),
        ("--etcd-client-key", key),
    ] {
        arguments.extend([flag.to_owned(), path.display().to_string()]);
    }
    arguments.extend(["--etcd-user".to_owned(), "workers".to_owned()]);
    for worker in &fleet.site.workers {
        worker.set_arguments(arguments.clone());
    }
    Ok(fleet)
}

fn expect_no_secrets(fleet: &EtcdFleet) -> Result<()> {
    for worker in &fleet.site.workers {
        let log = worker.log_text();
        ensure!(
            !log.contains(PASSWORD) && !log.contains("wr0ng"),
            "worker {} logs a password",
            worker.node()
        );
    }
    Ok(())
}

#[tokio::test]
async fn workers_log_in_with_a_role_for_their_prefix_only_and_go_on_when_it_is_taken_away() -> Result<()> {
    let fleet = guarded(PASSWORD).await?;
    fleet.site.start_workers()?;
    fleet.wait_settled().await?;
    for container in CONTAINERS {
        let names: Vec<String> = (0..10).map(|number| format!("o{number}")).collect();
        put(&fleet, container, &names).await?;
    }
    wait_equal(&fleet).await?;
    fleet.etcd.revoke("workers", &format!("{}workers/", fleet.prefix())).await?;
    for container in CONTAINERS {
        let names: Vec<String> = (0..10).map(|number| format!("p{number}")).collect();
        put(&fleet, container, &names).await?;
    }
    wait_equal(&fleet).await?;
    expect_nothing_twice(&fleet.site)?;
    expect_no_secrets(&fleet)
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_the_start_and_told_without_it() -> Result<()> {
    let fleet = guarded("wr0ng").await?;
    let Some(worker) = fleet.site.workers.first() else { anyhow::bail!("no worker") };
    let outcome = worker.run(&[], &[]).await?;
    ensure!(outcome.code != 0, "it started");
    ensure!(outcome.log.contains("etcd does not let this worker in"), "{}", outcome.log);
    ensure!(outcome.log.contains("authentication failed"), "{}", outcome.log);
    expect_no_secrets(&fleet)
}
