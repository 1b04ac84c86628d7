//! The two file formats of a ring.
//!
//! Version 1 is a gzip stream of magic, version, a JSON header and the assignment rows. Version 2 is a gzip stream of
//! named sections, each with its length and checksum, and an index of them at the end. A ring file is trusted no more
//! than any other file: sizes are bounded, lengths are checked, ids are checked.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::GzDecoder;
use http::uri::Authority;
use md5::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Assignments, Device, Ring};

/// The most that a ring file may hold when unpacked. Swift's largest (2^32 partitions) cannot be loaded by anybody;
/// 2^24 partitions with 14 four-byte replicas stay below this.
const MAX_UNPACKED_BYTES: u64 = 1 << 30;
/// The most that one JSON part may hold: several hundred thousand devices.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// The most replicas that a ring may name; erasure coding uses a few dozen at the very most.
const MAX_REPLICAS: u32 = 1024;

/// Why a ring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// There is no such file.
    #[error("ring {path} does not exist")]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The file cannot be read or is no complete gzip stream.
    #[error("reading ring {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system or the unpacker said.
        source: io::Error,
    },
    /// The file can be read, but its content is wrong.
    #[error("ring {path}: expected {expected}, got {got}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: String,
        /// What was there.
        got: String,
    },
}

/// A failure inside the file, before its path is known to the message.
enum Failure {
    Read(io::Error),
    Content { expected: String, got: String },
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

fn unexpected(expected: impl Into<String>, got: impl Into<String>) -> Failure {
    Failure::Content { expected: expected.into(), got: got.into() }
}

pub(super) fn load(path: &Path) -> Result<Ring, RingError> {
    let file = File::open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            RingError::Missing { path: path.to_owned() }
        } else {
            RingError::Read { path: path.to_owned(), source }
        }
    })?;
    read(BufReader::with_capacity(1 << 16, file)).map_err(|failure| match failure {
        Failure::Read(source) => RingError::Read { path: path.to_owned(), source },
        Failure::Content { expected, got } => RingError::Content { path: path.to_owned(), expected, got },
    })
}

fn read(file: impl io::BufRead) -> Result<Ring, Failure> {
    let mut unpacked = GzDecoder::new(file).take(MAX_UNPACKED_BYTES);
    let magic = read_some(&mut unpacked, 4)?;
    if magic != b"R1NG" {
        return Err(unexpected("a ring file that starts with R1NG", describe_start(&magic)));
    }
    let version: [u8; 2] = read_exactly(&mut unpacked, "the format version")?;
    match u16::from_be_bytes(version) {
        1 => read_version_1(&mut unpacked),
        2 => read_version_2(&mut unpacked),
        other => Err(unexpected("format version 1 or 2", other.to_string())),
    }
}

/// The JSON header of version 1.
#[derive(Deserialize)]
struct Header {
    part_shift: u32,
    byteorder: Option<String>,
    replica_count: u32,
    devs: Vec<Option<DeviceEntry>>,
}

/// The metadata section of version 2.
#[derive(Deserialize)]
struct Metadata {
    part_shift: u32,
    dev_id_bytes: u8,
}

/// A device as the file has it; keys that are not needed here are passed over.
#[derive(Deserialize)]
struct DeviceEntry {
    ip: String,
    port: u32,
    device: String,
    region: Option<u32>,
    zone: u32,
}

fn read_version_1(unpacked: &mut impl Read) -> Result<Ring, Failure> {
    let length: [u8; 4] = read_exactly(unpacked, "the length of the JSON header")?;
    let text = read_json(unpacked, u64::from(u32::from_be_bytes(length)), "the JSON header")?;
    let header: Header = parse_json(&text, "the JSON header")?;
    if header.replica_count > MAX_REPLICAS {
        return Err(unexpected(format!("at most {MAX_REPLICAS} replicas"), header.replica_count.to_string()));
    }
    let partitions = partition_count(header.part_shift)?;
    let big_endian = match header.byteorder.as_deref() {
        Some("big") => true,
        Some("little") => false,
        Some(other) => return Err(unexpected("byteorder big or little", format!("{other:?}"))),
        None => cfg!(target_endian = "big"),
    };
    let mut rows = Vec::new();
    for replica in 0..header.replica_count {
        let bytes = read_some(unpacked, partitions.saturating_mul(2))?;
        check_row_length(bytes.len(), 2, partitions, replica, header.replica_count)?;
        rows.push(row_of_shorts(&bytes, big_endian));
    }
    // Reading to the end makes the unpacker compare the checksum of the whole file.
    io::copy(unpacked, &mut io::sink())?;
    build(header.devs, Assignments::Short(rows), header.part_shift)
}

fn read_version_2(unpacked: &mut io::Take<impl Read>) -> Result<Ring, Failure> {
    // Offsets of the index count from the start of the unpacked file: six bytes are read already.
    const CONSUMED: usize = 6;
    const TRAILER: usize = 16;
    let mut content = vec![0; CONSUMED];
    unpacked.read_to_end(&mut content)?;
    if unpacked.limit() == 0 {
        return Err(unexpected(format!("at most {MAX_UNPACKED_BYTES} unpacked bytes"), "more"));
    }
    let trailer = content.len().checked_sub(TRAILER).and_then(|start| content.get(start..));
    let Some(start) = trailer.and_then(number_at_start) else {
        return Err(unexpected(
            "the place of the section index at the end",
            format!("{} bytes in all", content.len()),
        ));
    };
    let index = length_prefixed(&content, start).ok_or_else(|| {
        unexpected("a section index inside the file", format!("one at byte {start} of {}", content.len()))
    })?;
    let index: std::collections::BTreeMap<String, IndexEntry> = parse_json(index, "the section index")?;
    let section = |name: &str| section(&content, &index, name);

    let metadata: Metadata = parse_json(section("swift/ring/metadata")?, "the ring metadata")?;
    let devs: Vec<Option<DeviceEntry>> = parse_json(section("swift/ring/devices")?, "the ring devices")?;
    let partitions = partition_count(metadata.part_shift)?;
    let table = section("swift/ring/assignments")?;
    let assignments = match metadata.dev_id_bytes {
        2 => Assignments::Short(
            rows_of(table, 2, partitions)?.iter().map(|row| row_of_shorts(row, true)).collect(),
        ),
        4 => Assignments::Long(rows_of(table, 4, partitions)?.iter().map(|row| row_of_longs(row)).collect()),
        other => return Err(unexpected("dev_id_bytes 2 or 4", other.to_string())),
    };
    build(devs, assignments, metadata.part_shift)
}

/// Packed start, start, packed end, end, name of the checksum, checksum. Only the unpacked offsets are used, so a file
/// that was packed anew can still be read.
#[derive(Deserialize)]
struct IndexEntry(IgnoredAny, u64, IgnoredAny, u64, String, String);

fn section<'c>(
    content: &'c [u8],
    index: &std::collections::BTreeMap<String, IndexEntry>,
    name: &str,
) -> Result<&'c [u8], Failure> {
    let Some(IndexEntry(_, start, _, end, method, checksum)) = index.get(name) else {
        return Err(unexpected(format!("a section {name}"), "none"));
    };
    let range = usize::try_from(*start).ok().zip(usize::try_from(*end).ok());
    let whole = range.and_then(|(start, end)| content.get(start..end)).ok_or_else(|| {
        unexpected(
            format!("section {name} inside the file"),
            format!("bytes {start} to {end} of {}", content.len()),
        )
    })?;
    let found = match method.as_str() {
        "md5" => hex::encode(md5::Md5::digest(whole)),
        "sha1" => hex::encode(sha1::Sha1::digest(whole)),
        "sha256" => hex::encode(sha2::Sha256::digest(whole)),
        "sha512" => hex::encode(sha2::Sha512::digest(whole)),
        other => return Err(unexpected("checksum md5, sha1, sha256 or sha512", format!("{other:?}"))),
    };
    if !found.eq_ignore_ascii_case(checksum) {
        return Err(unexpected(format!("{method} {checksum} of section {name}"), found));
    }
    match length_prefixed(whole, 0) {
        Some(blob) if blob.len().checked_add(8) == Some(whole.len()) => Ok(blob),
        _ => Err(unexpected(
            format!("section {name} of the length that it states"),
            format!("{} bytes", whole.len()),
        )),
    }
}

/// The bytes behind the eight-byte length at `start`.
fn length_prefixed(content: &[u8], start: u64) -> Option<&[u8]> {
    let rest = content.get(usize::try_from(start).ok()?..)?;
    let length = usize::try_from(number_at_start(rest)?).ok()?;
    rest.get(8..)?.get(..length)
}

fn number_at_start(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from_be_bytes(*number))
}

fn rows_of(table: &[u8], width: usize, partitions: u64) -> Result<Vec<&[u8]>, Failure> {
    let row_bytes = usize::try_from(partitions).ok().and_then(|count| count.checked_mul(width));
    let Some(row_bytes) = row_bytes.filter(|bytes| *bytes > 0) else {
        return Err(unexpected("rows that fit into memory", format!("{partitions} partitions")));
    };
    let count = u32::try_from(table.len().div_ceil(row_bytes)).unwrap_or(u32::MAX);
    if count > MAX_REPLICAS {
        return Err(unexpected(format!("at most {MAX_REPLICAS} replicas"), count.to_string()));
    }
    let rows: Vec<&[u8]> = table.chunks(row_bytes).collect();
    for (replica, row) in (0u32..).zip(&rows) {
        check_row_length(row.len(), width, partitions, replica, count)?;
    }
    Ok(rows)
}

/// Only the last row may be short, and none may be empty or end inside an id.
fn check_row_length(
    bytes: usize,
    width: usize,
    partitions: u64,
    replica: u32,
    replicas: u32,
) -> Result<(), Failure> {
    let entries = bytes / width;
    let is_last = replica.saturating_add(1) == replicas;
    let is_full = u64::try_from(entries).unwrap_or(u64::MAX) == partitions;
    if bytes.is_multiple_of(width) && (is_full || (is_last && entries > 0)) {
        return Ok(());
    }
    Err(unexpected(
        format!("{partitions} ids of {width} bytes for replica {replica} of {replicas}"),
        format!("{bytes} bytes"),
    ))
}

fn build(devs: Vec<Option<DeviceEntry>>, assignments: Assignments, part_shift: u32) -> Result<Ring, Failure> {
    let mut devices = Vec::with_capacity(devs.len());
    for (id, entry) in (0u32..).zip(devs) {
        devices.push(entry.map(|entry| device(id, entry)).transpose()?);
    }
    // The highest id says "not assigned": a ring saved before its first rebalance, which Swift could not use either.
    let out_of_range = match &assignments {
        Assignments::Short(rows) => {
            rows.iter().flatten().copied().filter(|id| *id != u16::MAX).max().map(u32::from)
        }
        Assignments::Long(rows) => rows.iter().flatten().copied().filter(|id| *id != u32::MAX).max(),
    }
    .filter(|id| usize::try_from(*id).map_or(true, |id| id >= devices.len()));
    if let Some(id) = out_of_range {
        return Err(unexpected(format!("device ids below {}", devices.len()), id.to_string()));
    }
    let is_empty = match &assignments {
        Assignments::Short(rows) => rows.is_empty(),
        Assignments::Long(rows) => rows.is_empty(),
    };
    if is_empty {
        return Err(unexpected("at least one replica", "none"));
    }
    Ok(Ring::new(devices, assignments, part_shift))
}

fn device(id: u32, entry: DeviceEntry) -> Result<Arc<Device>, Failure> {
    let port = u16::try_from(entry.port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| unexpected(format!("a port of device {id}"), entry.port.to_string()))?;
    let is_ipv6 = entry.ip.parse::<std::net::Ipv6Addr>().is_ok();
    let authority = if is_ipv6 { format!("[{}]:{port}", entry.ip) } else { format!("{}:{port}", entry.ip) };
    // `user@host` is a legal authority, yet no address of a device.
    let authority = Authority::from_maybe_shared(authority)
        .ok()
        .filter(|authority| !entry.ip.is_empty() && !authority.as_str().contains('@'))
        .ok_or_else(|| unexpected(format!("an address of device {id}"), format!("{:?}", entry.ip)))?;
    Ok(Arc::new(Device {
        id,
        ip: entry.ip,
        port,
        device: entry.device,
        region: entry.region.unwrap_or(1),
        zone: entry.zone,
        authority,
    }))
}

fn partition_count(part_shift: u32) -> Result<u64, Failure> {
    if part_shift <= 32 {
        return Ok(1u64 << (32 - part_shift));
    }
    Err(unexpected("part_shift 0 to 32", part_shift.to_string()))
}

fn row_of_shorts(bytes: &[u8], big_endian: bool) -> Vec<u16> {
    let read = if big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
    bytes.as_chunks().0.iter().map(|pair| read(*pair)).collect()
}

fn row_of_longs(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|four| u32::from_be_bytes(*four)).collect()
}

fn read_exactly<const N: usize>(source: &mut impl Read, what: &str) -> Result<[u8; N], Failure> {
    let bytes = read_some(source, N as u64)?;
    <[u8; N]>::try_from(bytes.as_slice())
        .map_err(|_| unexpected(format!("{what} ({N} bytes)"), format!("{} bytes", bytes.len())))
}

/// Reads up to `wanted` bytes; fewer only at the end of the file. Memory grows with what is there, not with `wanted`.
fn read_some(source: &mut impl Read, wanted: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    source.take(wanted).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_json(source: &mut impl Read, length: u64, what: &str) -> Result<Vec<u8>, Failure> {
    if length > MAX_JSON_BYTES {
        return Err(unexpected(format!("at most {MAX_JSON_BYTES} bytes of {what}"), length.to_string()));
    }
    let text = read_some(source, length)?;
    if u64::try_from(text.len()).ok() != Some(length) {
        return Err(unexpected(format!("{length} bytes of {what}"), format!("{} bytes", text.len())));
    }
    Ok(text)
}

fn parse_json<'t, T: Deserialize<'t>>(text: &'t [u8], what: &str) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| unexpected(format!("{what} as JSON"), error.to_string()))
}

fn describe_start(bytes: &[u8]) -> String {
    if bytes.is_empty() { "nothing".to_owned() } else { format!("{:?}", String::from_utf8_lossy(bytes)) }
}
