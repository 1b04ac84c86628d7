//! What the reference says of a changed key is what a worker does with it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};
use swift_s3_policy::parse_sync_config;
use swift_s3_policy::sync_config::keys::{Change, GLOBAL, Key};
use swift_s3_worker::startup;

fn document(key: &Key, value: Option<&str>) -> String {
    let mut document = json!({"devices": "/srv/node", "status_dir": "/var/lib/status", "items_chunk": 1000});
    let beside: Map<String, Value> = serde_json::from_str(&format!("{{{}}}", key.beside)).unwrap();
    let members = document.as_object_mut().unwrap();
    members.extend(beside);
    if let Some(value) = value {
        members.insert(key.name.to_owned(), serde_json::from_str(value).unwrap());
    }
    document.to_string()
}

fn reloaded(path: &Path, key: &Key) -> (String, String) {
    let running = Arc::new(parse_sync_config(&document(key, None)).unwrap().config);
    let before = format!("{running:?}");
    std::fs::write(path, document(key, Some(key.example))).unwrap();
    let after = startup::reload(path, &Mutex::new(running)).expect("a document without a problem");
    (before, format!("{after:?}"))
}

#[test]
fn a_changed_key_is_in_force_when_the_reference_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for key in &GLOBAL {
        let (before, after) = reloaded(&folder.path().join("sync.json"), key);
        let is_live = matches!(key.change, Change::Live | Change::Compared);
        assert_eq!(before != after, is_live, "{}: {:?}", key.name, key.change);
    }
}
