//! A place on the way to etcd where bytes can be held back, in one direction or both.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// Requests wait here.
    pub(crate) holds_requests: bool,
    /// Answers wait here.
    pub(crate) holds_answers: bool,
    /// Everything comes so much later.
    pub(crate) delay: Duration,
}

pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Gate {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, watching) = watch::channel(Way::default());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let watching = watching.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::join!(
                        carry(from_client, to_server, watching.clone(), |way| way.holds_requests),
                        carry(from_server, to_client, watching, |way| way.holds_answers),
                    );
                });
            }
        });
        Self { address, way }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

/// Whatever was read goes on, even if the reader has left: so do packets.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    holds: fn(&Way) -> bool,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let delay = way.borrow().delay;
        tokio::time::sleep(delay).await;
        if way.wait_for(|way| !holds(way)).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
