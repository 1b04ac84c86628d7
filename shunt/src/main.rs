//! `swift-s3-shunt`: archived objects stay on-line through Swift.

use std::process::ExitCode;

use clap::Parser;
use swift_s3_shunt::cli::Arguments;

fn main() -> ExitCode {
    swift_s3_shunt::cli::run(&Arguments::parse())
}
