//! Clients that ask for one path again and again, each on a connection of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// See the module.
#[derive(Clone, Debug)]
pub struct Load {
    address: String,
    paths: Vec<String>,
    connections: usize,
    headers: Vec<(String, String)>,
}

/// What clients saw.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Answers in a second.
    pub per_second: f64,
    /// Content in a second.
    pub bytes_per_second: f64,
    /// Half of the answers were there in whole after this time.
    pub p50: Duration,
    /// All but one in a hundred.
    pub p99: Duration,
}

impl Measured {
    /// The middle one by rate.
    pub fn median(all: &[Self]) -> Self {
        let mut sorted = all.to_vec();
        sorted.sort_by(|left, right| left.bytes_per_second.total_cmp(&right.bytes_per_second));
        sorted.get(sorted.len() / 2).copied().unwrap_or(Self {
            per_second: 0.0,
            bytes_per_second: 0.0,
            p50: Duration::ZERO,
            p99: Duration::ZERO,
        })
    }
}

impl Load {
    /// One path.
    pub fn new(address: &str, path: &str, connections: usize) -> Self {
        Self::of(address, vec![path.to_owned()], connections)
    }

    /// Several, by turns.
    pub fn of(address: &str, paths: Vec<String>, connections: usize) -> Self {
        let address = address.trim_start_matches("http://").to_owned();
        Self { address, paths, connections, headers: Vec::new() }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks for this long.
    pub async fn run(&self, time: Duration) -> Result<Measured> {
        let clients: Vec<SendRequest<Empty<Bytes>>> =
            try_join_all((0..self.connections).map(|_| self.connect())).await?;
        let begun = Instant::now();
        let end = begun + time;
        let clients = clients
            .into_iter()
            .enumerate()
            .map(|(number, client)| tokio::spawn(self.clone().ask(client, number, end)));
        let mut times = Vec::new();
        let mut bytes = 0;
        for client in try_join_all(clients).await? {
            let (own, count) = client?;
            times.extend(own);
            bytes += count;
        }
        let elapsed = begun.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
        ensure!(!times.is_empty(), "nothing was answered");
        Ok(Measured {
            per_second: times.len() as f64 / elapsed,
            bytes_per_second: bytes as f64 / elapsed,
            p50: at(50),
            p99: at(99),
        })
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>> {
        let stream = TcpStream::connect(&self.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let (client, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn ask(
        self,
        mut client: SendRequest<Empty<Bytes>>,
        number: usize,
        end: Instant,
    ) -> Result<(Vec<Duration>, u64)> {
        let mut times = Vec::new();
        let mut bytes = 0;
        let mut turn = number;
        while Instant::now() < end {
            let path = self.paths.get(turn % self.paths.len()).context("a path")?;
            turn += self.connections;
            let mut request = Request::get(path.as_str()).header(header::HOST, self.address.as_str());
            for (name, value) in &self.headers {
                request = request.header(name.as_str(), value.as_str());
            }
            let begun = Instant::now();
            client.ready().await?;
            let mut answer = client.send_request(request.body(Empty::new())?).await?;
            ensure!(answer.status().is_success(), "{path}: {}", answer.status());
            while let Some(frame) = answer.frame().await {
                bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
            }
            times.push(begun.elapsed());
        }
        Ok((times, bytes))
    }
}
