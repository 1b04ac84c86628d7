//! What a page did, as the browser told it: complaints, loads, bytes.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Filled by the browser's events, read by the test.
#[derive(Debug, Default)]
pub(super) struct Observed(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    complaints: Vec<String>,
    allowed: Vec<String>,
    loaded: HashSet<String>,
    urls: HashMap<String, String>,
    transferred: Vec<(String, u64)>,
    statuses: Vec<(String, u64)>,
    updates: u64,
    is_loading: bool,
}

impl Observed {
    pub(super) fn take(&self, method: &str, event: &Value) {
        let mut state = self.lock();
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number =
            |path: &str| event.pointer(path).and_then(Value::as_f64).unwrap_or_default().max(0.0) as u64;
        match method {
            "Runtime.consoleAPICalled"
                if matches!(text("/type").as_str(), "error" | "assert" | "warning") =>
            {
                state.complain(format!("console {}: {}", text("/type"), event["args"]));
            }
            "Runtime.exceptionThrown" => {
                let details = &event["exceptionDetails"];
                let described = details["exception"]["description"].as_str().unwrap_or_default();
                state.complain(format!("script failed: {} {described}", text("/exceptionDetails/text")));
            }
            // A refused resource and a broken policy (CSP) come here too.
            "Log.entryAdded" if matches!(text("/entry/level").as_str(), "error" | "warning") => {
                state.complain(format!(
                    "{} {}: {} {}",
                    text("/entry/source"),
                    text("/entry/level"),
                    text("/entry/text"),
                    text("/entry/url")
                ));
            }
            "Page.javascriptDialogOpening" => {
                state.complain(format!("dialog {}: {}", text("/type"), text("/message")));
            }
            "Page.frameStartedNavigating" | "Page.frameStartedLoading" => state.is_loading = true,
            "Page.frameStoppedLoading" => state.is_loading = false,
            "Page.lifecycleEvent" if text("/name") == "load" => {
                state.loaded.insert(text("/loaderId"));
            }
            "Network.requestWillBeSent" => {
                state.urls.insert(text("/requestId"), text("/request/url"));
            }
            "Network.responseReceived" => {
                state.statuses.push((text("/response/url"), number("/response/status")));
            }
            "Network.loadingFinished" => {
                let url = state.urls.get(&text("/requestId")).cloned().unwrap_or_default();
                state.transferred.push((url, number("/encodedDataLength")));
            }
            "Network.eventSourceMessageReceived" => state.updates += 1,
            _ => {}
        }
    }

    /// Messages of event streams since the start.
    pub(super) fn updates(&self) -> u64 {
        self.lock().updates
    }

    pub(super) fn allow(&self, part: &str) {
        self.lock().allowed.push(part.to_owned());
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.lock().complaints.clone()
    }

    /// The complaints so far, which are forgotten.
    pub(super) fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().complaints)
    }

    pub(super) fn has_loaded(&self, loader: &str) -> bool {
        self.lock().loaded.contains(loader)
    }

    /// Another document is on its way.
    pub(super) fn is_loading(&self) -> bool {
        self.lock().is_loading
    }

    /// By address, with headers, as they went over the wire.
    pub(super) fn transferred(&self) -> Vec<(String, u64)> {
        self.lock().transferred.clone()
    }

    /// The status of the last answer from an address that ends so.
    pub(super) fn status(&self, address_end: &str) -> Option<u64> {
        let state = self.lock();
        let found = state.statuses.iter().rev().find(|(url, _)| url.ends_with(address_end));
        found.map(|(_, status)| *status)
    }

    pub(super) fn forget_traffic(&self) {
        let mut state = self.lock();
        state.transferred.clear();
        state.statuses.clear();
        state.urls.clear();
        state.loaded.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn complain(&mut self, complaint: String) {
        if !self.allowed.iter().any(|part| complaint.contains(part)) {
            self.complaints.push(complaint);
        }
    }
}
