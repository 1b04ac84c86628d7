//! Starts child processes that die with this process, however it ends.
//!
//! The kernel kills a child when the *thread* that started it ends, and a test runs in a thread of its own, so all
//! children are started by one thread that lives as long as the process. `setpriv` (util-linux) asks for the
//! death signal and then becomes the program, so the process id is the program's own.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result, anyhow};

struct Request {
    command: Command,
    reply: Sender<std::io::Result<Child>>,
}

static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();

/// A command for `program` on the leash, in a process group of its own; start it with [`spawn`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
    command.process_group(0);
    command
}

/// Starts `command`. It must come from [`command`], else it outlives this process.
///
/// # Errors
/// When the program cannot be started; `setpriv` itself missing is such a case, the program missing is not: that shows
/// as exit code 127.
pub fn spawn(command: Command) -> Result<Child> {
    let described = format!("{command:?}");
    let (reply, answer) = channel();
    SPAWNER
        .get_or_init(start_spawner)
        .send(Request { command, reply })
        .map_err(|_| anyhow!("the thread that starts children is gone"))?;
    answer
        .recv()
        .context("the thread that starts children is gone")?
        .with_context(|| format!("start {described}"))
}

fn start_spawner() -> Sender<Request> {
    let (sender, receiver) = channel::<Request>();
    // The join handle is dropped on purpose: the thread ends with the process.
    thread::spawn(move || {
        for mut request in receiver {
            let child = request.command.spawn();
            // The asking thread waits for the answer; if it is gone, nobody needs the child.
            if let Err(unwanted) = request.reply.send(child)
                && let Ok(mut child) = unwanted.0
            {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    });
    sender
}
