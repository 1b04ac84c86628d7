#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs;

use super::*;
use crate::ctl::failure::Exit;

struct Home {
    folder: tempfile::TempDir,
    variables: HashMap<String, String>,
}

impl Home {
    fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("swift-s3-sync");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("ctl.toml"), settings).unwrap();
        fs::write(inner.join("token"), "from-file\n").unwrap();
        let variables = HashMap::from([("XDG_CONFIG_HOME".to_owned(), folder.path().display().to_string())]);
        Self { folder, variables }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn gather(&self, flags: &ConnectionArguments) -> Result<Settings, Failure> {
        Settings::gather(flags, &|name| self.variables.get(name).cloned())
    }
}

fn controls(settings: &Settings) -> Vec<String> {
    settings.controls.iter().map(label).collect()
}

fn refusal(result: Result<Settings, Failure>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    failure.what()
}

#[test]
fn without_anything_it_is_this_machine() {
    let settings = Settings::gather(&ConnectionArguments::default(), &|_| None).unwrap();
    assert_eq!(controls(&settings), [DEFAULT_CONTROL]);
    assert_eq!((settings.token, settings.format), (None, Format::Table));
    assert_eq!(settings.timeout, Duration::from_secs(10));
}

#[test]
fn flag_wins_over_environment_over_file() {
    let file = "control = ['http://file:1', 'http://file:2']\ntoken_file = 'token'\noutput = 'json'\n";
    let home = Home::new(file);
    let settings = home.gather(&ConnectionArguments::default()).unwrap();
    assert_eq!(controls(&settings), ["http://file:1", "http://file:2"]);
    assert_eq!(settings.token.unwrap().header(), "Bearer from-file");
    assert_eq!(settings.format, Format::Json);

    let home =
        home.set("SWIFT_S3_CONTROL", "http://env:1, http://env:2").set("SWIFT_S3_TOKEN", "from-environment");
    let settings = home.gather(&ConnectionArguments::default()).unwrap();
    assert_eq!(controls(&settings), ["http://env:1", "http://env:2"]);
    assert_eq!(settings.token.unwrap().header(), "Bearer from-environment");

    let flags = ConnectionArguments {
        control: vec!["https://flag:1".into()],
        token_file: Some(home.folder.path().join("swift-s3-sync/token")),
        output: Some(Format::Table),
        ..ConnectionArguments::default()
    };
    let settings = home.gather(&flags).unwrap();
    assert_eq!(controls(&settings), ["https://flag:1"]);
    assert_eq!(settings.token.unwrap().header(), "Bearer from-file");
    assert_eq!(settings.format, Format::Table);
}

#[test]
fn an_empty_variable_is_as_none() {
    let home = Home::new("control = 'http://file:1'").set("SWIFT_S3_CONTROL", "").set("SWIFT_S3_TOKEN", "");
    let settings = home.gather(&ConnectionArguments::default()).unwrap();
    assert_eq!(controls(&settings), ["http://file:1"]);
    assert_eq!(settings.token, None);
}

#[test]
fn only_a_named_settings_file_must_exist() {
    let home = Home::new("");
    fs::remove_file(home.folder.path().join("swift-s3-sync/ctl.toml")).unwrap();
    assert!(home.gather(&ConnectionArguments::default()).is_ok());
    let home = home.set("SWIFT_S3CTL_CONFIG", "/nowhere/ctl.toml");
    assert!(refusal(home.gather(&ConnectionArguments::default())).contains("/nowhere/ctl.toml"));
}

#[test]
fn wrong_settings_are_named() {
    for (file, word) in [
        ("controll = 'http://a:1'", "controll"),
        ("control = 'a:1'", "http://HOST:PORT"),
        ("control = 'http://a:1/path'", "http://HOST:PORT"),
        ("control = 'ftp://a:1'", "http://HOST:PORT"),
        ("output = 'yaml'", "table, json, jsonl or csv"),
        ("client_cert = 'a.pem'", "--client-key"),
        ("token_file = 'absent'", "absent"),
    ] {
        let text = refusal(Home::new(file).gather(&ConnectionArguments::default()));
        assert!(text.contains(word), "{file}: {text}");
    }
}

#[test]
fn secrets_are_neither_shown_nor_taken_from_addresses() {
    let home = Home::new("").set("SWIFT_S3_TOKEN", "planted-secret");
    let settings = home.gather(&ConnectionArguments::default()).unwrap();
    assert!(!format!("{settings:?}").contains("planted-secret"));
    let text = refusal(
        Home::new("control = 'http://me:planted-secret@a:1'").gather(&ConnectionArguments::default()),
    );
    assert!(!text.contains("planted-secret"), "{text}");
    let text = refusal(
        Home::new("").set("SWIFT_S3_TOKEN", "planted\nsecret").gather(&ConnectionArguments::default()),
    );
    assert!(!text.contains("planted"), "{text}");
}

#[test]
fn a_token_in_the_clear_is_warned_of() {
    for (control, warnings) in [
        ("http://10.0.0.1:1", 1),
        ("http://127.0.0.1:1", 0),
        ("http://[::1]:1", 0),
        ("http://localhost:1", 0),
        ("https://10.0.0.1:1", 0),
    ] {
        let home = Home::new("").set("SWIFT_S3_TOKEN", "word").set("SWIFT_S3_CONTROL", control);
        assert_eq!(
            home.gather(&ConnectionArguments::default()).unwrap().warnings().len(),
            warnings,
            "{control}"
        );
        let home = Home::new("").set("SWIFT_S3_CONTROL", control);
        assert!(home.gather(&ConnectionArguments::default()).unwrap().warnings().is_empty());
    }
}
