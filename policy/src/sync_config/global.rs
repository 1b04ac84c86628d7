//! Reads the keys outside `containers`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::problem::describe;
use super::reader::{Section, Unit};
use super::url_check::{is_plain_url, is_proxy_url, without_credentials};
use super::{CoordinationChoice, LogFormat, LogLevel, Statsd, SyncConfig, Syslog, SyslogProtocol};
use super::{Purpose, RefusedMapping, keys, limits, mappings};

/// Where the original's documentation puts the devices.
const USUAL_DEVICES: &str = "/srv/node";
const USUAL_STATUS_DIR: &str = "/var/lib/swift-s3-sync";
const USUAL_ITEMS_CHUNK: u32 = 1000;
const DEFAULT_SWIFT_DIR: &str = "/etc/swift";
const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_WORKERS: usize = 10;
const MAX_WORKERS: u32 = 1024;
const DEFAULT_VERIFICATION_SLACK: Duration = Duration::from_secs(60 * 60);
/// Longer than any transfer of one part takes.
const DEFAULT_STALE_UPLOAD_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const DEFAULT_SYSLOG_PORT: u16 = 514;
const DEFAULT_STATSD_PORT: u16 = 8125;

const PATH_RULE: &str = "a path";
const CHUNK_RULE: &str = "a whole number from 1 to 4294967295";
const HOST_RULE: &str = "the name or address of a host";

pub(crate) const KEYS: [&str; keys::GLOBAL.len()] = keys::names(&keys::GLOBAL);
const SYSLOG_KEYS: [&str; keys::SYSLOG.len()] = keys::names(&keys::SYSLOG);

const LOG_LEVELS: [(&str, LogLevel); 9] = [
    ("critical", LogLevel::Error),
    ("fatal", LogLevel::Error),
    ("error", LogLevel::Error),
    ("warning", LogLevel::Warning),
    ("warn", LogLevel::Warning),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
    ("notset", LogLevel::Trace),
];

/// Reads the whole document, and which mappings of it are refused; `None` if something required is missing or wrong,
/// which is then reported.
pub(super) fn read(section: &mut Section<'_>, purpose: Purpose) -> Option<(SyncConfig, Vec<RefusedMapping>)> {
    section.warn_of_unknown_keys(&KEYS);
    let is_complete = purpose == Purpose::Standalone;
    let devices = read_path(section, "devices", (!is_complete).then_some(USUAL_DEVICES));
    let status_dir = read_path(section, "status_dir", (!is_complete).then_some(USUAL_STATUS_DIR));
    let items_chunk = read_items_chunk(section, (!is_complete).then_some(USUAL_ITEMS_CHUNK));
    let swift_dir = section.file_path("swift_dir").unwrap_or(DEFAULT_SWIFT_DIR);
    let poll_interval = section.positive_span("poll_interval");
    let workers = read_workers(section, "workers");
    let enumerator_workers = read_workers(section, "enumerator_workers");
    let verification_slack = section.span("verification_slack", Unit::Minutes);
    let stale_upload_age = section.span("stale_upload_age", Unit::Seconds);
    let swift_bind_ip = read_bind_addresses(section);
    let internal_url = read_internal_url(section);
    let log_file = section.file_path("log_file").map(PathBuf::from);
    let log_level =
        section.choice("log_level", "\"error\", \"warning\", \"info\", \"debug\" or \"trace\"", &LOG_LEVELS);
    let log_format = section.choice(
        "log_format",
        "\"text\" or \"json\"",
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
    );
    let coordination = section.choice(
        "coordination",
        "\"auto\", \"implicit\" or \"etcd\"",
        &[
            ("auto", CoordinationChoice::Auto),
            ("implicit", CoordinationChoice::Implicit),
            ("etcd", CoordinationChoice::Etcd),
        ],
    );
    let syslog = read_syslog(section);
    let http_proxy = read_proxy(section, "http_proxy");
    let https_proxy = read_proxy(section, "https_proxy");
    let statsd = read_statsd(section);
    check_keys_of_others(section);
    let elements = section.list("containers", "a list of mappings");
    let mut refused = Vec::new();
    let singles = (purpose == Purpose::Node).then_some(&mut refused);
    let mappings = mappings::read_all(elements, section.report(), singles);
    let limits = limits::read(section);
    let config = SyncConfig {
        devices: devices?,
        status_dir: status_dir?,
        swift_dir: swift_dir.into(),
        items_chunk: items_chunk?,
        mappings,
        poll_interval: poll_interval.unwrap_or(DEFAULT_POLL_INTERVAL),
        workers,
        enumerator_workers,
        verification_slack: verification_slack.unwrap_or(DEFAULT_VERIFICATION_SLACK),
        stale_upload_age: stale_upload_age.unwrap_or(DEFAULT_STALE_UPLOAD_AGE),
        swift_bind_ip,
        internal_url,
        log_file,
        log_level: log_level.unwrap_or_default(),
        log_format: log_format.unwrap_or_default(),
        coordination: coordination.unwrap_or_default(),
        syslog,
        http_proxy,
        https_proxy,
        statsd,
        limits,
    };
    Some((config, refused))
}

/// A path that is required if there is no usual one.
fn read_path(section: &mut Section<'_>, key: &str, usual: Option<&str>) -> Option<PathBuf> {
    if section.value(key).is_some() {
        return section.file_path(key).map(PathBuf::from);
    }
    if usual.is_none() {
        section.missing(key, PATH_RULE, &KEYS);
    }
    usual.map(PathBuf::from)
}

fn read_items_chunk(section: &mut Section<'_>, usual: Option<u32>) -> Option<u32> {
    if section.value("items_chunk").is_some() {
        return section.integer("items_chunk", 1..=u32::MAX);
    }
    if usual.is_none() {
        section.missing("items_chunk", CHUNK_RULE, &KEYS);
    }
    usual
}

fn read_workers(section: &mut Section<'_>, key: &str) -> usize {
    let workers = section.integer(key, 1..=MAX_WORKERS);
    workers.and_then(|workers| usize::try_from(workers).ok()).unwrap_or(DEFAULT_WORKERS)
}

/// One address, or a list of them. An unspecified address anywhere stands for all.
fn read_bind_addresses(section: &mut Section<'_>) -> Vec<IpAddr> {
    let Some(value) = section.value("swift_bind_ip") else {
        return Vec::new();
    };
    let texts: Vec<Option<&str>> = match value {
        Value::Array(elements) => elements.iter().map(Value::as_str).collect(),
        other => vec![other.as_str()],
    };
    let addresses: Option<Vec<IpAddr>> = texts.into_iter().map(|text| text?.parse().ok()).collect();
    match addresses {
        Some(addresses) if addresses.iter().any(IpAddr::is_unspecified) => Vec::new(),
        Some(addresses) => addresses,
        None => {
            let allowed = "an IP address, or a list of them; \"0.0.0.0\" for every local one";
            section.reject("swift_bind_ip", &describe(value), allowed);
            Vec::new()
        }
    }
}

fn read_internal_url(section: &mut Section<'_>) -> Option<String> {
    let allowed = "the http:// URL of a Swift proxy, without credentials, query or fragment";
    read_url(section, "internal_url", allowed, |text| is_plain_url(text, &["http"]))
}

/// Without a scheme, `http://` is meant, as in the environment variables of the same names.
fn read_proxy(section: &mut Section<'_>, key: &str) -> Option<String> {
    let complete = |text: &str| {
        if text.contains("://") { text.to_owned() } else { format!("http://{text}") }
    };
    let allowed = "the URL of a proxy, such as \"http://proxy.example:3128\"";
    let proxy = read_url(section, key, allowed, |text| is_proxy_url(&complete(text)));
    proxy.map(|proxy| complete(&proxy))
}

/// Reads a URL; shows a wrong one without credentials.
fn read_url(
    section: &mut Section<'_>,
    key: &str,
    allowed: &str,
    accept: impl Fn(&str) -> bool,
) -> Option<String> {
    let value = section.value(key)?;
    match value.as_str() {
        Some("") => None,
        Some(text) if accept(text) => Some(text.to_owned()),
        Some(text) => {
            let shown = describe(&Value::from(without_credentials(text)));
            section.reject(key, &shown, allowed);
            None
        }
        None => {
            section.reject(key, &describe(value), allowed);
            None
        }
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.contains(|character: char| character.is_whitespace() || character.is_control())
}

fn read_syslog(section: &mut Section<'_>) -> Option<Syslog> {
    let mut syslog = section.section("syslog", "an object with host, port and proto")?;
    syslog.warn_of_unknown_keys(&SYSLOG_KEYS);
    let host = syslog.text("host", HOST_RULE, is_host).unwrap_or("localhost");
    let port = syslog.port("port", DEFAULT_SYSLOG_PORT);
    let protocol = syslog.choice(
        "proto",
        "\"udp\" or \"tcp\"",
        &[("udp", SyslogProtocol::Udp), ("tcp", SyslogProtocol::Tcp)],
    );
    Some(Syslog { host: host.to_owned(), port, protocol: protocol.unwrap_or_default() })
}

fn read_statsd(section: &mut Section<'_>) -> Option<Statsd> {
    let port = section.port("statsd_port", DEFAULT_STATSD_PORT);
    let prefix_rule = "a text without white space, \":\" and \"|\"";
    let prefix = section.text("statsd_prefix", prefix_rule, |text| {
        text.is_empty() || (is_host(text) && !text.contains([':', '|']))
    });
    let accept = |text: &str| text.is_empty() || is_host(text);
    let host = section.text("statsd_host", HOST_RULE, accept)?;
    if host.is_empty() {
        return None;
    }
    Some(Statsd {
        host: host.to_owned(),
        port,
        prefix: prefix.filter(|prefix| !prefix.is_empty()).map(str::to_owned),
    })
}

/// Keys that the file shares with other programs, and keys of the predecessor that mean nothing any more.
fn check_keys_of_others(section: &mut Section<'_>) {
    if !section.list("migrations", "a list of migrations").is_empty() {
        let allowed = "the same; this program does not serve them";
        section.warn("migrations", "migrations", allowed);
    }
    section.section("migrator_settings", "an object");
    let is_on = |value: &&Value| !matches!(value.as_f64(), Some(0.0)) && **value != Value::Bool(false);
    if let Some(value) = section.value("bulk_process").filter(is_on) {
        section.warn("bulk_process", &describe(value), "false; it has no effect");
    }
    if let Some(value) = section.value("internal_client_path") {
        let allowed = "nothing; it has no effect: internal_url names a Swift proxy to read through";
        section.warn("internal_client_path", &describe(value), allowed);
    }
    if let Some(value) = section.value("internal_client_logname") {
        section.warn("internal_client_logname", &describe(value), "nothing; it has no effect");
    }
}
