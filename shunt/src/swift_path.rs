//! Paths of Swift's API, as they go over the wire.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is left as it is. The slash of an object's name is: Swift splits the path before it decodes it.
const PATH_CHARACTERS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A name, or several with slashes between them, encoded as Python's `quote` does.
pub(crate) fn quote(text: &str) -> String {
    utf8_percent_encode(text, PATH_CHARACTERS).collect()
}

/// `/v1/account/container`, encoded.
pub(crate) fn container_path(account: &str, container: &str) -> String {
    let mut path = "/v1/".to_owned();
    path.extend(utf8_percent_encode(account, PATH_CHARACTERS));
    path.push('/');
    path.extend(utf8_percent_encode(container, PATH_CHARACTERS));
    path
}

/// `/v1/account/container/object`, encoded.
pub(crate) fn object_path(account: &str, container: &str, object: &str) -> String {
    let mut path = container_path(account, container);
    path.push('/');
    path.extend(utf8_percent_encode(object, PATH_CHARACTERS));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_out_byte_for_byte() {
        assert_eq!(
            object_path("AUTH_a", "c d", "a//b/../\u{e9}?%41"),
            "/v1/AUTH_a/c%20d/a//b/../%C3%A9%3F%2541"
        );
    }
}
