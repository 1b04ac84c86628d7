//! Tokens of a real Keystone: projects, other accounts, tokens that are revoked.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use swift_s3_policy::SwiftAuth;
use swift_s3_store::{ErrorKind, SwiftSettings, swift};
use swift_s3_tests::fault_proxy::FaultProxy;
use swift_s3_tests::keystone::{Keystone, KeystoneUser, OPERATOR_ROLE, RESELLER_ADMIN_ROLE};
use swift_s3_tests::swift_client::SwiftClient;
use swift_s3_tests::swift_remote::settings;
use swift_s3_tests::wait;

use super::{REMOTE, everything, metadata, put_of};

const PASSWORD: &str = "pässword-never-shown";

/// A Keystone, a proxy that trusts it, and the user `carol` of project `lab`.
struct Ground {
    keystone: Keystone,
    logins: FaultProxy,
    proxy: String,
    user: KeystoneUser,
}

impl Ground {
    async fn start(token_lifetime: Duration) -> Result<Self> {
        let cluster = REMOTE.get().await?;
        let keystone = Keystone::start(token_lifetime).await?;
        let proxy = cluster.start_keystone_proxy(&keystone).await?;
        keystone.serve(&proxy).await?;
        let user = keystone.add_user("carol", PASSWORD, "lab", OPERATOR_ROLE).await?;
        let logins = FaultProxy::start(&keystone.endpoint()).await?;
        Ok(Self { keystone, logins, proxy, user })
    }

    fn settings(&self, user: &str, project: &str) -> SwiftSettings {
        let auth = SwiftAuth::KeystoneV3 {
            project_name: project.to_owned(),
            project_domain_name: "Default".to_owned(),
            user_domain_name: "Default".to_owned(),
        };
        settings(&format!("{}/v3/", self.logins.endpoint()), auth, (user, PASSWORD))
    }

    fn logins(&self) -> usize {
        self.logins.seen().len()
    }
}

#[tokio::test]
async fn keystone_users_reach_their_project_and_admins_every_account() -> Result<()> {
    let ground = Ground::start(Duration::from_secs(3600)).await?;
    let store = swift::open(&ground.settings("carol", "lab")).await?;
    let account = store.swift().context("no Swift")?;
    account.ensure_container("c", None).await?;
    store.put("c/o", put_of("x", metadata(&[], &[]))).await?;
    let head = store.head("c/o").await?.context("gone")?;
    assert_eq!(head.length, 1);
    assert_eq!(ground.logins(), 1);
    let own = REMOTE.get().await?.internal_client(&format!("AUTH_{}", ground.user.project_id))?;
    assert_eq!(own.list("c").await?.len(), 1, "it is in the project's account");

    let admin = ground.keystone.add_user("rose", PASSWORD, "back-office", RESELLER_ADMIN_ROLE).await?;
    let mut settings = ground.settings("rose", "back-office");
    settings.remote.remote_account = Some(format!("AUTH_{}", ground.user.project_id));
    let store = swift::open(&settings).await?;
    store.put("c/by-rose", put_of("y", metadata(&[], &[]))).await?;
    assert_eq!(own.list("c").await?.len(), 2);
    ensure!(admin.project_id != ground.user.project_id);

    // Carol may not do that.
    let mut settings = ground.settings("carol", "lab");
    settings.remote.remote_account = Some(format!("AUTH_{}", admin.project_id));
    let error = swift::open(&settings).await?.check().await.expect_err("somebody else's account");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Denied, Some(403)));
    Ok(())
}

#[tokio::test]
async fn keystone_refusals_show_no_password() -> Result<()> {
    let ground = Ground::start(Duration::from_secs(3600)).await?;
    for (user, project) in [("carol", "unheard-of"), ("nobody", "lab")] {
        let error = swift::open(&ground.settings(user, project)).await?.check().await.expect_err("let in");
        assert_eq!((error.kind(), error.status()), (ErrorKind::Denied, Some(401)), "{error}");
        assert!(!everything(&error).contains(PASSWORD), "{error:?}");
    }
    let mut settings = ground.settings("carol", "lab");
    settings.credentials.key = "wrong".to_owned();
    let error = swift::open(&settings).await?.check().await.expect_err("let in");
    assert_eq!(error.kind(), ErrorKind::Denied);
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_is_replaced_and_a_disabled_user_is_denied() -> Result<()> {
    let ground = Ground::start(Duration::from_secs(3600)).await?;
    let mut settings = ground.settings("carol", "lab");
    // The override must survive the new login; here it names the user's own account.
    settings.remote.remote_account = Some(format!("AUTH_{}", ground.user.project_id));
    let store = swift::open(&settings).await?;
    store.swift().context("no Swift")?.ensure_container("c", None).await?;
    ground.keystone.set_enabled(&ground.user, false).await?;
    for _ in 0..2 {
        let error = store.head("c/o").await.expect_err("a disabled user");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    ground.keystone.set_enabled(&ground.user, true).await?;
    // Until Keystone's clock, which counts seconds, has moved on, new tokens are revoked too.
    wait::until("a token that is good for something", Duration::from_secs(20), async || {
        let login = ground.keystone.log_in("carol", PASSWORD, "lab").await?.success()?;
        let token = login.header("x-subject-token").context("no token")?.to_owned();
        let account = format!("AUTH_{}", ground.user.project_id);
        SwiftClient::new(&ground.proxy, &account, Some(token))?.head_container("c").await?.success()
    })
    .await?;
    assert_eq!(store.head("c/o").await?, None);
    store.put("c/o", put_of("x", metadata(&[], &[]))).await?;
    Ok(())
}
