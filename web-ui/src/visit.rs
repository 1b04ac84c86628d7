//! One request: who asks, and in which form the answer is wanted.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum_extra::extract::CookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, Method, header};

use crate::api::{Api, Who};
use crate::failure::Failure;
use crate::page::own_path;
use crate::security;
use crate::server::{Options, Visitor};

/// Notices are cut, so that cookies stay small.
const MAX_NOTICE_CHARACTERS: usize = 400;

/// In which form the answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A page.
    Html,
    /// The view itself.
    Json,
    /// The page's moving part, whenever it changes.
    Events,
}

/// Put on requests whose path ended in `.json`.
#[derive(Clone, Copy, Debug)]
pub struct WantsJson;

/// One request.
#[derive(Clone)]
pub struct Visit {
    /// The control plane, as this visitor sees it.
    pub api: Api,
    /// In which form.
    pub form: Form,
    /// What forms must carry.
    pub form_token: String,
    /// What was asked for, with its query.
    pub target: String,
    /// Told once after a change.
    pub notice: Option<String>,
    /// Where the request came from.
    pub address: Option<SocketAddr>,
    /// About this server.
    pub options: Arc<Options>,
    /// The browser keeps a token.
    pub has_token: bool,
    shows_token: bool,
    is_known_stranger: bool,
    pub(crate) cookies: Cookies,
}

/// What the browser keeps for us.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    jar: CookieJar,
    is_tls: bool,
    pub(crate) seed: String,
    pub(crate) token: Option<String>,
}

impl Cookies {
    fn read(headers: &HeaderMap, is_tls: bool) -> Self {
        let jar = CookieJar::from_headers(headers);
        let value = |name| jar.get(&cookie_name(name, is_tls)).map(|cookie| cookie.value().to_owned());
        let token = value("token").and_then(|value| URL_SAFE_NO_PAD.decode(value).ok());
        let token = token.and_then(|token| String::from_utf8(token).ok()).filter(|token| !token.is_empty());
        let known = value("form").filter(|seed| seed.len() == 64);
        let seed = known.clone().unwrap_or_else(|| hex::encode(rand::random::<[u8; 32]>()));
        let mut cookies = Self { jar: CookieJar::new(), is_tls, seed, token };
        if known.is_none() {
            cookies.jar = cookies.jar.clone().add(cookies.cookie("form", cookies.seed.clone()));
        }
        cookies
    }

    /// What the last change left to tell. Whoever forges it forges text only.
    fn notice(&self, headers: &HeaderMap) -> Option<String> {
        let jar = CookieJar::from_headers(headers);
        let value = URL_SAFE_NO_PAD.decode(jar.get(&cookie_name("notice", self.is_tls))?.value()).ok()?;
        String::from_utf8(value).ok().filter(|notice| !notice.is_empty())
    }

    fn cookie(&self, name: &str, value: String) -> Cookie<'static> {
        Cookie::build((cookie_name(name, self.is_tls), value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Strict)
            .secure(self.is_tls)
            .build()
    }

    /// Signs in.
    pub(crate) fn keep_token(&mut self, token: &str) {
        self.jar = self.jar.clone().add(self.cookie("token", URL_SAFE_NO_PAD.encode(token)));
    }

    /// Signs out.
    pub(crate) fn drop_token(&mut self) {
        let mut cookie = self.cookie("token", String::new());
        cookie.make_removal();
        self.jar = self.jar.clone().add(cookie);
    }

    /// Tells something on the next page.
    pub(crate) fn keep_notice(&mut self, text: &str) {
        let cut: String = text.chars().take(MAX_NOTICE_CHARACTERS).collect();
        self.jar = self.jar.clone().add(self.cookie("notice", URL_SAFE_NO_PAD.encode(cut)));
    }

    /// It was told.
    pub(crate) fn drop_notice(&mut self) {
        let mut cookie = self.cookie("notice", String::new());
        cookie.make_removal();
        self.jar = self.jar.clone().add(cookie);
    }

    /// What the browser is to keep from now on.
    pub(crate) fn into_jar(self) -> CookieJar {
        self.jar
    }
}

/// With TLS a prefix has browsers insist on it.
fn cookie_name(name: &str, is_tls: bool) -> String {
    if is_tls { format!("__Host-swift-s3-{name}") } else { format!("swift-s3-{name}") }
}

impl Visit {
    /// Who asks. Those who show nothing where something is needed are not asked about.
    ///
    /// # Errors
    /// When nobody may ask with this token.
    pub async fn who(&self) -> Result<Who, Failure> {
        if self.is_known_stranger {
            return Err(Failure::stranger());
        }
        self.api.who().await
    }

    /// The token of this visitor.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.cookies.token.as_deref()
    }

    /// True if a form carries what ours carry. Whoever shows a token with the request itself needs no form.
    #[must_use]
    pub fn is_own_form(&self, told: &str) -> bool {
        self.shows_token || security::is_form_token(told, &self.cookies.seed, self.token())
    }
}

/// What to go back to: what was asked for, or for a form the page that it was on.
fn target(parts: &Parts) -> &str {
    let asked = match parts.method {
        Method::GET | Method::HEAD => parts.uri.path_and_query().map(|target| target.as_str()),
        _ => parts.headers.get(header::REFERER).and_then(|page| {
            let page = page.to_str().ok()?;
            let (_, rest) = page.split_once("://")?;
            rest.find('/').and_then(|at| rest.get(at..))
        }),
    };
    own_path(asked.unwrap_or("/"))
}

impl FromRequestParts<()> for Visit {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &()) -> Result<Self, Failure> {
        let visitor = parts
            .extensions
            .get::<Visitor>()
            .cloned()
            .ok_or_else(|| Failure::internal("nobody said where this request came from"))?;
        let cookies = Cookies::read(&parts.headers, visitor.is_tls);
        let accepted =
            parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let form = match parts.extensions.get::<WantsJson>() {
            Some(WantsJson) => Form::Json,
            None if accepted.starts_with("text/event-stream") => Form::Events,
            None if accepted.starts_with("application/json") => Form::Json,
            None => Form::Html,
        };
        // Scripts that know no cookies show their token as other clients do.
        let shown = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
        let shows_token = shown.is_some();
        let token = shown.or_else(|| cookies.token.clone());
        let notice = cookies.notice(&parts.headers);
        Ok(Self {
            api: Api::new(visitor.backend.clone(), token.as_deref()),
            form,
            form_token: security::form_token(&cookies.seed, cookies.token.as_deref()),
            target: target(parts).to_owned(),
            is_known_stranger: visitor.needs_token && token.is_none(),
            has_token: cookies.token.is_some(),
            notice,
            address: visitor.address,
            options: visitor.options,
            shows_token,
            cookies,
        })
    }
}
