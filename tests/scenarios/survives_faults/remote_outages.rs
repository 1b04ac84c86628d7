//! S3 is away, slow, overloaded or answers nonsense for a while.

use std::time::Duration;

use anyhow::{Result, ensure};
use swift_s3_tests::fault_proxy::{Fault, Network, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::site::Site;
use swift_s3_tests::wait;

use crate::CLUSTER;
use crate::worker_state::expect_parked;

const LIMIT: Duration = Duration::from_secs(45);

/// A PUT, an overwrite, a POST and a DELETE, different for every `round`.
async fn change(site: &Site, round: &str) -> Result<()> {
    let swift = &site.swift;
    swift.put_object("c", &format!("new {round}"), round.to_owned(), &[]).await?;
    swift.put_object("c", "overwritten", round.to_owned(), &[("X-Object-Meta-Round", round)]).await?;
    swift.post_object("c", "posted", &[("X-Object-Meta-Round", round)]).await?;
    swift.delete_object("c", &format!("doomed {round}")).await?;
    Ok(())
}

async fn site_with_objects(rounds: &[&str]) -> Result<Site> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    site.map([site.mapping("c")])?;
    for name in ["overwritten", "posted"] {
        site.swift.put_object("c", name, "first", &[]).await?;
    }
    for round in rounds {
        site.swift.put_object("c", &format!("doomed {round}"), "doomed", &[]).await?;
    }
    Ok(site)
}

#[tokio::test]
async fn what_changes_while_s3_is_away_arrives_when_it_is_back() -> Result<()> {
    let rounds = ["refuse", "reset", "stall", "503", "500"];
    let site = site_with_objects(&rounds).await?;
    site.start_workers()?;
    site.wait_equal("c", LIMIT).await?;
    for round in rounds {
        let before = site.workers.iter().map(|worker| worker.log_text().len()).collect::<Vec<_>>();
        match round {
            "refuse" => site.faults.set_network(Network::Refuse),
            "reset" => site.faults.set_network(Network::Reset),
            "stall" => site.faults.set_network(Network::Stall),
            "503" => drop(site.faults.inject(Rule::new(Fault::slow_down()))),
            _ => drop(site.faults.inject(Rule::new(Fault::error(500, "InternalError")))),
        }
        let seen = site.faults.requests();
        change(&site, round).await?;
        // A stall is noticed by nobody for a minute; it is enough that somebody waits.
        wait::until(&format!("notice of {round}"), LIMIT, async || {
            let noticed = site.workers.iter().zip(&before).any(|(worker, before)| {
                worker.log_text().get(*before..).is_some_and(|log| log.contains("the remote fails"))
            });
            let waiting = round == "stall" && site.faults.requests().since(&seen).total() > 0;
            ensure!(noticed || waiting, "nobody has noticed");
            Ok(())
        })
        .await?;
        site.faults.heal();
        site.wait_equal("c", LIMIT).await?;
    }
    for worker in &site.workers {
        ensure!(worker.stop().await? == 0, "worker {} did not stop well", worker.node());
    }
    // A row whose last try just missed the end of an outage may be set aside; a round tries it at once.
    site.sync().await?;
    site.expect_equal("c").await?;
    expect_parked(&site, "c", &[])
}

#[tokio::test]
async fn broken_requests_and_answers_never_leave_a_wrong_object() -> Result<()> {
    let faults = [
        ("cut upload", Rule::new(Fault::TruncateRequest(2)).on(Operation::Put)),
        ("changed upload", Rule::new(Fault::CorruptRequest(1)).on(Operation::Put)),
        ("lost answer to a put", Rule::new(Fault::LoseAnswer).on(Operation::Put)),
        ("lost answer to a copy", Rule::new(Fault::LoseAnswer).on(Operation::Copy)),
        ("lost answer to a delete", Rule::new(Fault::LoseAnswer).on(Operation::Delete)),
        ("cut list", Rule::new(Fault::TruncateAnswer(100)).on(Operation::List)),
        ("cut copy", Rule::new(Fault::TruncateAnswer(20)).on(Operation::Copy)),
        ("wrong etag", Rule::new(Fault::wrong_etag()).on(Operation::Put)),
    ];
    let names: Vec<&str> = faults.iter().map(|(name, _)| *name).collect();
    let site = site_with_objects(&names).await?;
    site.sync().await?;
    for (name, rule) in faults {
        change(&site, name).await?;
        site.faults.inject(rule);
        for worker in &site.workers {
            // Whether it succeeds in the end is not the question here.
            worker.run_once().await?;
        }
        for key in site.bucket.keys("").await? {
            let body = site.bucket.get(&key).await?.map(|object| object.body).unwrap_or_default();
            let known = [name, "first", "doomed"].map(str::as_bytes);
            let old = names.iter().any(|round| body == round.as_bytes());
            ensure!(old || known.contains(&&*body), "{name}: {key} holds {body:?}");
        }
        site.faults.heal();
        site.sync().await?;
        site.expect_equal("c").await.map_err(|error| error.context(name))?;
    }
    Ok(())
}
