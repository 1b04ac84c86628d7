//! DELETE and POST of objects in merged containers.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, StatusCode, Uri, header};
use hyper::body::Incoming;

use super::merged::{in_memory, keep_local, wants_only_swift};
use super::{DOOR, Proxy, temp_url, unanswered};
use crate::body::{self, Response, collect, full};
use crate::policy::Route;
use crate::request::query_value;
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
        self.context.metrics.answered(DOOR, operation, answer.status());
        answer
    }

    async fn delete(&self, request: Request<Incoming>, route: &Route, object: &str) -> Response {
        let (parts, content) = request.into_parts();
        let token = if self.is_nobody(&parts).await {
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

    /// Whether Swift does not know the client at all: then the remote, whose requests cost money, is not asked.
    async fn is_nobody(&self, parts: &Parts) -> bool {
        // A signature for a DELETE is good for no HEAD.
        if temp_url::is_temporary(parts.uri.query()) {
            return false;
        }
        let mut parts = parts.clone();
        parts.method = Method::HEAD;
        // Who may write and not read gets 403 here, and goes on.
        self.again(parts).await.is_some_and(|answer| answer.status() == StatusCode::UNAUTHORIZED)
    }

    /// Swift reports about a DELETE with `multipart-manifest=delete` in a body, and of an object that it does not have it says "not found" to
    /// everybody who may read. So it is asked for a plain DELETE too, which only those get through who may write.
    async fn deleted_with_segments(
        &self,
        mut parts: Parts,
        local: Response,
    ) -> Result<(Response, StatusCode), Response> {
        if local.status() != StatusCode::OK {
            let status = local.status();
            return Ok((local, status));
        }
        let (head, content) = local.into_parts();
        let report = collect(content, MAX_REPORT_BYTES).await.unwrap_or_default();
        let is_done = is_success_report(&report);
        let found_nothing = has_found_nothing(&report);
        let local = Response::from_parts(head, full(report));
        if !is_done {
            return Err(local);
        }
        parts.uri = without_query(&parts.uri);
        match self.again(parts).await {
            Some(plain) if found_nothing => {
                let status = plain.status();
                Ok((plain, status))
            }
            Some(plain) => Ok((local, plain.status())),
            None => Err(local),
        }
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
            drop(self.again(parts).await);
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
mod tests {
    use super::*;

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
