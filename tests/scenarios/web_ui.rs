//! The web UI in a real browser: what people see, what they can do, what is kept from those who may not.

mod access;
mod accessible;
mod configuration;
mod live;
mod markup;
mod pictures;
mod plain;
mod stuck_object;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_proto::v1::{GetStatusRequest, ListFailuresRequest, NodeState};
use swift_s3_tests::browser::{Browser, Page};
use swift_s3_tests::control_process::Control;
use swift_s3_tests::run_directory::RunDirectory;
use swift_s3_tests::s3_servers::S3ServerKind;
use swift_s3_tests::simulated_fleet::{Script, SimulatedFleet, World};
use swift_s3_tests::site::Site;
use swift_s3_tests::sync_json::{MappingJson, SyncJson};
use swift_s3_tests::wait;
use swift_s3_tests::web_ui::{Caller, WebUi};

use crate::CLUSTER;

/// What happens by itself happens within this time.
const SOON: Duration = Duration::from_secs(40);

/// A small fleet that has something of everything.
const WORLD: World = World { nodes: 9, mappings: 10, containers: 1_200 };

/// A real site with one container `c`, its control plane and the pages.
async fn real(change: impl FnOnce(MappingJson) -> MappingJson) -> Result<(Site, Control, WebUi)> {
    let site = Site::on(CLUSTER.get().await?, S3ServerKind::Memory).await?;
    site.swift.put_container("c").await?;
    let config = SyncJson::new().set("verification_slack", 60).mapping(change(site.mapping("c")));
    let (control, ui) = site.start_guarded(&config).await?;
    Ok((site, control, ui))
}

/// A control plane with simulated nodes. Dropped in the order of its fields.
struct Simulated {
    fleet: SimulatedFleet,
    ui: WebUi,
    control: Control,
    _directory: RunDirectory,
}

/// The small fleet; `change` may rewrite what its nodes tell.
async fn simulated(change: impl Fn(&mut Script)) -> Result<Simulated> {
    let directory = RunDirectory::create("web-ui")?;
    let folder = directory.folder("control")?;
    let ui = WebUi::prepare(&folder)?;
    let control = ui.start(folder, &[]).await?;
    let mut scripts = WORLD.scripts(&control).await?;
    scripts.iter_mut().for_each(&change);
    let token = Some(Caller::Node.token());
    let fleet = SimulatedFleet::start(&control.url(), token, scripts).await?;
    wait::until("control to have seen everything", SOON, async || {
        let status = control.status()?.get_status(GetStatusRequest {}).await?.into_inner();
        ensure!(status.failures > 0 && status.containers > 1_000, "{status:?}");
        Ok(())
    })
    .await?;
    Ok(Simulated { fleet, ui, control, _directory: directory })
}

impl Simulated {
    /// Ends one and waits until control knows.
    async fn lose_last_node(&self) -> Result<()> {
        self.fleet.kill(WORLD.nodes - 1);
        wait::until("control to miss the node", SOON, async || {
            let nodes = self.control.nodes().await?;
            ensure!(nodes.iter().any(|node| node.state() == NodeState::NotSeen), "all are there");
            Ok(())
        })
        .await
    }
}

/// Every page, by a name for messages.
async fn pages(control: &Control) -> Result<Vec<(&'static str, String)>> {
    let failures = control.status()?.list_failures(ListFailuresRequest::default()).await?.into_inner();
    let failure = failures.failures.first().context("no failure")?;
    let mapping = &failure.mapping_id;
    let object = &failure.row.as_ref().context("no row")?.object;
    let (account, container) = (&failure.account, &failure.container);
    let place =
        format!("account={}&container={}&object={}", encoded(account), encoded(container), encoded(object));
    Ok(vec![
        ("overview", "/".to_owned()),
        ("mappings", "/mappings".to_owned()),
        ("mapping", format!("/mappings/{mapping}")),
        ("containers", "/containers".to_owned()),
        ("failures", "/failures".to_owned()),
        ("object", format!("/object?{place}")),
        ("nodes", "/nodes".to_owned()),
        ("node", format!("/nodes/{}", encoded(&failure.node_id))),
        ("config", "/config".to_owned()),
        ("revision", "/config/revisions/1".to_owned()),
        ("edit", "/config/edit".to_owned()),
        ("activity", "/activity".to_owned()),
    ])
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Opens a page that must be there.
async fn open(page: &Page, ui: &WebUi, path: &str) -> Result<()> {
    page.open(&ui.url(path)).await?;
    ensure!(page.status(path) == Some(200), "{path}: {:?}: {}", page.status(path), page.text().await?);
    Ok(())
}

/// Notes that the page was not loaded again, for [`expect_same`].
async fn mark(page: &Page) -> Result<()> {
    page.evaluate("window.sameDocument = true").await?;
    Ok(())
}

/// Fails if the page was loaded again since [`mark`].
async fn expect_same(page: &Page) -> Result<()> {
    ensure!(page.evaluate("window.sameDocument === true").await? == true, "the page was loaded again");
    Ok(())
}
