//! `verify`: proves that a remote can be used.

use serde_json::{Value, json};
use swift_s3_store::verify::Step;

use crate::ctl::failure::{Exit, Failure};
use crate::ctl::output::{Format, Output};
use crate::verify::{self, VerifyArguments};

/// Prints the steps as they end; as one JSON document, when they all have.
pub(super) async fn run(arguments: &VerifyArguments, output: &mut Output) -> Result<Exit, Failure> {
    let mut steps: Vec<Value> = Vec::new();
    let mut printed = Ok(());
    let proven = verify::prove(arguments, &mut |step| {
        // Steps go on, whoever listens: what was written must be removed.
        let now = match output.format() {
            // Lists of differences only come as CSV; that was refused before.
            Format::Table | Format::Csv => output.line(&verify::line(step)),
            Format::Jsonl => output.json(&document(step)),
            Format::Json => {
                steps.push(document(step));
                Ok(())
            }
        };
        if printed.is_ok() {
            printed = now;
        }
    })
    .await;
    printed?;
    if output.format() == Format::Json {
        output.json(&json!({ "ok": proven.is_ok(), "steps": steps }))?;
    }
    proven.map(|()| Exit::Done).map_err(|message| Failure::failed(message.replace('\n', "; ")))
}

fn document(step: &Step) -> Value {
    json!({ "step": step.name, "ok": step.failure.is_none(), "error": step.failure })
}
