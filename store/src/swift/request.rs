//! One request to a Swift cluster: where it goes, with which headers.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use swift_s3_policy::RemoteMetadata;

/// What is left as it is in a path. The slash of an object's name is: Swift splits the path before it decodes it.
pub(crate) const PATH_CHARACTERS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A request without a body to speak of takes no longer than this, up to the head of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

const USER_METADATA: &str = "x-object-meta-";

/// What a request is about.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Account,
    Container(String),
    Object { container: String, name: String },
}

impl Target {
    /// The object of a key, `container/object`.
    ///
    /// # Errors
    /// When it is no such key.
    pub(crate) fn object(key: &str) -> Result<Self, &'static str> {
        match key.split_once('/') {
            Some((container, name)) if !container.is_empty() && !name.is_empty() => {
                Ok(Self::Object { container: container.to_owned(), name: name.to_owned() })
            }
            _ => Err("expected a key such as container/object"),
        }
    }

    /// # Errors
    /// When no container can have that name.
    pub(crate) fn container(name: &str) -> Result<Self, &'static str> {
        if name.is_empty() || name.contains('/') {
            return Err("expected a container's name, without a slash");
        }
        Ok(Self::Container(name.to_owned()))
    }

    /// Appends its path to the URL of an account.
    pub(crate) fn append_to(&self, url: &mut String) {
        let mut push = |part: &str| {
            url.push('/');
            url.extend(utf8_percent_encode(part, PATH_CHARACTERS));
        };
        match self {
            Self::Account => {}
            Self::Container(name) => push(name),
            Self::Object { container, name } => {
                push(container);
                push(name);
            }
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// A word for errors, such as `head`.
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) target: Target,
    /// Of errors; the whole key where there is one.
    pub(crate) key: Option<String>,
    /// Encoded, without the question mark.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Until the head of the answer is there.
    pub(crate) timeout: Duration,
}

impl Call {
    pub(crate) fn new(operation: &'static str, method: Method, target: Target) -> Self {
        let key = match &target {
            Target::Account => None,
            Target::Container(name) => Some(name.clone()),
            Target::Object { container, name } => Some(format!("{container}/{name}")),
        };
        Self {
            operation,
            method,
            target,
            key,
            query: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: ANSWER_TIMEOUT,
        }
    }

    /// Adds a parameter, encoding its value.
    pub(crate) fn parameter(mut self, name: &str, value: &str) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(name);
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        self
    }

    /// Whether it may be sent again when nobody knows what became of it.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::POST | Method::DELETE)
    }

    /// The URL below that of the account.
    pub(crate) fn url(&self, storage_url: &str) -> String {
        let mut url = String::with_capacity(storage_url.len() + self.query.len() + 64);
        url.push_str(storage_url);
        self.target.append_to(&mut url);
        if !self.query.is_empty() {
            url.push('?');
            url.push_str(&self.query);
        }
        url
    }
}

/// The headers that give an object its metadata.
///
/// # Errors
/// What does not fit into a header.
pub(crate) fn metadata_headers(metadata: &RemoteMetadata) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(metadata.user.len() + metadata.headers.len() + 8);
    if !metadata.content_type.is_empty() {
        let value = HeaderValue::from_bytes(metadata.content_type.as_bytes())
            .map_err(|_| "content type does not fit into a header".to_owned())?;
        headers.insert(header::CONTENT_TYPE, value);
    }
    let user =
        metadata.user.iter().map(|(name, value)| (Cow::Owned(format!("{USER_METADATA}{name}")), value));
    let others = metadata.headers.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), value));
    for (name, value) in user.chain(others) {
        insert(&mut headers, &name, value)?;
    }
    Ok(headers)
}

/// # Errors
/// As [`metadata_headers`].
pub(crate) fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let header_name =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name for a header"))?;
    // Bytes and not text: Swift's metadata is UTF-8 on the wire.
    let header_value = HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| format!("the value of {name:?} does not fit into a header"))?;
    headers.insert(header_name, header_value);
    Ok(())
}

/// What the headers of an answer say about an object.
pub(crate) fn object_metadata(headers: &HeaderMap) -> RemoteMetadata {
    let mut metadata = RemoteMetadata::default();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let name = name.as_str();
        if name == "content-type" {
            metadata.content_type = value;
        } else if let Some(user) = name.strip_prefix(USER_METADATA) {
            metadata.user.insert(user.to_owned(), value);
        } else if KEPT_HEADERS.contains(&name) {
            metadata.headers.insert(name.to_owned(), value);
        }
    }
    metadata
}

/// Headers that Swift keeps with an object beside its user's.
///
/// Source: `DEFAULT_ALLOWED_HEADERS` in swift/obj/server.py; the two manifest headers are answers of middleware.
const KEPT_HEADERS: [&str; 9] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-delete-at",
    "x-object-manifest",
    "x-robots-tag",
    "x-static-large-object",
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn url(key: &str) -> String {
        Call::new("head", Method::HEAD, Target::object(key).unwrap()).url("http://h/v1/AUTH_a")
    }

    #[test]
    fn names_go_out_byte_for_byte() {
        let table = [
            ("c/a b", "http://h/v1/AUTH_a/c/a%20b"),
            ("c/a/../b", "http://h/v1/AUTH_a/c/a/../b"),
            ("c//a//", "http://h/v1/AUTH_a/c//a//"),
            ("c/a%2Fb?x=1#y", "http://h/v1/AUTH_a/c/a%252Fb%3Fx%3D1%23y"),
            ("c/zwei\nZeilen", "http://h/v1/AUTH_a/c/zwei%0AZeilen"),
            ("ç/é", "http://h/v1/AUTH_a/%C3%A7/%C3%A9"),
        ];
        for (key, expected) in table {
            assert_eq!(url(key), expected);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for key in ["", "c", "c/", "/o", "/"] {
            assert!(Target::object(key).is_err(), "{key}");
        }
        assert!(Target::container("a/b").is_err());
        assert!(Target::container("").is_err());
    }

    #[test]
    fn metadata_keeps_its_case_and_its_bytes() {
        let metadata = RemoteMetadata {
            content_type: "Text/HTML; charset=UTF-8".to_owned(),
            user: [("colour".to_owned(), "MixedCase grün".to_owned())].into(),
            headers: [("x-delete-at".to_owned(), "17".to_owned())].into(),
        };
        let headers = metadata_headers(&metadata).unwrap();
        assert_eq!(headers["x-object-meta-colour"].as_bytes(), "MixedCase grün".as_bytes());
        assert_eq!(object_metadata(&headers), metadata);
    }

    #[test]
    fn what_fits_into_no_header_is_refused() {
        for (name, value) in [("a", "two\nlines"), ("a b", "x"), ("é", "x")] {
            let user = [(name.to_owned(), value.to_owned())].into();
            assert!(metadata_headers(&RemoteMetadata { user, ..RemoteMetadata::default() }).is_err());
        }
    }
}
