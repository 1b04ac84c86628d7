//! A clean Debian of its own, with systemd as its first process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// A start takes two seconds on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// No command inside takes longer than some seconds.
const COMMAND_LIMIT: &str = "60";

/// The folder `packaging/` of this checkout. Cargo does not build anew when a checkout at another path shares its cache, so what
/// the compiler saw does not count.
pub(crate) fn package_folder() -> Result<PathBuf> {
    let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let folder = told
        .into_iter()
        .chain([".", "packaging"].map(PathBuf::from))
        .find(|folder| folder.join("debian").is_dir());
    Ok(folder.context("start it by cargo, or in the folder packaging/")?.canonicalize()?)
}

/// The Debian that `scripts/setup.sh` fetched.
fn tarball() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let tarball = cache.join("swift-s3-sync/packages-root.tar");
    ensure!(tarball.exists(), "{} is missing: run scripts/setup.sh", tarball.display());
    Ok(tarball)
}

/// Runs a program of this machine, and answers its standard output.
pub(crate) fn host(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    succeeded(&format!("{command:?}"), &output)
}

fn succeeded(what: &str, output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {}\n{text}\n{errors}", output.status);
    Ok(text)
}

/// The machine. It ends, with everything in it, when this value is dropped or the test's process dies.
#[derive(Debug)]
pub(crate) struct Machine {
    folder: TempDir,
    cgroup: String,
    starter: Child,
    first: String,
}

impl Machine {
    /// Unpacks Debian and starts it.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("root");
        std::fs::create_dir(&root)?;
        host(Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(tarball()?))?;
        let cgroup = format!("swift-s3-packages-{}", std::process::id());
        // The starter takes everything with it: its children are in a process namespace that ends with its first process.
        let starter = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "bash"])
            .arg(package_folder()?.join("tests/packages/boot.sh"))
            .arg(&root)
            .arg(&cgroup)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let mut machine = Self { folder, cgroup, starter, first: String::new() };
        machine.wait()?;
        Ok(machine)
    }

    /// The folder that is `/` inside.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn wait(&mut self) -> Result<()> {
        let started = Instant::now();
        let children = format!("/proc/{0}/task/{0}/children", self.starter.id());
        loop {
            if let Some(status) = self.starter.try_wait()? {
                bail!("systemd does not start in a namespace: {status}");
            }
            self.first = std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            let state = self.output("systemctl is-system-running");
            let state = state
                .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
                .unwrap_or_default();
            match state.as_str() {
                "running" => return Ok(()),
                "degraded" => bail!("{}", self.run("systemctl --no-pager --failed")?),
                state => ensure!(
                    started.elapsed() < START_LIMIT,
                    "systemd inside is {state:?} after {START_LIMIT:?}"
                ),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn output(&self, script: &str) -> Result<Output> {
        ensure!(!self.first.is_empty() && !self.first.contains(' '), "not started");
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.first,
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
            "--root",
            "--wd",
            "env",
            "-i",
        ]);
        command.args([
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
        ]);
        command.args(["timeout", COMMAND_LIMIT, "sh", "-euc", script]);
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// Runs a shell script inside, as root. Answers its standard output.
    pub(crate) fn run(&self, script: &str) -> Result<String> {
        succeeded(script, &self.output(script)?)
    }

    /// Runs a shell script that has to fail. Answers what it said.
    pub(crate) fn refused(&self, script: &str) -> Result<String> {
        let output = self.output(script)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(!output.status.success(), "{script} succeeded: {said}");
        Ok(said)
    }

    /// Waits until what a script prints holds `expected`.
    pub(crate) fn wait_for(&self, script: &str, expected: &str) -> Result<String> {
        let started = Instant::now();
        loop {
            let text = self.run(script)?;
            if text.contains(expected) {
                return Ok(text);
            }
            ensure!(
                started.elapsed() < Duration::from_secs(20),
                "{script}: expected {expected:?}, got {text}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Installs package files.
    pub(crate) fn install(&self, packages: &[PathBuf]) -> Result<String> {
        let target = self.root().join("srv/packages");
        std::fs::create_dir_all(&target)?;
        let mut script = "dpkg -i".to_owned();
        for package in packages {
            let name = package.file_name().and_then(|name| name.to_str()).context("a file's name")?;
            std::fs::copy(package, target.join(name))?;
            script.push_str(&format!(" /srv/packages/{name}"));
        }
        let said = self.run(&format!("{script} 2>&1"));
        std::fs::remove_dir_all(target)?;
        said
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.starter.kill());
        drop(self.starter.wait());
        // Its processes are dying; a group can be removed when the last one is gone.
        let Ok(groups) =
            host(Command::new("findmnt").args(["-n", "--first-only", "-t", "cgroup2", "-o", "TARGET"]))
        else {
            return;
        };
        let group = Path::new(groups.trim()).join(&self.cgroup);
        let started = Instant::now();
        while group.exists() && started.elapsed() < Duration::from_secs(10) {
            drop(
                Command::new("find")
                    .arg(&group)
                    .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                    .stderr(Stdio::null())
                    .status(),
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
