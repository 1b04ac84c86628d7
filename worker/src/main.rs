//! `swift-s3-sync`: the worker daemon of a Swift storage node.

use std::process::ExitCode;

use clap::Parser;
use swift_s3_worker::cli::Arguments;

fn main() -> ExitCode {
    swift_s3_worker::cli::run(&Arguments::parse())
}
