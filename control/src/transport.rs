//! Connections: accepted, decrypted, named. TLS settings can be exchanged while the server runs.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// A peer that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What every HTTP/2 connection begins with has so many bytes. Keepalive watches a connection only from then on.
const PREFACE_BYTES: usize = 24;
/// Handshakes at a time; further connections wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 256;
/// The pause after the kernel refuses a connection, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What a TLS client may speak after the handshake: gRPC.
pub const CLIENTS: &[&[u8]] = &[b"h2"];
/// The same for browsers.
pub const BROWSERS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Which certificates to use.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who signs clients' certificates, PEM. `None`: clients need none.
    pub client_ca: Option<PathBuf>,
    /// Clients without a certificate are turned away at once.
    pub requires_certificate: bool,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {path}: {problem}")]
pub struct TlsError {
    path: PathBuf,
    problem: String,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or does not fit.
    pub fn load(&self) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let failed = |path: &Path, problem: String| TlsError { path: path.to_owned(), problem };
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| failed(&self.key, format!("no private key in PEM: {error}")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&self.certificate, error.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| failed(path, error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier =
                    if self.requires_certificate { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|error| failed(path, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder
            .with_single_cert(chain, key)
            .map_err(|error| failed(&self.certificate, format!("does not go with the key: {error}")))?;
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |problem: String| TlsError { path: path.to_owned(), problem };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(format!("no certificates in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(failed("no certificate in it; expected PEM".to_owned()));
    }
    Ok(chain)
}

/// Who is at the other end.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// The common name of its certificate, which was verified.
    pub certificate_name: Option<Arc<str>>,
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    peer: Peer,
    /// Until the peer has begun to speak.
    silence: Option<Silence>,
}

/// What is still missing of the first bytes, and when they must be there.
#[derive(Debug)]
struct Silence {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Silence {
    fn begin() -> Option<Self> {
        Some(Self { missing: PREFACE_BYTES, deadline: Box::pin(tokio::time::sleep(HANDSHAKE_TIMEOUT)) })
    }
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// True if nobody else can read it.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self.io, Io::Tls(_))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts connections until the returned stream is dropped. `tls` is looked at for each; none: plaintext. `protocols` are what
/// may be spoken over TLS.
#[must_use]
pub fn accept(
    listener: TcpListener,
    tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    protocols: &'static [&'static [u8]],
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(64);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let tls = tls.load_full().map(|config| {
                let mut config = rustls::ServerConfig::clone(&config);
                config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
                Arc::new(config)
            });
            let ready = ready.clone();
            tokio::spawn(async move {
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, open(stream, address, tls)).await {
                    Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                    Ok(Err(error)) => tracing::debug!(%address, %error, "a connection was not made"),
                    Err(_) => {
                        tracing::debug!(%address, "a connection was not made: the handshake took too long")
                    }
                }
                drop(permit);
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn open(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let Some(config) = tls else {
        return Ok(Connection {
            io: Io::Plain(stream),
            peer: Peer { address: Some(address), certificate_name: None },
            silence: Silence::begin(),
        });
    };
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate_name = certificate.and_then(|certificate| common_name(certificate)).map(Arc::from);
    Ok(Connection {
        io: Io::Tls(Box::new(stream)),
        peer: Peer { address: Some(address), certificate_name },
        silence: Silence::begin(),
    })
}

/// The subject's only common name. With several it would be unclear which one counts.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if let Some(silence) = &mut self.silence {
            silence.missing = silence.missing.saturating_sub(buffer.filled().len().saturating_sub(before));
            if silence.missing == 0 {
                self.silence = None;
            } else if read.is_pending() && silence.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn connected() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (stream, address) = accepted.unwrap();
        (client.unwrap(), open(stream, address, None).await.unwrap())
    }

    #[tokio::test]
    async fn a_peer_that_never_begins_to_speak_is_dropped() {
        let (mut client, mut connection) = connected().await;
        client.write_all(b"PRI").await.unwrap();
        let silence = connection.silence.as_mut().unwrap();
        silence.deadline.as_mut().reset(tokio::time::Instant::now());
        let mut bytes = Vec::new();
        assert_eq!(connection.read_to_end(&mut bytes).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_has_begun_may_be_silent() {
        let (mut client, mut connection) = connected().await;
        client.write_all(&[7; PREFACE_BYTES]).await.unwrap();
        connection.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        assert!(connection.silence.is_none(), "keepalive watches from here on");
    }
}
