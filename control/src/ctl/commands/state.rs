//! `state`: the state of the control plane where it is stored.

use std::time::{Duration, Instant};

use serde_json::json;
use swift_s3_etcd::Etcd;

use crate::copy::{self, Copied, CopyError};
use crate::ctl::arguments::{Place, StateCommand, StateCopyArguments};
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::output::{Output, tell};
use crate::ctl::table::Table;
use crate::ctl::units::count;

/// A copy tells this often how far it is.
const TELL: Duration = Duration::from_secs(2);
/// Enough digits to compare by eye; JSON has all.
const SHOWN_DIGITS: usize = 16;

pub(super) async fn run(command: &StateCommand, output: &mut Output) -> Result<Exit, Failure> {
    let StateCommand::Copy(arguments) = command;
    let copied = copy(arguments).await?;
    if output.is_table() {
        let mut table = Table::new(&["TABLE", "ROWS", "SHA-256"]);
        for (name, digest) in &copied.tables {
            let sum: String = digest.shown().chars().take(SHOWN_DIGITS).collect();
            table.row(vec![(*name).into(), digest.rows.to_string().into(), sum.into()]);
        }
        output.table(&table, "nothing was copied")?;
        let rows: u64 = copied.tables.iter().map(|(_, digest)| digest.rows).sum();
        output.line(&format!("{} copied and compared", count(rows, "row")))?;
    } else {
        let tables: Vec<_> = copied
            .tables
            .iter()
            .map(|(name, digest)| json!({ "table": name, "rows": digest.rows, "sha256": digest.shown() }))
            .collect();
        output.json(&json!({ "tables": tables }))?;
    }
    Ok(Exit::Done)
}

async fn copy(arguments: &StateCopyArguments) -> Result<Copied, Failure> {
    let settings = arguments.etcd.settings().map_err(|error| Failure::usage(error.to_string()))?;
    let settings =
        settings.ok_or_else(|| Failure::usage("name the addresses of etcd's members with --etcd"))?;
    let etcd = Etcd::new(settings);
    let (mut rows, mut told) = (0_u64, Instant::now());
    let mut progress = |more: u64| {
        rows = rows.saturating_add(more);
        if told.elapsed() >= TELL {
            told = Instant::now();
            tell(&format!("{} so far", count(rows, "row")));
        }
    };
    let copied = match (&arguments.from, &arguments.to) {
        (Place::Sqlite(source), Place::Etcd) => {
            copy::to_etcd(&etcd, source, arguments.replace, &mut progress).await
        }
        (Place::Etcd, Place::Sqlite(target)) => {
            copy::to_directory(&etcd, target, arguments.replace, &mut progress).await
        }
        _ => {
            return Err(Failure::usage(
                "one side is sqlite:DIR, the other is etcd; swift-s3-control --backup copies a database",
            ));
        }
    };
    copied.map_err(|error| match error {
        CopyError::Directory(_) | CopyError::Empty(_) | CopyError::NotEmpty(_) => {
            Failure::usage(error.to_string())
        }
        _ => Failure::failed(error.to_string()),
    })
}
