//! Commands in the handbook are commands of the programs.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Command;
use swift_s3_packaging::programs;

use crate::root::{name, pages, read, root};

/// Flags of other programs that the handbook names.
const FLAGS_OF_OTHERS: [&str; 6] = [
    "--auto-compaction-mode",
    "--auto-compaction-retention",
    "--break-system-packages",
    "--client-cert-auth",
    "--max-request-bytes",
    "--max-txn-ops",
];
/// The same, with their values.
const QUOTA: &str = "--quota-backend-bytes";

fn commands() -> Vec<Command> {
    programs::all().into_iter().map(|program| program.command).collect()
}

/// Lines of blocks of code, with those that go on in the next line joined; each with its place.
fn code_lines(page: &Path) -> Vec<(String, String)> {
    let text = read(page);
    let mut found = Vec::new();
    let (mut is_code, mut joined) = (false, String::new());
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        if !is_code {
            continue;
        }
        if let Some(begun) = line.trim_end().strip_suffix('\\') {
            joined.push_str(begun);
            joined.push(' ');
        } else {
            joined.push_str(line);
            found.push((format!("{}:{}", name(page), number + 1), std::mem::take(&mut joined)));
        }
    }
    found
}

/// The words of a line as a shell sees them, up to a comment; operators are words of their own.
fn words(line: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut word, mut quote, mut has_word) = (String::new(), None, false);
    let mut end = |word: &mut String, has_word: &mut bool| {
        if std::mem::take(has_word) {
            found.push(std::mem::take(word));
        }
    };
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => word.push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                has_word = true;
            }
            (None, '#') if !has_word => break,
            (None, ' ' | '\t') => end(&mut word, &mut has_word),
            (None, '|' | ';' | '>' | '<' | '&') => {
                end(&mut word, &mut has_word);
                word.push(character);
                has_word = true;
                end(&mut word, &mut has_word);
            }
            (None, _) => {
                word.push(character);
                has_word = true;
            }
        }
    }
    end(&mut word, &mut has_word);
    found
}

/// The line with a word in place of each `$(…)`.
fn without_substitutions(line: &str) -> String {
    let (first, rest) = line.split_once("$(").unwrap_or((line, ""));
    let parts = rest.split("$(").map(|part| part.split_once(')').map_or(part, |(_, after)| after));
    let rest: Vec<&str> = parts.collect();
    if line.contains("$(") { format!("{first}word{}", rest.join("word")) } else { line.to_owned() }
}

/// The calls of our programs in a line: the program's name and what follows, up to the end of the command.
fn calls(line: &str, programs: &BTreeSet<String>) -> Vec<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ");
    let line = line.strip_prefix("ExecStart=").unwrap_or(line);
    let mut found = Vec::new();
    let mut words = words(&without_substitutions(line));
    while let Some(place) = words.iter().position(|word| word == ">" || word == "<") {
        // What follows is a file.
        words.drain(place..words.len().min(place + 2));
    }
    let operators = ["|", ";", "&"];
    for command in words.split(|word| operators.contains(&word.as_str())) {
        let is_before =
            |word: &&String| word.as_str() == "sudo" || word.as_str() == "exec" || is_assignment(word);
        let mut rest = command.iter().skip_while(is_before);
        let Some(first) = rest.next() else { continue };
        let program = first.rsplit('/').next().unwrap_or_default().to_owned();
        if programs.contains(&program) {
            found.push(std::iter::once(program).chain(rest.cloned()).collect());
        }
    }
    found
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || "_0123456789".contains(c))
    })
}

/// A word with something plausible in place of what a reader fills in.
fn filled_in(word: &str) -> String {
    let inner = |text: &str| match text {
        "N" | "A" | "B" | "REVISION" | "SECONDS" | "DAYS" => "5".to_owned(),
        "URL" => "http://127.0.0.1:50051".to_owned(),
        text if text.starts_with('$') => "value".to_owned(),
        text => text.to_owned(),
    };
    match word.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => format!("{flag}={}", inner(value)),
        _ => inner(word),
    }
}

#[test]
fn commands_in_blocks_of_code_are_understood() {
    let commands = commands();
    let programs: BTreeSet<String> = commands.iter().map(|command| command.get_name().to_owned()).collect();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in pages() {
        for (place, line) in code_lines(&page) {
            for call in calls(&line, &programs) {
                let command = commands.iter().find(|command| command.get_name() == call[0]).unwrap();
                let mut words: Vec<String> =
                    call.iter().filter(|word| *word != "…").map(|word| filled_in(word)).collect();
                // Where the password of `verify` is not named, it is in the environment.
                let is_verify = words.iter().any(|word| word == "verify" || word == "swift-s3-verify");
                if is_verify && !words.iter().any(|word| word.starts_with("--password")) {
                    words.push("--password-file=file".to_owned());
                }
                count += 1;
                if let Err(error) = command.clone().try_get_matches_from(words) {
                    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
                    if !matches!(error.kind(), DisplayHelp | DisplayVersion) {
                        let first = error.to_string().lines().take(3).collect::<Vec<_>>().join(" ");
                        wrong.push(format!("{place}: {}: {first}", call.join(" ")));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 80, "only {count} commands were found");
}

/// The flags and variables of a command and of those below it.
fn gather(command: &Command, flags: &mut BTreeSet<String>, variables: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        flags.extend(argument.get_long().map(|long| format!("--{long}")));
        variables.extend(argument.get_env().map(|name| name.to_string_lossy().into_owned()));
    }
    command.get_subcommands().for_each(|inner| gather(inner, flags, variables));
}

/// What stands between backticks in the text of a page.
fn in_backticks(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// Whether it is a command of another program.
fn is_foreign(piece: &str) -> bool {
    let first = piece.trim_start_matches("sudo ").split(' ').next().unwrap_or_default();
    [
        "adduser",
        "apt-get",
        "cargo",
        "dpkg",
        "etcdctl",
        "git",
        "pip",
        "podman",
        "docker",
        "swift-bench",
        "systemctl",
    ]
    .contains(&first)
}

#[test]
fn flags_and_variables_in_the_text_exist() {
    let (mut flags, mut variables) = (BTreeSet::new(), BTreeSet::new());
    for mut command in commands() {
        command.build();
        gather(&command, &mut flags, &mut variables);
    }
    flags.extend(["--version", "--help", QUOTA].map(str::to_owned));
    flags.extend(FLAGS_OF_OTHERS.map(str::to_owned));
    // Read by the programs themselves, by the tests, or by `make`.
    variables.extend(
        [
            "SWIFT_S3_CONTROL",
            "SWIFT_S3_TOKEN",
            "SWIFT_S3CTL_CONFIG",
            "SWIFT_S3_SYNC_BIN",
            "SWIFT_S3_TESTS_ALLOW_NO_PREVIOUS",
            "SWIFT_S3_TESTS_ALLOW_NO_ROOT",
            "SWIFT_S3_TESTS_KEEP",
            "SWIFT_S3_TESTS_PREVIOUS",
        ]
        .map(str::to_owned),
    );
    let mut wrong = Vec::new();
    for page in pages().into_iter().filter(|page| !page.ends_with("CHANGELOG.md")) {
        let text = read(&page);
        for piece in in_backticks(&text).into_iter().filter(|piece| !is_foreign(piece)) {
            for word in piece.split([' ', '=', '[', ']', '(', ')', ',', '|', '/']) {
                let is_flag = word.starts_with("--") && word.len() > 3;
                let is_variable = word.starts_with("SWIFT_S3");
                let is_open = word.ends_with('…') || word.ends_with('_') || word.contains('*');
                if (is_flag && !is_open && !flags.contains(word))
                    || (is_variable && !is_open && !variables.contains(word))
                {
                    wrong.push(format!("{}: {word} in {piece}", name(&page)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn subcommands_in_the_text_exist() {
    let ctl = commands().into_iter().find(|command| command.get_name() == "swift-s3ctl").unwrap();
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        for piece in in_backticks(&text) {
            let Some(rest) = piece.strip_prefix("swift-s3ctl ") else { continue };
            let mut command = &ctl;
            for word in rest.split(' ') {
                if command.get_subcommands().next().is_none()
                    || !word.starts_with(|c: char| c.is_ascii_lowercase())
                {
                    break;
                }
                match command.find_subcommand(word) {
                    Some(inner) => command = inner,
                    None => {
                        wrong.push(format!("{}: {piece}", name(&page)));
                        break;
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn targets_of_make_in_the_text_exist() {
    let makefile = read(&root().join("Makefile"));
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        let lines = code_lines(&page);
        let in_code = lines.iter().map(|(_, line)| line.trim().trim_start_matches("sudo "));
        for piece in in_backticks(&text).into_iter().chain(in_code) {
            let Some(rest) = piece.strip_prefix("make ") else { continue };
            let target = rest.split_whitespace().next().unwrap_or_default();
            let is_word = target.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if is_word && !makefile.contains(&format!("\n{target}:")) {
                wrong.push(format!("{}: make {target}", name(&page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lines_are_split_as_a_shell_does() {
    let programs = BTreeSet::from(["swift-s3ctl".to_owned()]);
    let found = calls("$ X_Y=1 /usr/bin/swift-s3ctl a 'b c' > d | swift-s3ctl e=f   # g", &programs);
    assert_eq!(found, [vec!["swift-s3ctl", "a", "b c"], vec!["swift-s3ctl", "e=f"]]);
}

/// Readers try these where the packages listen.
#[test]
fn addresses_that_are_asked_are_those_of_the_packages() {
    let folder = root().join("packaging/etc/default");
    let defaults: String = ["swift-s3-control", "swift-s3-sync", "swift-s3-shunt"]
        .map(|daemon| read(&folder.join(daemon)))
        .concat();
    let mut count = 0;
    for page in pages() {
        for (place, line) in code_lines(&page).into_iter().filter(|(_, line)| line.contains("curl ")) {
            let Some((_, rest)) = line.split_once("http://127.0.0.1:") else { continue };
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            assert!(defaults.contains(&format!("_ADMIN_LISTEN=127.0.0.1:{port}")), "{place}: {line}");
            count += 1;
        }
    }
    assert!(count > 5, "only {count} were found");
}
