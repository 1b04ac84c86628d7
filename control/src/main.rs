//! `swift-s3-control`: the control plane.

use std::process::ExitCode;

use clap::Parser;
use swift_s3_control::cli::Arguments;

fn main() -> ExitCode {
    swift_s3_control::cli::run(&Arguments::parse())
}
