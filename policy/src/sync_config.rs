//! The configuration file `sync.json`, parsed once into types.
//!
//! The keys are the predecessor's, with the same meaning and the same defaults, so that an existing file works.
//! Every problem is reported at once, by JSON path; what is merely odd becomes a warning. Nothing is read from
//! disk or environment here: a secret that lives elsewhere stays a [`crate::SecretSource`].

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use self::reader::{Report, Section};
use crate::limits::Limits;
use crate::mapping::Mapping;

mod containers;
mod global;
pub mod keys;
mod limits;
mod mappings;
mod problem;
mod reader;
mod remote;
mod similar;
mod swift_remote;
mod url_check;

pub(crate) use containers::KEYS as MAPPING_KEYS;
pub(crate) use global::KEYS as GLOBAL_KEYS;
pub use mappings::RefusedMapping;
pub(crate) use mappings::comparable;
pub use problem::ConfigProblem;
pub(crate) use problem::{describe, path_part};
pub(crate) use remote::shows_where;
pub(crate) use similar::most_similar;
pub(crate) use url_check::without_credentials;

/// Everything the configuration file says, checked.
#[derive(Clone)]
pub struct SyncConfig {
    /// `devices`: where the Swift devices are mounted.
    pub devices: PathBuf,
    /// `status_dir`: where cursors are kept.
    pub status_dir: PathBuf,
    /// `swift_dir`: where `swift.conf` and the rings are.
    pub swift_dir: PathBuf,
    /// `items_chunk`: most rows that one pass takes from a container at a time; at least 1.
    pub items_chunk: u32,
    /// `containers`, in the order of the file, without exact repetitions.
    pub mappings: Vec<Arc<Mapping>>,
    /// `poll_interval`: least time between two rounds.
    pub poll_interval: Duration,
    /// `workers`: rows handled at the same time, 1 to 1024.
    pub workers: usize,
    /// `enumerator_workers`: containers handled at the same time, 1 to 1024.
    pub enumerator_workers: usize,
    /// `verification_slack`: age from which a row that another node owns is checked. Minutes in the file.
    pub verification_slack: Duration,
    /// `stale_upload_age`: an upload in parts to which nothing was added for this long is given up; zero for never.
    pub stale_upload_age: Duration,
    /// `swift_bind_ip`: the addresses by which this node is known in the ring; empty for every local address.
    pub swift_bind_ip: Vec<IpAddr>,
    /// `internal_url`: an `http` URL of a Swift proxy that asks for no credentials.
    pub internal_url: Option<String>,
    /// `log_file`: required by the worker unless it logs to the console.
    pub log_file: Option<PathBuf>,
    /// `log_level`
    pub log_level: LogLevel,
    /// `log_format`
    pub log_format: LogFormat,
    /// `coordination`: how nodes share the names of a container out.
    pub coordination: CoordinationChoice,
    /// `syslog`: a further destination of log lines.
    pub syslog: Option<Syslog>,
    /// `http_proxy`: the proxy for `http` remotes. May hold credentials.
    pub http_proxy: Option<String>,
    /// `https_proxy`: the proxy for `https` remotes. May hold credentials.
    pub https_proxy: Option<String>,
    /// `statsd_host`, `statsd_port`, `statsd_prefix`
    pub statsd: Option<Statsd>,
    /// `limits`: how fast remotes may be used, over all mappings and all workers.
    pub limits: Limits,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// What a human must look at.
    Error,
    /// What was unexpected, but work went on.
    Warning,
    /// Changes of state.
    #[default]
    Info,
    /// Single objects.
    Debug,
    /// Everything.
    Trace,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How nodes share out the names of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CoordinationChoice {
    /// Through etcd where a worker was told of one, by the ring alone elsewhere.
    #[default]
    Auto,
    /// By the ring alone.
    Implicit,
    /// Through etcd.
    Etcd,
}

/// A syslog server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Transport.
    pub protocol: SyslogProtocol,
}

/// The transport to a syslog server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SyslogProtocol {
    /// Datagrams.
    #[default]
    Udp,
    /// A stream.
    Tcp,
}

/// A StatsD server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statsd {
    /// Name or address.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// What every name starts with, before a dot.
    pub prefix: Option<String>,
}

/// A configuration, and what is odd about it.
#[derive(Clone, Debug)]
pub struct ParsedConfig {
    /// The configuration.
    pub config: SyncConfig,
    /// What works but deserves a look, in the order of the file as far as there is one.
    pub warnings: Vec<ConfigProblem>,
}

/// Parses the text of a configuration file.
///
/// The caller bounds the size of the text.
///
/// # Errors
/// Every problem of the file, each with its JSON path. Never shows a secret.
pub fn parse_sync_config(text: &str) -> Result<ParsedConfig, Vec<ConfigProblem>> {
    let members = parse_members(text).map_err(|problem| vec![problem])?;
    read_members(&members, Purpose::Standalone).map(|(parsed, _)| parsed)
}

/// What a document is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is all that a worker has.
    Standalone,
    /// The control plane hands it out: what belongs to single nodes may be missing.
    ControlPlane,
    /// A node got it from the control plane: mappings are refused one by one.
    Node,
}

/// Parses the text of a JSON object.
pub(crate) fn parse_members(text: &str) -> Result<Map<String, Value>, ConfigProblem> {
    let problem = |path: String, found: String, allowed: &str| ConfigProblem {
        path,
        found,
        allowed: allowed.to_owned(),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document: Value = serde_json::from_str(text).map_err(|error| {
        let path = format!("line {}, column {}", error.line(), error.column());
        problem(path, format!("no JSON: {error}"), "a JSON document")
    })?;
    match document {
        Value::Object(members) => Ok(members),
        other => Err(problem("(document)".to_owned(), describe(&other), "a JSON object")),
    }
}

/// Reads a document into types.
pub(crate) fn read_members(
    members: &Map<String, Value>,
    purpose: Purpose,
) -> Result<(ParsedConfig, Vec<RefusedMapping>), Vec<ConfigProblem>> {
    let mut report = Report::default();
    let read = global::read(&mut Section::new(String::new(), members, &mut report), purpose);
    let warnings = report.into_result()?;
    // Without a problem everything required was there.
    let (config, refused) = read.ok_or_else(Vec::new)?;
    Ok((ParsedConfig { config, warnings }, refused))
}

impl SyncConfig {
    /// The ids of `mappings`, in their order, each different.
    pub fn mapping_ids(&self) -> Vec<String> {
        self.mappings.iter().map(|mapping| mapping.id()).collect()
    }
}

/// Hides what proxies' URLs hold before an `@`.
impl fmt::Debug for SyncConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = |url: &Option<String>| url.as_deref().map(without_credentials);
        formatter
            .debug_struct("SyncConfig")
            .field("devices", &self.devices)
            .field("status_dir", &self.status_dir)
            .field("swift_dir", &self.swift_dir)
            .field("items_chunk", &self.items_chunk)
            .field("mappings", &self.mappings)
            .field("poll_interval", &self.poll_interval)
            .field("workers", &self.workers)
            .field("enumerator_workers", &self.enumerator_workers)
            .field("verification_slack", &self.verification_slack)
            .field("stale_upload_age", &self.stale_upload_age)
            .field("swift_bind_ip", &self.swift_bind_ip)
            .field("internal_url", &self.internal_url)
            .field("log_file", &self.log_file)
            .field("log_level", &self.log_level)
            .field("log_format", &self.log_format)
            .field("coordination", &self.coordination)
            .field("syslog", &self.syslog)
            .field("http_proxy", &proxy(&self.http_proxy))
            .field("https_proxy", &proxy(&self.https_proxy))
            .field("statsd", &self.statsd)
            .field("limits", &self.limits)
            .finish()
    }
}

#[cfg(test)]
mod tests;
