//! `cursors`: how far each container database is done.

use jiff::Timestamp;
use serde_json::json;
use swift_s3_proto::v1::{CursorStatus, ListCursorsRequest};

use super::{Listed, all_pages, label, mapping_id, tell_if_cut};
use crate::ctl::arguments::CursorsArguments;
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::Output;
use crate::ctl::table::{Cell, Table, Tone};
use crate::ctl::units::{UNKNOWN, age};

pub(super) async fn run(
    server: &Connection,
    arguments: &CursorsArguments,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let wish = |text: &Option<String>| text.clone().unwrap_or_default();
    let asked = ListCursorsRequest {
        node_id: wish(&arguments.node),
        mapping_id: mapping_id(server, arguments.mapping.as_deref()).await?,
        account: wish(&arguments.account),
        container: wish(&arguments.container),
        ..ListCursorsRequest::default()
    };
    let listed: Listed<CursorStatus> = all_pages(arguments.limit.limit, async |page_size, page_token| {
        let request = ListCursorsRequest { page_size, page_token, ..asked.clone() };
        let answer = server.call("list cursors", server.status().list_cursors(request)).await?;
        Ok((answer.cursors, answer.next_page_token))
    })
    .await?;
    if !output.is_table() {
        let items = json::values(&listed.items)?;
        output.json(&json!({ "cursors": items, "is_cut": listed.is_cut }))?;
        return Ok(Exit::Done);
    }
    output.table(&table(&listed.items, Timestamp::now()), "no cursors")?;
    tell_if_cut(&listed, None);
    Ok(Exit::Done)
}

fn table(cursors: &[CursorStatus], now: Timestamp) -> Table {
    let mut table = Table::new(&["CONTAINER", "MAPPING", "NODE", "DATABASE", "CURSORS", "FAILURES>", "TOLD"]);
    for cursor in cursors {
        let mut lanes: Vec<String> =
            cursor.cursors.iter().map(|(lane, row)| format!("{lane} {row}")).collect();
        lanes.sort();
        let failures = if cursor.failures == 0 { Tone::Plain } else { Tone::Bad };
        let told = cursor.updated_at.as_ref();
        table.row(vec![
            label(&cursor.account, &cursor.container).into(),
            cursor.mapping_id.as_str().into(),
            cursor.node_id.as_str().into(),
            cursor.key.as_ref().map_or("", |key| key.database_id.as_str()).into(),
            lanes.join(", ").into(),
            Cell::toned(cursor.failures.to_string(), failures),
            told.map_or_else(|| UNKNOWN.to_owned(), |at| format!("{} ago", age(Some(at), now))).into(),
        ]);
    }
    table
}
