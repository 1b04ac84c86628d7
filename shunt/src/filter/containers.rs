//! The list of merged containers, as the filter reads it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use md5::{Digest as _, Md5};
use serde_json::json;

use crate::body::{Response, empty, full};
use crate::policy::{Policies, Table};

/// Made once per policy: every proxy process asks every few seconds.
#[derive(Debug, Default)]
pub(super) struct Containers {
    made: Mutex<Option<Made>>,
}

#[derive(Clone, Debug)]
struct Made {
    of: Arc<Table>,
    text: Bytes,
    etag: HeaderValue,
}

impl Containers {
    /// Answers a GET.
    pub(super) fn answer(&self, policies: &Policies, asked: &HeaderMap) -> Response {
        let made = self.current(policies.current());
        let is_known = asked.get(header::IF_NONE_MATCH) == Some(&made.etag);
        let mut response = Response::new(if is_known { empty() } else { full(made.text) });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response.headers_mut().insert(header::ETAG, made.etag);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn current(&self, table: Arc<Table>) -> Made {
        let mut kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(made) if Arc::ptr_eq(&made.of, &table) => made.clone(),
            _ => kept.insert(make(table)).clone(),
        }
    }
}

fn make(table: Arc<Table>) -> Made {
    let containers: Vec<_> = table
        .merged()
        .into_iter()
        .map(|merged| json!([merged.account, merged.container, {"writes": merged.writes}]))
        .collect();
    let text = json!({"containers": containers}).to_string();
    let etag = format!("\"{}\"", hex::encode(Md5::digest(&text)));
    let etag = HeaderValue::from_str(&etag).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
    Made { of: table, text: text.into(), etag }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_list_is_not_sent_again() {
        let (containers, policies) = (Containers::default(), Policies::default());
        let first = containers.answer(&policies, &HeaderMap::new());
        assert_eq!(first.status(), 200);
        let mut asked = HeaderMap::new();
        asked.insert(header::IF_NONE_MATCH, first.headers().get(header::ETAG).unwrap().clone());
        assert_eq!(containers.answer(&policies, &asked).status(), 304);
    }
}
