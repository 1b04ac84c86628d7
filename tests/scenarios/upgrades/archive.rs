//! Clients of archived objects, behind two shunts of which one at a time is away.

use std::sync::Mutex;

use swift_s3_tests::shunt_process::{Shunt, ShuntOptions};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::sync_json::SyncJson;

use super::*;

/// The container whose objects go to S3 and are read through the shunts.
pub(super) const ARCHIVE: &str = "archive";
/// Objects that are archived before the upgrade begins.
const BEFORE: usize = 10;
/// Rest of a reader and of the writer after each request.
const PAUSE: Duration = Duration::from_millis(20);

/// Two shunts and what a load balancer in front of them does: a shunt that is taken out gets no new requests, and is stopped when it has
/// answered all that it had.
pub(super) struct Shunts {
    shunts: [Shunt; 2],
    /// For each, its client while it is in use. Requests hold it.
    doors: [tokio::sync::RwLock<Option<SwiftClient>>; 2],
    account: String,
    /// Objects that clients wrote so far.
    written: Mutex<Vec<String>>,
    reads: Mutex<usize>,
}

fn content(name: &str) -> String {
    format!("content of {name} ").repeat(40)
}

impl Shunts {
    /// Both of one version, with their policy from a control plane or from a file.
    pub(super) async fn start(
        site: &Site,
        version: &Version,
        control: Option<&Control>,
        config: &SyncJson,
    ) -> Result<Self> {
        let start = async |index: usize| {
            let mut options = ShuntOptions::new(&site.cluster.internal_url()?, config.clone());
            options.program = Some(version.program("swift-s3-shunt")?);
            if let Some(control) = control {
                options.policy = swift_s3_tests::shunt_process::Policy::Control(control.url());
            }
            Shunt::start(site.directory().folder(format!("shunt{index}"))?, options).await
        };
        let shunts = [start(0).await?, start(1).await?];
        let started = Self {
            shunts,
            doors: Default::default(),
            account: site.swift.account().to_owned(),
            written: Mutex::default(),
            reads: Mutex::default(),
        };
        for index in 0..started.shunts.len() {
            started.put_in(index).await?;
        }
        Ok(started)
    }

    async fn put_in(&self, index: usize) -> Result<()> {
        let client = SwiftClient::new(&self.shunts[index].url()?, &self.account, None)?;
        *self.doors[index].write().await = Some(client);
        Ok(())
    }

    /// Objects that are in S3 only, before anything is upgraded.
    pub(super) async fn fill(&self, site: &Site) -> Result<()> {
        for number in 0..BEFORE {
            self.write(&format!("before{number}")).await?;
        }
        wait::until("the archive to be emptied", SOON, async || {
            let local = site.swift.list(ARCHIVE).await?;
            ensure!(local.is_empty(), "{} are local", local.len());
            Ok(())
        })
        .await
    }

    /// Replaces one after the other by `version`.
    pub(super) async fn replace(&self, version: &Version) -> Result<()> {
        let program = version.program("swift-s3-shunt")?;
        for (shunt, door) in self.shunts.iter().zip(&self.doors) {
            // Returns when no request is under way.
            *door.write().await = None;
            ensure!(shunt.stop().await? == 0, "the shunt did not stop well");
            shunt.set_program(program.clone());
            shunt.restart().await?;
            expect_program(shunt.pid()?, &program).await?;
            *door.write().await = Some(SwiftClient::new(&shunt.url()?, &self.account, None)?);
        }
        Ok(())
    }

    /// Sends a request through whichever shunt is in use; `turn` says which one is preferred.
    async fn ask(&self, turn: usize, request: impl AsyncFn(&SwiftClient) -> Result<u16>) -> Result<u16> {
        for index in [turn, turn + 1] {
            let door = self.doors[index % self.doors.len()].read().await;
            if let Some(client) = door.as_ref() {
                return request(client).await;
            }
        }
        anyhow::bail!("no shunt is in use")
    }

    async fn write(&self, name: &str) -> Result<()> {
        let status = self
            .ask(name.len(), async |client| {
                let body = Some(content(name).into());
                Ok(client.object_request("PUT", ARCHIVE, name, "", &[], body).await?.status)
            })
            .await?;
        ensure!(status == 201, "PUT of {name}: {status}");
        self.lock(&self.written).push(name.to_owned());
        Ok(())
    }

    async fn read(&self, turn: usize, name: &str) -> Result<()> {
        let status = self
            .ask(turn, async |client| {
                let found = client.get_object(ARCHIVE, name).await?;
                ensure!(found.status != 200 || found.body == content(name), "{name} has other content");
                Ok(found.status)
            })
            .await?;
        ensure!(status == 200, "GET of {name}: {status}");
        *self.lock(&self.reads) += 1;
        Ok(())
    }

    /// Writes and reads until it is enough. Every read must succeed, wherever the object is at that moment.
    pub(super) async fn use_them(&self, enough: &AtomicBool) -> Result<()> {
        let write = async {
            let mut number = 0;
            while !enough.load(Ordering::SeqCst) {
                self.write(&format!("during{number}")).await?;
                number += 1;
                tokio::time::sleep(PAUSE * 10).await;
            }
            Ok(())
        };
        let read = async {
            let mut turn = 0_usize;
            while !enough.load(Ordering::SeqCst) {
                let names = self.lock(&self.written).clone();
                let name = names.get(turn % names.len().max(1)).context("nothing was written")?;
                self.read(turn, name).await?;
                turn += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Ok::<(), anyhow::Error>(())
        };
        tokio::try_join!(write, read).map(|_| ())
    }

    /// Fails unless everything that was written can be read, through each shunt.
    pub(super) async fn expect_everything(&self) -> Result<(usize, usize)> {
        let names = self.lock(&self.written).clone();
        for name in &names {
            self.read(0, name).await?;
            self.read(1, name).await?;
        }
        Ok((names.len(), *self.lock(&self.reads)))
    }

    fn lock<'own, T>(&self, mutex: &'own Mutex<T>) -> std::sync::MutexGuard<'own, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
