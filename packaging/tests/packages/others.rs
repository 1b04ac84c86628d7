//! What was there before the packages, and what administrators have changed, stays theirs.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::machine::Machine;

/// What a Python daemon of Swift's user has, at the paths that the package uses too.
const THEIRS: [(&str, &str); 5] = [
    ("/etc/swift-s3-sync/sync.json", r#"{"containers": [], "status_dir": "/var/lib/swift-s3-sync"}"#),
    ("/var/lib/swift-s3-sync/AUTH_test/photos", r#"{"0a1b": {"last_row": 7}}"#),
    (
        "/var/lib/swift-s3-sync/AUTH_test/both",
        r#"{"0a1b":{"last_row":7},"swift_s3_sync":{"version":1,"mappings":{}}}"#,
    ),
    ("/var/lib/swift-s3-sync/migrator.status", "{}"),
    ("/var/log/swift-s3-sync/sync.log", "theirs\n"),
];
/// A status file that only this program has written.
const OURS: &str = "/var/lib/swift-s3-sync/AUTH_test/ours";
const FOLDERS: &str = "/etc/swift-s3-sync /var/lib/swift-s3-sync /var/log/swift-s3-sync";

/// Expects the worker's package not to be installed, and leaves it so.
pub(crate) fn another_daemon_keeps_its_files_and_works_alone(
    machine: &Machine,
    worker: &PathBuf,
    later: &PathBuf,
) -> Result<()> {
    for (path, content) in
        THEIRS.into_iter().chain([(OURS, r#"{"swift_s3_sync":{"version":1,"mappings":{}}}"#)])
    {
        machine.run(&format!("mkdir -p $(dirname {path})"))?;
        std::fs::write(machine.root().join(path.trim_start_matches('/')), content)?;
    }
    machine.run(&format!("chown -R swift: {FOLDERS} && chmod 0700 {FOLDERS}"))?;
    let owners = format!("find {FOLDERS} ! -path {OURS} -printf '%p %u:%g %m\\n' | sort");
    let before = machine.run(&owners)?;
    ensure!(before.contains("/etc/swift-s3-sync swift:swift 700"), "{before}");

    for package in [worker, later] {
        let said = machine.install(std::slice::from_ref(package))?;
        let state = machine.run("systemctl show --value -p ActiveState -p UnitFileState swift-s3-sync")?;
        ensure!(state == "inactive\ndisabled\n", "a second daemon is started: {state}\n{said}");
        let now = machine.run(&owners)?;
        ensure!(now == before, "before:\n{before}\nnow:\n{now}");
    }
    machine.run("dpkg -P swift-s3-sync 2>&1")?;
    ensure!(machine.run(&owners)? == before, "a purge took what was there before");
    for (path, content) in THEIRS {
        let now = std::fs::read_to_string(machine.root().join(path.trim_start_matches('/')))?;
        ensure!(now == content, "{path} has become {now}");
    }
    machine.refused(&format!("test -e {OURS}"))?;
    machine.run(&format!("rm -r {FOLDERS}"))?;
    Ok(())
}

/// Expects all packages in their first version, and leaves the control plane's in the later one.
pub(crate) fn administrators_are_asked_and_obeyed(machine: &Machine, later: &PathBuf) -> Result<()> {
    // Changed by both: nothing is decided for the administrator. There is nobody to ask here.
    machine.run("echo SWIFT_S3_CONTROL_HISTORY=7 >>/etc/default/swift-s3-control")?;
    let asked = machine.install(std::slice::from_ref(later)).err().map(|error| format!("{error:#}"));
    ensure!(asked.as_ref().is_some_and(|said| said.contains("conffile prompt")), "not asked: {asked:?}");
    machine.run("grep -q HISTORY=7 /etc/default/swift-s3-control")?;
    ensure!(
        machine.run("systemctl is-active swift-s3-control")? == "active\n",
        "down until somebody answers"
    );
    machine.run("dpkg --configure --pending --force-confold 2>&1")?;
    machine.run("grep -q HISTORY=7 /etc/default/swift-s3-control && test -z \"$(dpkg --audit)\"")?;

    // Removed with its files kept, and back again: it runs.
    machine.run("dpkg -r swift-s3-control 2>&1")?;
    machine.install(std::slice::from_ref(later))?;
    ensure!(machine.run("systemctl is-active swift-s3-control")? == "active\n", "not started again");
    ensure!(machine.run("swift-s3ctl config history")?.contains('1'), "the configuration is gone");
    Ok(())
}

/// Expects the worker's package and a worker that runs.
pub(crate) fn a_stopped_worker_stays_stopped_until_it_is_installed_again(
    machine: &Machine,
    worker: &PathBuf,
) -> Result<()> {
    machine.run("systemctl stop swift-s3-sync")?;
    machine.install(std::slice::from_ref(worker))?;
    let state = machine.run("systemctl show --value -p ActiveState swift-s3-sync")?;
    ensure!(state == "inactive\n", "an upgrade starts what was stopped on purpose");
    machine.run("dpkg -r swift-s3-sync 2>&1")?;
    machine.install(std::slice::from_ref(worker))?;
    ensure!(machine.run("systemctl is-active swift-s3-sync")? == "active\n", "not started again");
    // The others do not care.
    ensure!(machine.run("systemctl is-active swift-s3-control")? == "active\n", "control has stopped");
    Ok(())
}

/// A folder and a group that somebody has given other rights.
pub(crate) fn rights_that_were_changed_stay(machine: &Machine, worker_and_shunt: &[PathBuf]) -> Result<()> {
    machine.run("chmod 0700 /etc/swift-s3-sync && deluser --quiet swift swift-s3-shunt")?;
    machine.install(worker_and_shunt)?;
    ensure!(machine.run("stat -c %a /etc/swift-s3-sync")? == "700\n", "the folder is open again");
    ensure!(machine.run("id -nG swift")? == "swift\n", "Swift's user is in the group again");
    Ok(())
}
