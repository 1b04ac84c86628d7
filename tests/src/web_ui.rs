//! The web UI of a control plane with an access file: an operator, a viewer and the workers, each with a token.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::browser::{Browser, Page, SOON, button, textbox};
use crate::control_process::Control;
use crate::ports::{Neighbourhood, free_port};

/// Who uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// May read and change.
    Operator,
    /// May read.
    Viewer,
    /// A worker or shunt: no person.
    Node,
}

impl Caller {
    const ALL: [Self; 3] = [Self::Operator, Self::Viewer, Self::Node];

    /// The name in the access file, as pages and logs show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "olga",
            Self::Viewer => "victor",
            Self::Node => "workers",
        }
    }

    /// What to sign in with.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Operator => "operator-token-0123456789",
            Self::Viewer => "viewer-token-0123456789",
            Self::Node => "node-token-0123456789",
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Node => "node",
        }
    }
}

/// What a request without a browser was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// The body.
    pub text: String,
    headers: HeaderMap,
}

impl Answer {
    /// A header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Where the pages are, and who may see them.
#[derive(Debug, Clone)]
pub struct WebUi {
    address: SocketAddr,
    folder: PathBuf,
}

impl WebUi {
    /// Writes an access file into `folder` and finds a place for the pages. Nothing is started.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let ip = IpAddr::V4(Neighbourhood::random().address(1));
        let address = SocketAddr::new(ip, free_port(ip)?);
        let ui = Self { address, folder: folder.to_owned() };
        let entries = Caller::ALL.map(|caller| {
            let (name, role, token) = (caller.name(), caller.role(), caller.token());
            format!("[[access]]\nname = \"{name}\"\nrole = \"{role}\"\ntoken = \"{token}\"\n")
        });
        write_private(&ui.access_file(), &entries.concat())?;
        write_private(&ui.node_token_file(), Caller::Node.token())?;
        Ok(ui)
    }

    /// Starts a control plane with it; tests call that as operator.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&self, folder: PathBuf, arguments: &[&str]) -> Result<Control> {
        let (http, access) = (self.address.to_string(), self.access_file());
        let access = access.to_string_lossy().into_owned();
        let own = ["--http", &http, "--access", &access];
        Control::start_with(folder, &[&own, arguments].concat()).await?.with_token(Caller::Operator.token())
    }

    /// `http://…` of a path such as `/nodes`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What workers need to be let in.
    #[must_use]
    pub fn node_token_file(&self) -> PathBuf {
        self.folder.join("node.token")
    }

    /// A window in which somebody has signed in, as a person does it.
    ///
    /// # Errors
    /// When that does not lead to the overview.
    pub async fn signed_in(&self, browser: &Browser, caller: Caller) -> Result<Page> {
        let page = browser.page().await?;
        self.sign_in(&page, caller).await?;
        Ok(page)
    }

    /// Signs somebody in.
    ///
    /// # Errors
    /// When that does not lead to the overview.
    pub async fn sign_in(&self, page: &Page, caller: Caller) -> Result<()> {
        page.open(&self.url("/sign-in")).await?;
        page.fill(&textbox("Token"), caller.token()).await?;
        page.click(&button("Sign in")).await?;
        page.wait_text(caller.name(), SOON).await
    }

    /// A request without a browser; what the answer says, wherever it sends browsers.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request.body(Full::new(Bytes::from(body.to_owned())))?).await?;
        let (head, body) = answer.into_parts();
        let text = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
        Ok(Answer { status: head.status.as_u16(), text, headers: head.headers })
    }

    fn access_file(&self) -> PathBuf {
        self.folder.join("access.toml")
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
