//! The dashboard for Grafana, made from a table of panels, so that it can be read and compared with the metrics.

mod panels;
mod shunt_and_control;

use serde_json::{Value, json};

/// Version of Grafana's model that is written; newer ones migrate it.
const SCHEMA: u32 = 39;
/// Grafana divides a line into so many columns.
const COLUMNS: u32 = 24;

/// One group of panels, below a heading that folds it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The heading.
    pub title: &'static str,
    /// What is in it, from left to right.
    pub panels: &'static [Panel],
}

/// One panel.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Its heading.
    pub title: &'static str,
    /// What it shows, for the little `i` beside the heading.
    pub note: &'static str,
    /// In Grafana's words: `s`, `bytes`, `Bps`, `ops`, `short`, `percentunit`.
    pub unit: &'static str,
    /// One number, or a line over time.
    pub shape: Shape,
    /// PromQL, and what a line is called.
    pub queries: &'static [(&'static str, &'static str)],
}

/// How a panel looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The newest value, large; red from this number on.
    Number(u32),
    /// The newest value, large, without judgement.
    Plain,
    /// Lines over time.
    Lines,
}

impl Shape {
    fn size(self) -> (u32, u32) {
        match self {
            Self::Number(_) | Self::Plain => (4, 4),
            Self::Lines => (8, 8),
        }
    }
}

/// All rows, from top to bottom.
#[must_use]
pub fn rows() -> Vec<Row> {
    panels::ROWS.iter().chain(shunt_and_control::ROWS).copied().collect()
}

/// Its JSON, ready to be imported.
#[must_use]
pub fn json() -> String {
    let dashboard = json!({
        "__inputs": [],
        "annotations": {"list": []},
        "description": "How far behind, how fast, what fails. Made from the code by `make docs`: change it there.",
        "editable": true,
        "graphTooltip": 1,
        "links": [],
        "panels": all_panels(),
        "refresh": "1m",
        "schemaVersion": SCHEMA,
        "tags": ["swift-s3-sync"],
        "templating": {"list": variables()},
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "title": "swift-s3-sync",
        "uid": "swift-s3-sync",
        "version": 1
    });
    format!("{dashboard:#}\n")
}

fn variables() -> Value {
    let labels = |name: &str, label: &str, query: &str| {
        json!({
            "name": name, "label": label, "type": "query", "datasource": source(),
            "query": {"query": query, "refId": name}, "definition": query,
            "includeAll": true, "multi": true, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
            "refresh": 2, "sort": 1
        })
    };
    json!([
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
        labels("job", "Program", "label_values(swift_s3_sync_build_info, job)"),
        labels("instance", "Instance", "label_values(swift_s3_sync_build_info{job=~\"$job\"}, instance)"),
        labels("mapping", "Mapping", "label_values(swift_s3_sync_lag_rows, mapping)")
    ])
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn all_panels() -> Vec<Value> {
    let mut all = Vec::new();
    let mut top = 0;
    for row in rows() {
        let id = all.len() + 1;
        all.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        }));
        top += 1;
        let (mut left, mut height) = (0, 0);
        for panel in row.panels {
            let (wide, high) = panel.shape.size();
            if left + wide > COLUMNS || (height != 0 && high != height) {
                top += height;
                left = 0;
            }
            height = high;
            let place = json!({"x": left, "y": top, "w": wide, "h": high});
            all.push(one_panel(panel, all.len() + 1, &place));
            left += wide;
        }
        top += height;
    }
    all
}

fn one_panel(panel: &Panel, id: usize, place: &Value) -> Value {
    let is_lines = panel.shape == Shape::Lines;
    let names = ('A'..='Z').map(String::from);
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .zip(names)
        .map(|((expression, legend), name)| {
            json!({
                "refId": name, "datasource": source(), "expr": expression, "legendFormat": legend,
                "range": is_lines, "instant": !is_lines
            })
        })
        .collect();
    let steps = match panel.shape {
        Shape::Number(red) => json!([{"color": "green", "value": null}, {"color": "red", "value": red}]),
        Shape::Plain | Shape::Lines => json!([{"color": "blue", "value": null}]),
    };
    let colour = if is_lines { "palette-classic" } else { "thresholds" };
    let options = if is_lines {
        json!({
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"}
        })
    } else {
        json!({"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"})
    };
    json!({
        "id": id,
        "type": if is_lines { "timeseries" } else { "stat" },
        "title": panel.title,
        "description": panel.note,
        "datasource": source(),
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "color": {"mode": colour},
                "thresholds": {"mode": "absolute", "steps": steps}
            },
            "overrides": []
        },
        "options": options,
        "targets": targets
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    fn places(panel: &Value) -> Vec<(u64, u64)> {
        let place = |name: &str| panel.pointer(&format!("/gridPos/{name}")).and_then(Value::as_u64).unwrap();
        let (left, top) = (place("x"), place("y"));
        let across = left..left + place("w");
        across.flat_map(|x| (top..top + place("h")).map(move |y| (x, y))).collect()
    }

    #[test]
    fn panels_have_places_and_numbers_of_their_own() {
        let dashboard: Value = serde_json::from_str(&json()).unwrap();
        let panels = dashboard.get("panels").and_then(Value::as_array).unwrap();
        assert!(panels.len() > 60, "{}", panels.len());
        let (mut taken, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for panel in panels {
            assert!(ids.insert(panel.get("id").and_then(Value::as_u64)), "{panel}");
            for (x, y) in places(panel) {
                assert!(x < u64::from(COLUMNS) && taken.insert((x, y)), "{panel} overlaps at {x}, {y}");
            }
        }
    }

    #[test]
    fn every_panel_says_what_it_shows_and_lets_the_reader_choose_the_source() {
        let dashboard: Value = serde_json::from_str(&json()).unwrap();
        let panels = dashboard.get("panels").and_then(Value::as_array).unwrap();
        for panel in panels.iter().filter(|panel| panel.get("type").unwrap() != "row") {
            assert!(!panel.get("description").and_then(Value::as_str).unwrap().is_empty(), "{panel}");
            let targets = panel.get("targets").and_then(Value::as_array).unwrap();
            assert!(!targets.is_empty());
            let sources = targets.iter().chain([panel]).map(|part| part.pointer("/datasource/uid").unwrap());
            sources.for_each(|source| assert_eq!(source, "${datasource}"));
        }
    }
}
