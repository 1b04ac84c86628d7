//! What a plan prints.

use serde_json::json;

use super::Planned;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::output::Output;
use crate::ctl::table::{Cell, Table, Tone};
use crate::ctl::text::harmless;
use crate::ctl::units::{UNKNOWN, bytes, seconds};
use crate::prices::{Cost, Load, Prices};

pub(super) fn show(planned: &[Planned], prices: &Prices, output: &mut Output) -> Result<Exit, Failure> {
    let total = total(planned);
    if !output.is_table() {
        let (load, cost) = &total;
        output.json(&json!({
            "mappings": planned,
            "total": { "load": load, "cost": cost },
            "prices": { "currency": prices.currency, "as_of": prices.as_of, "source": prices.source, "is_lower_bound": true },
        }))?;
        return Ok(Exit::Done);
    }
    if planned.is_empty() {
        return Ok(Exit::Done);
    }
    output.raw(&table(planned, &total).render(output.colours()))?;
    for mapping in planned {
        let mut lines = Vec::new();
        if !mapping.changes.is_empty() {
            lines.push(format!("changes: {}", mapping.changes.join(", ")));
        }
        if mapping.absent > 0 {
            lines.push(format!("{} of its containers do not exist yet", mapping.absent));
        }
        if !mapping.sizes.is_empty() {
            let sizes: Vec<String> = mapping
                .sizes
                .iter()
                .map(|size| match size.up_to_bytes {
                    u64::MAX => format!("{} larger", size.objects),
                    bound => format!("{} up to {}", size.objects, bytes(bound)),
                })
                .collect();
            lines.push(format!("sizes: {}", sizes.join(", ")));
        }
        lines.extend(mapping.warnings.iter().map(|warning| format!("warning: {warning}")));
        for line in lines {
            output.raw(&format!("{}: {}\n", harmless(&mapping.mapping), harmless(&line)))?;
        }
    }
    output.line(&format!("prices in {}, as of {}: {}", prices.currency, prices.as_of, prices.source))?;
    output.line("the sums are lower bounds: tries again, taxes, minimum times of storage and retrieval fees are not in them")?;
    Ok(Exit::Done)
}

fn total(planned: &[Planned]) -> (Load, Option<Cost>) {
    let (mut load, mut cost) = (Load::default(), Cost::default());
    let mut is_priced = true;
    for mapping in planned {
        load.objects += mapping.load.objects;
        load.bytes = load.bytes.saturating_add(mapping.load.bytes);
        load.puts += mapping.load.puts;
        load.parts += mapping.load.parts;
        load.lists += mapping.load.lists;
        load.checks += mapping.load.checks;
        load.small_objects += mapping.load.small_objects;
        load.small_bytes += mapping.load.small_bytes;
        match &mapping.cost {
            Some(more) => {
                cost.requests += more.requests;
                cost.storage_per_month += more.storage_per_month;
                cost.egress += more.egress;
                cost.padding_bytes = cost.padding_bytes.saturating_add(more.padding_bytes);
            }
            None => is_priced = false,
        }
    }
    (load, is_priced.then_some(cost))
}

fn table(planned: &[Planned], total: &(Load, Option<Cost>)) -> Table {
    let mut table = Table::new(&[
        "MAPPING",
        "STATUS",
        "MOVES>",
        "BYTES>",
        "CHECKS>",
        "PUT>",
        "PARTS>",
        "LIST>",
        "TIME>",
        "REQUESTS>",
        "PER MONTH>",
        "READ BACK>",
    ]);
    for mapping in planned {
        let bound = if mapping.is_upper_bound { "<=" } else { "" };
        let tone = if mapping.warnings.is_empty() { Tone::Plain } else { Tone::Odd };
        let mut cells = vec![
            mapping.mapping.as_str().into(),
            Cell::toned(mapping.status, tone),
            format!("{bound}{}", mapping.load.objects).into(),
            format!("{bound}{}", bytes(mapping.load.bytes)).into(),
            mapping.rechecked.to_string().into(),
        ];
        cells.extend(requests(&mapping.load));
        cells.push(mapping.seconds.map_or_else(|| UNKNOWN.to_owned(), seconds).into());
        cells.extend(money(mapping.cost.as_ref()));
        table.row(cells);
    }
    if planned.len() > 1 {
        let (load, cost) = total;
        let mut cells: Vec<Cell> = vec![
            "total".into(),
            "".into(),
            load.objects.to_string().into(),
            bytes(load.bytes).into(),
            planned.iter().map(|mapping| mapping.rechecked).sum::<u64>().to_string().into(),
        ];
        cells.extend(requests(load));
        cells.push("".into());
        cells.extend(money(cost.as_ref()));
        table.row(cells);
    }
    table
}

fn requests(load: &Load) -> [Cell; 3] {
    [load.puts, load.parts, load.lists].map(|number| number.to_string().into())
}

fn money(cost: Option<&Cost>) -> [Cell; 3] {
    let Some(cost) = cost else { return [UNKNOWN, UNKNOWN, UNKNOWN].map(Cell::from) };
    [cost.requests, cost.storage_per_month, cost.egress].map(|amount| amount_words(amount).into())
}

/// Two digits behind the point, more where there would be none left.
fn amount_words(amount: f64) -> String {
    if amount > 0.0 && amount < 0.01 { format!("{amount:.4}") } else { format!("{amount:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_their_meaning() {
        assert_eq!(amount_words(0.0), "0.00");
        assert_eq!(amount_words(0.0042), "0.0042");
        assert_eq!(amount_words(1234.567), "1234.57");
    }
}
