//! `audit` and `plan`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// `audit`
#[derive(Args, Debug)]
pub struct AuditArguments {
    /// The mapping: its id, or ACCOUNT/CONTAINER where only one mapping has it
    #[arg(long, value_name = "MAPPING")]
    pub mapping: String,
    /// Only this container of a mapping of all containers
    #[arg(long, value_name = "CONTAINER")]
    pub container: Option<String>,
    /// Remember here how far it is, and go on from there
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub state: Option<PathBuf>,
    /// Names in one request; how far it is is remembered after each
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub page: u32,
    /// After the comparison, have what is missing or different handled again
    #[arg(long)]
    pub repair: bool,
    /// With --repair: also remove what only the remote has; needs --never-archived
    #[arg(long, requires = "repair")]
    pub delete_extra: bool,
    /// With --delete-extra: I vouch that no mapping with retain_local: false ever had the container. If one had, what looks extra may be
    /// the only copy, and is lost
    #[arg(long, requires = "delete_extra")]
    pub never_archived: bool,
    /// With --repair: only show what it would do
    #[arg(long, requires = "repair")]
    pub dry_run: bool,
    /// With --repair: do not ask
    #[arg(long, short, requires = "repair")]
    pub yes: bool,
    /// With --delete-extra: also beyond the mapping's delete limit
    #[arg(long, requires = "delete_extra")]
    pub force: bool,
}

/// `plan`
#[derive(Args, Debug)]
pub struct PlanArguments {
    /// The configuration to be; - is standard input
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Only this mapping, changed or not: its id, ACCOUNT/CONTAINER, or its path such as containers[3]
    #[arg(long, value_name = "MAPPING")]
    pub mapping: Option<String>,
    /// Prices in TOML, over those built in
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub prices: Option<PathBuf>,
    /// Bytes per second that the move may use, such as 100MiB; the mapping's own limit counts where it is lower
    #[arg(long, value_name = "BYTES", value_parser = crate::ctl::units::parse_bytes)]
    pub bandwidth: Option<u64>,
}
