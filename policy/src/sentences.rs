//! What a mapping does, in sentences for people.
//!
//! Every key of a mapping that changes what happens has a sentence, or is left out because it says what would happen without
//! it. Shows no secret: of credentials only the access key or user, and where the rest comes from.

use std::time::Duration;

use crate::lifecycle::expiration_days;
use crate::mapping::{ContainerSelector, Mapping, Merge, MergeFailure};
use crate::remote::{Addressing, ArchivedMetadata, Remote, S3Remote, SwiftAuth, SwiftRemote};
use crate::secret::{CredentialSource, SecretSource};
use crate::sync_config::without_credentials;

mod amounts;

pub(crate) use amounts::{bytes, thousands};
use amounts::{percent, span};

/// A pattern may have 16 KiB; the document shows all of it.
const MAX_CHARACTERS: usize = 600;

/// What the mapping does, a sentence each: what goes where, what does not, what becomes of local copies and of deletes, how
/// things lie there, how fast, and with which credentials. Each has at most some hundred characters.
#[must_use]
pub fn sentences(mapping: &Mapping) -> Vec<String> {
    let mut all = vec![target(mapping)];
    all.extend(left_out(mapping));
    all.extend(local_copies(mapping));
    all.extend(deletes(mapping));
    all.extend(keys(mapping));
    match &mapping.remote {
        Remote::S3(remote) => all.extend(on_s3(mapping, remote)),
        Remote::Swift(remote) => all.extend(on_swift(mapping, remote)),
    }
    all.extend(mapping.limits.sentences());
    all.extend(mapping.trace_sample_ratio.map(|ratio| {
        format!("The way of {} of the objects is traced, and of all that fail.", percent(ratio))
    }));
    all.extend(mapping.merge.iter().flat_map(merged));
    all.push(credentials(&mapping.remote));
    for sentence in &mut all {
        if sentence.chars().count() > MAX_CHARACTERS {
            *sentence = sentence.chars().take(MAX_CHARACTERS).chain(['…']).collect();
        }
    }
    all
}

fn target(mapping: &Mapping) -> String {
    let what = match &mapping.container {
        ContainerSelector::One(container) => format!("{}/{container}", mapping.account),
        ContainerSelector::All => format!("every container of {}", mapping.account),
    };
    let endpoint = mapping.remote.endpoint().map(without_credentials);
    let endpoint = endpoint.as_deref().map_or("Amazon S3", |endpoint| endpoint.trim_end_matches('/'));
    match (&mapping.remote, &mapping.container) {
        (Remote::S3(remote), _) => {
            format!("Every change in {what} goes to bucket {} at {endpoint}.", remote.bucket)
        }
        (Remote::Swift(remote), ContainerSelector::One(_)) => {
            format!(
                "Every change in {what} goes to container {} of the Swift cluster {endpoint}.",
                remote.container
            )
        }
        (Remote::Swift(remote), ContainerSelector::All) => format!(
            "Every change in {what} goes to the container of the same name with {:?} in front, of the Swift cluster {endpoint}.",
            remote.container
        ),
    }
}

fn left_out(mapping: &Mapping) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(pattern) = &mapping.exclude {
        all.push(format!("Names that begin with a match of {} are left out.", pattern.as_str()));
    }
    if !mapping.selection.is_empty() {
        all.push(format!("Only objects are copied where {}.", mapping.selection.in_words()));
    }
    if !mapping.copy_after.is_zero() {
        let age = span(mapping.copy_after);
        all.push(format!("Objects are copied once they are {age} old; deletes do not wait."));
    }
    all
}

fn local_copies(mapping: &Mapping) -> Vec<String> {
    if mapping.retain_local {
        return vec!["Local copies stay.".to_owned()];
    }
    let segments = match mapping.retain_local_segments {
        true => "Segments of archived large objects stay here.",
        false => "Segments of archived large objects go away too, unless something else needs them.",
    };
    vec!["Local copies go away once the copy there is proven (archive).".to_owned(), segments.to_owned()]
}

fn deletes(mapping: &Mapping) -> Vec<String> {
    if !mapping.propagate_delete {
        return vec!["Users' deletes are not carried: what is deleted here stays there.".to_owned()];
    }
    let carried = match mapping.retain_local {
        true => "Users' deletes are carried.",
        false => "Users' deletes are carried, of archived objects too: then the only copy goes.",
    };
    let limit = match &mapping.delete_limit {
        None => "No number of deletes is too many.".to_owned(),
        Some(limit) => format!(
            "Deletes are held until somebody releases them when more than {} come within {} and more than {} of the \
             container's objects are gone.",
            thousands(limit.count),
            span(limit.per),
            percent(limit.ratio)
        ),
    };
    vec![carried.to_owned(), limit]
}

/// On Swift objects keep their names.
fn keys(mapping: &Mapping) -> Option<String> {
    mapping.remote.s3()?;
    Some(match &mapping.container {
        ContainerSelector::One(container) => match mapping.key_mapping(container).key_prefix() {
            "" => "Keys there are the objects' names.".to_owned(),
            prefix => format!("Keys there begin with {prefix}."),
        },
        ContainerSelector::All => {
            format!("Keys there begin with a digest, then {}, then the container's name.", mapping.account)
        }
    })
}

fn on_s3(mapping: &Mapping, remote: &S3Remote) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(after) = mapping.remote_delete_after {
        let days = expiration_days(after);
        let plural = if days == 1 { "" } else { "s" };
        all.push(format!("Copies there expire after {days} day{plural}, by a lifecycle rule of the bucket."));
    }
    if let Some(class) = &remote.storage_class {
        all.push(format!("New copies are stored in class {class}."));
    }
    if remote.archived_metadata == ArchivedMetadata::Keep {
        let kept = "Copies in an archive class stay as they are when only metadata changes.";
        all.push(kept.to_owned());
    }
    if remote.is_amazon() && !remote.encryption {
        all.push("Amazon is not asked to encrypt.".to_owned());
    }
    if let Some(region) = &remote.region {
        all.push(format!("Requests are signed for region {region}."));
    }
    match remote.addressing {
        Addressing::Auto => {}
        Addressing::Path => all.push("Requests name the bucket in the path.".to_owned()),
        Addressing::VirtualHost => all.push("Requests name the bucket in the host name.".to_owned()),
    }
    all
}

fn on_swift(mapping: &Mapping, remote: &SwiftRemote) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(account) = &remote.remote_account {
        all.push(format!("Copies are kept in account {account} there."));
    }
    if let Some(policy) = &remote.storage_policy {
        all.push(format!("Containers there are created with storage policy {policy}."));
    }
    if let Some(after) = mapping.remote_delete_after {
        let (after, longer) = (span(after), span(remote.segments_live_longer));
        all.push(format!("Copies there expire after {after}, their segments {longer} later."));
    }
    match remote.expiration_offset {
        None => {}
        Some(0) => all.push("Expiry dates of objects are carried.".to_owned()),
        Some(offset) => {
            let way = if offset > 0 { "later" } else { "earlier" };
            let by = span(Duration::from_secs(offset.unsigned_abs()));
            all.push(format!("Expiry dates of objects are carried, {by} {way}."));
        }
    }
    if remote.convert_dlo {
        all.push(match remote.min_segment_size {
            0 => "Dynamic large objects become static ones.".to_owned(),
            size => format!(
                "Dynamic large objects become static ones; segments below {} are joined.",
                bytes(size)
            ),
        });
    }
    match (remote.container_metadata, remote.container_acl) {
        (true, true) => all.push("Metadata and ACLs of containers are carried.".to_owned()),
        (true, false) => all.push("Metadata of containers is carried.".to_owned()),
        (false, _) => {}
    }
    all
}

fn merged(merge: &Merge) -> Vec<String> {
    let mut all =
        vec!["Through the shunt, what is there only is read and listed as if it were here.".to_owned()];
    if merge.restores {
        all.push("An archived object that is read in whole is written back.".to_owned());
    }
    if merge.writes {
        all.push("DELETE and POST of archived objects reach the remote.".to_owned());
    }
    all.push(match merge.failure {
        MergeFailure::Error => "A listing is an error while the remote cannot be asked.".to_owned(),
        MergeFailure::Local => "A listing has local names only while the remote cannot be asked.".to_owned(),
    });
    all
}

fn credentials(remote: &Remote) -> String {
    let place = |source: &SecretSource, inline: &str| match source {
        SecretSource::Inline(_) => inline.to_owned(),
        SecretSource::File(path) => format!("in the file {} of each node", path.display()),
        SecretSource::Env(name) => format!("in the environment variable {name} of each node"),
    };
    let CredentialSource::Static { identity, secret, session_token } = remote.credentials() else {
        return "Credentials are what the AWS default chain finds on each node.".to_owned();
    };
    let who = match identity {
        // An access key id or a user is no secret.
        SecretSource::Inline(identity) => identity.expose().to_owned(),
        elsewhere => place(elsewhere, ""),
    };
    let secret = place(secret, "in the configuration");
    match remote {
        Remote::S3(_) => {
            let token = session_token.as_ref().map(|token| place(token, "in the configuration"));
            let token = token.map(|place| format!(", its session token {place}")).unwrap_or_default();
            format!("The access key is {who}, its secret {secret}{token}.")
        }
        Remote::Swift(remote) => {
            let how = match &remote.auth {
                SwiftAuth::V1 => String::new(),
                SwiftAuth::KeystoneV2 { tenant_name } => format!(" for tenant {tenant_name} (Keystone v2)"),
                SwiftAuth::KeystoneV3 { project_name, project_domain_name, user_domain_name } => format!(
                    " of domain {user_domain_name} for project {project_name} of domain {project_domain_name} (Keystone v3)"
                ),
            };
            format!("The user is {who}{how}, the key {secret}.")
        }
    }
}

#[cfg(test)]
mod tests;
