//! A real Keystone on a loopback address: Debian's, with a database and keys of its own.
//!
//! A cluster that trusts it is made of [`crate::swift_cluster::SwiftCluster::start_keystone_proxy`] and [`Keystone::serve`].

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::ports::{Neighbourhood, free_port};
use crate::process::{Process, ProcessOptions};
use crate::python::{SYSTEM_PYTHON, ground_file};
use crate::run_directory::RunDirectory;
use crate::swift_client::{Response, SwiftClient};

/// The administrator's name, and that of its project. Both are in the domain `Default`, as everything here.
pub const ADMIN: &str = "admin";
/// Who has this role in a project may do everything in its account.
pub const OPERATOR_ROLE: &str = "swiftoperator";
/// Who has this role anywhere may do everything everywhere.
pub const RESELLER_ADMIN_ROLE: &str = "ResellerAdmin";
const PASSWORD: &str = "keystone-admin";
/// Making the database takes seconds on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running Keystone; it ends, and its files go, when it is dropped.
#[derive(Debug)]
pub struct Keystone {
    address: SocketAddr,
    // Dropped in this order: the process first, its files last.
    process: Process,
    _directory: RunDirectory,
}

/// A user that was made.
#[derive(Debug, Clone)]
pub struct KeystoneUser {
    /// Id of the user.
    pub id: String,
    /// Id of the project, which is the account's name behind `AUTH_`.
    pub project_id: String,
}

impl Keystone {
    /// Starts it; tokens last for `token_lifetime`, whole seconds.
    pub async fn start(token_lifetime: Duration) -> Result<Self> {
        let directory = RunDirectory::create("keystone")?;
        let ip = IpAddr::V4(Neighbourhood::random().address(1));
        let address = SocketAddr::new(ip, free_port(ip)?);
        let data = directory.folder("data")?;
        let log = directory.path().join("keystone.log");
        let options = ProcessOptions::new("keystone", SYSTEM_PYTHON, log)
            .argument(ground_file("keystone_host.py"))
            .argument(&data)
            .arguments([ip.to_string(), address.port().to_string()])
            .arguments(["--password", PASSWORD])
            .arguments(["--expiration", &token_lifetime.as_secs().to_string()]);
        let (process, _stdin, stdout) = Process::start_with_pipes(options)?;
        let first_line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let ready = tokio::time::timeout(START_LIMIT, first_line).await;
        ensure!(
            matches!(&ready, Ok(Ok(Ok(line))) if line.trim() == "ready"),
            "Keystone did not start (is it installed? run scripts/setup.sh):\n{}",
            process.log_tail()
        );
        let keystone = Self { address, process, _directory: directory };
        for role in [OPERATOR_ROLE, RESELLER_ADMIN_ROLE] {
            keystone.ask("POST", "/roles", Some(json!({"role": {"name": role}}))).await?;
        }
        Ok(keystone)
    }

    /// `http://address:port`, for a fault proxy in front of it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://address:port/v3`
    pub fn url(&self) -> String {
        format!("{}/v3", self.endpoint())
    }

    /// The administrator's password.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Puts a Swift proxy, `http://address:port`, into the catalog.
    pub async fn serve(&self, swift_url: &str) -> Result<()> {
        let service = json!({"service": {"name": "swift", "type": "object-store"}});
        let service = self.ask("POST", "/services", Some(service)).await?;
        let service_id = text(&service, "/service/id")?;
        for (interface, url) in [
            ("internal", "http://127.0.0.1:1/not-for-us".to_owned()),
            ("public", format!("{swift_url}/v1/AUTH_%(project_id)s")),
        ] {
            let endpoint =
                json!({"endpoint": {"interface": interface, "service_id": service_id, "url": url}});
            self.ask("POST", "/endpoints", Some(endpoint)).await?;
        }
        Ok(())
    }

    /// Makes a project of its own for a new user, with a role in it.
    pub async fn add_user(
        &self,
        name: &str,
        password: &str,
        project: &str,
        role: &str,
    ) -> Result<KeystoneUser> {
        let made = json!({"project": {"name": project, "domain_id": "default"}});
        let project_id = text(&self.ask("POST", "/projects", Some(made)).await?, "/project/id")?;
        let made = json!({"user": {"name": name, "password": password, "domain_id": "default"}});
        let id = text(&self.ask("POST", "/users", Some(made)).await?, "/user/id")?;
        let roles = self.ask("GET", &format!("/roles?name={role}"), None).await?;
        let role_id = text(&roles, "/roles/0/id")?;
        self.ask("PUT", &format!("/projects/{project_id}/users/{id}/roles/{role_id}"), None).await?;
        Ok(KeystoneUser { id, project_id })
    }

    /// Lets a user log in, or no longer. Either way all tokens that it has are worth nothing from now on; tokens of the same
    /// second, whose times Keystone does not tell apart, neither.
    pub async fn set_enabled(&self, user: &KeystoneUser, enabled: bool) -> Result<()> {
        let change = json!({"user": {"enabled": enabled}});
        self.ask("PATCH", &format!("/users/{}", user.id), Some(change)).await.map(|_| ())
    }

    /// Asks for a token as any client does.
    pub async fn log_in(&self, user: &str, password: &str, project: &str) -> Result<Response> {
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"name": user, "domain": {"name": "Default"}, "password": password}}},
            "scope": {"project": {"name": project, "domain": {"name": "Default"}}},
        }});
        let headers = [("Content-Type", "application/json")];
        let client = SwiftClient::new(&self.endpoint(), "", None)?;
        client.send_raw("POST", "/v3/auth/tokens", &headers, Some(body.to_string().into())).await
    }

    /// A request of the administrator's.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let login = self.log_in(ADMIN, PASSWORD, ADMIN).await?.success().context("log in to Keystone")?;
        let token = login.header("x-subject-token").context("no token")?;
        let headers = [("X-Auth-Token", token), ("Content-Type", "application/json")];
        let body = body.map(|body| body.to_string().into());
        let client = SwiftClient::new(&self.endpoint(), "", None)?;
        let answer = client.send_raw(method, &format!("/v3{path}"), &headers, body).await?;
        let answer = answer.success().with_context(|| format!("{method} {path}"))?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("no {pointer} in {value}"))
}
