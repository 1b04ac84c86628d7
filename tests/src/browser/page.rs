//! One window: where it is, what is to be read in it, and what hands do to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::element::Element;
use super::find::By;
use super::observed::Observed;
use super::protocol::Connection;
use crate::wait;

/// What a person waits for without wondering, on a machine that does ten things at once.
pub const SOON: Duration = Duration::from_secs(20);

/// The browser looks at what is there.
const QUERY_LIMIT: Duration = Duration::from_secs(5);

/// Until a click has begun what it is to begin.
const ROUND_TRIPS: usize = 3;
/// A hand needs longer from one click to the next.
const PAUSE: Duration = Duration::from_millis(50);

/// A window with cookies of its own. Dropped, it fails the test if the browser complained, see [`Page::allow`].
#[derive(Debug)]
pub struct Page {
    connection: Arc<Connection>,
    target: String,
    session: Mutex<String>,
    /// How the window was set up, by command: a new session begins without.
    settings: Mutex<Vec<(&'static str, Value)>>,
    observed: Arc<Observed>,
}

impl Page {
    pub(super) async fn new(connection: Arc<Connection>, target: String) -> Result<Self> {
        let page = Self {
            connection,
            target,
            session: Mutex::default(),
            settings: Mutex::default(),
            observed: Arc::default(),
        };
        page.attach().await?;
        page.set_size(1280, 800).await?;
        Ok(page)
    }

    /// Begins a session with the window, in place of the one there was.
    async fn attach(&self) -> Result<()> {
        let request = json!({ "targetId": self.target, "flatten": true });
        let answer = self.connection.call(None, "Target.attachToTarget", request).await?;
        let session = answer.get("sessionId").and_then(Value::as_str).context("no session")?.to_owned();
        let listener = Arc::clone(&self.observed);
        self.connection.listen(&session, Arc::new(move |method, event| listener.take(method, event)));
        let before = std::mem::replace(&mut *lock(&self.session), session);
        if !before.is_empty() {
            self.connection.forget(&before);
            let request = json!({ "sessionId": before });
            self.connection.call(None, "Target.detachFromTarget", request).await?;
        }
        for domain in ["Page", "Runtime", "Log", "Network", "DOM", "Accessibility", "Performance"] {
            self.call(&format!("{domain}.enable"), json!({})).await?;
        }
        self.call("Page.setLifecycleEventsEnabled", json!({ "enabled": true })).await?;
        let settings = lock(&self.settings).clone();
        for (method, parameters) in settings {
            self.call(method, parameters).await?;
        }
        Ok(())
    }

    /// Sets the window up, for this session and those after it.
    async fn set_up(&self, method: &'static str, parameters: Value) -> Result<()> {
        {
            let mut settings = lock(&self.settings);
            settings.retain(|(other, _)| *other != method);
            settings.push((method, parameters.clone()));
        }
        self.call(method, parameters).await?;
        Ok(())
    }

    /// Goes to an address and waits until everything of the page is there; the status of the answer is not looked at.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.observed.forget_traffic();
        let answer = self.call("Page.navigate", json!({ "url": url })).await?;
        if let Some(error) = answer.get("errorText").and_then(Value::as_str) {
            bail!("open {url}: {error}");
        }
        let loader = answer.get("loaderId").and_then(Value::as_str).context("no new document")?.to_owned();
        wait::until(&format!("{url} to load"), SOON, async || {
            ensure!(self.observed.has_loaded(&loader), "still loading");
            Ok(())
        })
        .await
    }

    /// Where it is.
    pub async fn url(&self) -> Result<String> {
        let url = self.evaluate("location.href").await?;
        Ok(url.as_str().unwrap_or_default().to_owned())
    }

    /// What it would send to where it is.
    pub async fn cookies(&self) -> Result<Vec<Value>> {
        let answer = self.call("Network.getCookies", json!({})).await?;
        Ok(answer.get("cookies").and_then(Value::as_array).context("no cookies")?.clone())
    }

    /// The same as the header of a request.
    pub async fn cookie_header(&self) -> Result<String> {
        let cookies = self.cookies().await?;
        let text = |cookie: &Value, key: &str| {
            cookie.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let pairs: Vec<String> = cookies
            .iter()
            .map(|cookie| format!("{}={}", text(cookie, "name"), text(cookie, "value")))
            .collect();
        Ok(pairs.join("; "))
    }

    /// Has this run in every document before its own scripts; the page's policy is no concern of it.
    pub async fn run_first(&self, script: &str) -> Result<()> {
        self.set_up("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await
    }

    /// The size of the window, in CSS pixels. Narrow ones are telephones.
    pub async fn set_size(&self, width: u32, height: u32) -> Result<()> {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.set_up("Emulation.setDeviceMetricsOverride", metrics).await
    }

    /// Whether the person prefers dark colours.
    pub async fn set_dark(&self, is_dark: bool) -> Result<()> {
        let features = json!([
            { "name": "prefers-color-scheme", "value": if is_dark { "dark" } else { "light" } },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.set_up("Emulation.setEmulatedMedia", json!({ "features": features })).await
    }

    /// Whether scripts of pages that are opened from now on run.
    pub async fn set_scripts(&self, run: bool) -> Result<()> {
        self.set_up("Emulation.setScriptExecutionDisabled", json!({ "value": !run })).await
    }

    /// What is to be read on it.
    pub async fn text(&self) -> Result<String> {
        let text = self.evaluate("document.body ? document.body.innerText : ''").await?;
        Ok(text.as_str().context("no text")?.to_owned())
    }

    /// Waits until this is to be read on it.
    pub async fn wait_text(&self, part: &str, limit: Duration) -> Result<()> {
        let what = format!("{part:?} on the page");
        wait::until(&what, limit, async || {
            let text = self.text().await?;
            ensure!(text.contains(part), "it says:\n{text}");
            Ok(())
        })
        .await
    }

    /// Waits until this is not to be read on it any more.
    pub async fn wait_no_text(&self, part: &str, limit: Duration) -> Result<()> {
        let what = format!("no {part:?} on the page");
        wait::until(&what, limit, async || {
            let text = self.text().await?;
            ensure!(!text.contains(part), "it says:\n{text}");
            Ok(())
        })
        .await
    }

    /// All elements that may be meant, in the order of the page.
    pub async fn all(&self, by: &By) -> Result<Vec<Element<'_>>> {
        let roots = match &by.within {
            // Boxed, because it calls itself.
            Some(outer) => Box::pin(self.all(outer)).await?.into_iter().map(|found| found.node).collect(),
            None => {
                let document = self.look("DOM.getDocument", json!({ "depth": 0 })).await?;
                let root = document.pointer("/root/backendNodeId").and_then(Value::as_i64);
                vec![root.context("no document")?]
            }
        };
        let mut found = Vec::new();
        for root in roots {
            let query = json!({ "backendNodeId": root, "role": by.role });
            let nodes = self.look("Accessibility.queryAXTree", query).await?;
            for node in nodes.get("nodes").and_then(Value::as_array).context("no nodes")? {
                let name = node.pointer("/name/value").and_then(Value::as_str).unwrap_or_default();
                let is_ignored = node.get("ignored").and_then(Value::as_bool).unwrap_or_default();
                let id = node.get("backendDOMNodeId").and_then(Value::as_i64);
                let Some(id) = id.filter(|id| *id != root && !is_ignored) else { continue };
                let mut element = Element::new(self, id, name.to_owned());
                // The browser names lines of tables and lists only where they can have the focus.
                if name.is_empty() && by.is_container() {
                    element = Element::new(self, id, element.text().await?);
                }
                if by.accepts(element.name()) {
                    found.push(element);
                }
            }
        }
        Ok(found)
    }

    /// True if there is one now.
    pub async fn has(&self, by: &By) -> Result<bool> {
        wait::until(&format!("an answer about {by}"), SOON, async || {
            Ok::<_, anyhow::Error>(!self.all(by).await?.is_empty())
        })
        .await
    }

    /// The first one; waits for it.
    pub async fn find(&self, by: &By) -> Result<Element<'_>> {
        wait::until(&format!("{by}"), SOON, async || self.first(by).await).await
    }

    async fn first(&self, by: &By) -> Result<Element<'_>> {
        match self.all(by).await?.into_iter().next() {
            Some(found) => Ok(found),
            None => bail!("there are only {}", self.outline(by.role).await?),
        }
    }

    /// Names of all elements of a role, for messages.
    async fn outline(&self, role: &'static str) -> Result<String> {
        let names: Vec<String> =
            self.all(&By::role(role)).await?.iter().map(|found| format!("{:?}", found.name())).collect();
        Ok(format!("{} {role}: {} at {}", names.len(), names.join(", "), self.url().await?))
    }

    /// Clicks on the first one; waits for it, and finds it again when the page was just being replaced.
    pub async fn click(&self, by: &By) -> Result<()> {
        wait::until(&format!("click on {by}"), SOON, async || self.first(by).await?.click().await).await
    }

    /// Fills the first one; waits for it.
    pub async fn fill(&self, by: &By, text: &str) -> Result<()> {
        wait::until(&format!("fill {by}"), SOON, async || self.first(by).await?.fill(text).await).await
    }

    /// Chooses from the first one; waits for it.
    pub async fn choose(&self, by: &By, option: &str) -> Result<()> {
        wait::until(&format!("choose in {by}"), SOON, async || self.first(by).await?.choose(option).await)
            .await
    }

    /// Presses a key, such as `Tab`, `Shift+Tab`, `Enter`, `Space`, `Escape`.
    pub async fn press(&self, key: &str) -> Result<()> {
        let (modifiers, key) = match key.strip_prefix("Shift+") {
            Some(key) => (8, key),
            None => (0, key),
        };
        let (name, code, number, text) = match key {
            "Tab" => ("Tab", "Tab", 9, ""),
            "Enter" => ("Enter", "Enter", 13, "\r"),
            "Space" => (" ", "Space", 32, " "),
            "Escape" => ("Escape", "Escape", 27, ""),
            "Delete" => ("Delete", "Delete", 46, ""),
            other => bail!("no key {other:?}"),
        };
        let event = |kind: &str, text: &str| {
            json!({
                "type": kind, "key": name, "code": code, "modifiers": modifiers,
                "windowsVirtualKeyCode": number, "nativeVirtualKeyCode": number, "text": text,
            })
        };
        let down = if text.is_empty() { "rawKeyDown" } else { "keyDown" };
        self.call("Input.dispatchKeyEvent", event(down, text)).await?;
        self.call("Input.dispatchKeyEvent", event("keyUp", "")).await?;
        if name == "Enter" { self.settle().await } else { Ok(()) }
    }

    /// Types letters into whatever has the focus.
    pub async fn type_text(&self, text: &str) -> Result<()> {
        for letter in text.chars() {
            let event = json!({ "type": "char", "text": letter.to_string() });
            self.call("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// The value of a JavaScript expression; works where the page's own scripts may not run. A promise is waited for.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        let request = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        returned(self.call("Runtime.evaluate", request).await?)
    }

    /// True if it is wider than the window, so that one must scroll sideways.
    pub async fn is_too_wide(&self) -> Result<bool> {
        let wide = "document.documentElement.scrollWidth > Math.max(document.documentElement.clientWidth, innerWidth)";
        Ok(self.evaluate(wide).await? == Value::Bool(true))
    }

    /// Bytes that came over the wire since the last [`Self::open`], with headers, by address.
    pub fn transferred(&self) -> Vec<(String, u64)> {
        self.observed.transferred()
    }

    /// Messages that came by event streams since the window was opened.
    pub fn updates(&self) -> u64 {
        self.observed.updates()
    }

    /// Whether what was fetched once may be used again.
    pub async fn set_cache(&self, use_it: bool) -> Result<()> {
        self.set_up("Network.setCacheDisabled", json!({ "cacheDisabled": !use_it })).await
    }

    /// The HTTP status of the last answer from an address that ends so.
    pub fn status(&self, address_end: &str) -> Option<u64> {
        self.observed.status(address_end)
    }

    /// From the start of the navigation until something was to be seen.
    pub async fn first_paint(&self) -> Result<Duration> {
        wait::until("the first paint", SOON, async || {
            let found =
                self.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime").await?;
            Ok::<_, anyhow::Error>(Duration::from_secs_f64(
                found.as_f64().context("nothing was painted yet")? / 1e3,
            ))
        })
        .await
    }

    /// Bytes that its objects of JavaScript take after rubbish was collected, and nodes of its documents.
    pub async fn heap(&self) -> Result<(u64, u64)> {
        self.call("HeapProfiler.collectGarbage", json!({})).await?;
        let answer = self.call("Performance.getMetrics", json!({})).await?;
        let metrics = answer.get("metrics").and_then(Value::as_array).context("no metrics")?;
        let metric = |name: &str| {
            let found = metrics.iter().find(|metric| metric.get("name").is_some_and(|found| found == name));
            found.and_then(|metric| metric.get("value")).and_then(Value::as_f64).unwrap_or_default() as u64
        };
        Ok((metric("JSHeapUsedSize"), metric("Nodes")))
    }

    /// From now on the browser may complain so; for what a scenario does on purpose.
    pub fn allow(&self, part_of_complaint: &str) {
        self.observed.allow(part_of_complaint);
    }

    /// Fails if the browser complained.
    pub fn expect_no_complaints(&self) -> Result<()> {
        let complaints = self.observed.complaints();
        ensure!(complaints.is_empty(), "the browser complained:\n{}", complaints.join("\n"));
        Ok(())
    }

    /// What the browser complained about, which is then forgotten.
    pub fn take_complaints(&self) -> Vec<String> {
        self.observed.take_complaints()
    }

    /// After something that may lead to another page: has it begun, then it also ends.
    pub(super) async fn settle(&self) -> Result<()> {
        for _ in 0..ROUND_TRIPS {
            // An error says that the document went away meanwhile.
            let _ = self.call("Runtime.evaluate", json!({ "expression": "1" })).await;
        }
        tokio::time::sleep(PAUSE).await;
        self.loaded().await
    }

    async fn loaded(&self) -> Result<()> {
        wait::until("the page to load", SOON, async || {
            ensure!(!self.observed.is_loading(), "still loading");
            Ok(())
        })
        .await
    }

    /// Asks about the document. The browser may lose a question about one that is just being replaced, and then all that is asked
    /// in the same session.
    async fn look(&self, method: &str, parameters: Value) -> Result<Value> {
        self.loaded().await?;
        match tokio::time::timeout(QUERY_LIMIT, self.call(method, parameters)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.attach().await?;
                bail!("{method}: the document was on its way")
            }
        }
    }

    pub(super) async fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        let session = lock(&self.session).clone();
        self.connection.call(Some(&session), method, parameters).await
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let complaints = self.observed.complaints();
        if !std::thread::panicking() && !complaints.is_empty() {
            panic!("the browser complained:\n{}", complaints.join("\n"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of what was evaluated, or what went wrong in it.
pub(super) fn returned(answer: Value) -> Result<Value> {
    if let Some(details) = answer.get("exceptionDetails") {
        bail!("{}", details.pointer("/exception/description").unwrap_or(details));
    }
    Ok(answer.pointer("/result/value").cloned().unwrap_or_default())
}
