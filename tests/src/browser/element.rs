//! An element that was found, and what a hand does to it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::page::Page;

/// An element as it was when it was found; the page may replace it at any time.
#[derive(Debug)]
pub struct Element<'a> {
    pub(super) page: &'a Page,
    /// The browser's id of the node.
    pub(super) node: i64,
    name: String,
}

impl<'a> Element<'a> {
    pub(super) fn new(page: &'a Page, node: i64, name: String) -> Self {
        Self { page, node, name }
    }

    /// Its accessible name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Presses and releases the left button of the mouse on its middle.
    ///
    /// # Errors
    /// When it has no place on the page, or something else lies on top of it.
    pub async fn click(&self) -> Result<()> {
        let place = json!({ "backendNodeId": self.node });
        self.page.call("DOM.scrollIntoViewIfNeeded", place.clone()).await?;
        let quads = self.page.call("DOM.getContentQuads", place).await?;
        let corners: Vec<f64> = quads
            .pointer("/quads/0")
            .and_then(Value::as_array)
            .context("it has no place on the page")?
            .iter()
            .filter_map(Value::as_f64)
            .collect();
        let [x1, y1, _, _, x3, y3, _, _] = corners.as_slice() else {
            anyhow::bail!("not four corners: {corners:?}");
        };
        let (x, y) = (f64::midpoint(*x1, *x3), f64::midpoint(*y1, *y3));
        let is_on_top = "function(x, y) { \
            const hit = document.elementFromPoint(x, y); \
            return !!hit && (this.contains(hit) || hit.contains(this)); }";
        let hit = self.function(is_on_top, &[json!(x), json!(y)]).await?;
        ensure!(hit == Value::Bool(true), "something lies on top of it at {x},{y}");
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.page.call("Input.dispatchMouseEvent", event).await?;
        }
        self.page.settle().await
    }

    /// Puts the keyboard's focus on it.
    pub async fn focus(&self) -> Result<()> {
        self.page.call("DOM.focus", json!({ "backendNodeId": self.node })).await?;
        Ok(())
    }

    /// Replaces the text in it, as if pasted.
    pub async fn fill(&self, text: &str) -> Result<()> {
        self.focus().await?;
        self.function("function() { this.select(); }", &[]).await?;
        if text.is_empty() {
            return self.page.press("Delete").await;
        }
        self.page.call("Input.insertText", json!({ "text": text })).await?;
        Ok(())
    }

    /// Chooses from a list by what is to be read there.
    pub async fn choose(&self, option: &str) -> Result<()> {
        let choose = "function(wanted) { \
            const found = [...this.options].find(option => option.text.trim() === wanted); \
            if (!found) return [...this.options].map(option => option.text.trim()).join(', '); \
            this.value = found.value; \
            this.dispatchEvent(new Event('input', { bubbles: true })); \
            this.dispatchEvent(new Event('change', { bubbles: true })); \
            return null; }";
        let others = self.function(choose, &[json!(option)]).await?;
        ensure!(others.is_null(), "no option {option:?} among {others}");
        Ok(())
    }

    /// What is written in a field.
    pub async fn value(&self) -> Result<String> {
        let value = self.function("function() { return this.value; }", &[]).await?;
        Ok(value.as_str().context("it has no value")?.to_owned())
    }

    /// What is to be read in it.
    pub async fn text(&self) -> Result<String> {
        let text = self.function("function() { return this.innerText; }", &[]).await?;
        Ok(text.as_str().context("it has no text")?.to_owned())
    }

    /// An attribute, such as the address of a link.
    pub async fn attribute(&self, name: &str) -> Result<Option<String>> {
        let value =
            self.function("function(name) { return this.getAttribute(name); }", &[json!(name)]).await?;
        Ok(value.as_str().map(str::to_owned))
    }

    /// Calls a function of JavaScript with it as `this`; works where the page's own scripts may not run.
    pub(super) async fn function(&self, function: &str, arguments: &[Value]) -> Result<Value> {
        let resolved = self.page.call("DOM.resolveNode", json!({ "backendNodeId": self.node })).await?;
        let arguments: Vec<Value> = arguments.iter().map(|value| json!({ "value": value })).collect();
        let call = json!({
            "objectId": resolved.pointer("/object/objectId").context("no such element any more")?,
            "functionDeclaration": function,
            "arguments": arguments,
            "returnByValue": true,
        });
        super::page::returned(self.page.call("Runtime.callFunctionOn", call).await?)
    }
}
