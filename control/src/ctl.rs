//! `swift-s3ctl`, the operators' command line over gRPC.
//!
//! | module | does |
//! |---|---|
//! | [`arguments`] | what may be typed |
//! | [`settings`] | where to connect and how to print: flags, environment, file, in this order |
//! | [`failure`] | what went wrong, what to try, and the exit code |
//! | [`connect`] | finds a server that answers, and holds the clients |
//! | [`text`], [`units`] | words for people: harmless characters, bytes, durations |
//! | [`table`], [`json`], [`output`] | the two shapes of every answer |
//! | [`commands`] | one module for each group of commands |
//!
//! Everything that a server says is untrusted: it is escaped before it reaches a terminal.

pub mod arguments;
pub mod commands;
pub mod connect;
pub mod failure;
pub mod json;
pub mod output;
pub mod settings;
pub mod table;
pub mod units;

pub use swift_s3_web_ui::text;

use std::io::IsTerminal;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use failure::Failure;
use output::Output;
use settings::Settings;

/// Runs one command and tells the exit code; see [`failure::Exit`].
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match run_to_end(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let colours = output::colours(arguments.connection.color, std::io::stderr().is_terminal());
            // Standard error may be closed too; there is then nobody to tell.
            let _ = failure.write(&mut std::io::stderr(), colours);
            failure.exit().into()
        }
    }
}

fn run_to_end(arguments: &Arguments) -> Result<failure::Exit, Failure> {
    arguments.check()?;
    if let Command::Completion { shell } = &arguments.command {
        return arguments::write_completion(*shell, &mut std::io::stdout());
    }
    let settings = Settings::gather(&arguments.connection, &|name| std::env::var(name).ok())?;
    if settings.format == output::Format::Csv && !matches!(arguments.command, Command::Audit(_)) {
        return Err(Failure::usage("CSV is a shape of audit only: expected --output table, json or jsonl"));
    }
    let mut output = Output::standard(settings.format, settings.color);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("the runtime does not start: {error}")))?;
    runtime.block_on(commands::run(&arguments.command, &settings, &mut output))
}
