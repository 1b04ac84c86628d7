//! Swift away, clients gone, the shunt told to stop.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use swift_s3_tests::fault_proxy::{Fault, FaultProxy, Rule};
use swift_s3_tests::figures::Figures;
use swift_s3_tests::swift_client::SwiftClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Front, unique};
use crate::CLUSTER;

#[tokio::test]
async fn swift_that_is_away_is_a_gateway_error_and_comes_back() -> Result<()> {
    let faults = FaultProxy::start(&CLUSTER.get().await?.proxy_url()).await?;
    let endpoint = faults.endpoint();
    let front = Front::with(|options| options.swift = Some(endpoint)).await?;
    let container = unique("survives");
    front.through.put_container(&container).await?;
    front.through.put_object(&container, "o", "content", &[]).await?;

    faults.inject(Rule::new(Fault::Reset).times(1));
    assert_eq!(front.through.get_object(&container, "o").await?.status, 502);
    assert_eq!(front.through.get_object(&container, "o").await?.body, "content");

    front.through.put_object_stream(&container, "large", 1_000_000, 1, &[]).await?;
    faults.inject(Rule::new(Fault::TruncateAnswer(500_000)).times(1));
    let broken = front.through.get_object(&container, "large").await;
    ensure!(broken.is_err(), "half a body ended cleanly: {broken:?}");
    assert_eq!(front.through.get_object(&container, "o").await?.body, "content");
    Ok(())
}

#[tokio::test]
async fn swift_that_does_not_answer_is_not_waited_for_forever() -> Result<()> {
    let faults = FaultProxy::start(&CLUSTER.get().await?.proxy_url()).await?;
    let endpoint = faults.endpoint();
    let front = Front::with(|options| {
        options.swift = Some(endpoint);
        options.arguments.extend(["--swift-timeout".into(), "1".into()]);
    })
    .await?;
    let container = unique("survives-stall");
    front.through.put_container(&container).await?;
    faults.inject(Rule::new(Fault::Stall).times(2));
    assert_eq!(front.through.get_object(&container, "o").await?.status, 504);
    let path = format!("/v1/{}/{container}/o", front.through.account());
    let headers = [("X-Auth-Token", front.through.token().context("token")?)];
    let upload = front.through.send_raw("PUT", &path, &headers, Some("abc".into())).await?;
    assert_eq!(upload.status, 504);
    Ok(())
}

#[tokio::test]
async fn what_is_under_way_ends_before_the_process_does() -> Result<()> {
    let front = Front::with(|options| {
        options.arguments.extend(["--drain".into(), "20".into()]);
    })
    .await?;
    let container = unique("survives-stop");
    front.direct.put_container(&container).await?;
    let address = front.shunt.url()?.trim_start_matches("http://").to_owned();
    let mut upload = TcpStream::connect(&address).await?;
    let token = front.direct.token().context("token")?;
    let path = format!("/v1/{}/{container}/o", front.direct.account());
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    );
    upload.write_all(head.as_bytes()).await?;
    let mut said = [0; 25];
    upload.read_exact(&mut said).await?;
    ensure!(said.starts_with(b"HTTP/1.1 100"));
    upload.write_all(b"01234").await?;

    front.shunt.sigterm()?;
    swift_s3_tests::wait::until("the door to close", Duration::from_secs(20), async || {
        ensure!(TcpStream::connect(&address).await.is_err(), "it still takes connections");
        Ok(())
    })
    .await?;
    ensure!(front.shunt.is_running(), "it did not wait");
    let ready = SwiftClient::new(&front.shunt.admin_url()?, "", None)?.get_raw("/ready").await;
    ensure!(!ready.is_ok_and(|ready| ready.status == 200), "it says that it is ready");
    upload.write_all(b"56789").await?;
    let mut answer = Vec::new();
    upload.read_to_end(&mut answer).await?;
    ensure!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(front.shunt.stop().await?, 0);
    assert_eq!(front.direct.get_object(&container, "o").await?.body, "0123456789");
    Ok(())
}

#[tokio::test]
async fn liveness_readiness_and_figures_have_an_address_of_their_own() -> Result<()> {
    let front = Front::new().await?;
    let admin = SwiftClient::new(&front.shunt.admin_url()?, "", None)?;
    assert_eq!(admin.get_raw("/live").await?.status, 200);
    assert_eq!(admin.get_raw("/ready").await?.status, 200);
    assert_eq!(admin.get_raw("/other").await?.status, 404);
    let figures = Figures::of(&front.shunt.admin_url()?).await?;
    let passed = [("door", "proxy"), ("operation", "pass"), ("http_response_status_code", "200")];
    ensure!(figures.sum("http_server_request_duration_seconds_count", &passed) > 0.0, "{figures:?}");
    Ok(())
}
