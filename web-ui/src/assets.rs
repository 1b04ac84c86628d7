//! Style, script and charts. Their names hold a digest of their content, so that browsers may keep them for ever.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use sha2::{Digest, Sha256};

/// A file.
#[derive(Debug)]
pub struct Asset {
    name: String,
    kind: &'static str,
    content: &'static [u8],
}

impl Asset {
    fn new(stem: &str, extension: &str, kind: &'static str, content: &'static [u8]) -> Self {
        let digest = Sha256::digest(content);
        let mut name = format!("{stem}-");
        for byte in digest.iter().take(6) {
            let _ = write!(name, "{byte:02x}");
        }
        name.push('.');
        name.push_str(extension);
        Self { name, kind, content }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

/// All files.
#[derive(Debug)]
pub struct Assets {
    /// The style sheet.
    pub style: Asset,
    /// What makes pages follow what happens.
    pub script: Asset,
    /// uPlot, which draws charts. Source: https://github.com/leeoniya/uPlot, MIT.
    pub plot: Asset,
    /// Its style sheet.
    pub plot_style: Asset,
    /// What draws the charts with it.
    pub charts: Asset,
    /// The sign in the browser's tab.
    pub icon: Asset,
}

/// All files.
pub static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLE: &str = "text/css; charset=utf-8";
    Assets {
        style: Asset::new("style", "css", STYLE, include_bytes!("../assets/style.css")),
        script: Asset::new("live", "js", SCRIPT, include_bytes!("../assets/live.js")),
        plot: Asset::new("uplot", "js", SCRIPT, include_bytes!("../assets/uPlot.iife.min.js")),
        plot_style: Asset::new("uplot", "css", STYLE, include_bytes!("../assets/uPlot.min.css")),
        charts: Asset::new("charts", "js", SCRIPT, include_bytes!("../assets/charts.js")),
        icon: Asset::new("icon", "svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
    }
});

/// `GET /assets/{name}`.
pub async fn get(Path(name): Path<String>) -> Response {
    let Assets { style, script, plot, plot_style, charts, icon } = &*ASSETS;
    match [style, script, plot, plot_style, charts, icon].into_iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let forever = "public, max-age=31536000, immutable";
            ([(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, forever)], asset.content)
                .into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Where browsers look for the icon when the page did not say where it is.
pub async fn icon() -> Response {
    let kept = [(header::CONTENT_TYPE, ASSETS.icon.kind), (header::CACHE_CONTROL, "public, max-age=86400")];
    (kept, ASSETS.icon.content).into_response()
}
