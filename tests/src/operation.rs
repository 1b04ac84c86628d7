//! Tells from a request's head which S3 operation it is, for counting and for choosing which requests fail.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

/// An S3 operation; objects unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// PUT with a body.
    Put,
    /// PUT with a copy source.
    Copy,
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// DELETE.
    Delete,
    /// POST `?delete`: many keys at once.
    DeleteMany,
    /// GET of a bucket: a page of keys.
    List,
    /// Starts a multipart upload.
    CreateMultipart,
    /// One part, with a body or copied.
    UploadPart,
    /// Completes a multipart upload.
    CompleteMultipart,
    /// Gives a multipart upload up.
    AbortMultipart,
    /// Creates, asks for or deletes a bucket.
    Bucket,
    /// Reads or writes a bucket's lifecycle rules.
    Lifecycle,
    /// Anything else.
    Other,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Put,
        Self::Copy,
        Self::Get,
        Self::Head,
        Self::Delete,
        Self::DeleteMany,
        Self::List,
        Self::CreateMultipart,
        Self::UploadPart,
        Self::CompleteMultipart,
        Self::AbortMultipart,
        Self::Bucket,
        Self::Lifecycle,
        Self::Other,
    ];

    /// The name in counts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::DeleteMany => "delete_many",
            Self::List => "list",
            Self::CreateMultipart => "create_multipart",
            Self::UploadPart => "upload_part",
            Self::CompleteMultipart => "complete_multipart",
            Self::AbortMultipart => "abort_multipart",
            Self::Bucket => "bucket",
            Self::Lifecycle => "lifecycle",
            Self::Other => "other",
        }
    }

    /// The operation of a path-style request.
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let query = uri.query().unwrap_or_default();
        let asks = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
        if asks("lifecycle") {
            return Self::Lifecycle;
        }
        let on_object = key_of(uri).is_some();
        match (method.as_str(), on_object) {
            ("PUT", true) if asks("uploadId") => Self::UploadPart,
            ("PUT", true) if headers.contains_key("x-amz-copy-source") => Self::Copy,
            ("PUT", true) => Self::Put,
            ("GET", true) => Self::Get,
            ("HEAD", true) => Self::Head,
            ("DELETE", true) if asks("uploadId") => Self::AbortMultipart,
            ("DELETE", true) => Self::Delete,
            ("POST", true) if asks("uploads") => Self::CreateMultipart,
            ("POST", true) if asks("uploadId") => Self::CompleteMultipart,
            ("POST", false) if asks("delete") => Self::DeleteMany,
            ("GET", false) if asks("list-type") || query.is_empty() || asks("prefix") || asks("max-keys") => {
                Self::List
            }
            ("PUT" | "HEAD" | "DELETE", false) => Self::Bucket,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The decoded key of a path-style request, or nothing when it is about a bucket or the service.
pub fn key_of(uri: &Uri) -> Option<String> {
    let (_, key) = uri.path().strip_prefix('/')?.split_once('/')?;
    if key.is_empty() {
        return None;
    }
    Some(percent_decode_str(key).decode_utf8_lossy().into_owned())
}

/// Requests by operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCounts(BTreeMap<Operation, u64>);

impl RequestCounts {
    /// Adds `number` requests.
    pub fn add(&mut self, operation: Operation, number: u64) {
        if number > 0 {
            *self.0.entry(operation).or_default() += number;
        }
    }

    /// How many there were of one operation.
    pub fn of(&self, operation: Operation) -> u64 {
        self.0.get(&operation).copied().unwrap_or_default()
    }

    /// Requests about objects: all but those about the bucket's lifecycle rules, which a worker looks at once after a start.
    pub fn about_objects(&self) -> u64 {
        self.total() - self.of(Operation::Lifecycle)
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = Self::default();
        for (operation, number) in &self.0 {
            difference.add(*operation, number.saturating_sub(earlier.of(*operation)));
        }
        difference
    }

    /// As `{"put": 3}`.
    pub fn to_json(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|(operation, number)| (operation.name().to_owned(), (*number).into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Reads [`Self::to_json`]; unknown names are left out.
    pub fn from_json(value: &serde_json::Value) -> Self {
        let mut counts = Self::default();
        for operation in Operation::ALL {
            let number = value.get(operation.name()).and_then(serde_json::Value::as_u64);
            counts.add(operation, number.unwrap_or_default());
        }
        counts
    }
}

impl fmt::Display for RequestCounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.0.iter().map(|(operation, number)| format!("{number} {operation}")).collect();
        formatter.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_every_operation() {
        let table = [
            ("PUT", "/b/k", "", Operation::Put),
            ("PUT", "/b/k", "x-amz-copy-source", Operation::Copy),
            ("PUT", "/b/k?partNumber=1&uploadId=u", "x-amz-copy-source", Operation::UploadPart),
            ("GET", "/b/k?x-id=GetObject", "", Operation::Get),
            ("HEAD", "/b/a/../k", "", Operation::Head),
            ("DELETE", "/b/k?x-id=DeleteObject", "", Operation::Delete),
            ("DELETE", "/b/k?uploadId=u", "", Operation::AbortMultipart),
            ("POST", "/b/k?uploads", "", Operation::CreateMultipart),
            ("POST", "/b/k?uploadId=u", "", Operation::CompleteMultipart),
            ("POST", "/b?delete", "", Operation::DeleteMany),
            ("POST", "/b/?delete=", "", Operation::DeleteMany),
            ("GET", "/b?list-type=2&prefix=p", "", Operation::List),
            ("GET", "/b/?prefix=p", "", Operation::List),
            ("PUT", "/b", "", Operation::Bucket),
            ("HEAD", "/b/", "", Operation::Bucket),
            ("GET", "/b?lifecycle", "", Operation::Lifecycle),
            ("GET", "/b?location", "", Operation::Other),
        ];
        for (method, target, header, expected) in table {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert(header, "b/k".parse().unwrap());
            }
            let method = method.parse().unwrap();
            let found = Operation::of(&method, &target.parse().unwrap(), &headers);
            assert_eq!(found, expected, "{method} {target}");
        }
    }

    #[test]
    fn decodes_the_key_and_keeps_its_dots() {
        let uri = "/bucket/a/../b%20c%2Fd".parse().unwrap();
        assert_eq!(key_of(&uri).as_deref(), Some("a/../b c/d"));
        assert_eq!(key_of(&"/bucket/".parse().unwrap()), None);
    }

    #[test]
    fn counts_survive_json_and_subtract() {
        let mut before = RequestCounts::default();
        before.add(Operation::Put, 2);
        let mut after = before.clone();
        after.add(Operation::Put, 3);
        after.add(Operation::List, 1);
        assert_eq!(RequestCounts::from_json(&after.to_json()), after);
        let difference = after.since(&before);
        assert_eq!((difference.of(Operation::Put), difference.total()), (3, 4));
    }
}
