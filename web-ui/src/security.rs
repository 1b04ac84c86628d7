//! What keeps other sites' pages from acting in a visitor's name.
//!
//! * The cookie with the token is `HttpOnly` and `SameSite=Strict`: no script reads it, no other site's request carries it.
//! * Every form carries a token that only a page of ours can know: a keyed digest over a random cookie and the visitor's token.
//!   It needs no memory, so that any of several control processes takes the forms of the others.
//! * Requests that browsers mark as sent by another site are refused.
//! * Where there is no access control, nothing ties the visitor to the site, so that the name it was asked by must be an address
//!   or `localhost`: otherwise a site could have its own name lead here.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use sha2::Sha256;

/// On every answer. Scripts and styles come from files of ours only; nothing is embedded anywhere; other sites learn nothing.
pub const HEADERS: [(HeaderName, HeaderValue); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // Not `no-referrer`: with that, browsers say of our own forms too that they come from nowhere (`Origin: null`).
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), microphone=(), geolocation=()"),
    ),
];

/// What forms of this visitor carry. `seed` is the random cookie.
#[must_use]
pub fn form_token(seed: &str, token: Option<&str>) -> String {
    hex::encode(form_digest(seed, token).finalize().into_bytes())
}

/// True if a form carries what [`form_token`] gives. Takes the same time however much of it is right.
#[must_use]
pub fn is_form_token(told: &str, seed: &str, token: Option<&str>) -> bool {
    let Ok(told) = hex::decode(told) else { return false };
    !seed.is_empty() && form_digest(seed, token).verify_slice(&told).is_ok()
}

fn form_digest(seed: &str, token: Option<&str>) -> Hmac<Sha256> {
    let mut digest = <Hmac<Sha256> as KeyInit>::new_from_slice(seed.as_bytes())
        .unwrap_or_else(|_| <Hmac<Sha256> as KeyInit>::new(&Default::default()));
    digest.update(b"form:");
    digest.update(token.unwrap_or_default().as_bytes());
    digest
}

/// True if a browser says that another site sent this. `host` is by what name we were asked.
#[must_use]
pub fn is_foreign(headers: &HeaderMap, host: &str) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    // Browsers that tell it know better than names, which a proxy in between may have changed.
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return !matches!(site, "same-origin" | "none");
    }
    text(header::ORIGIN).is_some_and(|origin| {
        let origin = origin.parse::<Uri>().ok();
        origin.as_ref().and_then(Uri::authority).is_none_or(|authority| authority.as_str() != host)
    })
}

/// True if this name cannot be somebody else's: an address, or this machine's own name for itself.
#[must_use]
pub fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_of_one_visitor() {
        let token = form_token("seed", Some("token"));
        assert!(is_form_token(&token, "seed", Some("token")));
        for (told, seed, visitor) in [
            (token.as_str(), "seed", Some("other")),
            (&token, "seed", None),
            (&token, "other", Some("token")),
            (&form_token("", None), "", None),
            ("", "seed", Some("token")),
            ("zz", "seed", Some("token")),
        ] {
            assert!(!is_form_token(told, seed, visitor), "{told} {seed} {visitor:?}");
        }
    }

    #[test]
    fn what_another_site_sent_is_known() {
        for (pairs, foreign) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("origin", "http://a:1")], false),
            (&[("origin", "https://a:1")], false),
            (&[("origin", "http://b:1")], true),
            (&[("origin", "http://a:2")], true),
            (&[("origin", "null")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://b")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://a:1")], true),
        ] {
            let headers = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(is_foreign(&headers, "a:1"), foreign, "{pairs:?}");
        }
    }

    #[test]
    fn a_name_that_leads_here_is_not_enough() {
        for (host, own) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("localhost:1", true),
            ("LOCALHOST", true),
            ("10.0.0.1", true),
            ("evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_own_name(host), own, "{host}");
        }
    }
}
