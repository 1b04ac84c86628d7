//! `mapping`: one mapping in words, and what fails in it.

use serde_json::json;
use swift_s3_proto::v1::{DescribeMappingRequest, DescribeMappingResponse, FailureCount};

use super::lists::{mappings_table, troubles};
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::Output;
use crate::ctl::table::{Cell, Table, Tone};

pub(super) async fn run(server: &Connection, name: &str, output: &mut Output) -> Result<Exit, Failure> {
    let request = DescribeMappingRequest { mapping: name.to_owned() };
    let told = server.call("describe the mapping", server.status().describe_mapping(request)).await?;
    if !output.is_table() {
        output.json(&as_json(&told)?)?;
        return Ok(Exit::Done);
    }
    let status: Vec<_> = told.status.into_iter().collect();
    output.table(&mappings_table(&status), "nothing is known of it")?;
    for line in troubles(&status) {
        output.line(&line)?;
    }
    output.line("")?;
    output.line(&format!("{}:", told.path))?;
    for sentence in &told.policy {
        output.line(&format!("  {sentence}"))?;
    }
    if !told.failure_reasons.is_empty() {
        output.line("")?;
        output.table(&reasons_table(&told.failure_reasons), "")?;
    }
    Ok(Exit::Done)
}

/// The configuration is JSON inside the answer, and is printed as such.
fn as_json(told: &DescribeMappingResponse) -> Result<serde_json::Value, Failure> {
    let document: serde_json::Value = serde_json::from_str(&told.document).unwrap_or_default();
    Ok(json!({
        "status": told.status.as_ref().map(json::value).transpose()?,
        "policy": told.policy,
        "document": document,
        "path": told.path,
        "failure_reasons": json::values(&told.failure_reasons)?,
    }))
}

/// Failures by reason.
pub(super) fn reasons_table(reasons: &[FailureCount]) -> Table {
    let mut table = Table::new(&["REASON", "FAILURES>"]);
    for count in reasons {
        table.row(vec![Cell::toned(count.reason.as_str(), Tone::Bad), count.rows.to_string().into()]);
    }
    table
}
