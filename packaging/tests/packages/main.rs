//! The Debian packages, on a clean Debian with systemd: installed, run, upgraded, removed.
//!
//! Needs root, and what `scripts/setup.sh` fetches. The programs are those of the profile that the tests are built in.

mod machine;
mod others;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use machine::{Machine, host, package_folder};

const DAEMONS: [&str; 3] = ["swift-s3-control", "swift-s3-sync", "swift-s3-shunt"];
const PACKAGES: [&str; 4] = ["swift-s3-control", "swift-s3-sync", "swift-s3-shunt", "swift-s3ctl"];
/// Ten times what `systemd-analyze security` calls exposure; below 4.0 is its "OK", and these services hold secrets.
const MOST_EXPOSURE: &str = "20";

/// Says that there is no root here, and that this is known.
const ALLOW_NO_ROOT: &str = "SWIFT_S3_TESTS_ALLOW_NO_ROOT";

/// Where the programs are that were built with this test.
fn target_folder() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("the folder of the profile")?;
    Ok(profile.parent().context("the target folder")?.to_owned())
}

/// Packs the programs. Answers the files in the order of [`PACKAGES`].
fn pack(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(package_folder()?.join("build.sh"));
    // Speed matters here, size does not.
    command.arg("dev").arg(folder).args([
        "--strip",
        "--fast",
        "--compress-type",
        "gz",
        "--compress-system",
        "--quiet",
    ]);
    host(command.env("CARGO_TARGET_DIR", target_folder()?))?;
    found(folder)
}

fn found(folder: &Path) -> Result<Vec<PathBuf>> {
    let files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    PACKAGES
        .iter()
        .map(|package| {
            let begins = format!("{package}_");
            let file = files.iter().find(|file| {
                file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begins))
            });
            file.cloned().with_context(|| format!("{package}: no file in {}", folder.display()))
        })
        .collect()
}

/// The same packages as a later version, and with another default in one configuration file.
fn later(packages: &[PathBuf], folder: &Path) -> Result<Vec<PathBuf>> {
    for package in packages {
        let unpacked = folder.join("unpacked");
        host(Command::new("dpkg-deb").arg("-R").arg(package).arg(&unpacked))?;
        let control = unpacked.join("DEBIAN/control");
        let text = std::fs::read_to_string(&control)?;
        let version = text.lines().find(|line| line.starts_with("Version: ")).context("a version")?;
        std::fs::write(&control, text.replace(version, "Version: 99.0.0"))?;
        for daemon in ["swift-s3-sync", "swift-s3-control"] {
            let default = unpacked.join("etc/default").join(daemon);
            if default.exists() {
                let text = std::fs::read_to_string(&default)?;
                std::fs::write(&default, format!("{text}# Of the later version.\n"))?;
            }
        }
        host(Command::new("dpkg-deb").args(["-Zgzip", "-z1", "-b"]).arg(&unpacked).arg(folder))?;
        std::fs::remove_dir_all(&unpacked)?;
    }
    found(folder)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

#[test]
fn the_packages_install_run_upgrade_and_go_without_a_trace() -> Result<()> {
    if !is_root() {
        // A test that is left out unseen is none.
        ensure!(
            std::env::var_os(ALLOW_NO_ROOT).is_some(),
            "packages are installed into a root folder of their own, which needs root; {ALLOW_NO_ROOT}=1 leaves this test out"
        );
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let packages = pack(&folder.path().join("first"))?;
    std::fs::create_dir(folder.path().join("later"))?;
    let later = later(&packages, &folder.path().join("later"))?;

    let machine = Machine::start()?;
    machine.run("adduser --quiet --system --group --home /var/lib/swift --no-create-home swift")?;
    machine
        .run("mkdir -p /srv/node/sda && echo precious >/srv/node/sda/data && chown -R swift: /srv/node")?;
    let before = files(&machine)?;

    let [_, worker, shunt, _] = packages.as_slice() else { anyhow::bail!("{packages:?}") };
    let [later_control, later_worker, ..] = later.as_slice() else { anyhow::bail!("{later:?}") };

    others::another_daemon_keeps_its_files_and_works_alone(&machine, worker, later_worker)?;
    machine.install(&packages)?;
    everything_is_in_its_place(&machine)?;
    the_control_plane_serves(&machine)?;
    the_shunt_serves_the_filter(&machine)?;
    the_worker_says_what_is_missing(&machine)?;
    the_worker_reads_databases_that_only_swift_can_read(&machine)?;
    units_are_sound(&machine)?;
    others::a_stopped_worker_stays_stopped_until_it_is_installed_again(&machine, worker)?;
    others::administrators_are_asked_and_obeyed(&machine, later_control)?;
    an_upgrade_keeps_changes_and_restarts(&machine, &later)?;
    others::rights_that_were_changed_stay(&machine, &[worker.clone(), shunt.clone()])?;
    removal_keeps_and_purge_removes(&machine, &before)
}

/// Every path on the machine's disk.
fn files(machine: &Machine) -> Result<BTreeSet<String>> {
    // What Debian's own tools keep of every package or process, and users, which stay for a reason.
    let passing =
        ["/var/lib/dpkg", "/var/cache", "/var/log", "/var/lib/systemd", "/etc/.pwd.lock", "/srv/packages"];
    let script = format!(
        "find / -xdev {} -o -path '/etc/*-' -o -print",
        passing.map(|path| format!("-path {path} -prune")).join(" -o ")
    );
    Ok(machine.run(&script)?.lines().map(str::to_owned).collect())
}

fn everything_is_in_its_place(machine: &Machine) -> Result<()> {
    ensure!(machine.run("dpkg --audit")?.is_empty(), "dpkg is not content");
    for program in ["swift-s3-control", "swift-s3-sync", "swift-s3-shunt", "swift-s3ctl", "swift-s3-verify"] {
        let version = machine.run(&format!("{program} --version"))?;
        ensure!(version == format!("{program} {}\n", env!("CARGO_PKG_VERSION")), "{version}");
        let section = if program.ends_with("ctl") || program.ends_with("verify") { 1 } else { 8 };
        machine.run(&format!("zcat /usr/share/man/man{section}/{program}.{section}.gz | grep -q -- NAME"))?;
        machine.run(&format!("bash -n /usr/share/bash-completion/completions/{program}"))?;
        machine.run(&format!("test -s /usr/share/zsh/vendor-completions/_{program}"))?;
        machine.run(&format!("test -s /usr/share/fish/vendor_completions.d/{program}.fish"))?;
        machine.run(&format!("test $(stat -c %U:%G:%a /usr/bin/{program}) = root:root:755"))?;
    }
    machine.run("test -s /usr/share/man/man1/swift-s3ctl-config-apply.1.gz")?;
    for daemon in DAEMONS {
        let folder = machine.run(&format!("stat -c %U:%G:%a /etc/{daemon}"))?;
        ensure!(folder == format!("root:{daemon}:750\n"), "/etc/{daemon} would show its secrets: {folder}");
        let user = machine.run(&format!("getent passwd {daemon}"))?;
        ensure!(user.contains("nologin") && user.contains(&format!("/var/lib/{daemon}:")), "{user}");
        ensure!(
            machine.run(&format!("systemctl is-enabled {daemon}"))? == "enabled\n",
            "{daemon} does not start at boot"
        );
        let conffiles = machine.run(&format!("dpkg-query -W -f '${{Conffiles}}' {daemon}"))?;
        ensure!(conffiles.contains(&format!("/etc/default/{daemon} ")), "{conffiles}");
    }
    Ok(())
}

/// The user and the number of a service's process.
fn process(machine: &Machine, unit: &str) -> Result<(String, String)> {
    let pid = machine.run(&format!("systemctl show --value -p MainPID {unit}"))?.trim().to_owned();
    let user = machine.run(&format!("stat -c %U /proc/{pid}"))?.trim().to_owned();
    Ok((user, pid))
}

fn the_control_plane_serves(machine: &Machine) -> Result<()> {
    // `dpkg -i` started it, and waited until it was ready.
    ensure!(machine.run("systemctl is-active swift-s3-control")? == "active\n", "not started");
    let (user, pid) = process(machine, "swift-s3-control")?;
    ensure!(user == "swift-s3-control", "it runs as {user}");
    machine.run("swift-s3ctl status")?;
    let state = machine.run("stat -c %U:%a /var/lib/swift-s3-control")?;
    ensure!(state == "swift-s3-control:700\n", "{state}");
    machine.run(
        r#"echo '{"containers": []}' >/root/sync.json && swift-s3ctl config apply --yes /root/sync.json"#,
    )?;
    let page = machine.run(&get("http://127.0.0.1:9460/"))?;
    ensure!(page.contains("<html"), "{page}");

    machine.run("kill -9 $(systemctl show --value -p MainPID swift-s3-control)")?;
    machine.wait_for(
        "systemctl show -p NRestarts swift-s3-control; systemctl is-active swift-s3-control || true",
        "NRestarts=1\nactive",
    )?;
    ensure!(process(machine, "swift-s3-control")?.1 != pid, "the same process");
    let history = machine.run("swift-s3ctl config history")?;
    ensure!(history.contains('1'), "the configuration is gone: {history}");

    // Nobody else reads the state, and it does not see others.
    machine.refused("runuser -u swift-s3-shunt -- ls /var/lib/swift-s3-control")?;
    let own = machine
        .run("grep -E '^Cap(Eff|Bnd)' /proc/$(systemctl show --value -p MainPID swift-s3-control)/status")?;
    ensure!(own.lines().all(|line| line.ends_with("\t0000000000000000")), "capabilities: {own}");
    Ok(())
}

/// A script that prints what a service has logged since its last start.
fn log(unit: &str) -> String {
    format!("journalctl --no-pager _SYSTEMD_INVOCATION_ID=$(systemctl show --value -p InvocationID {unit})")
}

/// A script that prints all that a service has logged, also what it logged right before its end: whose start that was the journal may
/// learn too late.
fn whole_log(unit: &str) -> String {
    format!("journalctl --no-pager -u {unit}")
}

/// A script that prints what an address answers.
fn get(url: &str) -> String {
    format!("python3 -c \"import urllib.request as r; print(r.urlopen('{url}').read().decode())\"")
}

fn the_shunt_serves_the_filter(machine: &Machine) -> Result<()> {
    ensure!(machine.run("systemctl is-active swift-s3-shunt")? == "active\n", "not started");
    ensure!(process(machine, "swift-s3-shunt")?.0 == "swift-s3-shunt", "another user");
    machine.run(&get("http://127.0.0.1:9463/ready"))?;

    let connect = "python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('/run/swift-s3-sync/shunt.sock')\"";
    machine.run(&format!("runuser -u swift -- {connect}"))?;
    let refused = machine.refused(&format!("runuser -u nobody -- {connect}"))?;
    ensure!(refused.contains("PermissionError"), "{refused}");

    // As paste.deploy finds it for `use = egg:swift-s3-sync#cloud-shunt`.
    let found = machine.run(
        "runuser -u swift -- python3 -c \"from paste.deploy import loadfilter; \
         print(loadfilter('egg:swift-s3-sync#cloud-shunt', global_conf={})(lambda env, start: [])); \
         print(loadfilter('egg:swift-s3-sync#cloud-shunt-internal', global_conf={}))\"",
    )?;
    ensure!(found.contains("swift_s3_sync.cloud_shunt"), "{found}");
    let compiled =
        machine.run("find /usr/lib/python3/dist-packages/swift_s3_sync/__pycache__ -name '*.pyc'")?;
    ensure!(compiled.contains("cloud_shunt"), "not compiled: {compiled}");
    Ok(())
}

fn the_worker_says_what_is_missing(machine: &Machine) -> Result<()> {
    // No node of Swift: nothing to do, and no failure.
    let state = machine.run("systemctl show -p ConditionResult -p ActiveState -p Result swift-s3-sync")?;
    ensure!(state.contains("ConditionResult=no") && state.contains("ActiveState=inactive"), "{state}");
    let check =
        "runuser -u swift-s3-sync -- swift-s3-sync --config /etc/swift-s3-sync/sync.json --check-config";
    let said = machine.refused(check)?;
    ensure!(said.contains("swift_dir") && said.contains("/etc/swift"), "{said}");
    // A node without rings.
    machine.run("mkdir -p /etc/swift && touch /etc/swift/swift.conf")?;
    machine.refused("systemctl start swift-s3-sync")?;
    machine.wait_for(&whole_log("swift-s3-sync"), "problem(s)")?;
    // As the runbooks look for it; and it is shown without its prefix.
    let errors = machine.run(&format!("{} -p err -o cat", whole_log("swift-s3-sync")))?;
    ensure!(errors.contains("problem(s)") && !errors.contains("<3>"), "{errors}");
    let state = machine.run("systemctl show -p ExecMainStatus -p NRestarts swift-s3-sync")?;
    ensure!(state.contains("ExecMainStatus=2") && state.contains("NRestarts=0"), "{state}");
    machine.run("systemctl reset-failed swift-s3-sync")?;
    Ok(())
}

fn the_worker_reads_databases_that_only_swift_can_read(machine: &Machine) -> Result<()> {
    let ids = machine.run("getent passwd swift")?;
    let ids: Vec<&str> = ids.split(':').collect();
    let (uid, gid) = (ids.get(2).context("a user's number")?, ids.get(3).context("a group's number")?);
    let database = host(
        Command::new("/usr/bin/python3")
            .arg(package_folder()?.join("tests/packages/swift_node.py"))
            .arg(machine.root())
            .args([uid, gid, "AUTH_test", "photos", "a", "b", "c"]),
    )?;
    let database = database.trim();
    ensure!(
        machine.run(&format!("stat -c %U:%a {database}"))? == "swift:600\n",
        "Swift keeps its databases to itself no more"
    );

    // The sample starts, and has nothing to do.
    machine.run("systemctl start swift-s3-sync")?;
    machine.wait_for(&whole_log("swift-s3-sync"), "nothing to do")?;

    // The check of the handbook; there is no bus here, which it needs to wait for its end.
    machine.run(
        "systemd-run --quiet --unit=check --uid=swift-s3-sync -p AmbientCapabilities=CAP_DAC_READ_SEARCH -p ProtectSystem=strict \
         -p 'ReadWritePaths=-/var/lib/swift-s3-sync -/var/log/swift-s3-sync' \
         /usr/bin/swift-s3-sync --config /etc/swift-s3-sync/sync.json --check-config",
    )?;
    machine.wait_for(&whole_log("check"), "ok, 0 mappings")?;

    let mapping = r#"{"account": "AUTH_test", "container": "photos", "aws_endpoint": "http://127.0.0.1:9", "aws_bucket": "b",
        "aws_identity": "i", "aws_secret": {"file": "/etc/swift-s3-sync/photos.secret"}}"#;
    let config = format!(
        r#"{{"devices": "/srv/node", "status_dir": "/var/lib/swift-s3-sync", "items_chunk": 1000, "containers": [{mapping}]}}"#
    );
    let etc = machine.root().join("etc/swift-s3-sync");
    std::fs::write(etc.join("sync.json"), config)?;
    std::fs::write(etc.join("photos.secret"), "s")?;
    machine.run("systemctl restart swift-s3-sync")?;
    ensure!(process(machine, "swift-s3-sync")?.0 == "swift-s3-sync", "another user");
    let logged = machine.wait_for(&log("swift-s3-sync"), "following a container")?;
    ensure!(logged.contains("rows=3"), "{logged}");

    // The capability is what it takes.
    let dropins = "/run/systemd/system/swift-s3-sync.service.d";
    machine.run(&format!(
        "mkdir {dropins} && printf '[Service]\\nAmbientCapabilities=\\n' >{dropins}/none.conf"
    ))?;
    machine.run("systemctl daemon-reload && systemctl restart swift-s3-sync")?;
    machine
        .wait_for(&format!("{} -p warning", log("swift-s3-sync")), "could not read the container database")?;
    machine.run(&format!("rm -r {dropins} && systemctl daemon-reload && systemctl restart swift-s3-sync"))?;
    machine.wait_for(&log("swift-s3-sync"), "following a container")?;

    // And it gives no more than that.
    let inside = "nsenter --target $(systemctl show --value -p MainPID swift-s3-sync) --mount --wd=/ --";
    for (path, what) in [(database, "Swift's data"), ("/etc/swift/swift.conf", "Swift's configuration")] {
        let said = machine.refused(&format!("{inside} sh -c 'echo x >>{path}'"))?;
        ensure!(said.contains("Read-only file system"), "{what} can be written: {said}");
    }
    // Root reads an empty file in its place, the worker nothing at all.
    ensure!(machine.run(&format!("{inside} cat /etc/shadow"))?.is_empty(), "the worker can read passwords");
    let own = machine
        .run("grep -E '^Cap(Eff|Bnd)' /proc/$(systemctl show --value -p MainPID swift-s3-sync)/status")?;
    // CAP_DAC_READ_SEARCH is number 2. Source: linux/capability.h.
    ensure!(own.lines().all(|line| line.ends_with("\t0000000000000004")), "other capabilities: {own}");
    Ok(())
}

fn units_are_sound(machine: &Machine) -> Result<()> {
    for daemon in DAEMONS {
        let unit = format!("/lib/systemd/system/{daemon}.service");
        let said = machine.run(&format!("systemd-analyze verify --man=no {unit} 2>&1"))?;
        ensure!(said.is_empty(), "{said}");
        let report = machine.run(&format!(
            "systemd-analyze security --no-pager --offline=true --threshold={MOST_EXPOSURE} {unit}"
        ))?;
        println!("{}", report.lines().last().unwrap_or_default());
    }
    Ok(())
}

fn an_upgrade_keeps_changes_and_restarts(machine: &Machine, later: &[PathBuf]) -> Result<()> {
    let before = DAEMONS.map(|daemon| process(machine, daemon).map(|(_, pid)| pid));
    machine.install(later)?;
    for (daemon, before) in DAEMONS.iter().zip(before) {
        ensure!(
            machine.run(&format!("systemctl is-active {daemon}"))? == "active\n",
            "{daemon} was left stopped"
        );
        ensure!(process(machine, daemon)?.1 != before?, "{daemon} still runs the old program");
    }
    machine.run("grep -q HISTORY=7 /etc/default/swift-s3-control")?;
    machine.run("tr '\\0' '\\n' </proc/$(systemctl show --value -p MainPID swift-s3-control)/environ | grep -q HISTORY=7")?;
    machine.run("grep -q photos /etc/swift-s3-sync/sync.json")?;
    // What nobody had changed is the later version's.
    machine.run("grep -q 'Of the later version' /etc/default/swift-s3-sync")?;
    let history = machine.run("swift-s3ctl config history")?;
    ensure!(history.contains('1'), "the configuration is gone: {history}");
    ensure!(
        machine.run("stat -c %G:%a /etc/swift-s3-sync")? == "swift-s3-sync:750\n",
        "secrets are open after an upgrade"
    );
    Ok(())
}

fn removal_keeps_and_purge_removes(machine: &Machine, before: &BTreeSet<String>) -> Result<()> {
    // One alone, while the others run.
    machine.run("dpkg -P swift-s3-shunt 2>&1")?;
    machine
        .run("systemctl is-active swift-s3-control swift-s3-sync && test -e /etc/swift-s3-sync/sync.json")?;
    let all = PACKAGES.join(" ");
    machine.run(&format!("dpkg -r {all} 2>&1"))?;
    machine.run("test -e /etc/swift-s3-sync/sync.json && test -d /var/lib/swift-s3-control")?;
    machine.refused("pgrep swift-s3-")?;
    machine.run("rm /etc/swift-s3-sync/photos.secret")?;
    machine.run(&format!("dpkg -P {all} 2>&1"))?;
    ensure!(machine.run("cat /srv/node/sda/data")? == "precious\n", "Swift's data is gone");
    machine.run("find /srv/node -name '*.db' | grep -q . && test -e /etc/swift/container.ring.gz")?;
    ensure!(machine.run("id -nG swift")? == "swift\n", "Swift's user has a group of ours");
    let left: Vec<String> = files(machine)?
        .difference(before)
        .filter(|path| {
            !["/srv/node", "/etc/swift", "/root"].iter().any(|known| Path::new(path).starts_with(known))
        })
        .cloned()
        .collect();
    ensure!(left.is_empty(), "left behind: {left:#?}");
    for daemon in DAEMONS {
        for parent in ["/etc", "/var/lib", "/var/log"] {
            machine.run(&format!("test ! -e {parent}/{daemon}"))?;
        }
    }
    Ok(())
}
