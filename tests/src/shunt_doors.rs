//! The shunt's two doors, with users of the scenario's own account: in front of Swift's proxy, and in its pipeline.
//!
//! ```no_run
//! # use anyhow::Result;
//! use swift_s3_tests::shunt_doors::{Door, OpenDoor};
//! use swift_s3_tests::sync_json::SyncJson;
//!
//! # async fn scenario(site: swift_s3_tests::site::Site) -> Result<()> {
//! for door in Door::ALL {
//!     let config = SyncJson::new().mapping(site.mapping("c").set("merge_namespaces", true));
//!     let open = OpenDoor::open(door, &site, &config).await?;
//!     let client = open.client().await?;
//!     client.get_object("c", "archived").await?;
//! }
//! # Ok(()) }
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};

use crate::ports::free_port;
use crate::shunt_process::{Shunt, ShuntOptions};
use crate::site::Site;
use crate::swift_client::SwiftClient;
use crate::swift_cluster::{ClientProxy, ClientProxyOptions};
use crate::sync_json::SyncJson;

/// Where clients meet the shunt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// They connect to the shunt, which passes requests on to Swift's proxy.
    Proxy,
    /// They connect to Swift's proxy, which has the filter in its pipeline. This proxy also speaks S3.
    Filter,
}

impl Door {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Proxy, Self::Filter];
}

impl fmt::Display for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Proxy => "proxy door",
            Self::Filter => "filter door",
        })
    }
}

/// A user of tempauth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The administrator of the site's account.
    Owner,
    /// A user of the site's account without rights of its own: what ACLs give.
    Reader,
    /// The administrator of another account.
    Stranger,
}

impl User {
    const ALL: [Self; 3] = [Self::Owner, Self::Reader, Self::Stranger];

    /// The key of all users.
    pub const KEY: &str = "testing";

    fn parts(self, account: &str) -> (String, &'static str, &'static str) {
        match self {
            Self::Owner => (account.to_owned(), "owner", ".admin"),
            Self::Reader => (account.to_owned(), "reader", ""),
            Self::Stranger => (format!("x{account}"), "stranger", ".admin"),
        }
    }
}

/// A shunt and a proxy of Swift, connected.
#[derive(Debug)]
pub struct OpenDoor {
    /// Which one.
    pub door: Door,
    /// The product's process.
    pub shunt: Shunt,
    /// Swift's proxy for clients, with the filter if it is that door.
    pub proxy: ClientProxy,
    account: String,
}

impl OpenDoor {
    /// Starts both, for the account of `site`.
    pub async fn open(door: Door, site: &Site, config: &SyncJson) -> Result<Self> {
        Self::open_with(door, site, config, "").await
    }

    /// The filter door by a loopback port and a token.
    pub async fn open_by_port(site: &Site, config: &SyncJson) -> Result<Self> {
        let folder = site.directory().folder(format!("shunt-{:08x}", rand::random::<u32>()))?;
        let token = folder.join("token");
        std::fs::write(&token, "a-word-of-its-own\n")?;
        let port = free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let mut options = ShuntOptions::new("", config.clone());
        options.swift = None;
        let arguments = [
            "--filter-listen".to_owned(),
            format!("127.0.0.1:{port}"),
            "--filter-token-file".to_owned(),
            token.display().to_string(),
        ];
        options.arguments.extend(arguments);
        let account = site.swift.account().trim_start_matches("AUTH_").to_owned();
        let shunt = Shunt::start(folder, options).await?;
        let lines =
            format!("shunt = http://127.0.0.1:{port}\ntoken_file = {}\ncontainers_file =\n", token.display());
        let options = ClientProxyOptions {
            users: users_of(&account),
            filter: Some(lines),
            ..ClientProxyOptions::default()
        };
        let proxy = site.cluster.start_client_proxy(&options).await?;
        Ok(Self { door: Door::Filter, shunt, proxy, account })
    }

    /// The same with further lines of the filter's section, for the door that has one.
    pub async fn open_with(door: Door, site: &Site, config: &SyncJson, lines: &str) -> Result<Self> {
        Self::open_on(door, site, config, lines, false).await
    }

    /// Both in a pipeline without tempurl.
    pub async fn open_without_tempurl(door: Door, site: &Site, config: &SyncJson) -> Result<Self> {
        Self::open_on(door, site, config, "", true).await
    }

    async fn open_on(
        door: Door,
        site: &Site,
        config: &SyncJson,
        lines: &str,
        without_tempurl: bool,
    ) -> Result<Self> {
        let account =
            site.swift.account().strip_prefix("AUTH_").context("an account of tempauth")?.to_owned();
        let folder = site.directory().folder(format!("shunt-{:08x}", rand::random::<u32>()))?;
        let users = users_of(&account);
        match door {
            Door::Proxy => {
                let options = ClientProxyOptions { users, filter: None, without_tempurl };
                let proxy = site.cluster.start_client_proxy(&options).await?;
                let mut options = ShuntOptions::new(&proxy.url(), config.clone());
                options.internal_url = Some(site.cluster.internal_url()?);
                let shunt = Shunt::start(folder, options).await?;
                Ok(Self { door, shunt, proxy, account })
            }
            Door::Filter => {
                // Without internal_url: restores go through the filter.
                let mut options = ShuntOptions::new("", config.clone());
                options.swift = None;
                options.filter = true;
                let kept = folder.join("containers.json");
                let shunt = Shunt::start(folder, options).await?;
                let filter = format!(
                    "conf_file = /etc/swift-s3-sync/sync.json\nshunt = unix://{}\ncontainers_file = {}\n{lines}",
                    shunt.socket().display(),
                    kept.display()
                );
                let options = ClientProxyOptions { users, filter: Some(filter), without_tempurl };
                let proxy = site.cluster.start_client_proxy(&options).await?;
                Ok(Self { door, shunt, proxy, account })
            }
        }
    }

    /// `http://address:port` for clients.
    pub fn url(&self) -> Result<String> {
        match self.door {
            Door::Proxy => self.shunt.url(),
            Door::Filter => Ok(self.proxy.url()),
        }
    }

    /// The administrator's client.
    pub async fn client(&self) -> Result<SwiftClient> {
        self.client_of(User::Owner).await
    }

    /// A user's client of the user's own account.
    pub async fn client_of(&self, user: User) -> Result<SwiftClient> {
        SwiftClient::log_in(&self.url()?, &self.login(user), User::KEY).await
    }

    /// A client of the site's account, with a user's token.
    pub async fn as_user(&self, user: User) -> Result<SwiftClient> {
        let token = self.client_of(user).await?.token().map(str::to_owned);
        SwiftClient::new(&self.url()?, &format!("AUTH_{}", self.account), token)
    }

    /// A client of the site's account without a token.
    pub fn anonymous(&self) -> Result<SwiftClient> {
        SwiftClient::new(&self.url()?, &format!("AUTH_{}", self.account), None)
    }

    /// `account:user`, for other programs; the key is [`User::KEY`]. With s3api it is the access key.
    pub fn login(&self, user: User) -> String {
        let (account, name, _) = user.parts(&self.account);
        format!("{account}:{name}")
    }
}

fn users_of(account: &str) -> Vec<(String, String, String, String)> {
    let user = |user: User| {
        let (account, name, groups) = user.parts(account);
        (account, name.to_owned(), User::KEY.to_owned(), groups.to_owned())
    };
    User::ALL.map(user).to_vec()
}
