//! Where the filter comes in.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A unix socket, or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterAddress {
    /// `unix:///path`
    Unix(PathBuf),
    /// `host:port`, on a loopback address.
    Tcp(SocketAddr),
}

/// A text that is no such address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Neither form.
    #[error("expected unix:///PATH or 127.0.0.1:PORT, got {0:?}")]
    Form(String),
    /// Others could read along and ask.
    #[error("{0} is no loopback address; the filter speaks without encryption")]
    NotLoopback(SocketAddr),
}

impl FromStr for FilterAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Form(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            let is_file = path.starts_with('/') && !path.ends_with('/');
            return if is_file { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let address: SocketAddr = address.parse().map_err(|_| wrong())?;
        if !address.ip().is_loopback() {
            return Err(AddressError::NotLoopback(address));
        }
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for FilterAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(address) => write!(formatter, "{address}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sockets_or_loopback_ports() {
        assert_eq!("unix:///run/s".parse(), Ok(FilterAddress::Unix("/run/s".into())));
        for text in ["127.0.0.1:81", "http://127.0.0.1:81", "http://127.0.0.1:81/"] {
            assert_eq!(text.parse::<FilterAddress>().unwrap().to_string(), "127.0.0.1:81");
        }
        assert!("[::1]:80".parse::<FilterAddress>().is_ok());
        for text in
            ["", "unix://", "unix://run/s", "unix:///", "unix:/run/s", "localhost:80", "127.0.0.1", ":80"]
        {
            assert_eq!(text.parse::<FilterAddress>(), Err(AddressError::Form(text.into())), "{text}");
        }
        assert!(matches!("10.0.0.1:80".parse::<FilterAddress>(), Err(AddressError::NotLoopback(_))));
    }
}
