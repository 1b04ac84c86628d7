//! `activity` and `cursors`.

use clap::Args;

use super::Limit;

/// `activity`
#[derive(Args, Debug)]
pub struct ActivityArguments {
    /// Go on showing what is new, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Only what people asked for
    #[arg(long)]
    pub people: bool,
    /// Only of this kind, such as node_lost
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only of this mapping: its id, or ACCOUNT/CONTAINER where only one mapping has it
    #[arg(long, value_name = "MAPPING")]
    pub mapping: Option<String>,
    /// How much to list
    #[command(flatten)]
    pub limit: Limit,
}

/// `cursors`
#[derive(Args, Debug)]
pub struct CursorsArguments {
    /// Only those that this node reported last
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Only of this mapping: its id, or ACCOUNT/CONTAINER where only one mapping has it
    #[arg(long, value_name = "MAPPING")]
    pub mapping: Option<String>,
    /// Only of this account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Only of this container
    #[arg(long, value_name = "CONTAINER")]
    pub container: Option<String>,
    /// How much to list
    #[command(flatten)]
    pub limit: Limit,
}
