//! Writes `sync.json` documents.

use serde_json::{Map, Value, json};

use crate::s3_client::S3Access;

/// One element of `containers[]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MappingJson(Map<String, Value>);

impl MappingJson {
    /// Without a key.
    pub fn empty() -> Self {
        Self(Map::new())
    }

    /// A container and the bucket it goes to; every other key has its default.
    pub fn new(account: &str, container: &str, access: &S3Access, bucket: &str) -> Self {
        Self::empty()
            .set("account", account)
            .set("container", container)
            .set("protocol", "s3")
            .set("aws_endpoint", access.endpoint.as_str())
            .set("aws_identity", access.identity.as_str())
            .set("aws_secret", access.secret.as_str())
            .set("aws_bucket", bucket)
    }

    /// Sets a key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Leaves a key out.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.remove(key);
        self
    }
}

/// A whole document, without what differs between nodes: [`crate::worker_process::Worker`] adds that.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncJson {
    globals: Map<String, Value>,
    mappings: Vec<MappingJson>,
}

impl Default for SyncJson {
    fn default() -> Self {
        Self::new()
    }
}

impl SyncJson {
    /// No mappings; polls five times a second, so that tests need not wait.
    pub fn new() -> Self {
        let globals = [
            ("items_chunk", json!(1000)),
            ("poll_interval", json!(0.2)),
            ("workers", json!(4)),
            ("enumerator_workers", json!(2)),
            ("verification_slack", json!(0)),
            ("log_level", json!("debug")),
        ];
        Self {
            globals: globals.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            mappings: Vec::new(),
        }
    }

    /// Sets a global key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.globals.insert(key.to_owned(), value.into());
        self
    }

    /// Leaves a global key out.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.globals.remove(key);
        self
    }

    /// Adds a mapping.
    #[must_use]
    pub fn mapping(mut self, mapping: MappingJson) -> Self {
        self.mappings.push(mapping);
        self
    }

    /// The document. `defaults` stand where nothing else was set.
    pub fn document(&self, defaults: &[(&str, Value)]) -> Value {
        let mut document: Map<String, Value> =
            defaults.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        document.extend(self.globals.clone());
        let mappings = self.mappings.iter().map(|mapping| Value::Object(mapping.0.clone()));
        document.insert("containers".to_owned(), mappings.collect());
        Value::Object(document)
    }
}
