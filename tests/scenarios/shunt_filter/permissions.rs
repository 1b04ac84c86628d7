//! No archived byte without Swift's own permission.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_doors::{Door, OpenDoor, User};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::{Response, SwiftClient};

use super::{archived_site, open};

/// What a client may do with `box`: read, list.
async fn rights(client: &SwiftClient, site: &Site, headers: &[(&str, &str)]) -> Result<(u16, u16)> {
    let get = client.object_request("GET", "box", "plain", "", headers, None).await?;
    let path = format!("/v1/{}/box?format=json", site.swift.account());
    let mut all = headers.to_vec();
    let token = client.token().unwrap_or_default().to_owned();
    if !token.is_empty() {
        all.push(("X-Auth-Token", &token));
    }
    let list = client.send_raw("GET", &path, &all, None).await?;
    for answer in [&get, &list] {
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200 || !text.contains("plain"), "{}: {text}", answer.status);
    }
    ensure!(get.status != 200 || get.body == "content of plain", "{get:?}");
    Ok((get.status, list.status))
}

#[tokio::test]
async fn access_lists_decide_who_reads_and_lists_archived_objects() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    let reader = format!("{}:reader", site.swift.account().trim_start_matches("AUTH_"));
    let referrer = [("Referer", "http://good.example.org/page")];
    let bad_referrer = [("Referer", "http://bad.example.org/page")];
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let owner = open.client().await?;
        let (reading, stranger, anonymous) =
            (open.as_user(User::Reader).await?, open.as_user(User::Stranger).await?, open.anonymous()?);
        let acl = async |text: &str| -> Result<()> {
            owner.post_container("box", &[("X-Container-Read", text)]).await?.success()?;
            Ok(())
        };
        let none: &[(&str, &str)] = &[];
        acl("").await?;
        site.faults.forget();
        ensure!(rights(&reading, &site, none).await? == (403, 403), "{door}");
        ensure!(rights(&stranger, &site, none).await? == (403, 403), "{door}");
        ensure!(rights(&anonymous, &site, &referrer).await? == (401, 401), "{door}");
        let requests = site.faults.requests();
        // Whoever shows a valid token may cause a listing, which is begun while Swift decides; nobody else.
        let listings = requests.of(Operation::List);
        ensure!(requests.about_objects() == listings, "{door}: the remote was asked: {requests}");
        ensure!(listings <= 2, "{door}: the remote was asked: {requests}");
        ensure!(rights(&owner, &site, none).await? == (200, 200), "{door}");
        acl(&reader).await?;
        ensure!(rights(&reading, &site, none).await? == (200, 200), "{door}");
        ensure!(rights(&stranger, &site, none).await? == (403, 403), "{door}");
        acl(".r:.example.org,.r:-bad.example.org").await?;
        ensure!(rights(&anonymous, &site, &referrer).await? == (200, 401), "{door}");
        ensure!(rights(&anonymous, &site, &bad_referrer).await? == (401, 401), "{door}");
        ensure!(rights(&anonymous, &site, none).await? == (401, 401), "{door}");
        acl(".r:*,.rlistings").await?;
        ensure!(rights(&anonymous, &site, none).await? == (200, 200), "{door}");
        acl("").await?;
        ensure!(rights(&anonymous, &site, none).await? == (401, 401), "{door}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_reads_nothing() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let client = SwiftClient::new(&open.url()?, site.swift.account(), Some("AUTH_tkwrong".to_owned()))?;
        ensure!(rights(&client, &site, &[]).await? == (401, 401), "{door}");
        // A container of that name in another account is another container.
        let stranger = open.client_of(User::Stranger).await?;
        stranger.put_container("box").await?;
        let got = stranger.get_object("box", "plain").await?;
        ensure!(got.status == 404, "{door}: {got:?}");
    }
    Ok(())
}

/// A GET or HEAD by a temporary URL, made as the documentation of tempurl says.
async fn by_url(
    open: &OpenDoor,
    site: &Site,
    method: &str,
    signed: &str,
    name: &str,
    key: &str,
    late: bool,
) -> Result<Response> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let expires = if late { now - 10 } else { now + 600 };
    let path = format!("/v1/{}/box/{name}", site.swift.account());
    let signature = hmac_sha256(key, &format!("{signed}\n{expires}\n{path}")).await?;
    let query = format!("{path}?temp_url_sig={signature}&temp_url_expires={expires}");
    open.anonymous()?.send_raw(method, &query, &[], None).await
}

/// By a program of the system: the tests have no HMAC of their own.
async fn hmac_sha256(key: &str, text: &str) -> Result<String> {
    let program =
        "import hmac,sys;print(hmac.new(sys.argv[1].encode(),sys.argv[2].encode(),'sha256').hexdigest())";
    let output = tokio::process::Command::new(swift_s3_tests::python::SYSTEM_PYTHON)
        .args(["-c", program, key, text])
        .output()
        .await?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[tokio::test]
async fn temporary_urls_read_what_they_were_made_for() -> Result<()> {
    let site = archived_site(S3ServerKind::Memory).await?;
    for door in Door::ALL {
        let open = open(door, &site).await?;
        let owner = open.client().await?;
        owner.post_container("box", &[("X-Container-Meta-Temp-URL-Key", "k1")]).await?.success()?;
        let got = by_url(&open, &site, "GET", "GET", "plain", "k1", false).await?;
        ensure!(got.status == 200 && got.body == "content of plain", "{door}: {got:?}");
        let disposition = got.header("content-disposition").context("a name to save it under")?;
        ensure!(disposition.starts_with("attachment; filename=\"plain\""), "{door}: {disposition}");
        ensure!(got.header("x-object-meta-colour").is_none(), "{door}: {:?}", got.headers);
        let head = by_url(&open, &site, "HEAD", "GET", "plain", "k1", false).await?;
        ensure!(head.status == 200 && head.body.is_empty(), "{door}: {head:?}");
        site.faults.forget();
        for (method, signed, name, key, late) in [
            ("GET", "GET", "plain", "k2", false),
            ("GET", "GET", "plain", "k1", true),
            ("GET", "PUT", "plain", "k1", false),
            ("DELETE", "GET", "plain", "k1", false),
        ] {
            let got = by_url(&open, &site, method, signed, name, key, late).await?;
            ensure!(got.status == 401, "{door}: {method} {signed} {key} {late}: {got:?}");
        }
        let requests = site.faults.requests();
        ensure!(requests.about_objects() == 0, "{door}: the remote was asked: {requests}");
    }
    Ok(())
}
