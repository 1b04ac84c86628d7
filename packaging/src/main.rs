//! `swift-s3-generate`: writes what is made from the code, for packages and documents.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use swift_s3_packaging::{completions, man};

/// Writes what is made from the code: man pages and completions
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
        Command::Completions { folder } => completions::write(folder),
    }
}
