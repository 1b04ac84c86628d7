//! `swift-s3-verify`: proves that a remote can be used, under the name and with the options that operators know.

use std::process::ExitCode;

use clap::Parser;
use swift_s3_control::verify::{self, Program};

fn main() -> ExitCode {
    verify::run(&Program::parse().verify)
}
