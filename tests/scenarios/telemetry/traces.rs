//! One operation is one trace, from Swift to the remote; what fails is never left out, and a collector that is away holds nobody up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use swift_s3_tests::fault_proxy::{Fault, Rule};
use swift_s3_tests::operation::Operation;
use swift_s3_tests::otlp_collector::{Collector, PROMPT, Span, ensure_connected};
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::site::Site;
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::sync_json::{MappingJson, SyncJson};

use crate::CLUSTER;

fn named<'a>(trace: &'a [Span], name: &str) -> Result<&'a Span> {
    trace.iter().find(|span| span.name == name).with_context(|| format!("no span {name}: {trace:#?}"))
}

fn is_about(trace: &[Span], object: &str) -> bool {
    trace.iter().any(|span| span.attribute("swift_s3_sync.object.name") == object)
}

/// A write in Swift is followed through the row, the decision, the read of the object and the request to S3 until the cursor is saved.
/// Of a mapping that is not traced only what fails is seen, and that whole.
#[tokio::test]
async fn a_put_in_swift_is_one_trace_until_its_cursor_is_saved_and_failures_are_always_seen() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let collector = Collector::start().await?;
    for container in ["traced", "quiet"] {
        site.swift.put_container(container).await?;
        for object in ["one", "two", "refused"] {
            site.swift.put_object(container, &format!("{container} {object}"), "content", &[]).await?;
        }
    }
    let mapping = |container: &str| site.mapping(container).set("copy_after", 0);
    site.map([mapping("traced").set("trace_sample_ratio", 1.0), mapping("quiet")])?;
    site.faults.inject(Rule::new(Fault::denied()).on(Operation::Put).key_containing("quiet refused"));
    for worker in &site.workers {
        worker.set_arguments(["--otlp-endpoint", collector.endpoint(), "--trace-sample-ratio", "0"]);
        worker.run(&["--once"], &PROMPT).await?;
    }

    // Everything was sent before the processes ended.
    let traces = collector.traces();
    // Each worker looks at each row; one of them sends it.
    let of = |object: &str| -> Result<Vec<Vec<Span>>> {
        let sends = |trace: &&Vec<Span>| is_about(trace, object) && named(trace, "PUT").is_ok();
        let found: Vec<_> = traces.values().filter(sends).cloned().collect();
        ensure!(!found.is_empty(), "no trace in which {object} is sent");
        Ok(found)
    };
    for object in ["traced one", "traced two", "traced refused"] {
        let sent = of(object)?;
        let [trace] = sent.as_slice() else { anyhow::bail!("{object} was sent {} times", sent.len()) };
        ensure_connected(trace)?;
        let root = named(trace, "transfer")?;
        ensure!(root.parent.is_empty() && root.service == "swift-s3-sync" && !root.has_failed, "{root:#?}");
        assert_eq!(root.attribute("swift.container"), "traced");
        assert_eq!(root.attribute("swift_s3_sync.action"), "copied");
        assert!(!named(trace, "decide")?.attribute("swift_s3_sync.decision").is_empty());
        let read = named(trace, "read local")?;
        assert_eq!((read.kind, read.attribute("http.response.status_code")), (SpanKind::Client, "200"));
        let put = named(trace, "PUT")?;
        assert_eq!((put.kind, put.attribute("http.response.status_code")), (SpanKind::Client, "200"));
        assert_eq!(put.attribute("rpc.method"), "PutObject");
        assert!(put.attribute("aws.s3.key").ends_with(object), "{put:#?}");
        named(trace, "save cursor")?;
    }
    for refused in of("quiet refused")? {
        ensure_connected(&refused)?;
        let root = named(&refused, "transfer")?;
        ensure!(root.has_failed && !root.attribute("error.type").is_empty(), "{root:#?}");
        ensure!(named(&refused, "PUT")?.attribute("http.response.status_code") == "403", "{refused:#?}");
    }
    for object in ["quiet one", "quiet two"] {
        ensure!(!traces.values().any(|trace| is_about(trace, object)), "{object} was not to be traced");
    }
    let metrics = collector.metrics();
    for name in ["swift_s3_sync.build.info", "swift_s3_sync.object.actions", "process.memory.usage"] {
        ensure!(metrics.contains(name), "{name} was not pushed: {metrics:?}");
    }
    Ok(())
}

/// A client that traces finds its request in its own trace, with what Swift and the remote were asked, where the operator trusts it. Anywhere
/// else it decides nothing: its trace is a link of the request's own, which is recorded as the mapping says.
#[tokio::test]
async fn a_read_through_the_shunt_is_part_of_its_clients_trace_only_where_clients_are_followed() -> Result<()>
{
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let collector = Collector::start().await?;
    site.swift.put_container("c").await?;
    site.swift.put_object("c", "archived", "content", &[]).await?;
    let mapping = site.mapping("c").set("retain_local", false).set("merge_namespaces", true);
    site.map([mapping.clone()])?;
    site.sync().await?;
    let start = async |folder: &str, mapping: &MappingJson, how: &[&str]| {
        let config = SyncJson::new().mapping(mapping.clone());
        let mut options = ShuntOptions::new(&site.cluster.internal_url()?, config);
        // Nothing is traced but what a client or a mapping traces.
        let arguments = ["--otlp-endpoint", collector.endpoint(), "--trace-sample-ratio", "0"];
        options.arguments.extend(arguments.iter().chain(how).map(|argument| (*argument).to_owned()));
        Shunt::start(site.directory().folder(folder)?, options).await
    };
    let shunt = start("follows", &mapping, &["--trace-context", "follow"]).await?;
    let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;

    let (trace_id, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let context = format!("00-{trace_id}-{parent}-01");
    let read = client.object_request("GET", "c", "archived", "", &[("traceparent", &context)], None).await?;
    assert_eq!(read.success()?.body.as_ref(), b"content");
    client.object_request("GET", "c", "archived", "", &[], None).await?.success()?;
    // It sends what it has before it ends.
    assert_eq!(shunt.stop().await?, 0);
    let traces = collector.traces();
    assert_eq!(traces.len(), 1, "only what the client traces");
    let trace = traces.get(trace_id).context("the client's trace")?;
    ensure_connected(trace)?;
    let server = trace.iter().find(|span| span.kind == SpanKind::Server).context("no server span")?;
    assert_eq!((server.service.as_str(), server.parent.as_str()), ("swift-s3-shunt", parent));
    assert_eq!(server.name, "GET /v1/{account}/{container}/{object}");
    assert_eq!(server.attribute("http.response.status_code"), "200");
    let clients: Vec<&Span> = trace.iter().filter(|span| span.kind == SpanKind::Client).collect();
    let asked_swift = clients.iter().find(|span| !span.attribute("swift.trans_id").is_empty());
    assert_eq!(asked_swift.context("Swift was not asked")?.attribute("http.response.status_code"), "404");
    let asked_remote = clients.iter().find(|span| span.attribute("aws.s3.key").ends_with("archived"));
    assert_eq!(asked_remote.context("S3 was not asked")?.attribute("http.response.status_code"), "200");

    // As it comes, clients choose nothing.
    let quiet = start("quiet", &mapping, &[]).await?;
    let chosen = start("chosen", &mapping.set("trace_sample_ratio", 1.0), &[]).await?;
    for shunt in [quiet, chosen] {
        let client = SwiftClient::new(&shunt.url()?, site.swift.account(), None)?;
        let headers = [("traceparent", context.as_str())];
        client.object_request("GET", "c", "archived", "", &headers, None).await?.success()?;
        assert_eq!(shunt.stop().await?, 0);
    }
    let traces: Vec<_> = collector.traces().into_iter().filter(|(id, _)| id != trace_id).collect();
    let [(_, own)] = traces.as_slice() else { anyhow::bail!("one trace was to be recorded: {traces:#?}") };
    ensure_connected(own)?;
    let server = own.iter().find(|span| span.kind == SpanKind::Server).context("no server span")?;
    ensure!(server.parent.is_empty() && server.links == [parent], "{server:#?}");
    assert_eq!(collector.traces().get(trace_id).map(Vec::len), Some(trace.len()), "nothing was added");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_nobody_up() -> Result<()> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    let collector = Collector::silent().await?;
    site.swift.put_container("c").await?;
    for number in 0..50 {
        site.swift.put_object("c", &format!("o{number}"), "content", &[]).await?;
    }
    site.map([site.mapping("c").set("copy_after", 0)])?;
    for worker in &site.workers {
        worker.set_arguments(collector.arguments());
        let began = Instant::now();
        worker.run(&["--once"], &PROMPT).await?.expect_code(0)?;
        // The last attempt to send is given five seconds.
        ensure!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    }
    site.expect_equal("c").await
}
