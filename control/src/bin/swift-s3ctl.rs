//! `swift-s3ctl`: the operators' command line of the control plane.

use std::process::ExitCode;

use clap::Parser;
use swift_s3_control::ctl::{self, arguments::Arguments};

fn main() -> ExitCode {
    ctl::run(&Arguments::parse())
}
