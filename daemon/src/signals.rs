//! Unix signals as a stream of requests to the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator or the init system asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: finish or abandon safely what is in flight, save, and end.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals this process reacts to. Create it before any work starts: until then they have their default effect.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT only; SIGHUPs stay for [`Signals::next`].
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn stop_requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the next request.
    ///
    /// # Cancel safety
    /// Cancel-safe: a signal that arrives meanwhile is delivered by the next call.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}
