//! Checks URLs of the configuration, and shows them without credentials.

use url::Url;

/// Whether a text is an absolute URL of one of the schemes, with a host and nothing but a path behind it.
pub(super) fn is_plain_url(text: &str, schemes: &[&str]) -> bool {
    parsed(text, schemes).is_some_and(|url| {
        let without_credentials = url.username().is_empty() && url.password().is_none();
        without_credentials && url.query().is_none() && url.fragment().is_none()
    })
}

/// Whether a text is the URL of a proxy: it may hold credentials, and nothing but `/` behind the host.
pub(super) fn is_proxy_url(text: &str) -> bool {
    parsed(text, &["http", "https"]).is_some_and(|url| {
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none()
    })
}

fn parsed(text: &str, schemes: &[&str]) -> Option<Url> {
    // The parser itself forgives white space and a missing "//".
    let strange = |character: char| character.is_whitespace() || character.is_control();
    if text.contains(strange) || !text.contains("://") {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    (has_host && schemes.contains(&url.scheme())).then_some(url)
}

/// The text with whatever stands before an `@` hidden, whether it is a URL or not.
pub(crate) fn without_credentials(text: &str) -> String {
    match text.rsplit_once('@') {
        None => text.to_owned(),
        Some((before, host)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| scheme);
            let scheme = scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
            format!("{scheme}***@{host}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_pass() {
        for (text, plain) in [
            ("http://127.0.0.1:9000", true),
            ("https://s3.example/base/", true),
            ("HTTP://[::1]:9000", true),
            ("http://user@host", false),
            ("http://user:pass@host", false),
            ("http://host?x=1", false),
            ("http://host#x", false),
            ("http:host", false),
            ("http://", false),
            (" http://host", false),
            ("http://ho st", false),
            ("ftp://host", false),
            ("host:9000", false),
            ("", false),
        ] {
            assert_eq!(is_plain_url(text, &["http", "https"]), plain, "{text}");
        }
    }

    #[test]
    fn credentials_are_hidden() {
        for (text, shown) in [
            ("http://user:p@ss@proxy:3128", "http://***@proxy:3128"),
            ("user:pass@proxy", "***@proxy"),
            ("http://proxy:3128", "http://proxy:3128"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }
}
