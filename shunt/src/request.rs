//! What a request is about, by its path and method. Pure.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;

/// The header of clients that want to see Swift without the shunt; any value but an empty one.
pub const BYPASS: &str = "x-cloud-sync-shunt-bypass";

/// Whether Swift's `s3api` would take a request for one of its own: it then reads the path in another way.
///
/// Source: `get_request_class` and the signature classes in `swift/common/middleware/s3api/s3request.py` of Swift 2.30.1.
#[must_use]
pub fn is_s3(query: Option<&str>, headers: &HeaderMap) -> bool {
    let signed = headers.get_all(AUTHORIZATION).iter().any(|value| {
        let value = value.as_bytes().trim_ascii_start();
        value.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"aws"))
    });
    let names = ["AWSAccessKeyId", "X-Amz-Credential", "X-Amz-Algorithm", "X-Amz-Signature"];
    let is_presigned = || {
        query.is_some_and(|query| {
            url::form_urlencoded::parse(query.as_bytes())
                .any(|(key, _)| names.iter().any(|name| key.eq_ignore_ascii_case(name)))
        })
    };
    signed || is_presigned()
}

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

/// Whether a request has what a temporary URL has. Only where Swift's pipeline has tempurl does that mean that somebody signed it.
#[must_use]
pub fn is_temporary(query: Option<&str>) -> bool {
    query_value(query, "temp_url_sig").is_some() && query_value(query, "temp_url_expires").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(account: &str, container: &str, object: &str) -> Target {
        Target::Object { account: account.into(), container: container.into(), object: object.into() }
    }

    #[test]
    fn only_signed_requests_are_temporary() {
        assert!(is_temporary(Some("temp_url_sig=a&temp_url_expires=1")));
        assert!(!is_temporary(Some("temp_url_expires=1")));
        assert!(!is_temporary(Some("x=temp_url_sig")));
        assert!(!is_temporary(None));
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
    fn requests_signed_for_s3_are_told() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(AUTHORIZATION, http::HeaderValue::from_static(value))])
        };
        for signed in ["AWS key:sig", "AWS4-HMAC-SHA256 Credential=k", " aws x"] {
            assert!(is_s3(None, &with(signed)), "{signed}");
        }
        for other in ["Bearer x", "Basic QVdT", ""] {
            assert!(!is_s3(None, &with(other)), "{other}");
        }
        let none = HeaderMap::new();
        for query in ["AWSAccessKeyId=k&Signature=s", "x=1&X-Amz-Algorithm=a", "X%2DAmz-Credential=c"] {
            assert!(is_s3(Some(query), &none), "{query}");
        }
        assert!(!is_s3(Some("prefix=AWSAccessKeyId"), &none));
    }

    #[test]
    fn of_a_repeated_parameter_the_last_one_counts() {
        assert_eq!(query_value(Some("a=1&b=2&a=%C3%A9+x"), "a").as_deref(), Some("é x"));
        assert_eq!(query_value(Some("a=1"), "b"), None);
        assert_eq!(query_value(None, "b"), None);
    }
}
