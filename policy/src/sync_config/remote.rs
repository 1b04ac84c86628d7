//! The remote of a mapping: where it is, and with which credentials.

use serde_json::Value;

use super::problem::{describe, describe_secret};
use super::reader::Section;
use super::url_check::{is_plain_url, without_credentials};
use super::{keys, swift_remote};
use crate::remote::{Addressing, ArchivedMetadata, Remote, S3Remote};
use crate::secret::{CredentialSource, Secret, SecretSource};

const SECRET: &str = "a non-empty string, {\"file\": \"/path\"} or {\"env\": \"NAME\"}";
const ENDPOINT: &str = "an http:// or https:// URL with a host, without credentials, query or fragment";

/// Reads the remote; `None` only if the bucket is missing or wrong, or a Swift remote has no URL.
pub(super) fn read(section: &mut Section<'_>, known: &[&str]) -> Option<Remote> {
    match section.value("protocol").map(|value| (value, value.as_str())) {
        None | Some((_, Some("s3"))) => read_s3(section, known).map(Remote::S3),
        Some((_, Some("swift"))) => swift_remote::read(section, known).map(Remote::Swift),
        Some((value, _)) => {
            section.reject("protocol", &describe(value), "\"s3\" or \"swift\"");
            read_s3(section, known).map(Remote::S3)
        }
    }
}

fn read_s3(section: &mut Section<'_>, known: &[&str]) -> Option<S3Remote> {
    warn_of_swift_keys(section);
    let endpoint = read_endpoint(section);
    let bucket = read_bucket(
        section,
        known,
        "the name of a bucket: 1 to 255 bytes without \"/\" and white space",
        is_bucket,
    );
    let region = section.text("aws_region", "the name of a region, such as \"eu-west-1\"", is_region);
    let addressing = section.choice(
        "aws_addressing_style",
        "\"auto\", \"path\" or \"virtual\"",
        &[("auto", Addressing::Auto), ("path", Addressing::Path), ("virtual", Addressing::VirtualHost)],
    );
    let credentials = read_credentials(section);
    let encryption = section.flag("encryption", true);
    let storage_class = read_storage_class(section);
    let archived_metadata = section.choice(
        "remote_archived_metadata",
        "\"upload\" or \"keep\"",
        &[("upload", ArchivedMetadata::Upload), ("keep", ArchivedMetadata::Keep)],
    );
    Some(S3Remote {
        endpoint,
        bucket: bucket?,
        region: region.map(str::to_owned),
        addressing: addressing.unwrap_or_default(),
        credentials,
        encryption,
        storage_class,
        archived_metadata: archived_metadata.unwrap_or_default(),
    })
}

pub(super) fn read_bucket(
    section: &mut Section<'_>,
    known: &[&str],
    rule: &str,
    accept: impl Fn(&str) -> bool,
) -> Option<String> {
    if section.value("aws_bucket").is_none() {
        section.missing("aws_bucket", rule, known);
    }
    section.text("aws_bucket", rule, accept).map(str::to_owned)
}

/// Classes that Amazon and Google have. Source: Amazon S3 API reference, `x-amz-storage-class` of PutObject; Google Cloud
/// Storage, "Storage classes".
const STORAGE_CLASSES: [&str; 14] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
    "SNOW",
    "NEARLINE",
    "COLDLINE",
    "ARCHIVE",
];

fn read_storage_class(section: &mut Section<'_>) -> Option<String> {
    let rule = "the name of a storage class, such as \"STANDARD_IA\"";
    let is_word = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        (1..=32).contains(&text.len()) && text.bytes().all(plain)
    };
    let class = section.text("storage_class", rule, is_word)?;
    if !STORAGE_CLASSES.contains(&class) {
        section.warn("storage_class", &format!("{class:?}, which neither Amazon nor Google has"), rule);
    }
    Some(class.to_owned())
}

pub(super) fn read_endpoint(section: &mut Section<'_>) -> Option<String> {
    let value = section.value("aws_endpoint")?;
    match value.as_str() {
        Some("") => None,
        Some(text) if is_plain_url(text, &["http", "https"]) => Some(text.to_owned()),
        Some(text) => {
            let shown = describe(&Value::from(without_credentials(text)));
            section.reject("aws_endpoint", &shown, ENDPOINT);
            None
        }
        None => {
            section.reject("aws_endpoint", &describe(value), ENDPOINT);
            None
        }
    }
}

fn is_bucket(text: &str) -> bool {
    let strange = |character: char| character == '/' || character.is_whitespace() || character.is_control();
    (1..=255).contains(&text.len()) && !text.contains(strange) && text != "." && text != ".."
}

fn is_region(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// What Python takes for true.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

fn warn_of_swift_keys(section: &mut Section<'_>) {
    // The predecessor ignored them, too.
    for key in keys::MAPPING.iter().filter(|key| key.remotes == keys::Remotes::Swift) {
        if let Some(value) = section.value(key.name).filter(|value| is_truthy(value)) {
            section.warn(
                key.name,
                &describe(value),
                "nothing: it is about Swift remotes and has no effect here",
            );
        }
    }
}

pub(super) fn read_credentials(section: &mut Section<'_>) -> CredentialSource {
    let identity = read_secret(section, "aws_identity");
    let secret = read_secret(section, "aws_secret");
    let session_token = read_secret(section, "aws_session_token");
    let given = |key: &str| section.value(key).is_some();
    let (has_identity, has_secret) = (given("aws_identity"), given("aws_secret"));
    let has_token = given("aws_session_token");
    let pair = "both aws_identity and aws_secret, or neither for the default credential chain";
    match (has_identity, has_secret) {
        (true, false) => section.reject("aws_secret", "nothing", pair),
        (false, true) => section.reject("aws_identity", "nothing", pair),
        (false, false) if has_token => {
            let allowed = "nothing without aws_identity and aws_secret";
            section.reject("aws_session_token", "a token (not shown)", allowed);
        }
        _ => {}
    }
    match (identity, secret) {
        (Some(identity), Some(secret)) => CredentialSource::Static { identity, secret, session_token },
        _ => CredentialSource::DefaultChain,
    }
}

/// Reads a secret, or where it is. Shows nothing of it.
fn read_secret(section: &mut Section<'_>, key: &str) -> Option<SecretSource> {
    let value = section.value(key)?;
    let source = match value {
        Value::String(text) => is_secret(text).then(|| SecretSource::Inline(Secret::new(text))),
        _ => elsewhere(value),
    };
    if source.is_none() {
        section.reject(key, &describe_secret(value), SECRET);
    }
    source
}

/// Where a secret is that the configuration does not hold itself.
fn elsewhere(value: &Value) -> Option<SecretSource> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    let text_of = |name: &str| members.get(name).and_then(Value::as_str);
    let file = text_of("file").filter(|path| path.starts_with('/') && !path.contains('\0'));
    let variable = text_of("env").filter(|name| is_variable(name));
    file.map(|path| SecretSource::File(path.into()))
        .or_else(|| variable.map(|name| SecretSource::Env(name.to_owned())))
}

/// Whether the value of a secret says where the secret is, and holds nothing of it.
pub(crate) fn shows_where(value: &Value) -> bool {
    elsewhere(value).is_some()
}

/// A secret goes into header lines, where a control character would end it or break them.
fn is_secret(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(|character: char| character == '=' || character.is_control())
}
