//! Man pages, from the same definitions as `--help`.

use std::path::Path;
use std::{fs, io};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::programs::{self, Program};

/// What the pages are part of, in the middle of their first line.
const MANUAL: &str = "swift-s3-sync";

/// Writes a page for every program and every subcommand to `folder`: `swift-s3-sync.8`, `swift-s3ctl-config-apply.1`.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for program in programs::all() {
        let mut command = program.command.clone().disable_help_subcommand(true);
        command.build();
        write_command(folder, &program, &command, true)?;
    }
    Ok(())
}

fn write_command(folder: &Path, program: &Program, command: &Command, is_whole: bool) -> io::Result<()> {
    let man = Man::new(command.clone()).section(program.section).manual(MANUAL).source(format!(
        "{} {}",
        program.command.get_name(),
        command.get_version().unwrap_or_default()
    ));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    more(program, command, is_whole).to_writer(&mut page)?;
    fs::write(folder.join(man.get_filename()), page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_command(folder, program, subcommand, false)?;
    }
    Ok(())
}

/// What stands behind the options in `--help`, files and other pages.
fn more(program: &Program, command: &Command, is_whole: bool) -> Roff {
    let mut roff = Roff::new();
    if let Some(notes) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        // Its columns are made with spaces, which filling would take away.
        roff.control("SH", ["NOTES"]).control("nf", []);
        for line in notes.to_string().lines() {
            // A break after each line; without it lines are joined where a line begins without a space.
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    if is_whole && !program.files.is_empty() {
        roff.control("SH", ["FILES"]);
        for (path, what) in program.files {
            roff.control("TP", []).text([bold(*path)]).text([roman(*what)]);
        }
    }
    let see_also = if is_whole {
        program.see_also.to_owned()
    } else {
        format!("{}({})", program.command.get_name(), program.section)
    };
    roff.control("SH", ["SEE ALSO"]).text([roman(see_also)]);
    roff
}
