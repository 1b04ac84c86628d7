//! `state …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use swift_s3_etcd::EtcdArguments;

/// `state …`
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Move the state between a data directory and etcd, either way; every row is read again and compared
    Copy(Box<StateCopyArguments>),
}

const AFTER_HELP: &str = "\
Stop every swift-s3-control that uses either side first: a data directory that is in use, and a state in etcd that a process leads
with, are refused. The copy is written beside what is there, read again and compared, and put in its place by one step; until then
nothing has changed. The source stays as it is.

  swift-s3ctl state copy --from sqlite:/var/lib/swift-s3-control --to etcd --etcd https://etcd-1:2379,https://etcd-2:2379
  swift-s3ctl state copy --from etcd --to sqlite:/var/lib/swift-s3-control --etcd https://etcd-1:2379";

/// `state copy`
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct StateCopyArguments {
    /// Where the state is: sqlite:DIR, a data directory of swift-s3-control, or etcd
    #[arg(long, value_name = "PLACE", value_parser = Place::parse)]
    pub from: Place,
    /// Where it is to be: sqlite:DIR or etcd
    #[arg(long, value_name = "PLACE", value_parser = Place::parse)]
    pub to: Place,
    /// Replace a state that is there already
    #[arg(long)]
    pub replace: bool,
    /// Where etcd is
    #[command(flatten)]
    pub etcd: EtcdArguments,
}

/// Where a state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a data directory.
    Sqlite(PathBuf),
    /// In etcd.
    Etcd,
}

impl Place {
    fn parse(word: &str) -> Result<Self, String> {
        match word.split_once(':') {
            None if word == "etcd" => Ok(Self::Etcd),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            _ => Err("expected sqlite:DIR or etcd".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_etcd() {
        assert_eq!(Place::parse("etcd"), Ok(Place::Etcd));
        assert_eq!(Place::parse("sqlite:/a:b"), Ok(Place::Sqlite(PathBuf::from("/a:b"))));
        for wrong in ["", "sqlite", "sqlite:", "etcd:", "/var/lib", "SQLite:/a"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
