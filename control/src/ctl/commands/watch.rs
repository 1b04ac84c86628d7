//! `watch`: the status, live.

use std::time::Duration;

use jiff::Timestamp;
use swift_s3_proto::v1::{StatusUpdate, WatchStatusRequest};
use tonic::Code;

use super::lists::{mappings_table, troubles};
use super::status::{node_words, page};
use crate::ctl::connect::Connection;
use crate::ctl::failure::{Exit, Failure};
use crate::ctl::json;
use crate::ctl::output::{Format, Output, tell};
use crate::ctl::settings::Settings;
use crate::ctl::text::harmless;
use crate::ctl::units::{count, lag};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Shows updates until Ctrl-C. A first connection must succeed; later ones are tried until they do.
pub(super) async fn run(
    interval: Duration,
    settings: &Settings,
    output: &mut Output,
) -> Result<Exit, Failure> {
    tokio::select! {
        ended = follow(interval, settings, output) => ended,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
    }
}

async fn follow(interval: Duration, settings: &Settings, output: &mut Output) -> Result<Exit, Failure> {
    let mut was_connected = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut updates = 0;
        let ended = match Connection::open(settings).await {
            Ok(server) => one_stream(&server, interval, output, &mut updates).await,
            Err(failure) => Err(failure),
        };
        if updates > 0 {
            (was_connected, pause) = (true, FIRST_PAUSE);
        }
        let why = match ended {
            Ok(()) => "the server ended the stream".to_owned(),
            Err(failure) if failure.is_closed_pipe() || is_lasting(&failure) || !was_connected => {
                return Err(failure);
            }
            Err(failure) => failure.what(),
        };
        tell(&format!("swift-s3ctl: {why}; connecting again in {} s", pause.as_secs()));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// True if another attempt would fail in the same way.
fn is_lasting(failure: &Failure) -> bool {
    matches!(
        failure.code(),
        Some(Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented | Code::InvalidArgument)
    ) || failure.exit() != Exit::Failed
}

async fn one_stream(
    server: &Connection,
    interval: Duration,
    output: &mut Output,
    updates: &mut u64,
) -> Result<(), Failure> {
    let interval_milliseconds = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX).max(100);
    let request = WatchStatusRequest { interval_milliseconds };
    let mut client = server.status();
    let mut stream = server.call("watch the status", client.watch_status(request)).await?;
    loop {
        let next = stream.message().await;
        match next.map_err(|status| Failure::answered("watch the status", server.url(), &status))? {
            Some(update) => show(&update, server.url(), output)?,
            None => return Ok(()),
        }
        *updates += 1;
    }
}

fn show(update: &StatusUpdate, url: &str, output: &mut Output) -> Result<(), Failure> {
    let now = Timestamp::now();
    if output.format() != Format::Table {
        let mut value = json::value(update)?;
        if let Some(members) = value.as_object_mut() {
            members.insert("received_at".into(), now.to_string().into());
        }
        return output.raw(&format!("{}\n", crate::ctl::text::harmless_json(&value.to_string())));
    }
    if output.is_terminal() {
        let screen = screen(update, url, now, output.colours());
        return output.raw(&format!("{CLEAR}{screen}"));
    }
    output.line(&line(update, now))
}

fn screen(update: &StatusUpdate, url: &str, now: Timestamp, colours: bool) -> String {
    let status = update.status.clone().unwrap_or_default();
    let mut text = page(&status, url, now, colours);
    if !update.mappings.is_empty() {
        text.push('\n');
        text.push_str(&mappings_table(&update.mappings).render(colours));
    }
    for trouble in troubles(&update.mappings) {
        text.push_str(&harmless(&trouble));
        text.push('\n');
    }
    text.push_str(&format!("\n{} - Ctrl-C ends\n", seconds_of(now)));
    text
}

fn seconds_of(now: Timestamp) -> String {
    now.round(jiff::Unit::Second).unwrap_or(now).to_string()
}

/// One line, for logs and pipes.
fn line(update: &StatusUpdate, now: Timestamp) -> String {
    let status = update.status.clone().unwrap_or_default();
    let words = lag(status.lag.as_ref(), status.is_complete);
    let alerts = if status.alerts.is_empty() {
        String::new()
    } else {
        format!(", alerts: {}", status.alerts.join("; "))
    };
    format!(
        "{} revision {}, nodes: {}, behind {}, {} rows, {}, {}{alerts}",
        seconds_of(now),
        status.revision,
        node_words(&status),
        words.seconds,
        words.rows,
        words.bytes,
        count(status.failures, "failure"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use swift_s3_proto::v1::{ClusterStatus, MappingStatus};

    #[test]
    fn an_update_is_one_line_or_one_screen() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let update = StatusUpdate {
            status: Some(ClusterStatus {
                revision: 3,
                alerts: vec!["look".into()],
                ..ClusterStatus::default()
            }),
            mappings: vec![MappingStatus { mapping_id: "0123456789ab".into(), ..MappingStatus::default() }],
        };
        assert_eq!(
            line(&update, now),
            "2023-11-14T22:13:20Z revision 3, nodes: none, behind unknown, unknown rows, unknown, 0 failures, alerts: look"
        );
        let screen = screen(&update, "http://c:1", now, false);
        assert!(screen.contains("alert        look\n\nMAPPING"), "{screen}");
        assert!(screen.contains("\n0123456789ab  "), "{screen}");
    }
}
