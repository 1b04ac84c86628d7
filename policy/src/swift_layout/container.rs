//! What of a container's own headers goes to another Swift cluster.

use std::collections::BTreeMap;

const USER_PREFIX: &str = "x-container-meta-";
const ACLS: [&str; 2] = ["x-container-read", "x-container-write"];
/// Keys with which anybody can sign URLs. Source: `swift/common/middleware/tempurl.py`.
const SECRETS: [&str; 2] = ["x-container-meta-temp-url-key", "x-container-meta-temp-url-key-2"];

/// Whether a header of a container is a secret: it is never carried, removed or shown. `name` is in lower case.
pub fn is_secret_header(name: &str) -> bool {
    SECRETS.contains(&name)
}

/// The headers to POST to the remote container so that it has what the local one has; empty when it does. An empty value removes.
///
/// `local` is what the local database knows, names in any case, with empty values for what was removed. Headers that it
/// does not know are the remote's own business. `remote` has names in lower case.
pub fn container_changes(
    local: &BTreeMap<String, String>,
    remote: &BTreeMap<String, String>,
    with_acls: bool,
) -> BTreeMap<String, String> {
    let wanted = local.iter().filter_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        let is_user = name.len() > USER_PREFIX.len() && name.starts_with(USER_PREFIX);
        let counts = (is_user && !is_secret_header(&name)) || (with_acls && ACLS.contains(&name.as_str()));
        counts.then(|| (name, value.trim().to_owned()))
    });
    wanted
        .filter(|(name, value)| remote.get(name).map(|value| value.trim()).unwrap_or_default() != value)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_what_differs_and_is_known_here_is_sent() {
        let local = map(&[
            ("X-Container-Meta-Same", "s"),
            ("X-Container-Meta-New", "é"),
            ("X-Container-Meta-Removed", ""),
            ("X-Container-Meta-Removed-There-Too", ""),
            ("X-Container-Meta-Temp-URL-Key", "hunter2"),
            ("X-Container-Meta-Temp-Url-Key-2", "hunter2"),
            ("X-Container-Meta-", "nameless"),
            ("X-Container-Read", ".r:*"),
            ("X-Container-Sysmeta-Versions", "x"),
        ]);
        let remote = map(&[
            ("x-container-meta-same", "s"),
            ("x-container-meta-removed", "old"),
            ("x-container-meta-of-the-remote", "kept"),
        ]);
        let changes = container_changes(&local, &remote, false);
        assert_eq!(changes, map(&[("x-container-meta-new", "é"), ("x-container-meta-removed", "")]));
        let changes = container_changes(&local, &remote, true);
        assert_eq!(changes.get("x-container-read").map(String::as_str), Some(".r:*"));
    }

    #[test]
    fn what_was_sent_needs_no_sending() {
        let local =
            map(&[("X-Container-Meta-A", "1"), ("X-Container-Write", "x:y"), ("X-Container-Meta-B", "")]);
        let mut remote = BTreeMap::new();
        for (name, value) in container_changes(&local, &remote, true) {
            remote.insert(name, value);
        }
        assert!(container_changes(&local, &remote, true).is_empty());
    }
}
