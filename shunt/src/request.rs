//! What a request is about, by its path and method. Pure.

use percent_encoding::percent_decode_str;

/// The header of clients that want to see Swift without the shunt; any value but an empty one.
pub const BYPASS: &str = "x-cloud-sync-shunt-bypass";

/// What a path names in Swift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/v1/account/container`
    Container {
        /// The account.
        account: String,
        /// The container.
        container: String,
    },
    /// `/v1/account/container/object`
    Object {
        /// The account.
        account: String,
        /// The container.
        container: String,
        /// The object, slashes included.
        object: String,
    },
    /// Anything else: an account, `/info`, or what Swift refuses.
    Other,
}

impl Target {
    /// Reads a path as it is on the wire, without its query.
    ///
    /// Swift decodes the whole path before it looks for slashes; so does this. What Swift would refuse (other versions, bytes that are not
    /// UTF-8, NUL, an empty container) is [`Target::Other`] and goes to Swift as it is.
    ///
    /// Source: `split_path` and `check_utf8` in `swift/common/utils.py` and `constraints.py` of Swift 2.30.1.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let Ok(decoded) = percent_decode_str(path).decode_utf8() else { return Self::Other };
        if decoded.contains('\0') {
            return Self::Other;
        }
        let mut segments = decoded.splitn(5, '/');
        let (Some(""), Some(version), Some(account), Some(container)) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Self::Other;
        };
        if !is_api_version(version) || account.is_empty() || container.is_empty() {
            return Self::Other;
        }
        let (account, container) = (account.to_owned(), container.to_owned());
        match segments.next() {
            // "/v1/a/c/" is the container.
            None | Some("") => Self::Container { account, container },
            Some(object) => Self::Object { account, container, object: object.to_owned() },
        }
    }

    /// Account and container, if it names them.
    #[must_use]
    pub fn container(&self) -> Option<(&str, &str)> {
        match self {
            Self::Container { account, container } | Self::Object { account, container, .. } => {
                Some((account, container))
            }
            Self::Other => None,
        }
    }
}

/// Source: `VALID_API_VERSIONS` in `swift/common/constraints.py`.
fn is_api_version(text: &str) -> bool {
    matches!(text, "v1" | "v1.0")
}

/// The value of a query parameter, decoded; the last one counts, as in Swift.
#[must_use]
pub fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query?.as_bytes())
        .filter(|(key, _)| key == name)
        .last()
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(account: &str, container: &str, object: &str) -> Target {
        Target::Object { account: account.into(), container: container.into(), object: object.into() }
    }

    #[test]
    fn paths_name_what_swift_sees_in_them() {
        let container = Target::Container { account: "a".into(), container: "c".into() };
        let table = [
            ("/v1/a/c/o", object("a", "c", "o")),
            ("/v1.0/a/c/o", object("a", "c", "o")),
            ("/v1/a/c/o/p//q/", object("a", "c", "o/p//q/")),
            ("/v1/a/c//lead", object("a", "c", "/lead")),
            ("/v1/a/c%2Fo", object("a", "c", "o")),
            ("/v1%2Fa/c/o", object("a", "c", "o")),
            ("/v1/a/c/%C3%A9+%2541", object("a", "c", "é+%41")),
            ("/v1/a/c/../x", object("a", "c", "../x")),
            ("/v1/a/c/%2e%2e/x", object("a", "c", "../x")),
            ("/v1/a/c", container.clone()),
            ("/v1/a/c/", container),
            ("/v1/a", Target::Other),
            ("/v1/a/", Target::Other),
            ("/v1/a//o", Target::Other),
            ("/v1//c/o", Target::Other),
            ("/v2/a/c/o", Target::Other),
            ("/info", Target::Other),
            ("/", Target::Other),
            ("", Target::Other),
            ("v1/a/c/o", Target::Other),
            ("/v1/a/c/%00", Target::Other),
            ("/v1/a/c/%ff", Target::Other),
        ];
        for (path, target) in table {
            assert_eq!(Target::of(path), target, "{path}");
        }
    }

    #[test]
    fn of_a_repeated_parameter_the_last_one_counts() {
        assert_eq!(query_value(Some("a=1&b=2&a=%C3%A9+x"), "a").as_deref(), Some("é x"));
        assert_eq!(query_value(Some("a=1"), "b"), None);
        assert_eq!(query_value(None, "b"), None);
    }
}
