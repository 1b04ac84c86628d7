//! What may be typed.

mod audits;
mod records;
mod state;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use super::failure::{Exit, Failure};
use super::output::{ColorChoice, Format};
pub use audits::{AuditArguments, PlanArguments};
pub use records::{ActivityArguments, CursorsArguments};
pub use state::{Place, StateCommand, StateCopyArguments};

const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  the server answered with an error, or could not be reached
  2  wrong usage, or a local file that cannot be used
  3  the configuration was refused; every problem is printed. Or: audit found differences
  4  status --check found something that needs a person, or nodes refused a configuration
  5  audit found no difference, and could not tell of everything

Where to connect is taken from the flag, else from the environment, else from ctl.toml, else it is
http://127.0.0.1:50051. A token is read from a file or from SWIFT_S3_TOKEN, never from the command line.

See docs/ctl.md for an example of each command.";

/// Looks after swift-s3-sync: configuration, status, failures
#[derive(Debug, Parser)]
#[command(name = "swift-s3ctl", version, after_help = AFTER_HELP, propagate_version = true)]
pub struct Arguments {
    /// How to connect and how to print
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How to connect and how to print.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection and output")]
pub struct ConnectionArguments {
    /// Where control listens, http:// or https://; several may be given, the first that answers is used [env: SWIFT_S3_CONTROL]
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',', value_hint = ValueHint::Url)]
    pub control: Vec<String>,
    /// A file with the token; the token itself may be in the environment [env: SWIFT_S3_TOKEN]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust for https:// instead of the system's
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub ca_cert: Option<PathBuf>,
    /// This client's certificate (PEM), with --client-key
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub client_cert: Option<PathBuf>,
    /// The key (PEM) of --client-cert
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub client_key: Option<PathBuf>,
    /// How long to wait for a connection and for each answer, such as 10s, 500ms or 2m [default: 10s]
    #[arg(long, global = true, value_name = "TIME", value_parser = super::units::parse_duration)]
    pub timeout: Option<std::time::Duration>,
    /// The settings file [env: SWIFT_S3CTL_CONFIG] [default: ~/.config/swift-s3-sync/ctl.toml]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub ctl_config: Option<PathBuf>,
    /// Tables for people, one JSON document, one JSON document per line, or CSV (audit only) [default: table]
    #[arg(long, short, global = true, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Colours: on a terminal unless NO_COLOR is set, always, or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One page about everything
    Status {
        /// For monitoring: one line, and exit status 4 when something needs a person
        #[arg(long)]
        check: bool,
    },
    /// Nodes, and how each stands to the configuration in force
    Nodes(NodesArguments),
    /// Shares of the work that changed hands during the last day, where workers coordinate through etcd
    Takeovers,
    /// What people did and what happened to the cluster, newest first
    Activity(ActivityArguments),
    /// How far each container database is done
    Cursors(CursorsArguments),
    /// Mappings: how far behind, how fast, what is wrong
    Mappings(MappingsArguments),
    /// One mapping: how it fares, what it does in words, what fails in it
    Mapping(WhichMapping),
    /// Containers that are followed, over all replicas and shards
    Containers(ContainersArguments),
    /// Objects that could not be carried and are tried again
    Failures(Box<FailuresArguments>),
    /// Why is this object (not) at the remote?
    Explain {
        /// ACCOUNT/CONTAINER/OBJECT in one argument, or in three
        #[arg(required = true, num_args = 1..=3, value_name = "OBJECT")]
        object: Vec<String>,
    },
    /// Compare whole containers with their remote, and repair what differs
    Audit(Box<AuditArguments>),
    /// What a changed configuration would move, how long that takes and what it costs
    Plan(PlanArguments),
    /// The configuration of all nodes
    Config {
        /// What to do with it
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Stop carrying a mapping's changes; transfers under way finish
    Pause(WhichMapping),
    /// Go on with a mapping that is paused
    Resume(WhichMapping),
    /// Let the deletes go that a mapping's delete limit holds now
    ReleaseDeletes(WhichMapping),
    /// The status, live, until Ctrl-C
    Watch {
        /// The shortest time between two updates
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = super::units::parse_duration)]
        interval: std::time::Duration,
    },
    /// Prove that a remote can be used, without any control plane: writes, reads and removes a test object
    Verify(Box<crate::verify::VerifyArguments>),
    /// The state of the control plane where it is stored; needs no control process, and none may run
    State {
        /// What to do with it
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Print the completion script of a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
}

/// How much to list.
#[derive(Args, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limit {
    /// Stop after this many; all pages are fetched otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// One mapping.
#[derive(Args, Debug)]
pub struct WhichMapping {
    /// Its id, as `swift-s3ctl mappings` shows it, or ACCOUNT/CONTAINER where only one mapping has it
    pub mapping: String,
}

/// `mappings`
#[derive(Args, Debug)]
pub struct MappingsArguments {
    /// Only of this account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Also what was asked of remotes this month, and what that costs
    #[arg(long)]
    pub wide: bool,
    /// How much to list
    #[command(flatten)]
    pub limit: Limit,
}

/// `nodes`
#[derive(Args, Debug)]
pub struct NodesArguments {
    /// Instead of the list
    #[command(subcommand)]
    pub command: Option<NodesCommand>,
    /// Also what each takes of its machine
    #[arg(long)]
    pub wide: bool,
    /// Only nodes in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<StateFilter>,
    /// How much to list
    #[command(flatten)]
    pub limit: Limit,
}

/// States that nodes can be listed by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StateFilter {
    /// Connected, and everything is in force
    Synced,
    /// Connected, and has not answered yet
    Stale,
    /// Connected, and refused some or all of it
    Rejected,
    /// Silent
    NotSeen,
}

/// `nodes …`
#[derive(Debug, Subcommand)]
pub enum NodesCommand {
    /// Remove a node that is gone for good from the lists; cursors stay
    Forget {
        /// Its id
        id: String,
    },
}

/// `containers`
#[derive(Args, Debug)]
pub struct ContainersArguments {
    /// Only of this mapping: its id, or ACCOUNT/CONTAINER where only one mapping has it
    #[arg(long, value_name = "MAPPING")]
    pub mapping: Option<String>,
    /// Only of this account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Only containers whose names begin so
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Only containers whose names have this in them; upper and lower case are the same in ASCII
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Only those with rows behind, failures, held deletes or something unknown
    #[arg(long)]
    pub behind: bool,
    /// By name, or those furthest behind first: at most 1,000 then
    #[arg(long, value_name = "ORDER", default_value = "name")]
    pub sort: ContainerSort,
    /// How much to list
    #[command(flatten)]
    pub limit: Limit,
}

/// Orders of containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ContainerSort {
    /// By account, container and mapping
    #[default]
    Name,
    /// Those furthest behind first, unknown ones before them
    Lag,
}

/// `failures`
#[derive(Args, Debug)]
pub struct FailuresArguments {
    /// Instead of the list
    #[command(subcommand)]
    pub command: Option<FailuresCommand>,
    /// Which failures
    #[command(flatten)]
    pub filter: FailureFilter,
    /// Count them by reason instead
    #[arg(long, conflicts_with_all = ["prefix", "reason", "node", "limit"])]
    pub summary: bool,
    /// How much to list
    #[command(flatten)]
    pub limit: Limit,
}

/// `failures …`
#[derive(Debug, Subcommand)]
pub enum FailuresCommand {
    /// Try them again now
    Retry {
        /// Which failures
        #[command(flatten)]
        filter: FailureFilter,
        /// Only this object
        #[arg(long, value_name = "OBJECT", conflicts_with = "prefix")]
        object: Option<String>,
        /// Every failure there is
        #[arg(long, conflicts_with_all = ["mapping", "account", "container", "prefix", "reason", "node", "object"])]
        all: bool,
    },
}

/// Which failures.
#[derive(Args, Clone, Debug, Default, Eq, PartialEq)]
pub struct FailureFilter {
    /// Only of this mapping: its id, or ACCOUNT/CONTAINER where only one mapping has it
    #[arg(long, value_name = "MAPPING")]
    pub mapping: Option<String>,
    /// Only of this account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Only of this container
    #[arg(long, value_name = "CONTAINER")]
    pub container: Option<String>,
    /// Only objects whose names begin so
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Only of this class, such as remote_refused
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Only of this node
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
}

/// `config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration, ready to be edited and applied
    Get {
        /// An older revision
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
        revision: Option<i64>,
    },
    /// What a file would change, or what differs between two revisions
    Diff {
        /// The newer side; - is standard input
        #[arg(required_unless_present_any = ["from", "to"], conflicts_with = "to", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// The older revision [default: the one in force]
        #[arg(long, value_name = "A", value_parser = clap::value_parser!(i64).range(1..))]
        from: Option<i64>,
        /// The newer revision [default: the one in force]
        #[arg(long, value_name = "B", value_parser = clap::value_parser!(i64).range(1..))]
        to: Option<i64>,
    },
    /// Check a file without changing anything
    Validate {
        /// The document; - is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Put a file in force on all nodes
    Apply {
        /// The document; - is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Do everything but put it in force
        #[arg(long, conflicts_with = "wait")]
        dry_run: bool,
        /// How to put it in force
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Revisions, newest first
    History {
        /// How much to list
        #[command(flatten)]
        limit: Limit,
    },
    /// Put an older revision in force again, as a new one
    Rollback {
        /// The older revision
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        revision: i64,
        /// How to put it in force
        #[command(flatten)]
        change: ChangeArguments,
    },
}

/// How to put a configuration in force.
#[derive(Args, Clone, Debug, Default)]
pub struct ChangeArguments {
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub comment: String,
    /// Refuse unless this revision is in force; 0: none [default: the one in the file, else the one in force]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub expected_revision: Option<i64>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Wait until all connected nodes answered, at most this many seconds (30 without a number)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "30",
          value_parser = super::units::parse_duration)]
    pub wait: Option<std::time::Duration>,
}

impl Arguments {
    /// What the grammar cannot say: flags of a list do not go with a command under it.
    ///
    /// # Errors
    /// Usage.
    pub fn check(&self) -> Result<(), Failure> {
        let strayed = match &self.command {
            Command::Nodes(nodes) => {
                nodes.command.is_some() && (nodes.state.is_some() || nodes.limit != Limit::default())
            }
            Command::Failures(failures) => {
                failures.command.is_some()
                    && (failures.filter != FailureFilter::default() || failures.limit != Limit::default())
            }
            _ => false,
        };
        if strayed {
            return Err(Failure::usage(
                "found flags of the list before a command of its own: expected them after it",
            ));
        }
        Ok(())
    }
}

/// Prints the completion script of `shell`.
///
/// # Errors
/// If `to` cannot be written.
pub fn write_completion(shell: Shell, to: &mut dyn Write) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "swift-s3ctl", &mut script);
    to.write_all(&script)?;
    to.flush()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(words: &str) -> Result<Command, clap::error::ErrorKind> {
        Arguments::try_parse_from(std::iter::once("swift-s3ctl").chain(words.split_whitespace()))
            .map_err(|error| error.kind())
            .and_then(|arguments| match arguments.check() {
                Ok(()) => Ok(arguments.command),
                Err(_) => Err(clap::error::ErrorKind::ArgumentConflict),
            })
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn connection_flags_go_anywhere() {
        let words = [
            "swift-s3ctl",
            "status",
            "--control",
            "http://a:1,http://b:2",
            "-o",
            "json",
            "--control",
            "http://c:3",
        ];
        let arguments = Arguments::try_parse_from(words).unwrap();
        assert_eq!(arguments.connection.control, ["http://a:1", "http://b:2", "http://c:3"]);
        assert_eq!(arguments.connection.output, Some(Format::Json));
    }

    #[test]
    fn waiting_takes_seconds_or_not() {
        for (words, expected) in [
            ("config apply f.json", None),
            ("config apply f.json --wait", Some(30)),
            ("config apply --wait f.json", Some(30)),
            ("config apply --wait=5 f.json", Some(5)),
            ("config apply --wait=2m f.json", Some(120)),
        ] {
            let Command::Config { command: ConfigCommand::Apply { change, .. } } = parse(words).unwrap()
            else {
                unreachable!("{words}")
            };
            assert_eq!(change.wait.map(|wait| wait.as_secs()), expected, "{words}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_wrong_usage() {
        for words in [
            "failures retry --all --mapping x",
            "failures retry --object o --prefix p",
            "failures --reason x retry --account a",
            "nodes --state stale forget n1",
            "config diff",
            "config diff f.json --to 3",
            "config apply f.json --dry-run --wait",
            "config rollback 0",
            "config get --revision x",
            "explain",
            "explain a b c d",
            "status --timeout 0",
            "status --output yaml",
            "status --token abc",
            "completion tcsh",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
        for words in [
            "failures retry --all",
            "config diff --from 1",
            "config diff - --from 2",
            "nodes forget n1",
            "nodes -o json forget n1",
            "explain a/b/c",
        ] {
            assert!(parse(words).is_ok(), "{words}");
        }
    }

    #[test]
    fn every_shell_gets_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            write_completion(shell, &mut script).unwrap();
            assert!(String::from_utf8(script).unwrap().contains("release-deletes"), "{shell}");
        }
    }
}
