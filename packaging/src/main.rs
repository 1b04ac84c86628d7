//! `swift-s3-generate`: writes what is made from the code, for packages and documents.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use swift_s3_packaging::{completions, man, reference};

/// Writes what is made from the code: man pages, completions, the reference of the handbook
#[derive(Debug, Parser)]
#[command(name = "swift-s3-generate", version)]
struct Arguments {
    /// What to write
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The man pages of every program, and of every subcommand
    Man {
        /// Created if needed; files of the same names are replaced
        folder: PathBuf,
    },
    /// The reference in the handbook, and the dashboard: what is kept in the repository
    Reference {
        /// The root of the repository
        #[arg(default_value = ".")]
        root: PathBuf,
    },
    /// The completions of every program for bash, zsh and fish, in a folder for each
    Completions {
        /// Created if needed; files of the same names are replaced
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swift-s3-generate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> io::Result<()> {
    match command {
        Command::Man { folder } => man::write(folder),
        Command::Reference { root } => reference::write(root),
        Command::Completions { folder } => completions::write(folder),
    }
}
