//! Where to connect and how to print: from flags, else from the environment, else from `ctl.toml`, else defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tonic::transport::Uri;

use super::arguments::ConnectionArguments;
use super::failure::Failure;
use super::output::{ColorChoice, Format};

/// Where control listens when nothing says otherwise.
pub const DEFAULT_CONTROL: &str = "http://127.0.0.1:50051";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Neither a token nor the settings are ever this long; a wrong path may be.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// How to read one variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A bearer token. Never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

impl Token {
    fn parse(text: &str, source: &str) -> Result<Self, Failure> {
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage(format!(
                "{source} holds no token: expected one word of visible ASCII characters"
            )));
        }
        Ok(Self(token.to_owned()))
    }

    /// The value of the header `authorization`.
    #[must_use]
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(***)")
    }
}

/// Everything that a command needs to know beside its own arguments.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Servers, in the order in which they are tried. Never empty.
    pub controls: Vec<Uri>,
    /// What to show as proof of who calls.
    pub token: Option<Token>,
    /// Certificates to trust instead of the system's.
    pub ca_cert: Option<PathBuf>,
    /// This client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// For a connection, and for each answer.
    pub timeout: Duration,
    /// How to print.
    pub format: Format,
    /// Whether to colour.
    pub color: ColorChoice,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    control: Option<OneOrMore>,
    token_file: Option<PathBuf>,
    ca_cert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    output: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => split(&text),
            Self::More(list) => list,
        }
    }
}

impl Settings {
    /// Settings from `flags`, else from `environment`, else from the settings file, else defaults.
    ///
    /// # Errors
    /// Usage, naming what cannot be used.
    pub fn gather(flags: &ConnectionArguments, environment: Environment<'_>) -> Result<Self, Failure> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let file = read_settings(flags, &set)?;
        let controls = [
            flags.control.clone(),
            set("SWIFT_S3_CONTROL").map(|text| split(&text)).unwrap_or_default(),
            file.control.map(OneOrMore::into_list).unwrap_or_default(),
            vec![DEFAULT_CONTROL.to_owned()],
        ]
        .into_iter()
        .find(|list| !list.is_empty())
        .unwrap_or_default();
        let token = match (&flags.token_file, set("SWIFT_S3_TOKEN"), &file.token_file) {
            (Some(path), _, _) | (None, None, Some(path)) => Some(read_token(path)?),
            (None, Some(text), _) => Some(Token::parse(&text, "SWIFT_S3_TOKEN")?),
            (None, None, None) => None,
        };
        let format = match (flags.output, &file.output) {
            (Some(format), _) => format,
            (None, Some(word)) => Format::parse(word)?,
            (None, None) => Format::Table,
        };
        Ok(Self {
            controls: controls.iter().map(|text| parse_control(text)).collect::<Result<_, _>>()?,
            token,
            ca_cert: flags.ca_cert.clone().or(file.ca_cert),
            identity: identity(
                flags.client_cert.clone().or(file.client_cert),
                flags.client_key.clone().or(file.client_key),
            )?,
            timeout: flags.timeout.unwrap_or(DEFAULT_TIMEOUT),
            format,
            color: flags.color,
        })
    }

    /// What an operator should know about these settings before they are used.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open = self.controls.iter().filter(|uri| uri.scheme_str() == Some("http") && !is_loopback(uri));
        match &self.token {
            None => Vec::new(),
            Some(_) => open
                .map(|uri| format!("the token goes unencrypted to {}; use https://", label(uri)))
                .collect(),
        }
    }
}

/// `http://host:port`, without the final slash that the type adds.
#[must_use]
pub fn label(uri: &Uri) -> String {
    uri.to_string().trim_end_matches('/').to_owned()
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn parse_control(text: &str) -> Result<Uri, Failure> {
    let wrong = |found: &str| {
        Failure::usage(format!(
            "wrong address of control, found {found}: expected http://HOST:PORT or https://HOST:PORT"
        ))
    };
    let uri: Uri = text.trim().parse().map_err(|_| wrong(&format!("\"{text}\"")))?;
    let authority = uri.authority().ok_or_else(|| wrong(&format!("\"{text}\"")))?;
    if authority.as_str().contains('@') {
        return Err(
            wrong("a user or password in it").hint("give the token with --token-file or in SWIFT_S3_TOKEN")
        );
    }
    match uri.scheme_str() {
        Some("http" | "https") if matches!(uri.path(), "" | "/") && uri.query().is_none() => Ok(uri),
        _ => Err(wrong(&format!("\"{text}\""))),
    }
}

fn identity(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(Failure::usage("found a client certificate without its key: give --client-key too"))
        }
        (None, Some(_)) => {
            Err(Failure::usage("found a client key without its certificate: give --client-cert too"))
        }
    }
}

/// Reads a small text file whole.
///
/// # Errors
/// Usage, naming `what` and the path.
pub fn read_small(path: &Path, what: &str) -> Result<String, Failure> {
    let wrong = |found: &dyn std::fmt::Display| {
        Failure::usage(format!("the {what} {} cannot be read: {found}", path.display()))
    };
    let length = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(wrong(&format!("found {length} bytes, expected at most {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(&error))
}

fn read_token(path: &Path) -> Result<Token, Failure> {
    Token::parse(&read_small(path, "token file")?, &path.display().to_string())
}

fn read_settings(
    flags: &ConnectionArguments,
    set: &dyn Fn(&str) -> Option<String>,
) -> Result<SettingsFile, Failure> {
    let named = flags.ctl_config.clone().or_else(|| set("SWIFT_S3CTL_CONFIG").map(PathBuf::from));
    let is_named = named.is_some();
    let Some(path) = named.or_else(|| default_path(set)) else { return Ok(SettingsFile::default()) };
    if !is_named && !path.exists() {
        return Ok(SettingsFile::default());
    }
    let text = read_small(&path, "settings file")?;
    let mut file: SettingsFile = toml::from_str(&text).map_err(|error| {
        Failure::usage(format!("the settings file {}: {}", path.display(), error.message()))
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for named in [&mut file.token_file, &mut file.ca_cert, &mut file.client_cert, &mut file.client_key] {
        *named = named.take().map(|inner| folder.join(inner));
    }
    Ok(file)
}

fn default_path(set: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = match set("XDG_CONFIG_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(set("HOME")?).join(".config"),
    };
    Some(folder.join("swift-s3-sync").join("ctl.toml"))
}

#[cfg(test)]
mod tests;
