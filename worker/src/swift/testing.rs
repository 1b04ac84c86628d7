//! What the tests of several modules need: Debian's Swift as the reference, and small object servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::ring::Device;
use super::topology::SwiftTopology;

/// The interpreter that has Debian's `swift` package.
const PYTHON: &str = "/usr/bin/python3";

/// Runs one function of `testdata/reference.py` and returns what it prints.
pub(crate) fn reference(function: &str, arguments: &[&str]) -> serde_json::Value {
    answer(function, reference_command(function, arguments))
}

fn answer(function: &str, mut command: Command) -> serde_json::Value {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{PYTHON} cannot be run ({error}); install python3 and python3-swift")
    });
    assert!(
        output.status.success(),
        "reference {function} failed (is Debian's python3-swift installed?): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the reference prints JSON")
}

/// Runs one function of `testdata/replicas.py` and returns what it prints.
pub(crate) fn replicas(function: &str, arguments: &[&str]) -> serde_json::Value {
    answer(function, replicas_command(function, arguments))
}

/// The command of [`replicas`], for a process that goes on beside the test.
pub(crate) fn replicas_command(function: &str, arguments: &[&str]) -> Command {
    python("replicas.py", function, arguments)
}

/// The command of [`reference`], for a process that goes on beside the test.
pub(crate) fn reference_command(function: &str, arguments: &[&str]) -> Command {
    python("reference.py", function, arguments)
}

fn python(script: &str, function: &str, arguments: &[&str]) -> Command {
    let script = Path::new("src/swift/testdata").join(script);
    let mut command = Command::new(PYTHON);
    command.arg(script).arg(function).args(arguments).stdin(Stdio::null());
    command
}

/// A device at an address.
pub(crate) fn device(id: u32, ip: &str, port: u16) -> Device {
    Device {
        id,
        ip: ip.to_owned(),
        port,
        device: format!("sd{id}"),
        region: 1,
        zone: 1,
        authority: format!("{ip}:{port}").parse().unwrap(),
    }
}

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which connection of the server it came on, counted from 0.
    pub(crate) connection: usize,
    /// `GET /path HTTP/1.1` and the headers, one on each line.
    pub(crate) head: String,
}

impl Seen {
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    /// Path and query, byte for byte.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What a fake server does with a request.
pub(crate) enum Reply {
    /// Sends these bytes and waits for the next request.
    Keep(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Close(Vec<u8>),
    /// Sends these bytes and then nothing more.
    Hang(Vec<u8>),
}

impl Reply {
    /// A complete answer; a `Content-Length` is added unless one is given.
    pub(crate) fn new(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        Self::Keep(wire(status, headers, body))
    }
}

/// The bytes of an answer.
pub(crate) fn wire(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A server that answers as a function says, and remembers what it was asked. It ends with its runtime.
#[derive(Clone, Debug)]
pub(crate) struct FakeServer {
    pub(crate) address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FakeServer {
    /// Listens on a free port of `ip`.
    pub(crate) async fn start(ip: &str, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&server.seen);
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move { serve(stream, connection, &seen, &*answer).await });
            }
        });
        server
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn authority(&self) -> http::uri::Authority {
        self.address.to_string().parse().unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&Seen) -> Reply + Send + Sync),
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        };
        let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
        let request = Seen { connection, head };
        seen.lock().unwrap().push(request.clone());
        match answer(&request) {
            Reply::Keep(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Close(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Hang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read_buf(&mut buffer).await;
                return;
            }
        }
    }
}

/// A `swift_dir` whose rings name the given addresses, each a device of its own, for the only partition there is.
pub(crate) struct FakeCluster {
    pub(crate) folder: tempfile::TempDir,
}

impl FakeCluster {
    pub(crate) fn new(addresses: &[std::net::SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("swift.conf"),
            "[swift-hash]\nswift_hash_path_suffix = changeme\n[storage-policy:0]\nname = gold\ndefault = yes\n\
             [storage-policy:1]\nname = ec\npolicy_type = erasure_coding\n",
        )
        .unwrap();
        for ring in ["account", "container", "object", "object-1"] {
            write_ring(&folder.path().join(format!("{ring}.ring.gz")), addresses);
        }
        Self { folder }
    }

    /// The topology as the machine with the address 127.0.0.1 sees it.
    pub(crate) fn topology(&self) -> SwiftTopology {
        SwiftTopology::new(self.folder.path(), &["127.0.0.1".parse().unwrap()]).unwrap()
    }
}

/// Writes a ring of one partition with one replica on each address.
pub(crate) fn write_ring(path: &Path, addresses: &[std::net::SocketAddr]) {
    let devices: Vec<serde_json::Value> = addresses
        .iter()
        .enumerate()
        .map(|(id, address)| {
            serde_json::json!({"id": id, "ip": address.ip().to_string(), "port": address.port(),
                               "device": format!("sd{id}"), "region": 1, "zone": id})
        })
        .collect();
    let header = serde_json::json!({"devs": devices, "part_shift": 32, "replica_count": addresses.len(),
                                    "byteorder": "little"});
    let header = serde_json::to_vec(&header).unwrap();
    let mut content = b"R1NG\x00\x01".to_vec();
    content.extend(u32::try_from(header.len()).unwrap().to_be_bytes());
    content.extend(header);
    for id in 0..u16::try_from(addresses.len()).unwrap() {
        content.extend(id.to_le_bytes());
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&content).unwrap();
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, packer.finish().unwrap()).unwrap();
    std::fs::rename(fresh, path).unwrap();
}
