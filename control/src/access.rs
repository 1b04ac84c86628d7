//! Who may do what. Reads the access file, names callers by their token or certificate, and knows which call needs which
//! role. Tokens are kept and compared as SHA-256 digests only.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The largest access or token file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Workers and shunts.
    Node,
    /// Reads.
    Viewer,
    /// Reads and changes.
    Operator,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Anybody may.
    Nothing,
    /// [`Role::Node`].
    Node,
    /// [`Role::Viewer`] or [`Role::Operator`].
    Viewer,
    /// [`Role::Operator`].
    Operator,
}

impl Role {
    /// True if this role covers the need.
    #[must_use]
    pub fn covers(self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Node => self == Self::Node,
            Need::Viewer => matches!(self, Self::Viewer | Self::Operator),
            Need::Operator => self == Self::Operator,
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Node, Self::Viewer, Self::Operator].into_iter().find(|role| role.as_str() == name)
    }

    /// Its name in the access file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl Need {
    /// The roles that cover it, in words.
    #[must_use]
    pub fn roles(self) -> &'static str {
        match self {
            Self::Nothing => "any",
            Self::Node => "node",
            Self::Viewer => "viewer or operator",
            Self::Operator => "operator",
        }
    }
}

/// What the call of this HTTP path needs. A call that is not listed needs the most.
#[must_use]
pub fn need(path: &str) -> Need {
    let Some((service, method)) = path.trim_start_matches('/').split_once('/') else {
        return Need::Operator;
    };
    match (service, method) {
        // What the contract is, is no secret.
        (
            "grpc.health.v1.Health"
            | "grpc.reflection.v1.ServerReflection"
            | "grpc.reflection.v1alpha.ServerReflection",
            _,
        ) => Need::Nothing,
        ("swift_s3_sync.v1.NodeService" | "swift_s3_sync.v1.PolicyService", _) => Need::Node,
        (
            "swift_s3_sync.v1.ConfigService",
            "GetConfig" | "ValidateConfig" | "ListRevisions" | "DiffConfig",
        )
        | (
            "swift_s3_sync.v1.StatusService",
            "GetStatus" | "ListNodes" | "ListMappings" | "ListContainers" | "ListFailures" | "WatchStatus"
            | "ExplainObject" | "GetCaller" | "CountFailures" | "DescribeMapping" | "GetHistory"
            | "ListCursors" | "ListActivity",
        )
        | ("swift_s3_sync.v1.AuditService", "CompareContainer" | "CountContainer" | "ListAccount") => {
            Need::Viewer
        }
        _ => Need::Operator,
    }
}

/// Why the access file is not taken. Never shows a token.
#[derive(Debug, thiserror::Error)]
#[error("access file {path}: {problem}")]
pub struct AccessError {
    path: PathBuf,
    problem: String,
}

/// Who called: the name in the access file, or empty when access control is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The name.
    pub name: String,
    /// Its role; `None` when access control is off, or the call needs none.
    pub role: Option<Role>,
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is not known.
    Unauthenticated(&'static str),
    /// The caller has another role.
    Denied(String),
}

/// The access file, read. Without one, everybody may do everything.
#[derive(Clone, Debug, Default)]
pub struct Access {
    entries: Option<Vec<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    role: Role,
    proof: Proof,
}

#[derive(Clone)]
enum Proof {
    Token([u8; 32]),
    CertificateName(String),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(_) => formatter.write_str("Token"),
            Self::CertificateName(name) => formatter.debug_tuple("CertificateName").field(name).finish(),
        }
    }
}

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Reads an access file and the token files it names.
    ///
    /// # Errors
    /// When a file cannot be read, is readable by others than its owner, or an entry is not right.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let failed = |problem: String| AccessError { path: path.to_owned(), problem };
        let text = read_private(path).map_err(failed)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, |file| read_private(&folder.join(file))).map_err(failed)
    }

    /// As [`Access::read`], from text.
    ///
    /// # Errors
    /// A sentence about the first entry that is not right.
    pub fn parse(text: &str, read_file: impl Fn(&Path) -> Result<String, String>) -> Result<Self, String> {
        // The parser's own message may quote the line, and with it a token.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
            format!("line {line} is not TOML; entries look like [[access]] name = \"ops\" role = \"operator\" token_file = \"ops.token\"")
        })?;
        if let Some(key) = table.keys().find(|key| *key != "access") {
            return Err(format!("unknown key {key:?}; expected only [[access]] entries"));
        }
        let entries = match table.get("access") {
            Some(toml::Value::Array(entries)) if !entries.is_empty() => entries,
            _ => return Err("no [[access]] entries; expected at least one".to_owned()),
        };
        let mut read: Vec<Entry> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let failed = |problem: String| format!("access[{index}]: {problem}");
            let table = entry.as_table().ok_or_else(|| failed("expected a table".to_owned()))?;
            let entry = read_entry(table, &read_file).map_err(failed)?;
            if read.iter().any(|other| other.proof.is_same(&entry.proof)) {
                return Err(failed(format!(
                    "{:?} has the token or certificate of an entry before it",
                    entry.name
                )));
            }
            read.push(entry);
        }
        Ok(Self { entries: Some(read) })
    }

    /// True if callers must say who they are.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.entries.is_some()
    }

    /// Entries by role, for the log.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.as_ref().map_or(0, Vec::len)
    }

    /// Decides about one call.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn decide(
        &self,
        need: Need,
        authorization: Option<&[u8]>,
        certificate_name: Option<&str>,
    ) -> Result<Caller, Refusal> {
        let (Some(entries), false) = (&self.entries, need == Need::Nothing) else {
            return Ok(Caller::default());
        };
        let found: Vec<&Entry> = match (authorization, certificate_name) {
            (Some(header), _) => {
                let token = bearer(header).ok_or(Refusal::Unauthenticated(
                    "the authorization header is not of the form `Bearer TOKEN`",
                ))?;
                let digest: [u8; 32] = Sha256::digest(token).into();
                entries.iter().filter(|entry| entry.proof.is_token(&digest)).collect()
            }
            (None, Some(name)) => entries.iter().filter(|entry| entry.proof.is_certificate(name)).collect(),
            (None, None) => {
                return Err(Refusal::Unauthenticated(
                    "send the header `authorization: Bearer TOKEN`, or connect with a client certificate",
                ));
            }
        };
        if let Some(entry) = found.iter().find(|entry| entry.role.covers(need)) {
            return Ok(Caller { name: entry.name.clone(), role: Some(entry.role) });
        }
        match found.first() {
            Some(entry) => Err(Refusal::Denied(format!(
                "{:?} has the role {}; this call needs {}",
                entry.name,
                entry.role.as_str(),
                need.roles()
            ))),
            None => Err(Refusal::Unauthenticated("this token or certificate is not in the access file")),
        }
    }
}

impl Proof {
    /// Every byte is looked at, so that the time tells nothing about how much of a digest was right.
    fn is_token(&self, digest: &[u8; 32]) -> bool {
        match self {
            Self::Token(known) => known.iter().zip(digest).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0,
            Self::CertificateName(_) => false,
        }
    }

    fn is_certificate(&self, name: &str) -> bool {
        matches!(self, Self::CertificateName(known) if known == name)
    }

    fn is_same(&self, other: &Self) -> bool {
        match other {
            Self::Token(digest) => self.is_token(digest),
            Self::CertificateName(name) => self.is_certificate(name),
        }
    }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn read_entry(
    table: &toml::Table,
    read_file: &impl Fn(&Path) -> Result<String, String>,
) -> Result<Entry, String> {
    const KEYS: [&str; 6] = ["name", "role", "token", "token_file", "token_sha256", "certificate_cn"];
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("unknown key {key:?}; expected {}", KEYS.join(", ")));
    }
    let text = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(toml::Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{key} is not a text, or an empty one; expected a text in quotes")),
    };
    let name = text("name")?.ok_or("no name; expected a name for logs and history")?;
    if name.len() > 255 || name.chars().any(char::is_control) {
        return Err("the name is too long or has control characters; expected at most 255 bytes".to_owned());
    }
    let role = text("role")?.ok_or("no role; expected node, viewer or operator")?;
    let role =
        Role::parse(role).ok_or_else(|| format!("role {role:?}; expected node, viewer or operator"))?;
    let proofs = (text("token")?, text("token_file")?, text("token_sha256")?, text("certificate_cn")?);
    let proof = match proofs {
        (Some(token), None, None, None) => token_proof(token)?,
        (None, Some(file), None, None) => token_proof(read_file(Path::new(file))?.trim())?,
        (None, None, Some(digest), None) => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(digest, &mut bytes)
                .map_err(|_| "token_sha256 is not 64 hexadecimal digits".to_owned())?;
            Proof::Token(bytes)
        }
        (None, None, None, Some(name)) => Proof::CertificateName(name.to_owned()),
        _ => return Err("expected exactly one of token, token_file, token_sha256, certificate_cn".to_owned()),
    };
    Ok(Entry { name: name.to_owned(), role, proof })
}

fn token_proof(token: &str) -> Result<Proof, String> {
    if token.len() < MIN_TOKEN_BYTES {
        return Err(format!(
            "the token is shorter than {MIN_TOKEN_BYTES} bytes; make one with `openssl rand -hex 32`"
        ));
    }
    Ok(Proof::Token(Sha256::digest(token).into()))
}

fn read_private(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("could not open {shown}: {error}"))?;
    let mode =
        file.metadata().map_err(|error| format!("could not look at {shown}: {error}"))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "{shown} may be read or written by others (mode {:04o}); run: chmod 600 {shown}",
            mode & 0o7777
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| format!("could not read {shown}: {error}"))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
