//! DELETE and POST of objects in merged containers.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, StatusCode, Uri, header};
use hyper::body::Incoming;

use super::merged::{in_memory, keep_local, wants_only_swift};
use super::{Proxy, unanswered};
use crate::body::{self, Response, collect, full, text};
use crate::exchange::done;
use crate::policy::Route;
use crate::request::{is_temporary, query_value};
use crate::restore::headers::keeps_versions;
use crate::write;

/// Swift's report about a large object that is deleted with its segments; it names those that could not be deleted.
const MAX_REPORT_BYTES: usize = 1024 * 1024;

impl Proxy {
    /// A DELETE or POST of an object, which reaches the remote too.
    pub(super) async fn write(
        &self,
        request: Request<Incoming>,
        route: Arc<Route>,
        object: String,
    ) -> Response {
        if wants_only_swift(request.uri().query()) {
            return self.pass(request).await;
        }
        let is_delete = request.method() == Method::DELETE;
        let answer = if is_delete {
            self.delete(request, &route, &object).await
        } else {
            self.post(request, &route, &object).await
        };
        let operation = if is_delete { "delete" } else { "post" };
        done(answer, operation)
    }

    async fn delete(&self, request: Request<Incoming>, route: &Route, object: &str) -> Response {
        let (parts, content) = request.into_parts();
        let token = if self.is_swifts_alone(&parts).await {
            None
        } else {
            match write::before(&self.context, route, object, &parts.method).await {
                Ok(token) => token,
                Err(answer) => return answer,
            }
        };
        let local = match self.forward(Request::from_parts(parts.clone(), content)).await {
            Ok(local) => local,
            Err(error) => return unanswered(&error),
        };
        if token.is_none() {
            return local;
        }
        let with_segments = query_value(parts.uri.query(), "multipart-manifest").as_deref() == Some("delete");
        let (local, status) = if with_segments {
            match self.deleted_with_segments(parts, local).await {
                Ok(judged) => judged,
                Err(answer) => return answer,
            }
        } else {
            let status = local.status();
            (local, status)
        };
        match write::delete_after(&self.context, route, object, token.as_ref(), status).await {
            // Swift's report tells more than "it is gone".
            Some(answer) if answer.status() == StatusCode::NO_CONTENT && local.status() == StatusCode::OK => {
                local
            }
            Some(mut answer) => {
                keep_local(local.headers(), answer.headers_mut());
                answer
            }
            None => local,
        }
    }

    /// Whether the remote has no part in this DELETE: Swift does not know the client at all, and requests to the remote cost money; or the
    /// container keeps versions, and what is deleted is to be had again.
    async fn is_swifts_alone(&self, parts: &Parts) -> bool {
        // A signature for a DELETE is good for no HEAD.
        if is_temporary(parts.uri.query()) {
            return false;
        }
        let mut parts = parts.clone();
        parts.method = Method::HEAD;
        let Some(container) = container_of(&parts.uri) else { return false };
        parts.uri = container;
        // Who may write and not read gets 403 here, and goes on.
        self.again(parts).await.is_some_and(|answer| {
            answer.status() == StatusCode::UNAUTHORIZED || keeps_versions(answer.headers())
        })
    }

    /// Swift reports about a DELETE with `multipart-manifest=delete` in a body, and of an object that it does not have it says "not found" to
    /// everybody who may read. So it is asked for a plain DELETE then, which only those get through who may write. Where something was deleted,
    /// that shows the right to; another DELETE would hit what somebody wrote since.
    async fn deleted_with_segments(
        &self,
        parts: Parts,
        local: Response,
    ) -> Result<(Response, StatusCode), Response> {
        let status = local.status();
        if status != StatusCode::OK {
            return match judge(status, b"") {
                Verdict::Unproven => self.plain_delete(parts, local).await,
                Verdict::Deleted | Verdict::Stands => Ok((local, status)),
            };
        }
        let (head, content) = local.into_parts();
        let report = collect(content, MAX_REPORT_BYTES).await.unwrap_or_default();
        let verdict = judge(status, &report);
        let local = Response::from_parts(head, full(report));
        match verdict {
            Verdict::Stands => Err(local),
            Verdict::Deleted => Ok((local, StatusCode::NO_CONTENT)),
            Verdict::Unproven => self.plain_delete(parts, local).await,
        }
    }

    /// The same DELETE of the name alone, in place of `local`, which told of nothing that was there.
    async fn plain_delete(
        &self,
        mut parts: Parts,
        local: Response,
    ) -> Result<(Response, StatusCode), Response> {
        parts.uri = without_query(&parts.uri);
        let plain = self.again(parts).await.ok_or(local)?;
        let status = plain.status();
        Ok((plain, status))
    }

    async fn post(&self, request: Request<Incoming>, route: &Route, object: &str) -> Response {
        let (parts, content) = request.into_parts();
        let local = match self.forward(Request::from_parts(parts.clone(), content)).await {
            Ok(local) => local,
            Err(error) => return unanswered(&error),
        };
        if local.status() != StatusCode::NOT_FOUND {
            return local;
        }
        let local = in_memory(local).await;
        let Some(mut answer) = write::post(&self.context, route, object, &parts.headers).await else {
            return local;
        };
        if answer.status() == StatusCode::ACCEPTED {
            // Another client's GET may have made it local again meanwhile, with the metadata of before.
            match self.again(parts).await {
                Some(again) if again.status().is_success() || again.status() == StatusCode::NOT_FOUND => {}
                Some(again) => return again,
                None => return text(StatusCode::SERVICE_UNAVAILABLE, "Swift does not answer; post again\n"),
            }
        }
        keep_local(local.headers(), answer.headers_mut());
        answer
    }

    /// The client's request once more, without a body.
    async fn again(&self, mut parts: Parts) -> Option<Response> {
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.headers.remove(header::EXPECT);
        parts.headers.insert(header::CONTENT_LENGTH, http::HeaderValue::from(0));
        let answer = self.upstream.ask(Request::from_parts(parts, body::empty())).await.ok()?;
        Some(in_memory(self.received(answer)).await)
    }
}

/// What Swift's answer to a DELETE with segments shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The client may write, and something was deleted. Another DELETE would hit what was written since.
    Deleted,
    /// Nothing was there, which is told to everybody who may read.
    Unproven,
    /// It failed, and is not to go on.
    Stands,
}

fn judge(status: StatusCode, report: &[u8]) -> Verdict {
    match status {
        StatusCode::NO_CONTENT => Verdict::Deleted,
        StatusCode::NOT_FOUND => Verdict::Unproven,
        StatusCode::OK if !is_success_report(report) => Verdict::Stands,
        StatusCode::OK if has_found_nothing(report) => Verdict::Unproven,
        StatusCode::OK if field(report, "Number Deleted").is_some() => Verdict::Deleted,
        StatusCode::OK => Verdict::Unproven,
        _ => Verdict::Stands,
    }
}

/// The container of an object's `/v1/account/container/object`.
fn container_of(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let (end, _) = path.match_indices('/').nth(3)?;
    path.get(..end)?.parse().ok()
}

fn without_query(uri: &Uri) -> Uri {
    uri.path().parse().unwrap_or_else(|_| uri.clone())
}

/// Whether everything was deleted, or gone before. Source: `handle_delete_iter` in `swift/common/middleware/bulk.py` of Swift 2.30.1.
fn is_success_report(report: &[u8]) -> bool {
    field(report, "Response Status").is_some_and(|status| status.starts_with("200"))
}

fn has_found_nothing(report: &[u8]) -> bool {
    field(report, "Number Deleted").as_deref() == Some("0")
}

/// A field of the report, which is text (`Name: value`), JSON or XML.
fn field(report: &[u8], name: &str) -> Option<String> {
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(report) {
        return match fields.get(name)? {
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
    }
    let text = std::str::from_utf8(report).ok()?;
    let in_text =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
    in_text.or_else(|| {
        let tag = name.to_lowercase().replace(' ', "_");
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once('<').map(|(value, _)| value.to_owned())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_is_sent_again_only_where_nothing_was_deleted() {
        let report =
            |number: u32, status: &str| format!("Number Deleted: {number}\nResponse Status: {status}\n");
        for (status, report, expected) in [
            (204, String::new(), Verdict::Deleted),
            (404, String::new(), Verdict::Unproven),
            (200, report(2, "200 OK"), Verdict::Deleted),
            (200, report(0, "200 OK"), Verdict::Unproven),
            (200, report(1, "400 Bad Request"), Verdict::Stands),
            (200, report(0, "401 Unauthorized"), Verdict::Stands),
            (200, "Response Status: 200 OK".to_owned(), Verdict::Unproven),
            (403, String::new(), Verdict::Stands),
            (503, String::new(), Verdict::Stands),
        ] {
            let told = judge(StatusCode::from_u16(status).unwrap(), report.as_bytes());
            assert_eq!(told, expected, "{status}: {report}");
        }
    }

    #[test]
    fn containers_are_found_in_paths() {
        for (path, expected) in [
            ("/v1/AUTH_a/c%20d/o//x/?a=b", Some("/v1/AUTH_a/c%20d")),
            ("/v1/a/c/", Some("/v1/a/c")),
            ("/v1/a/c", None),
        ] {
            let found = container_of(&path.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn reports_are_read_in_every_form() {
        for (report, done, nothing) in [
            (
                "Number Deleted: 3\nNumber Not Found: 0\nResponse Body: \nResponse Status: 200 OK\nErrors:\n",
                true,
                false,
            ),
            (
                r#"{"Number Not Found": 1, "Response Status": "200 OK", "Number Deleted": 0, "Errors": []}"#,
                true,
                true,
            ),
            (
                "<delete>\n<number_deleted>0</number_deleted><response_status>200 OK</response_status></delete>",
                true,
                true,
            ),
            ("Number Deleted: 0\nResponse Status: 401 Unauthorized\nErrors:\n", false, true),
            ("", false, false),
        ] {
            assert_eq!(is_success_report(report.as_bytes()), done, "{report}");
            assert_eq!(has_found_nothing(report.as_bytes()), nothing, "{report}");
        }
    }
}
