//! Every flag of every program, as `--help` tells it.

use clap::{Arg, ArgAction, Command};

use super::{MADE, table};
use crate::programs;

const INTRODUCTION: &str = "\
What each program takes, in the words of its `--help`. A flag wins over its environment variable. Nothing that is secret is taken from the \
command line, but by `--password` of the program that proves remotes: tokens and passwords come from files or the environment.
";

/// The page.
pub(super) fn page() -> String {
    let mut text = format!("# Programs and flags\n\n{MADE}\n\n{INTRODUCTION}\n");
    let programs = programs::all();
    for program in &programs {
        let name = program.command.get_name();
        text.push_str(&format!("- [{name}](#{name})\n"));
    }
    for program in programs {
        let mut command = program.command.disable_help_subcommand(true).disable_help_flag(true);
        command.build();
        text.push_str(&format!("\n## {}\n", command.get_name()));
        describe(&command, true, &mut text);
        subcommands(&command, &mut text);
    }
    text
}

fn subcommands(command: &Command, text: &mut String) {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        let name = inner.get_bin_name().unwrap_or_else(|| inner.get_name());
        text.push_str(&format!("\n### {name}\n"));
        describe(inner, false, text);
        subcommands(inner, text);
    }
}

fn describe(command: &Command, is_whole: bool, text: &mut String) {
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        text.push_str(&format!("\n{about}.\n").replace("..\n", ".\n"));
    }
    // What goes anywhere is told once, with the program.
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && (is_whole || !argument.is_global_set()))
        .filter(|argument| !matches!(argument.get_action(), ArgAction::Version | ArgAction::Help))
        .collect();
    if !arguments.is_empty() {
        let rows = arguments.iter().map(|argument| {
            vec![spelling(argument), environment(argument), fallback(argument), help(argument)]
        });
        text.push('\n');
        text.push_str(&table(&["flag", "variable", "default", "meaning"], rows));
    }
    if let Some(notes) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        text.push_str(&format!("\n```text\n{}\n```\n", notes.to_string().trim_end()));
    }
}

fn spelling(argument: &Arg) -> String {
    let takes = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let names = argument.get_value_names().unwrap_or_default();
    let value = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    match argument.get_long() {
        Some(long) if takes => format!("{short}`--{long} {value}`"),
        Some(long) => format!("{short}`--{long}`"),
        None => format!("`{value}`"),
    }
}

fn environment(argument: &Arg) -> String {
    let name = argument.get_env().map(|name| name.to_string_lossy().into_owned());
    name.map(|name| format!("`{name}`")).unwrap_or_default()
}

fn fallback(argument: &Arg) -> String {
    if argument.is_required_set() {
        return "**required**".to_owned();
    }
    if argument.is_hide_default_value_set() || !argument.get_action().takes_values() {
        return String::new();
    }
    let values: Vec<String> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    values.join(" ")
}

fn help(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if !argument.get_action().takes_values() {
        return help;
    }
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if values.is_empty() { help } else { format!("{help}: {}", values.join(", ")) }
}
