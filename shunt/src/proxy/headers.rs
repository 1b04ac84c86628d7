//! Headers that speak of one connection only, and requests that are not passed on.

use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

/// Source: RFC 9110, section 7.6.1, and what older software sends.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that would change what a message is if `Connection` named them.
const NEVER_BY_CONNECTION: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::HOST, header::AUTHORIZATION, HeaderName::from_static("x-auth-token")];

/// Removes what is meant for this connection only.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| !NEVER_BY_CONNECTION.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Makes a request fit to be passed on; false when it cannot be.
pub(super) fn accept<B>(request: &mut Request<B>) -> bool {
    // A tunnel would go past everything that is decided here.
    if request.method() == Method::CONNECT {
        return false;
    }
    // What is asked for in absolute form names the host in its place.
    if let Some(authority) = request.uri().authority() {
        let Ok(host) = HeaderValue::from_str(authority.as_str()) else { return false };
        request.headers_mut().insert(header::HOST, host);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    // Two of them are two requests to some.
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return false;
    }
    remove_hop_by_hop(request.headers_mut());
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn what_is_meant_for_one_connection_stays_there() {
        let mut request = request(
            "/v1/a/c/o",
            &[
                ("Connection", "close, X-Private, Content-Length"),
                ("X-Private", "1"),
                ("Content-Length", "3"),
                ("Transfer-Encoding", "chunked"),
                ("Upgrade", "websocket"),
                ("X-Auth-Token", "t"),
                ("Expect", "100-continue"),
            ],
        );
        assert!(accept(&mut request));
        let mut left: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "expect", "x-auth-token"]);
    }

    #[test]
    fn absolute_forms_become_paths() {
        let mut request = request("http://example.org:81/v1/a%2F?x=%20y", &[("Host", "other")]);
        assert!(accept(&mut request));
        assert_eq!(request.uri(), "/v1/a%2F?x=%20y");
        assert_eq!(request.headers().get("host").unwrap(), "example.org:81");
    }

    #[test]
    fn what_is_two_requests_to_some_is_refused() {
        assert!(!accept(&mut request("/", &[("Host", "a"), ("Host", "b")])));
        let mut tunnel = request("/", &[]);
        *tunnel.method_mut() = Method::CONNECT;
        assert!(!accept(&mut tunnel));
    }
}
