//! Man pages, completions, samples, and what packages and containers name: they agree with the programs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use swift_s3_packaging::{completions, man, programs};

/// The folder `packaging/` of this checkout, wherever it was when it was compiled.
fn package_folder() -> Result<PathBuf> {
    let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let mut places = told.into_iter().chain([".", "packaging"].map(PathBuf::from));
    places
        .find(|folder| folder.join("debian").is_dir())
        .context("start it by cargo, or in the folder packaging/")
}

#[test]
fn every_program_has_a_name_of_its_own() {
    let names: Vec<_> = programs::all().iter().map(|program| program.command.get_name().to_owned()).collect();
    assert_eq!(
        names,
        ["swift-s3-control", "swift-s3-sync", "swift-s3-shunt", "swift-s3ctl", "swift-s3-verify"]
    );
}

#[test]
fn every_flag_variable_and_subcommand_is_in_a_page() -> Result<()> {
    let folder = tempfile::tempdir()?;
    man::write(folder.path())?;
    let page = |name: &str| -> Result<String> {
        Ok(fs::read_to_string(folder.path().join(name))?.replace("\\-", "-"))
    };
    for program in programs::all() {
        let mut command = program.command.clone();
        command.build();
        let name = command.get_name().to_owned();
        let page = page(&format!("{name}.{}", program.section))?;
        for argument in command.get_arguments() {
            let flag = argument.get_long().map(|flag| format!("--{flag}"));
            let variable = argument.get_env().map(|variable| variable.to_string_lossy().into_owned());
            for text in flag.into_iter().chain(variable) {
                ensure!(page.contains(&text), "{name}: {text}");
            }
        }
        for (path, _) in program.files {
            ensure!(page.contains(path), "{name}: {path}");
        }
    }
    ensure!(page("swift-s3ctl-config-apply.1")?.contains("swift-s3ctl(1)"), "no way back to the main page");
    Ok(())
}

#[test]
fn every_shell_completes_every_program() -> Result<()> {
    let folder = tempfile::tempdir()?;
    completions::write(folder.path())?;
    for program in programs::all() {
        let name = program.command.get_name();
        for file in [format!("bash/{name}"), format!("zsh/_{name}"), format!("fish/{name}.fish")] {
            ensure!(fs::read_to_string(folder.path().join(&file))?.contains("version"), "{file}");
        }
    }
    Ok(())
}

/// The variables that a text sets, commented out or not, with their values.
fn variables(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .filter(|(name, _)| name.starts_with("SWIFT_S3_") && !name.contains(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn every_variable_of_the_samples_is_one_of_the_program() -> Result<()> {
    for program in programs::all().iter().filter(|program| program.section == "8") {
        let name = program.command.get_name();
        let text = fs::read_to_string(package_folder()?.join("etc/default").join(name))?;
        let known: Vec<_> = program.command.get_arguments().filter_map(clap::Arg::get_env).collect();
        let set = variables(&text);
        ensure!(set.len() > 4, "{name}: {set:?}");
        for (variable, _) in &set {
            ensure!(
                known.iter().any(|known| known.to_string_lossy() == *variable),
                "{name} knows no {variable}"
            );
        }
        // As the service begins.
        let active: String =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let mut words = vec![name.to_owned()];
        for (variable, value) in variables(&active) {
            let argument = program
                .command
                .get_arguments()
                .find(|argument| argument.get_env().is_some_and(|known| known.to_string_lossy() == variable));
            let flag = argument.and_then(clap::Arg::get_long).context("a flag")?;
            words.push(format!("--{flag}={value}"));
        }
        program.command.clone().try_get_matches_from(&words).with_context(|| format!("{words:?}"))?;
    }
    Ok(())
}

#[test]
fn the_samples_are_taken_without_a_warning() -> Result<()> {
    for name in ["worker.json", "shunt.json"] {
        let path = package_folder()?.join("etc").join(name);
        let (config, warnings) = swift_s3_worker::startup::load(&path)
            .map_err(|problems| anyhow::anyhow!("{name}: {problems:?}"))?;
        ensure!(warnings.is_empty() && config.mappings.is_empty(), "{name}: {warnings:?}");
        // What it shows as a comment works too, once it is taken out of the comment.
        let text = fs::read_to_string(&path)?;
        let shown =
            text.split_once(": {\n").and_then(|(_, rest)| rest.split_once("\n  },")).context("an example")?.0;
        let whole = text.replace("\"containers\": []", &format!("\"containers\": [{{{shown}}}]"));
        let secret = tempfile::NamedTempFile::new()?;
        fs::write(secret.path(), "s")?;
        let begin = whole.find("/etc/swift-s3-").context("a secret's file")?;
        ensure!(whole.contains(".secret\""), "{whole}");
        let path_of_secret: String =
            whole.chars().skip(begin).take_while(|character| *character != '"').collect();
        let draft = tempfile::NamedTempFile::new()?;
        fs::write(draft.path(), whole.replace(&path_of_secret, &secret.path().to_string_lossy()))?;
        let (config, warnings) = swift_s3_worker::startup::load(draft.path())
            .map_err(|problems| anyhow::anyhow!("{name}: {problems:?}"))?;
        ensure!(warnings.is_empty() && config.mappings.len() == 1, "{name}: {warnings:?}");
    }
    Ok(())
}

#[test]
fn the_sample_of_the_access_file_is_taken() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let copy = tempfile::NamedTempFile::new()?;
    fs::write(copy.path(), fs::read_to_string(package_folder()?.join("etc/access.toml"))?)?;
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o600))?;
    let access = swift_s3_control::access::Access::read(copy.path())?;
    ensure!(access.count() == 2, "{}", access.count());
    Ok(())
}

/// The words behind an instruction of the Containerfile, of all lines that begin with it; lines that are continued are one.
fn instructions(text: &str, name: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The program and the flags of an `ENTRYPOINT`, by the stage that it is of.
fn entry_points(text: &str) -> Result<Vec<(String, Vec<String>)>> {
    let stages = text.split("\nFROM ").skip(1);
    let with_entry =
        stages.filter_map(|stage| Some((stage, stage.split_once("\nENTRYPOINT ")?.1.lines().next()?)));
    with_entry
        .map(|(stage, words)| {
            let name = stage
                .lines()
                .next()
                .and_then(|line| line.split_whitespace().last())
                .context("a stage's name")?;
            Ok((name.to_owned(), serde_json::from_str(words).with_context(|| words.to_owned())?))
        })
        .collect()
}

#[test]
fn the_containerfile_names_what_there_is() -> Result<()> {
    let root = package_folder()?.join("..");
    let text = fs::read_to_string(root.join("Containerfile"))?;
    let programs = programs::all();
    let names: Vec<_> = programs.iter().map(|program| program.command.get_name().to_owned()).collect();
    let built = instructions(&text, "RUN").into_iter().flatten().filter(|word| word.starts_with("swift-s3-"));
    let workspace = fs::read_to_string(root.join("Cargo.lock"))?;
    for package in built {
        ensure!(workspace.contains(&format!("name = \"{package}\"")), "no package {package}");
    }
    for copied in instructions(&text, "COPY") {
        for source in copied.iter().filter_map(|word| word.strip_prefix("/programs/")) {
            ensure!(names.iter().any(|name| name == source), "no program {source}");
        }
    }
    let entry_points = entry_points(&text)?;
    let stages: Vec<_> = entry_points.iter().map(|(stage, _)| stage.as_str()).collect();
    ensure!(stages == ["control", "worker", "shunt", "ctl"], "{stages:?}");
    for (stage, words) in &entry_points {
        let (program, flags) = words.split_first().context("a program")?;
        let program = program.strip_prefix("/usr/local/bin/").context("where COPY puts it")?;
        let program =
            programs.iter().find(|known| known.command.get_name() == program).context("a program")?;
        for flag in flags {
            let known = program
                .command
                .get_arguments()
                .any(|known| known.get_long().is_some_and(|long| *flag == format!("--{long}")));
            ensure!(known, "{stage}: {flag}");
        }
    }
    ensure!(text.contains("\nUSER 10001:10001\n"), "it would run as root");
    Ok(())
}

#[test]
fn the_compose_file_runs_stages_with_variables_that_they_know() -> Result<()> {
    let root = package_folder()?.join("..");
    let read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let output = std::process::Command::new("/usr/bin/python3")
        .args(["-c", read])
        .arg(root.join("compose.yaml"))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compose: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = fs::read_to_string(root.join("Containerfile"))?;
    let services = compose.get("services").and_then(|services| services.as_object()).context("services")?;
    ensure!(services.len() == 3, "{}", services.len());
    for (name, service) in services {
        let target =
            service.pointer("/build/target").and_then(|target| target.as_str()).context("a target")?;
        let entry_points = entry_points(&text)?;
        let (_, words) = entry_points
            .iter()
            .find(|(stage, _)| stage == target)
            .with_context(|| format!("no stage {target}"))?;
        let program = programs::all()
            .into_iter()
            .find(|program| {
                words.first().is_some_and(|word| word.ends_with(&format!("/{}", program.command.get_name())))
            })
            .context("a program")?;
        let stage = text
            .split("\nFROM ")
            .find(|stage| stage.starts_with(&format!("base AS {target}\n")))
            .context("a stage")?;
        let exposed = instructions(stage, "EXPOSE").concat();
        let variables =
            service.get("environment").and_then(|variables| variables.as_object()).context("variables")?;
        for (variable, value) in variables {
            let known = program.command.get_arguments().filter_map(clap::Arg::get_env);
            ensure!(
                known.into_iter().any(|known| known.to_string_lossy() == *variable),
                "{name} knows no {variable}"
            );
            if let (true, Some((_, port))) =
                (variable.ends_with("LISTEN"), value.as_str().and_then(|value| value.rsplit_once(':')))
            {
                ensure!(exposed.iter().any(|exposed| exposed == port), "{name}: port {port} is not exposed");
            }
        }
        let volumes = service.get("volumes").and_then(|volumes| volumes.as_array()).context("volumes")?;
        let writable =
            volumes.iter().filter_map(|volume| volume.as_str()).filter(|volume| !volume.ends_with(":ro"));
        for volume in writable {
            ensure!(volume.contains(":/var/lib/swift-s3-"), "{name} could write to {volume}");
        }
    }
    Ok(())
}
