//! Names of keys, and what is written under them. Whatever else is found there is ignored.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::plan::{HomeDevice, PlaceId, ShareId};

/// Under the prefix of the settings: what is held by leases, and is followed by every worker.
pub(super) const LIVE: &str = "workers/live/";
const HOMES: &str = "workers/live/homes/";
const SHARES: &str = "workers/live/shares/";
const NODES: &str = "workers/nodes/";
const RECORDS: &str = "workers/records/";
/// Takeovers of the last day.
pub(super) const TAKEOVERS: &str = "workers/takeovers/";
/// Values that are longer are not ours.
const MAX_VALUE: usize = 4_096;

/// Who holds a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The worker.
    pub(super) node: String,
    /// One lease of it.
    pub(super) instance: String,
    /// It works by the implicit rules.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) implicit: bool,
}

impl Holder {
    pub(super) fn to_value(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn from_value(value: &[u8]) -> Option<Self> {
        if value.len() > MAX_VALUE {
            return None;
        }
        serde_json::from_slice(value).ok()
    }
}

/// A key that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LiveKey {
    Home(HomeDevice),
    Share(ShareId),
}

impl LiveKey {
    /// `name` is without the prefix of the settings.
    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(device) = name.strip_prefix(HOMES) {
            return Some(Self::Home(HomeDevice(device.to_owned())));
        }
        let mut numbers = name.strip_prefix(SHARES)?.split('/').map(|number| number.parse::<u32>().ok());
        let (nodes, partition, index) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let share = ShareId { place: PlaceId { nodes, partition }, index };
        numbers.next().is_none().then_some(Self::Share(share))
    }
}

pub(super) fn home(device: &HomeDevice) -> String {
    format!("{HOMES}{}", device.0)
}

pub(super) fn share(id: ShareId) -> String {
    format!("{SHARES}{}/{}/{}", id.place.nodes, id.place.partition, id.index)
}

pub(super) fn node(node: &str) -> String {
    format!("{NODES}{}", escaped(node))
}

pub(super) fn takeover(at_ms: u64, node: &str, number: u64) -> String {
    format!("{TAKEOVERS}{at_ms:013}-{}-{number}", escaped(node))
}

/// Where the records of a container are, whatever its number of replicas; ends with a slash.
pub(super) fn all_records(identity: &str, account: &str, container: &str) -> String {
    format!("{RECORDS}{}/{}/{}/", escaped(identity), escaped(account), escaped(container))
}

/// Where the records of a container's shares are; ends with a slash.
pub(super) fn records(identity: &str, account: &str, container: &str, nodes: u32) -> String {
    format!("{}{nodes}/", all_records(identity, account, container))
}

/// Letters, digits and a few marks stay; everything else becomes `%` and two digits.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let device = HomeDevice("10.0.0.1:6201/sdb1".into());
        assert_eq!(LiveKey::parse(&home(&device)), Some(LiveKey::Home(device)));
        let id = ShareId { place: PlaceId { nodes: 3, partition: 77 }, index: 2 };
        assert_eq!(LiveKey::parse(&share(id)), Some(LiveKey::Share(id)));
        for name in
            ["", "workers/live/shares/3/77", "workers/live/shares/3/77/2/1", "workers/live/shares/3/-1/2"]
        {
            assert_eq!(LiveKey::parse(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_containers_cannot_leave_their_place() {
        assert_eq!(
            records("id", ".shards_AUTH_a", "ä/b%", 3),
            "workers/records/id/.shards_AUTH_a/%C3%A4%2Fb%25/3/"
        );
    }

    #[test]
    fn strange_values_are_nobody() {
        for value in [&b""[..], b"{}", b"[]", b"\xff", &[b' '; 5_000]] {
            assert_eq!(Holder::from_value(value), None);
        }
        let holder = Holder { node: "n".into(), instance: "i".into(), implicit: true };
        assert_eq!(Holder::from_value(&holder.to_value()), Some(holder));
    }
}
