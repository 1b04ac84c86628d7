//! Where things are in etcd. Everything is under the prefix, then `control/`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::tables::{KeyPart, RowKey, TABLES, Table};

/// Unreserved characters of RFC 3986 stay readable.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Names keys of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    root: String,
}

impl Keys {
    /// Under this prefix, which ends with a slash.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { root: format!("{prefix}control/") }
    }

    /// Everything of the control plane.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Held by the process that leads; bound to its lease.
    #[must_use]
    pub fn leader(&self) -> String {
        format!("{}leader", self.root)
    }

    /// One for each process, bound to its lease.
    #[must_use]
    pub fn processes(&self) -> String {
        format!("{}processes/", self.root)
    }

    /// The form of the state, and where it is.
    #[must_use]
    pub fn meta(&self) -> String {
        format!("{}meta", self.root)
    }

    /// Changed by each write, so that writes have one order.
    #[must_use]
    pub fn sequence(&self) -> String {
        format!("{}sequence", self.root)
    }

    /// Every state there is, those out of use included.
    #[must_use]
    pub fn states(&self) -> String {
        format!("{}state/", self.root)
    }

    /// The state of this number.
    #[must_use]
    pub fn state(&self, number: u64) -> State {
        State { root: format!("{}state/{number}/", self.root) }
    }
}

/// Names keys of one state. A state is written once as a whole, by a copy, and then row by row by leaders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    root: String,
}

impl State {
    /// All of it.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// All rows of a table.
    #[must_use]
    pub fn table(&self, table: &Table) -> String {
        format!("{}{}/", self.root, table.name)
    }

    /// A row.
    #[must_use]
    pub fn row(&self, key: &RowKey) -> String {
        format!("{}{}", self.root, place(key))
    }

    /// All parts of a row that is too large for one value.
    #[must_use]
    pub fn parts(&self, key: &RowKey) -> String {
        format!("{}parts/{}/", self.root, place(key))
    }

    /// All parts of all rows.
    #[must_use]
    pub fn all_parts(&self) -> String {
        format!("{}parts/", self.root)
    }

    /// The row that a key of [`State::table`] names.
    #[must_use]
    pub fn parse(&self, table: usize, key: &[u8]) -> Option<RowKey> {
        let description = TABLES.get(table)?;
        let text = std::str::from_utf8(key).ok()?;
        let rest = text.strip_prefix(self.table(description).as_str())?;
        let words: Vec<&str> = rest.split('/').collect();
        if words.len() != description.key.len() {
            return None;
        }
        let parts = description.key.iter().zip(words).map(|(column, word)| {
            if matches!(*column, "revision" | "feed" | "activity") {
                return word.parse().ok().map(KeyPart::Number);
            }
            percent_decode_str(word).decode_utf8().ok().map(|text| KeyPart::Text(text.into_owned()))
        });
        let row = RowKey { table, key: parts.collect::<Option<_>>()? };
        // One row has one key, however else its key could be written.
        (self.row(&row) == text).then_some(row)
    }
}

fn place(key: &RowKey) -> String {
    let mut place = key.table().map_or_else(String::new, |table| table.name.to_owned());
    for part in &key.key {
        place.push('/');
        match part {
            KeyPart::Number(number) => place.push_str(&number.to_string()),
            KeyPart::Text(text) => place.extend(utf8_percent_encode(text, ENCODED)),
        }
    }
    place
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_row_has_one_key_whatever_its_name_is() {
        let state = Keys::new("/p/").state(3);
        for name in ["a", "a/b", "ä\n\0 %2F", "", "..", "*"] {
            let parked = RowKey { table: 3, key: vec![KeyPart::Number(-5), KeyPart::Text(name.to_owned())] };
            let key = state.row(&parked);
            assert_eq!(state.parse(3, key.as_bytes()), Some(parked), "{key}");
        }
        let node = RowKey { table: 1, key: vec![KeyPart::Text("n/1".to_owned())] };
        assert_eq!(state.row(&node), "/p/control/state/3/nodes/n%2F1");
        for foreign in [
            "/p/control/state/3/nodes/n/1",
            "/p/control/state/3/nodes/%6e",
            "/p/control/state/2/nodes/n",
            "/p/control/state/3/parked/1",
            "/p/control/state/3/nodes/%FF",
        ] {
            assert_eq!(state.parse(1, foreign.as_bytes()), None, "{foreign}");
        }
        assert_eq!(state.parse(0, b"/p/control/state/3/revisions/+1"), None);
    }
}
