//! What a process tells on `/metrics`: Prometheus' text format, read.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::swift_client::SwiftClient;

/// One look at a process' metrics.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Types by name, also of metrics without a value.
    pub types: BTreeMap<String, String>,
    /// Values in the order of the text.
    pub values: Vec<Figure>,
}

/// A line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// With `_bucket`, `_sum` and `_count` for histograms.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Figures {
    /// Asks the admin endpoint at this URL.
    pub async fn of(admin_url: &str) -> Result<Self> {
        let answer = SwiftClient::new(admin_url, "", None)?.get_raw("/metrics").await?.success()?;
        Self::parse(std::str::from_utf8(&answer.body)?)
    }

    /// Reads the text.
    pub fn parse(text: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').with_context(|| line.to_owned())?;
                let other = figures.types.insert(name.to_owned(), kind.to_owned());
                ensure!(other.is_none(), "{name} is declared twice");
            } else if !line.starts_with('#') {
                figures.values.push(figure(line).with_context(|| line.to_owned())?);
            }
        }
        Ok(figures)
    }

    /// The sum of all values of this name whose labels are these, whatever else they have.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |figure: &&Figure| {
            let is =
                |(label, value): &(&str, &str)| figure.labels.get(*label).is_some_and(|found| found == value);
            figure.name == name && labels.iter().all(is)
        };
        self.values.iter().filter(has).map(|figure| figure.value).sum()
    }
}

fn figure(line: &str) -> Result<Figure> {
    let (head, value) = line.rsplit_once(' ').context("no value")?;
    let value = value.parse()?;
    let Some((name, rest)) = head.split_once('{') else {
        return Ok(Figure { name: head.to_owned(), labels: BTreeMap::new(), value });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}').context("no closing brace")?;
    while !rest.is_empty() {
        let (label, behind) = rest.split_once("=\"").context("no value of a label")?;
        let mut text = String::new();
        let mut characters = behind.char_indices();
        let end = loop {
            match characters.next().context("no end of a label's value")? {
                (at, '"') => break at + 1,
                (_, '\\') => match characters.next().context("nothing behind a backslash")?.1 {
                    'n' => text.push('\n'),
                    other => text.push(other),
                },
                (_, other) => text.push(other),
            }
        };
        labels.insert(label.to_owned(), text);
        rest = behind.get(end..).unwrap_or_default().trim_start_matches(',');
    }
    Ok(Figure { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_reads_is_read() {
        let text = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\",y=\"a,b \\\"c\\\"\"} 2\na_total{x=\"2\"} 0.5\n";
        let figures = Figures::parse(text).unwrap();
        assert_eq!(figures.types["a_total"], "counter");
        assert_eq!(figures.sum("a_total", &[]), 2.5);
        assert_eq!(figures.sum("a_total", &[("x", "1"), ("y", "a,b \"c\"")]), 2.0);
    }
}
