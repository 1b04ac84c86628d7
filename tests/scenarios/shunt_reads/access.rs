//! Nobody reads, copies or brings out what Swift would not let them.

use anyhow::{Context, Result, ensure};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_cluster::ClientProxyOptions;
use swift_s3_tests::sync_json::SyncJson;

use super::expect;
use crate::CLUSTER;

#[tokio::test]
async fn only_those_who_may_read_the_container_get_what_is_archived() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let account = site.swift.account().strip_prefix("AUTH_").context("a reseller prefix")?.to_owned();
    let user = |account: &str, name: &str, groups: &str| {
        (account.to_owned(), name.to_owned(), "testing".to_owned(), groups.to_owned())
    };
    let stranger = format!("{account}x");
    let users = vec![
        user(&account, "owner", ".admin"),
        user(&account, "reader", ""),
        user(&account, "nobody", ""),
        user(&stranger, "owner", ".admin"),
    ];
    let proxy = site
        .cluster
        .start_client_proxy(&ClientProxyOptions { users, ..ClientProxyOptions::default() })
        .await?;
    for container in ["c", "other"] {
        site.swift.put_container(container).await?;
    }
    let reader = format!("{account}:reader");
    let mapping = site.mapping("c").set("retain_local", false).set("merge_namespaces", true);
    site.map([mapping.clone()])?;
    site.swift.put_object("c", "o", "for readers", &[]).await?;
    site.sync().await?;
    let options = ShuntOptions::new(&proxy.url(), SyncJson::new().mapping(mapping));
    let shunt = Shunt::start(site.directory().folder("shunt")?, options).await?;
    let log_in = async |user: String| SwiftClient::log_in(&shunt.url()?, &user, "testing").await;
    let owner = log_in(format!("{account}:owner")).await?;
    owner.post_container("c", &[("X-Container-Read", &reader)]).await?.success()?;
    let reader = log_in(reader).await?;
    let nobody = log_in(format!("{account}:nobody")).await?;
    let stranger = log_in(format!("{stranger}:owner")).await?;
    let path = format!("/v1/AUTH_{account}/c/o");

    for (who, client) in [("owner", &owner), ("reader", &reader)] {
        let answer = client.get_object("c", "o").await?;
        expect(&answer, 200).context(who)?;
        ensure!(answer.body == "for readers");
    }
    site.faults.forget();
    let token = |client: &SwiftClient| client.token().unwrap_or_default().to_owned();
    for (who, headers, status) in [
        ("without a token", vec![], 401),
        ("with a wrong token", vec![("X-Auth-Token", "AUTH_tkwrong".to_owned())], 401),
        ("another user", vec![("X-Auth-Token", token(&nobody))], 403),
        ("another account", vec![("X-Auth-Token", token(&stranger))], 403),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for method in ["GET", "HEAD"] {
            let answer = owner.send_raw(method, &path, &headers, None).await?;
            expect(&answer, status).with_context(|| format!("{method} {who}"))?;
            ensure!(!String::from_utf8_lossy(&answer.body).contains("readers"));
        }
        let mut copy = headers.clone();
        copy.push(("Destination", "other/stolen"));
        expect(&owner.send_raw("COPY", &path, &copy, None).await?, status)
            .with_context(|| format!("copy {who}"))?;
        let mut wish = headers;
        wish.push(("X-Cloud-Sync-Restore-Request", "days=1"));
        expect(&owner.send_raw("POST", &path, &wish, None).await?, status)
            .with_context(|| format!("wish {who}"))?;
    }
    // A copy into one's own account needs the right to read the source.
    let from = [
        ("X-Copy-From", "c/o".to_owned()),
        ("X-Copy-From-Account", format!("AUTH_{account}")),
        ("X-Auth-Token", token(&stranger)),
    ];
    let from: Vec<(&str, &str)> = from.iter().map(|(name, value)| (*name, value.as_str())).collect();
    stranger.put_container("mine").await?;
    let stolen = format!("/v1/{}/mine/stolen", stranger.account());
    expect(&owner.send_raw("PUT", &stolen, &from, None).await?, 403)?;
    ensure!(site.faults.requests().total() == 0, "the remote was asked: {}", site.faults.requests());

    // A reader may read, and neither write the copy nor spend the operator's money.
    let to = [("Destination", "other/x")];
    expect(&reader.object_request("COPY", "c", "o", "", &to, None).await?, 403)?;
    let wish = [("X-Cloud-Sync-Restore-Request", "days=1")];
    expect(&reader.object_request("POST", "c", "o", "", &wish, None).await?, 403)?;
    expect(&site.swift.head_object("other", "x").await?, 404)?;
    expect(&owner.object_request("COPY", "c", "o", "", &to, None).await?, 201)
}
