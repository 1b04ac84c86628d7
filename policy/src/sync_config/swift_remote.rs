//! Another Swift cluster as the remote of a mapping.

use std::time::Duration;

use serde_json::Value;

use super::keys;
use super::problem::{describe, quoted};
use super::reader::{Section, Unit};
use super::remote::{read_bucket, read_credentials, read_endpoint};
use crate::remote::{SwiftAuth, SwiftRemote};
use crate::secret::CredentialSource;

/// Swift's limit for the names of containers and accounts, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// What the predecessor added for segments.
const SEGMENTS_LIVE_LONGER: Duration = Duration::from_secs(86_400);
/// The largest segment of a Swift cluster as it comes, 5 GiB: nothing larger can be joined.
const MAX_SEGMENT_BYTES: u64 = 5 << 30;

/// Reads the remote; `None` if it is too broken to be compared with others.
pub(super) fn read(section: &mut Section<'_>, known: &[&str]) -> Option<SwiftRemote> {
    // The predecessor ignored them, too.
    for key in keys::MAPPING.iter().filter(|key| key.remotes == keys::Remotes::S3) {
        if let Some(value) = section.value(key.name).filter(|value| !value.is_null()) {
            section.warn(
                key.name,
                &describe(value),
                "nothing: it is about S3 remotes and has no effect here",
            );
        }
    }
    let url_rule = "the URL that tokens come from, such as \"https://swift.example.org/auth/v1.0\"";
    if section.value("aws_endpoint").is_none() {
        section.missing("aws_endpoint", url_rule, known);
    }
    let auth_url = read_endpoint(section);
    let rule = "the name of a container, 1 to 256 bytes without \"/\"; with container \"/*\" what is put in front of names";
    let container = read_bucket(section, known, rule, is_name);
    let credentials = read_credentials(section);
    if credentials == CredentialSource::DefaultChain {
        let rule = "the user that tokens are asked for, and aws_secret with its key";
        if section.value("aws_identity").is_none() && section.value("aws_secret").is_none() {
            section.missing("aws_identity", rule, known);
        }
    }
    let auth = read_auth(section);
    let remote_account = section.text("remote_account", "the name of an account without \"/\"", is_name);
    let storage_policy = section.text("storage_policy", "the name of a storage policy", is_header_text);
    let convert_dlo = section.flag("convert_dlo", false);
    let min_segment_size = read_min_segment_size(section, convert_dlo);
    let container_metadata = section.flag("sync_container_metadata", false);
    let container_acl = section.flag("sync_container_acl", false);
    if container_acl && !container_metadata {
        let allowed = "sync_container_metadata true beside it; without it no ACL is carried";
        section.warn("sync_container_acl", "true without sync_container_metadata", allowed);
    }
    let propagates = section.flag("propagate_expiration", false);
    let offset = read_offset(section);
    let longer = section.span("remote_delete_after_addition", Unit::Seconds).unwrap_or(SEGMENTS_LIVE_LONGER);
    Some(SwiftRemote {
        auth_url: auth_url?,
        auth,
        credentials,
        container: container?,
        remote_account: remote_account.map(str::to_owned),
        storage_policy: storage_policy.map(str::to_owned),
        convert_dlo,
        min_segment_size,
        container_metadata,
        container_acl: container_acl && container_metadata,
        expiration_offset: propagates.then_some(offset),
        segments_live_longer: longer,
    })
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains('/')
}

/// Goes into a header line.
fn is_header_text(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(char::is_control)
}

fn read_auth(section: &mut Section<'_>) -> SwiftAuth {
    let Some(value) = section.value("auth_type") else { return SwiftAuth::V1 };
    match value.as_str() {
        Some("swift") => SwiftAuth::V1,
        Some("keystone_v2") => {
            let [tenant_name] = read_names(section, value, ["tenant_name"]);
            SwiftAuth::KeystoneV2 { tenant_name }
        }
        Some("keystone_v3") => {
            let keys = ["project_name", "project_domain_name", "user_domain_name"];
            let [project_name, project_domain_name, user_domain_name] = read_names(section, value, keys);
            SwiftAuth::KeystoneV3 { project_name, project_domain_name, user_domain_name }
        }
        Some(other) => {
            let allowed = "\"swift\", \"keystone_v2\" or \"keystone_v3\"; anything else means \"swift\"";
            section.warn("auth_type", &quoted(other), allowed);
            SwiftAuth::V1
        }
        None => {
            let allowed = "\"swift\", \"keystone_v2\" or \"keystone_v3\"";
            section.reject("auth_type", &describe(value), allowed);
            SwiftAuth::V1
        }
    }
}

/// Reads names that are all required; one problem tells all that are missing.
fn read_names<const N: usize>(section: &mut Section<'_>, auth_type: &Value, keys: [&str; N]) -> [String; N] {
    let names = keys.map(|key| section.text(key, "a name", is_header_text).map(str::to_owned));
    let is_absent = |key: &&str| section.value(key).is_none_or(Value::is_null);
    let missing: Vec<&str> = keys.iter().copied().filter(is_absent).collect();
    if !missing.is_empty() {
        let found = format!("{} without {}", describe(auth_type), missing.join(", "));
        section.reject("auth_type", &found, &format!("{} beside it", keys.join(", ")));
    }
    names.map(Option::unwrap_or_default)
}

fn read_min_segment_size(section: &mut Section<'_>, convert_dlo: bool) -> u64 {
    let size = section.whole_or_null("min_segment_size", 0..=MAX_SEGMENT_BYTES).flatten().unwrap_or(0);
    if size > 0 && !convert_dlo {
        section.reject("min_segment_size", &size.to_string(), "0, or convert_dlo true beside it");
    }
    size
}

fn read_offset(section: &mut Section<'_>) -> i64 {
    let key = "propagate_expiration_offset";
    let Some(value) = section.value(key).filter(|value| !value.is_null()) else { return 0 };
    let offset = value.as_i64().filter(|offset| offset.unsigned_abs() <= 4_000_000_000);
    if offset.is_none() {
        section.reject(key, &describe(value), "a whole number of seconds");
    }
    offset.unwrap_or(0)
}
