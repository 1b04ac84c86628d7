//! Proving that a remote can be used: `swift-s3ctl verify`, and the same under the predecessor's name, `swift-s3-verify`.
//!
//! The steps are [`swift_s3_store::verify`]'s; here is what may be typed, and what is printed. No control plane is asked: this
//! is for the moment before there is a mapping.

mod arguments;
mod remote;

use std::io::{self, Write};
use std::process::ExitCode;

use swift_s3_store::verify::{self, Step};

pub use arguments::{AuthType, Program, Protocol, VerifyArguments};

use crate::ctl::text::harmless;

/// Takes the steps that the arguments ask for, and reports each as it ends.
///
/// # Errors
/// One message for people: what was wrong with the arguments, or the first step that failed.
pub async fn prove(arguments: &VerifyArguments, report: &mut dyn FnMut(&Step)) -> Result<(), String> {
    let plan = arguments.plan()?;
    let remote = remote::open(arguments).await?;
    verify::run(&*remote, &plan, report).await
}

/// `✓ list objects`, in characters that do a terminal no harm.
#[must_use]
pub fn line(step: &Step) -> String {
    let mark = if step.failure.is_none() { '✓' } else { '✗' };
    format!("{mark} {}", harmless(&step.name))
}

/// The whole program `swift-s3-verify`: steps on standard output, what failed on standard error.
///
/// The exit code is 0, or 1 if anything failed or was wrong with the arguments.
#[must_use]
pub fn run(arguments: &VerifyArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(prove(arguments, &mut |step| {
            // If standard output is closed, the exit code still tells.
            let _ = writeln!(io::stdout(), "{}", line(step));
        })),
        Err(error) => Err(format!("the runtime does not start: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                let _ = writeln!(io::stderr(), "{}", harmless(line));
            }
            ExitCode::FAILURE
        }
    }
}
