//! The web UI in a real browser with a large fleet: simulated nodes, a real control plane, a real page.
//!
//! Times of the server are what the browser measures between its request and the first byte of the answer, on this machine, while
//! all nodes send their heartbeats.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use swift_s3_proto::v1::GetStatusRequest;
use swift_s3_tests::browser::{Browser, Page};
use swift_s3_tests::control_process::Control;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::simulated_fleet::{SimulatedFleet, World};
use swift_s3_tests::usage::Usage;
use swift_s3_tests::wait;
use swift_s3_tests::web_ui::{Caller, WebUi};

use crate::control::{allow_files, sample::Sample};
use crate::mebibytes;

/// Requests of one address.
const REQUESTS: usize = 40;
/// Between two of them something happened at control, so that it cannot answer from what it had.
const REQUEST_PAUSE: Duration = Duration::from_millis(400);
const OPENINGS: usize = 7;
const SEEN_LIMIT: Duration = Duration::from_secs(180);
/// As many updates as an hour has at one a second.
const UPDATES: u64 = 3_600;
/// Updates between two looks at the memory.
const LOOKS: u64 = 8;
/// Each update of the server is put in place so often, by turns with the one before: an hour would be too long to wait.
const REPEATS: u64 = 40;
/// As the page asks for updates, but it is given each of them more often.
const REPLAY: &str = "window.updates = 0; \
    window.EventSource = class extends EventSource { \
        set onmessage(handle) { \
            let before = null; \
            super.onmessage = event => { \
                for (let turn = 0; turn < REPEATS; turn += 1) { \
                    handle(turn % 2 || !before ? event : before); window.updates += 1; \
                } \
                before = event; \
            }; \
        } \
    };";
/// The page's updates come at least this fast when everything changes all the time.
const SLOWEST_UPDATE: Duration = Duration::from_secs(2);

const SERVER_TARGET_MS: f64 = 150.0;
const PAINT_TARGET_MS: f64 = 1_000.0;
const WEIGHT_TARGET_KIB: f64 = 300.0;

/// Measures all of it. `updates` is how many updates of the page the memory is watched for.
pub async fn run(world: World, updates: Option<u64>) -> Result<()> {
    println!(
        "\nbench: the web UI with {} nodes, {} mappings and {} containers, simulated by this process",
        world.nodes, world.mappings, world.containers
    );
    allow_files(world.nodes * 2 + 512)?;
    let directory = RunDirectory::create("bench-web-ui")?;
    let folder = directory.folder("control")?;
    let ui = WebUi::prepare(&folder)?;
    let control = ui.start(folder, &[]).await?;
    let scripts = world.scripts(&control).await?;
    let began = Instant::now();
    let fleet = SimulatedFleet::start(&control.url(), Some(Caller::Node.token()), scripts).await?;
    seen(&control, world).await?;
    println!("control knows everything {:.1} s after the first node came", began.elapsed().as_secs_f64());
    let browser = Browser::start().await?;
    for path in ["/", "/mappings", "/containers", "/failures", "/nodes"] {
        server_time(&browser, &ui, path).await?;
    }
    openings(&ui).await?;
    memory(&browser, &ui, &control, &fleet, updates.unwrap_or(UPDATES)).await
}

async fn seen(control: &Control, world: World) -> Result<()> {
    wait::until("control to know everything", SEEN_LIMIT, async || {
        let status = control.status()?.get_status(GetStatusRequest {}).await?.into_inner();
        ensure!(status.containers == world.containers as u64 && status.is_complete, "{status:?}");
        Ok(())
    })
    .await
}

/// From the request to the first byte of the answer.
async fn server_time(browser: &Browser, ui: &WebUi, path: &str) -> Result<()> {
    let page = ui.signed_in(browser, Caller::Operator).await?;
    // A page that does not ask by itself.
    page.open(&ui.url("/sign-in")).await?;
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        tokio::time::sleep(REQUEST_PAUSE).await;
        let fetch = format!(
            "(async () => {{ performance.clearResourceTimings(); const answer = await fetch('{path}', {{ cache: 'no-store' }}); \
             await answer.text(); const [entry] = performance.getEntriesByType('resource').slice(-1); \
             return answer.ok ? entry.responseStart - entry.requestStart : -1; }})()"
        );
        let milliseconds = page.evaluate(&fetch).await?.as_f64().context("no time")?;
        ensure!(milliseconds >= 0.0, "{path} was refused");
        times.push(Duration::from_secs_f64(milliseconds / 1e3));
    }
    let sample = Sample::new(times);
    let p95 = sample.at(0.95).as_secs_f64() * 1e3;
    println!(
        "server time of {path:<12} ms: {sample}   p95 {p95:>7.1}   {:.2} of the target",
        p95 / SERVER_TARGET_MS
    );
    Ok(())
}

/// Each in a new browser: nothing is in its cache.
async fn openings(ui: &WebUi) -> Result<()> {
    let (mut paints, mut weights) = (Vec::new(), Vec::new());
    for _ in 0..OPENINGS {
        let browser = Browser::start().await?;
        let page = ui.signed_in(&browser, Caller::Operator).await?;
        page.evaluate("performance.now()").await?;
        page.set_cache(false).await?;
        page.open(&ui.url("/")).await?;
        paints.push(page.first_paint().await?);
        // What is fetched after the page has loaded belongs to it too.
        tokio::time::sleep(Duration::from_secs(1)).await;
        weights.push(page.transferred());
    }
    let paints = Sample::new(paints);
    let paint = paints.at(0.5).as_secs_f64() * 1e3;
    println!("first paint of the overview ms: {paints}   {:.2} of the target", paint / PAINT_TARGET_MS);
    let weight = weights.last().context("no openings")?;
    let total: u64 = weight.iter().map(|(_, bytes)| bytes).sum();
    let kibibytes = total as f64 / 1024.0;
    println!(
        "weight of the overview: {kibibytes:.1} KiB, {:.2} of the target",
        kibibytes / WEIGHT_TARGET_KIB
    );
    for (url, bytes) in weight {
        println!("  {:>8.1} KiB  {url}", *bytes as f64 / 1024.0);
    }
    println!(
        "targets: server <= {SERVER_TARGET_MS} ms, paint <= {PAINT_TARGET_MS} ms, weight <= {WEIGHT_TARGET_KIB} KiB"
    );
    Ok(())
}

/// The overview stays open while everything changes all the time.
async fn memory(
    browser: &Browser,
    ui: &WebUi,
    control: &Control,
    fleet: &SimulatedFleet,
    updates: u64,
) -> Result<()> {
    println!("\nbench: memory of the browser over {updates} updates of the overview, which stays open");
    let page: Page = ui.signed_in(browser, Caller::Operator).await?;
    page.run_first(&REPLAY.replace("REPEATS", &REPEATS.to_string())).await?;
    page.open(&ui.url("/")).await?;
    fleet.set_heartbeat(Duration::from_millis(500));
    println!(
        "{:>8} {:>10} {:>12} {:>8} {:>14}",
        "updates", "heap MiB", "browser MiB", "nodes", "control MiB"
    );
    let began = Instant::now();
    let mut heaps = Vec::new();
    for look in 0..=LOOKS {
        let wanted = updates * look / LOOKS;
        let limit = SLOWEST_UPDATE * u32::try_from(updates / LOOKS / REPEATS + 30)?;
        wait::until("the page to be updated", limit, async || {
            let got = page.evaluate("window.updates").await?.as_u64().context("no number")?;
            ensure!(got >= wanted, "{got} of {wanted} updates");
            Ok(())
        })
        .await?;
        let (heap, nodes) = page.heap().await?;
        let (whole, server) = (browser.memory_bytes()?, Usage::of(control.pid()?)?.rss_bytes);
        println!(
            "{:>8} {:>10.2} {:>12.1} {nodes:>8} {:>14.1}",
            wanted,
            mebibytes(heap),
            mebibytes(whole),
            mebibytes(server)
        );
        heaps.push(heap);
    }
    // The first look is before the first update was put in place.
    let (early, late) = (heaps.get(1).context("no looks")?, heaps.last().context("no looks")?);
    let sent = page.updates();
    println!(
        "{sent} updates came in {:.0} s, each was put in place {REPEATS} times",
        began.elapsed().as_secs_f64()
    );
    println!(
        "heap after all of them, of what it was after the first eighth: {:.2}",
        *late as f64 / *early as f64
    );
    println!("target: flat, <= 1.20");
    Ok(())
}
