//! What the shunt tells of a request of a client: one trace through Swift and the remote, and figures.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use swift_s3_tests::fault_proxy::FaultProxy;
use swift_s3_tests::figures::{Figure, Figures};
use swift_s3_tests::otlp_collector::{Collector, Span, ensure_connected};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_cluster::{ClientProxy, ClientProxyOptions};
use swift_s3_tests::sync_json::SyncJson;
use swift_s3_tests::wait;

use crate::CLUSTER;

const CONTENT: &str = "content that is archived";
const OBJECT: &str = "GET /v1/{account}/{container}/{object}";
/// What clients say of their traces: id, their own span, and that they record it.
const TRACES: [(&str, &str); 2] = [
    ("11111111111111111111111111111111", "aaaaaaaaaaaaaaaa"),
    ("22222222222222222222222222222222", "bbbbbbbbbbbbbbbb"),
];

fn traceparent((trace, span): (&str, &str)) -> String {
    format!("00-{trace}-{span}-01")
}

#[tokio::test]
async fn a_shunted_request_is_one_trace_through_swift_and_the_remote() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    let mapping = site.mapping("c").set("retain_local", false);
    site.map([mapping.clone()])?;
    for name in ["proxy", "filter"] {
        site.swift.put_object("c", name, CONTENT, &[]).await?;
    }
    site.sync().await?;
    let collector = Collector::start().await?;
    let swift = FaultProxy::start(&site.cluster.internal_url()?).await?;
    let merged = mapping.set("merge_namespaces", true).set("restore_object", true);
    let mut options = ShuntOptions::new(&swift.endpoint(), SyncJson::new().mapping(merged));
    options.internal_url = Some(site.cluster.internal_url()?);
    options.filter = true;
    options.arguments = collector.arguments().to_vec();
    options.arguments.extend(["--trace-context", "follow"].map(str::to_owned));
    let shunt = Shunt::start(site.directory().folder("shunt")?, options).await?;

    let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
    let headers = [("traceparent", traceparent(TRACES[0]))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let read = client.object_request("GET", "c", "proxy", "", &headers, None).await?.success()?;
    assert_eq!(read.body, CONTENT);
    let told = swift.seen().into_iter().find(|seen| seen.target.ends_with("/c/proxy"));
    let told = told.context("a request to Swift")?.header("traceparent").context("its trace")?.to_owned();
    ensure!(told.contains(TRACES[0].0) && !told.contains(TRACES[0].1), "Swift was told of {told}");
    assert_eq!(client.object_request("GET", "c", "absent", "", &[], None).await?.status, 404);
    // It runs the restore of what was read through it.
    let (_proxy, trans_id) = through_the_filter(&site, &shunt).await?;

    wait::until("the restores to end", Duration::from_secs(30), async || {
        let figures = Figures::of(&shunt.admin_url()?).await?;
        let ended = figures.sum("swift_s3_shunt_restore_duration_seconds_count", &[("outcome", "restored")]);
        ensure!(ended >= 2.0, "{ended} have");
        Ok(())
    })
    .await?;
    ensure_figures(&Figures::of(&shunt.admin_url()?).await?)?;
    assert_eq!(shunt.stop().await?, 0);

    let traces = collector.traces();
    let proxied = trace_of(&traces, TRACES[0], "proxy")?;
    ensure!(!first(proxied, "proxy")?.attribute("swift.trans_id").is_empty());
    let asked = proxied.iter().find(|span| span.attribute("http.response.status_code") == "404");
    ensure!(asked.is_some(), "Swift's 404 is not in {proxied:#?}");
    let filtered = trace_of(&traces, TRACES[1], "filter")?;
    assert_eq!(first(filtered, "filter")?.attribute("swift.trans_id"), trans_id);
    let request = first(proxied, "proxy")?;
    let restore =
        collector.spans().into_iter().find(|span| span.name == "restore" && span.links.contains(&request.id));
    let restore = restore.context("a restore that is linked to its request")?;
    ensure!(restore.parent.is_empty() && restore.trace_id != request.trace_id, "{restore:?}");
    ensure_connected(traces.get(&restore.trace_id).context("the restore's trace")?)
}

/// A GET of an archived object through the filter in a proxy's pipeline; answers that proxy, and the id of the request in Swift.
async fn through_the_filter(site: &Site, shunt: &Shunt) -> Result<(ClientProxy, String)> {
    let account = site.swift.account().trim_start_matches("AUTH_").to_owned();
    let filter = format!("shunt = unix://{}\ncontainers_file =\n", shunt.socket().display());
    let options = ClientProxyOptions {
        users: vec![(account.clone(), "owner".into(), "testing".into(), ".admin".into())],
        filter: Some(filter),
        ..ClientProxyOptions::default()
    };
    let proxy = site.cluster.start_client_proxy(&options).await?;
    let client = SwiftClient::log_in(&proxy.url(), &format!("{account}:owner"), "testing").await?;
    let told = traceparent(TRACES[1]);
    let headers = [("traceparent", told.as_str())];
    let read = client.object_request("GET", "c", "filter", "", &headers, None).await?.success()?;
    assert_eq!(read.body, CONTENT);
    let id = read.header("x-trans-id").context("an id")?.to_owned();
    Ok((proxy, id))
}

fn first<'a>(trace: &'a [Span], door: &str) -> Result<&'a Span> {
    let found = trace.iter().find(|span| span.attribute("swift_s3_sync.door") == door);
    found.with_context(|| format!("no request at the door {door} in {trace:#?}"))
}

/// The trace of a client's GET: the client's own span is the first one's parent, and the remote is in it.
fn trace_of<'a>(
    traces: &'a std::collections::BTreeMap<String, Vec<Span>>,
    (id, parent): (&str, &str),
    door: &str,
) -> Result<&'a [Span]> {
    let trace = traces.get(id).with_context(|| format!("no trace {id} in {traces:#?}"))?;
    ensure_connected(trace)?;
    let request = first(trace, door)?;
    assert_eq!((request.name.as_str(), request.parent.as_str()), (OBJECT, parent));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/v1/{account}/{container}/{object}"),
        ("http.response.status_code", "200"),
        ("swift_s3_sync.operation", "read"),
    ] {
        assert_eq!(request.attribute(name), value, "{name}");
    }
    ensure!(!request.attribute("swift_s3_sync.mapping.id").is_empty(), "{request:?}");
    ensure!(trace.iter().any(|span| !span.attribute("aws.s3.bucket").is_empty()), "no remote in {trace:#?}");
    ensure!(!trace.iter().any(|span| span.has_failed), "{trace:#?}");
    Ok(trace)
}

fn ensure_figures(figures: &Figures) -> Result<()> {
    let requests = "http_server_request_duration_seconds_count";
    for door in ["proxy", "filter"] {
        let read = [("door", door), ("operation", "read"), ("http_response_status_code", "200")];
        assert_eq!(figures.sum(requests, &read), 1.0, "{door}");
        // They were given in full.
        let of_door = |figure: &&Figure| figure.labels.get("door").is_some_and(|found| found == door);
        let mut counted = figures.values.iter().filter(|figure| figure.name == requests).filter(of_door);
        ensure!(counted.all(|figure| !figure.labels.contains_key("error_type")), "{door}: {figures:?}");
        let given = [("door", door), ("network_io_direction", "transmit")];
        ensure!(figures.sum("swift_s3_shunt_io_bytes_total", &given) >= 24.0, "{door}");
    }
    let missing = [("door", "proxy"), ("operation", "read"), ("http_response_status_code", "404")];
    assert_eq!(figures.sum(requests, &missing), 1.0);
    assert_eq!(figures.sum("http_server_active_requests", &[]), 0.0);
    let swift = "http_client_request_duration_seconds_count";
    for way in ["upstream", "restore"] {
        ensure!(figures.sum(swift, &[("way", way)]) > 0.0, "{way}");
    }
    ensure!(figures.sum("swift_s3_sync_remote_requests_total", &[("outcome", "ok")]) >= 2.0);
    assert_eq!(figures.sum("swift_s3_sync_config_reloads_total", &[("outcome", "applied")]), 1.0);
    assert_eq!(figures.sum("swift_s3_shunt_mappings", &[("state", "ok")]), 1.0);
    assert_eq!(figures.sum("swift_s3_shunt_restore_limit", &[]), 16.0);
    Ok(())
}
