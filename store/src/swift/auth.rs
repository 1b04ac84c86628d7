//! Logging in: what is asked, and how the answer is read. Sends nothing itself.
//!
//! Source: Swift API guide, "Object Storage API overview", authentication; Identity API v3, "Password authentication
//! with scoped authorization"; Identity API v2.0, `POST /tokens`.

use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde_json::{Value, json};
use swift_s3_policy::{SwiftAuth, SwiftRemote};

use crate::swift::SwiftCredentials;
use crate::swift::request::PATH_CHARACTERS;

/// The kind of service that we look for in a catalog.
const SERVICE: &str = "object-store";

/// How to log in to one account.
pub(crate) struct Auth {
    url: String,
    method: SwiftAuth,
    credentials: SwiftCredentials,
    remote_account: Option<String>,
}

/// A request for a token. Holds the password.
pub(crate) struct LoginRequest {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A token, and where it can be used.
pub(crate) struct Login {
    /// Without a slash at its end.
    pub(crate) storage_url: String,
    pub(crate) token: HeaderValue,
    /// How long it lasts, if the answer tells.
    pub(crate) lifetime: Option<Duration>,
}

impl Auth {
    /// # Errors
    /// A text that says what is wrong with the URL, without showing a password in it.
    pub(crate) fn new(remote: &SwiftRemote, credentials: &SwiftCredentials) -> Result<Self, String> {
        let url = remote.auth_url.trim_end_matches('/').to_owned();
        check_url(&url).map_err(|error| format!("auth_url: {error}"))?;
        Ok(Self {
            url,
            method: remote.auth.clone(),
            credentials: credentials.clone(),
            remote_account: remote.remote_account.clone().filter(|account| !account.is_empty()),
        })
    }

    /// # Errors
    /// When the user's name or the password cannot be sent.
    pub(crate) fn request(&self) -> Result<LoginRequest, &'static str> {
        let SwiftCredentials { user, key } = &self.credentials;
        let (path, body) = match &self.method {
            SwiftAuth::V1 => return self.request_v1(),
            SwiftAuth::KeystoneV2 { tenant_name } => (
                "/tokens",
                json!({"auth": {
                    "passwordCredentials": {"username": user, "password": key}, "tenantName": tenant_name,
                }}),
            ),
            SwiftAuth::KeystoneV3 { project_name, project_domain_name, user_domain_name } => (
                "/auth/tokens",
                json!({"auth": {
                    "identity": {"methods": ["password"], "password": {"user": {
                        "name": user, "domain": {"name": user_domain_name}, "password": key,
                    }}},
                    "scope": {"project": {"name": project_name, "domain": {"name": project_domain_name}}},
                }}),
            ),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Ok(LoginRequest {
            method: Method::POST,
            url: format!("{}{path}", self.url),
            headers,
            body: body.to_string().into_bytes(),
        })
    }

    fn request_v1(&self) -> Result<LoginRequest, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-auth-user", &self.credentials.user), ("x-auth-key", &self.credentials.key)]
        {
            let mut value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| "user and key must fit into headers")?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(LoginRequest { method: Method::GET, url: self.url.clone(), headers, body: Vec::new() })
    }

    /// Reads the answer to [`Self::request`], of a status that means success.
    ///
    /// # Errors
    /// What is missing in it.
    pub(crate) fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Login, String> {
        let login = match &self.method {
            SwiftAuth::V1 => read_v1(headers)?,
            SwiftAuth::KeystoneV2 { .. } => read_v2(body)?,
            SwiftAuth::KeystoneV3 { .. } => read_v3(headers, body)?,
        };
        let storage_url = login.storage_url.trim_end_matches('/');
        check_url(storage_url).map_err(|error| format!("storage URL: {error}"))?;
        let storage_url = match &self.remote_account {
            Some(account) => with_account(storage_url, account),
            None => storage_url.to_owned(),
        };
        Ok(Login { storage_url, ..login })
    }
}

/// An absolute URL, without a query and a password.
fn check_url(url: &str) -> Result<(), &'static str> {
    let expected = "expected an http or https URL with a host and nothing but a path after it";
    let uri: Uri = url.parse().map_err(|_| expected)?;
    let authority = uri.authority().ok_or(expected)?;
    let usable = matches!(uri.scheme_str(), Some("http" | "https"))
        && !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && uri.query().is_none()
        && !url.contains('#');
    usable.then_some(()).ok_or(expected)
}

/// The same server, another account.
fn with_account(storage_url: &str, account: &str) -> String {
    let end_of_scheme = storage_url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = storage_url.split_at(end_of_scheme);
    let authority = rest.split('/').next().unwrap_or(rest);
    format!("{scheme}{authority}/v1/{}", utf8_percent_encode(account, PATH_CHARACTERS))
}

fn token(value: &[u8]) -> Result<HeaderValue, String> {
    let mut token = HeaderValue::from_bytes(value).map_err(|_| "token does not fit into a header")?;
    if token.is_empty() {
        return Err("expected a token, got an empty one".to_owned());
    }
    token.set_sensitive(true);
    Ok(token)
}

fn read_v1(headers: &HeaderMap) -> Result<Login, String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let storage_url = text("x-storage-url").ok_or("expected an X-Storage-Url header, got none")?.to_owned();
    let value = headers
        .get("x-auth-token")
        .or_else(|| headers.get("x-storage-token"))
        .ok_or("expected an X-Auth-Token header, got none")?;
    let lifetime = text("x-auth-token-expires")
        .and_then(|seconds| seconds.trim().parse::<f64>().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(Login { storage_url, token: token(value.as_bytes())?, lifetime })
}

#[derive(Deserialize)]
struct AnswerV2 {
    access: AccessV2,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessV2 {
    token: TokenV2,
    #[serde(default)]
    service_catalog: Vec<ServiceV2>,
}

#[derive(Deserialize)]
struct TokenV2 {
    id: String,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    issued_at: Option<String>,
}

#[derive(Deserialize)]
struct ServiceV2 {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Value>,
}

fn read_v2(body: &[u8]) -> Result<Login, String> {
    let answer: AnswerV2 = parse(body)?;
    let access = answer.access;
    let storage_url = access
        .service_catalog
        .iter()
        .filter(|service| service.kind == SERVICE)
        .flat_map(|service| &service.endpoints)
        .find_map(|endpoint| endpoint.get("publicURL").and_then(Value::as_str))
        .ok_or_else(no_endpoint)?
        .to_owned();
    Ok(Login {
        storage_url,
        token: token(access.token.id.as_bytes())?,
        lifetime: lifetime(access.token.issued_at.as_deref(), access.token.expires.as_deref()),
    })
}

#[derive(Deserialize)]
struct AnswerV3 {
    token: TokenV3,
}

#[derive(Deserialize)]
struct TokenV3 {
    #[serde(default)]
    issued_at: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    catalog: Vec<ServiceV3>,
}

#[derive(Deserialize)]
struct ServiceV3 {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    endpoints: Vec<EndpointV3>,
}

#[derive(Deserialize)]
struct EndpointV3 {
    #[serde(default)]
    interface: String,
    #[serde(default)]
    url: String,
}

fn read_v3(headers: &HeaderMap, body: &[u8]) -> Result<Login, String> {
    let value = headers.get("x-subject-token").ok_or("expected an X-Subject-Token header, got none")?;
    let answer: AnswerV3 = parse(body)?;
    let storage_url = answer
        .token
        .catalog
        .iter()
        .filter(|service| service.kind == SERVICE)
        .flat_map(|service| &service.endpoints)
        .find(|endpoint| endpoint.interface == "public")
        .ok_or_else(no_endpoint)?
        .url
        .clone();
    Ok(Login {
        storage_url,
        token: token(value.as_bytes())?,
        lifetime: lifetime(answer.token.issued_at.as_deref(), answer.token.expires_at.as_deref()),
    })
}

/// The parser's own message could show what it stumbled over: a token.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("expected a token's JSON, got other content (line {})", error.line()))
}

fn no_endpoint() -> String {
    format!("no public endpoint of type {SERVICE} in the catalog: is the user in that project?")
}

/// From the server's own clock on both sides, so that ours does not matter.
fn lifetime(issued_at: Option<&str>, expires_at: Option<&str>) -> Option<Duration> {
    let time = |text: &str| DateTime::from_str(text, Format::DateTimeWithOffset).ok();
    let (issued, expires) = (time(issued_at?)?, time(expires_at?)?);
    let seconds = expires.as_secs_f64() - issued.as_secs_f64();
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests;
