//! The policy from a control plane, as it changes; the last good one is kept on disk and never expires.

use std::sync::Arc;
use std::time::Duration;

use swift_s3_daemon::control_client::{ControlSettings, LastGood, SettingsError, ShowToken};
use swift_s3_policy::ConfigProblem;
use swift_s3_proto::MAX_MESSAGE_BYTES;
use swift_s3_proto::v1::policy_service_client::PolicyServiceClient;
use swift_s3_proto::v1::{Snapshot, WatchSnapshotRequest};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use super::{Parsed, Policies};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// How often remotes that could not be opened are tried again; a secret may have come meanwhile.
const RETRY: Duration = Duration::from_secs(30);

/// Follows a control plane.
#[derive(Debug)]
pub struct Follower {
    settings: ControlSettings,
    endpoints: Vec<Endpoint>,
    kept: LastGood,
    /// The shunt's own file, for what belongs to this machine (`internal_url`, proxies).
    local: Option<String>,
    policies: Arc<Policies>,
    generation: u64,
    /// What is in force but for some remotes that could not be opened: tried again.
    unfinished: Option<Parsed>,
}

impl Follower {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// When the addresses or certificates are wrong.
    pub fn new(
        settings: ControlSettings,
        state_dir: &std::path::Path,
        local: Option<String>,
        policies: Arc<Policies>,
    ) -> Result<Self, SettingsError> {
        let endpoints = settings.endpoints()?;
        Ok(Self {
            settings,
            endpoints,
            kept: LastGood::new(state_dir),
            local,
            policies,
            generation: 0,
            unfinished: None,
        })
    }

    /// Puts in force what was last good, if there is such. Answers whether there was.
    pub async fn begin(&mut self) -> bool {
        let Some(snapshot) = self.kept.load().filter(|snapshot| snapshot.revision != 0) else {
            return false;
        };
        match self.parse(&snapshot) {
            Ok(parsed) => {
                tracing::info!(revision = snapshot.revision, "beginning with the last good configuration");
                self.install(parsed).await;
                true
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!(revision = snapshot.revision, "the kept configuration: {problem}");
                }
                false
            }
        }
    }

    /// Follows until told to stop.
    pub async fn run(mut self, ready: Arc<tokio::sync::Notify>, stop: CancellationToken) {
        self.policies.state().set_connected(false);
        let mut pause = FIRST_PAUSE;
        let mut turn = 0usize;
        loop {
            let endpoints = self.endpoints.clone();
            if let Some(endpoint) = endpoints.get(turn % endpoints.len().max(1)) {
                let outcome = tokio::select! {
                    outcome = self.watch(endpoint, &ready) => outcome,
                    () = stop.cancelled() => return,
                };
                self.policies.state().set_connected(false);
                match outcome {
                    Ok(()) => pause = FIRST_PAUSE,
                    Err(error) => {
                        tracing::warn!(url = %endpoint.uri(), error = %error.message(), code = ?error.code(), "the control plane is away; the policy in force stays");
                    }
                }
            }
            turn = turn.wrapping_add(1);
            let spread = pause.mul_f64(rand::random_range(0.5..1.5));
            tokio::select! {
                () = tokio::time::sleep(spread) => {}
                () = stop.cancelled() => return,
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// One connection, until it ends. `Ok` when it had been good for something.
    async fn watch(&mut self, endpoint: &Endpoint, ready: &tokio::sync::Notify) -> Result<(), tonic::Status> {
        let channel =
            endpoint.connect().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let token = ShowToken::new(self.settings.token.as_ref());
        let mut client = PolicyServiceClient::with_interceptor(channel, token)
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = WatchSnapshotRequest { generation: self.generation };
        let mut stream = client.watch_snapshot(request).await?.into_inner();
        self.policies.state().set_connected(true);
        tracing::info!(url = %endpoint.uri(), "following the control plane");
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = tokio::time::sleep(RETRY), if self.unfinished.is_some() => {
                    if let Some(parsed) = self.unfinished.take() {
                        let is_whole = self.policies.install_again(&parsed).await.is_empty();
                        self.unfinished = (!is_whole).then_some(parsed);
                    }
                    continue;
                }
            };
            match message {
                Ok(Some(snapshot)) => {
                    self.generation = snapshot.generation;
                    if self.take(snapshot).await {
                        ready.notify_one();
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::info!(error = %error.message(), "the control plane ended the stream");
                    return Ok(());
                }
            }
        }
    }

    /// What is wrong as a whole changes nothing; mappings that are wrong keep what they had, and are told. Answers whether a policy is in
    /// force now.
    async fn take(&mut self, snapshot: Snapshot) -> bool {
        // A control plane that lost its memory has nothing to say; to a shunt without one of its own it says that nothing is merged.
        if snapshot.revision == 0 {
            return true;
        }
        match self.parse(&snapshot) {
            Ok(parsed) => {
                self.install(parsed).await;
                tracing::info!(revision = snapshot.revision, "policy pushed");
                let kept = self.kept.clone();
                let stored = tokio::task::spawn_blocking(move || kept.store(&snapshot)).await;
                if let Ok(Err(error)) = stored {
                    tracing::error!(%error, "could not keep the configuration; a start without the control plane would use the one before");
                }
                true
            }
            Err(problems) => {
                self.policies.state().refused();
                for problem in problems {
                    tracing::error!(revision = snapshot.revision, "the configuration is not used: {problem}");
                }
                false
            }
        }
    }

    async fn install(&mut self, parsed: Parsed) {
        let is_whole = self.policies.install(&parsed).await.is_empty();
        self.unfinished = (!is_whole).then_some(parsed);
    }

    fn parse(&self, snapshot: &Snapshot) -> Result<Parsed, Vec<ConfigProblem>> {
        let document = std::str::from_utf8(&snapshot.document).map_err(|error| {
            vec![ConfigProblem {
                path: String::new(),
                found: error.to_string(),
                allowed: "UTF-8 text".into(),
            }]
        })?;
        let (parsed, problems) = Parsed::read(document, self.local.as_deref())?;
        for problem in problems {
            tracing::error!("a mapping cannot be served: {problem}");
        }
        Ok(parsed.of_revision(u64::try_from(snapshot.revision).unwrap_or_default()))
    }
}
