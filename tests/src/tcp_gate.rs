//! A door in the way of connections of any protocol, for what the fault proxy does not speak: gRPC, TLS, etcd's own.
//!
//! Bytes go through as they come, or not at all. It runs in a thread of its own: a test that blocks does not stop it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::fault_proxy::Network;
use crate::ports::{Neighbourhood, free_port};

/// Between two tries to listen again at the same address.
const REBIND_PAUSE: Duration = Duration::from_millis(5);

/// A running gate; it ends when dropped, and cuts what goes through it.
#[derive(Debug)]
pub struct TcpGate {
    address: SocketAddr,
    network: watch::Sender<Network>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TcpGate {
    /// Opens a gate to `target` at an address of its own.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let ip = IpAddr::V4(Neighbourhood::random().address(1));
        let address = SocketAddr::new(ip, free_port(ip)?);
        let (network, modes) = watch::channel(Network::Up);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(address, target, modes, ready) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.await.with_context(|| format!("the gate did not open at {address}"))?;
        Ok(Self { address, network, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens at the gate. [`Network::Stall`] keeps connections and holds their bytes back until it is over, as a
    /// partition does; [`Network::Refuse`] and [`Network::Reset`] cut them.
    pub fn set_network(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.set_network(Network::Up);
    }
}

impl Drop for TcpGate {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(
    address: SocketAddr,
    target: SocketAddr,
    mut modes: watch::Receiver<Network>,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    loop {
        if modes.wait_for(|mode| *mode != Network::Refuse).await.is_err() {
            return;
        }
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(_) if ready.is_some() => return,
            Err(_) => {
                tokio::time::sleep(REBIND_PAUSE).await;
                continue;
            }
        };
        if let Some(ready) = ready.take() {
            let _ = ready.send(());
        }
        let mut closing = modes.clone();
        let refused = closing.wait_for(|mode| *mode == Network::Refuse);
        tokio::pin!(refused);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(connection(stream, target, modes.clone()));
                    }
                }
                _ = &mut refused => break,
            }
        }
    }
}

async fn connection(stream: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Network>) {
    if *modes.borrow_and_update() == Network::Reset {
        let _ = stream.set_zero_linger();
        return;
    }
    let relayed = relay(stream, target, modes.clone());
    let cut = async {
        let _ = modes.wait_for(|mode| matches!(mode, Network::Refuse | Network::Reset)).await;
    };
    tokio::select! {
        // Both ends see how the connection ended; nobody here needs to.
        _ = relayed => {}
        () = cut => {}
    }
}

async fn relay(stream: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Network>) -> io::Result<()> {
    pass(&mut modes).await?;
    let upstream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = stream.into_split();
    let (from_server, to_server) = upstream.into_split();
    tokio::try_join!(pump(from_client, to_server, modes.clone()), pump(from_server, to_client, modes))?;
    Ok(())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        // The end of a connection does not get through either.
        pass(&mut modes).await?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(piece).await?;
    }
}

/// Waits while the network stalls.
async fn pass(modes: &mut watch::Receiver<Network>) -> io::Result<()> {
    modes.wait_for(|mode| *mode != Network::Stall).await.map(|_| ()).map_err(io::Error::other)
}
