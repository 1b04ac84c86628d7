//! The programs of the product.

use clap::{Command, CommandFactory};
use swift_s3_control::{cli as control, ctl, verify};
use swift_s3_shunt::cli as shunt;
use swift_s3_worker::cli as worker;

/// One program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its command line; the program's name is the command's.
    pub command: Command,
    /// The section of the manual: 8 for daemons, 1 for what people type.
    pub section: &'static str,
    /// Files that an operator looks for, each with what it is; as the packages install them.
    pub files: &'static [(&'static str, &'static str)],
    /// Other pages of the manual.
    pub see_also: &'static str,
}

const CONTROL_FILES: &[(&str, &str)] = &[
    ("/etc/default/swift-s3-control", "the flags, as variables, of the systemd unit"),
    ("/etc/swift-s3-control/", "certificates and the access file"),
    ("/var/lib/swift-s3-control/", "the state: back it up with --backup"),
];
const WORKER_FILES: &[(&str, &str)] = &[
    ("/etc/default/swift-s3-sync", "the flags, as variables, of the systemd unit"),
    ("/etc/swift-s3-sync/sync.json", "the configuration"),
    ("/var/lib/swift-s3-sync/", "cursors, and rows set aside"),
];
const SHUNT_FILES: &[(&str, &str)] = &[
    ("/etc/default/swift-s3-shunt", "the flags, as variables, of the systemd unit"),
    ("/etc/swift-s3-shunt/sync.json", "the configuration"),
    ("/run/swift-s3-sync/shunt.sock", "where the filter in Swift's pipeline asks"),
    ("/var/lib/swift-s3-shunt/", "the last configuration of the control plane"),
];
const CTL_FILES: &[(&str, &str)] =
    &[("~/.config/swift-s3-sync/ctl.toml", "where to connect, and how to print")];

/// Every program that is installed.
#[must_use]
pub fn all() -> Vec<Program> {
    vec![
        Program {
            command: control::Arguments::command(),
            section: "8",
            files: CONTROL_FILES,
            see_also: "swift-s3ctl(1), swift-s3-sync(8), swift-s3-shunt(8)",
        },
        Program {
            command: worker::Arguments::command(),
            section: "8",
            files: WORKER_FILES,
            see_also: "swift-s3-control(8), swift-s3-shunt(8), swift-s3ctl(1)",
        },
        Program {
            command: shunt::Arguments::command(),
            section: "8",
            files: SHUNT_FILES,
            see_also: "swift-s3-control(8), swift-s3-sync(8)",
        },
        Program {
            command: ctl::arguments::Arguments::command(),
            section: "1",
            files: CTL_FILES,
            see_also: "swift-s3-control(8), swift-s3-verify(1)",
        },
        Program {
            command: verify::Program::command(),
            section: "1",
            files: &[],
            see_also: "swift-s3ctl-verify(1)",
        },
    ]
}
