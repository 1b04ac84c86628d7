//! Runs the binary in an empty home.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Home {
    pub(crate) folder: TempDir,
    control: String,
    variables: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

impl Home {
    pub(crate) fn new(control: &str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), control: control.to_owned(), variables: Vec::new() }
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("SWIFT_S3_CONTROL", &self.control)
            .envs(self.variables.iter().cloned())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) async fn run(&self, words: &[&str]) -> Outcome {
        self.run_with(words, "").await
    }

    /// Runs with `input` on standard input.
    pub(crate) async fn run_with(&self, words: &[&str], input: &str) -> Outcome {
        let mut command = self.command(Path::new(BINARY));
        command.args(words);
        finish(command, input, Duration::ZERO).await
    }

    /// Runs on a terminal, where `input` is typed.
    pub(crate) async fn run_on_terminal(&self, words: &str, input: &str) -> Outcome {
        self.run_on_terminal_after(Duration::ZERO, words, input).await
    }

    /// Runs on a terminal, where `input` is typed after `thinking`.
    pub(crate) async fn run_on_terminal_after(
        &self,
        thinking: Duration,
        words: &str,
        input: &str,
    ) -> Outcome {
        let mut command = self.command(Path::new("script"));
        command.args(["-qec", &format!("{BINARY} {words}"), "/dev/null"]);
        finish(command, input, thinking).await
    }
}

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_swift-s3ctl");

async fn finish(mut command: Command, input: &str, thinking: Duration) -> Outcome {
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(thinking);
        // The program may end without reading everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    })
    .await
    .unwrap()
}
