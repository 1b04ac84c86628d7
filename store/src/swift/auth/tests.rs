#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const SECRET: &str = "never-shown";

fn auth(method: SwiftAuth, remote_account: Option<&str>) -> Auth {
    Auth {
        url: "http://k:5000/v3".to_owned(),
        method,
        credentials: SwiftCredentials { user: "test:tester".to_owned(), key: SECRET.to_owned() },
        remote_account: remote_account.map(str::to_owned),
    }
}

fn v3() -> SwiftAuth {
    SwiftAuth::KeystoneV3 {
        project_name: "p".to_owned(),
        project_domain_name: "pd".to_owned(),
        user_domain_name: "ud".to_owned(),
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

#[test]
fn each_version_asks_in_its_own_way() {
    let request = auth(SwiftAuth::V1, None).request().unwrap();
    assert_eq!((request.method, request.url.as_str()), (Method::GET, "http://k:5000/v3"));
    assert_eq!(request.headers["x-auth-user"], "test:tester");
    assert!(request.headers["x-auth-key"].is_sensitive());

    let request = auth(SwiftAuth::KeystoneV2 { tenant_name: "t".to_owned() }, None).request().unwrap();
    assert_eq!(request.url, "http://k:5000/v3/tokens");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["auth"]["tenantName"], "t");
    assert_eq!(body["auth"]["passwordCredentials"]["password"], SECRET);

    let request = auth(v3(), None).request().unwrap();
    assert_eq!((request.method, request.url.as_str()), (Method::POST, "http://k:5000/v3/auth/tokens"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["auth"]["scope"]["project"], json!({"name": "p", "domain": {"name": "pd"}}));
    assert_eq!(body["auth"]["identity"]["password"]["user"]["domain"]["name"], "ud");
}

#[test]
fn a_version_1_answer_has_everything_in_its_headers() {
    let answer = headers(&[
        ("x-storage-url", "http://s:8080/v1/AUTH_test/"),
        ("x-auth-token", "AUTH_tk1"),
        ("x-auth-token-expires", "86400"),
    ]);
    let login = auth(SwiftAuth::V1, None).read(&answer, b"").unwrap();
    assert_eq!(login.storage_url, "http://s:8080/v1/AUTH_test");
    assert_eq!(login.token, "AUTH_tk1");
    assert!(login.token.is_sensitive());
    assert_eq!(login.lifetime, Some(Duration::from_secs(86400)));
}

#[test]
fn another_account_takes_the_place_of_the_users_own() {
    let answer = headers(&[("x-storage-url", "https://s/swift/v1/AUTH_me"), ("x-storage-token", "t")]);
    let login = auth(SwiftAuth::V1, Some("AUTH_ä b/c")).read(&answer, b"").unwrap();
    assert_eq!(login.storage_url, "https://s/v1/AUTH_%C3%A4%20b/c");
}

#[test]
fn catalogs_are_searched_for_the_public_endpoint_of_the_object_store() {
    let body = json!({"token": {
        "issued_at": "2024-01-01T00:00:00.000000Z", "expires_at": "2024-01-01T01:00:00.000000Z",
        "catalog": [
            {"type": "identity", "endpoints": [{"interface": "public", "url": "http://k"}]},
            {"type": "object-store", "endpoints": [
                {"interface": "admin", "url": "http://a"},
                {"interface": "public", "url": "http://s/v1/AUTH_1", "region": "x", "id": 7}]}]}});
    let answer = headers(&[("x-subject-token", "gAAA")]);
    let login = auth(v3(), None).read(&answer, body.to_string().as_bytes()).unwrap();
    assert_eq!((login.storage_url.as_str(), login.token.to_str().unwrap()), ("http://s/v1/AUTH_1", "gAAA"));
    assert_eq!(login.lifetime, Some(Duration::from_secs(3600)));

    let body = json!({"access": {
        "token": {"id": "t2", "issued_at": "2024-01-01T00:00:00.123456", "expires": "2024-01-01T01:00:00Z"},
        "serviceCatalog": [{"type": "object-store", "endpoints": [{"publicURL": "http://s/v1/AUTH_2"}]}]}});
    let tenant = SwiftAuth::KeystoneV2 { tenant_name: "t".to_owned() };
    let login = auth(tenant, None).read(&HeaderMap::new(), body.to_string().as_bytes()).unwrap();
    assert_eq!((login.storage_url.as_str(), login.token.to_str().unwrap()), ("http://s/v1/AUTH_2", "t2"));
    // The time of issue has no zone here, so nobody knows how long the token lasts.
    assert_eq!(login.lifetime, None);
}

#[test]
fn what_is_no_login_says_what_is_missing_and_shows_no_token() {
    let auth = auth(v3(), None);
    let with_token = headers(&[("x-subject-token", "hidden-token")]);
    for (headers, body) in [
        (HeaderMap::new(), "{}"),
        (with_token.clone(), "hidden-token"),
        (with_token.clone(), "{\"token\": {\"catalog\": \"hidden-token\"}}"),
        (with_token.clone(), "{\"token\": {}}"),
        (
            with_token,
            r#"{"token": {"catalog": [{"type": "object-store", "endpoints": [{"interface": "public", "url": "ftp://hidden-token"}]}]}}"#,
        ),
    ] {
        let error = auth.read(&headers, body.as_bytes()).err().unwrap();
        assert!(!error.contains("hidden-token"), "{error}");
    }
}

#[test]
fn only_plain_urls_are_asked() {
    for url in ["http://h", "https://h:5000/v3", "http://[::1]:80/auth/v1.0"] {
        assert!(check_url(url).is_ok(), "{url}");
    }
    for url in ["", "h:80", "ftp://h", "http://", "http://u:p@h/", "http://h/?a=b", "http://h/a b"] {
        assert!(check_url(url).is_err(), "{url}");
    }
}
