//! `swift-s3-verify`: proves that a remote can be used, under the name and with the options that operators know.

use std::process::ExitCode;

use clap::Parser;
use swift_s3_control::verify::{self, VerifyArguments};

/// Proves that a remote can be used: writes, reads and removes a test object
#[derive(Parser)]
#[command(name = "swift-s3-verify", version)]
struct Arguments {
    #[command(flatten)]
    verify: VerifyArguments,
}

fn main() -> ExitCode {
    verify::run(&Arguments::parse().verify)
}
