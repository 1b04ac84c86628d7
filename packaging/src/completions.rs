//! Completions of shells.

use std::path::Path;
use std::{fs, io};

use clap_complete::{Shell, generate};

use crate::programs;

/// Writes the completions of every program to `folder/bash`, `folder/zsh` and `folder/fish`, each file under the name by which the
/// shell finds it.
///
/// # Errors
/// If the folders or files cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        for mut program in programs::all() {
            let program_name = program.command.get_name().to_owned();
            let mut script = Vec::new();
            generate(shell, &mut program.command, &program_name, &mut script);
            fs::write(folder.join(file_name(shell, &program_name)), script)?;
        }
    }
    Ok(())
}

/// Source: the README of bash-completion, zshcompsys(1), and fish's page on completions.
fn file_name(shell: Shell, program: &str) -> String {
    match shell {
        Shell::Zsh => format!("_{program}"),
        Shell::Fish => format!("{program}.fish"),
        _ => program.to_owned(),
    }
}
