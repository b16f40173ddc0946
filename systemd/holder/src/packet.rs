//! Packets between the holder and a daemon that asks for its set: see the page of this directory.

use std::fmt::Write;

use thiserror::Error;

use crate::message::{NAME_BYTES_MAX, is_name};

/// What a daemon sends.
pub(crate) const CLAIM: &str = "CLAIM=1";

/// Fds of one packet. Ours: far below the kernel's 253, so that a packet stays small.
pub(crate) const PACKET_FDS_MAX: usize = 64;

/// Bytes of a packet: a key and the names of its fds.
pub(crate) const PACKET_BYTES_MAX: usize = 256 + PACKET_FDS_MAX * (NAME_BYTES_MAX + 1);

/// Answer of the holder, piece by piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// The names of the fds that come along.
    Fds(Vec<&'a str>),
    /// The end. The set takes so many fds.
    Done { fds_max: usize },
    /// There is no set, for this reason.
    Refused(&'a str),
}

/// Reason why a packet cannot be understood.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the holder sent what is no answer")]
pub(crate) struct Nonsense;

impl<'a> Packet<'a> {
    /// Parses a packet. Unknown lines are ignored.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Nonsense> {
        let text = str::from_utf8(bytes).map_err(|_| Nonsense)?;
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        if let Some(reason) = value("ERROR") {
            return Ok(Self::Refused(reason));
        }
        if let Some(names) = value("FDNAMES") {
            let names: Vec<_> = names.split(':').collect();
            return if names.iter().all(|name| is_name(name)) {
                Ok(Self::Fds(names))
            } else {
                Err(Nonsense)
            };
        }
        let fds_max = value("FDSTORE").and_then(|number| number.parse().ok()).ok_or(Nonsense)?;
        if value("DONE") == Some("1") { Ok(Self::Done { fds_max }) } else { Err(Nonsense) }
    }

    /// Formats a packet.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Fds(names) => {
                let mut text = String::from("FDNAMES=");
                for (index, name) in names.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ":" };
                    // Writing to a string does not fail.
                    write!(text, "{separator}{name}").ok();
                }
                text
            }
            Self::Done { fds_max } => format!("DONE=1\nFDSTORE={fds_max}"),
            Self::Refused(reason) => format!("ERROR={}", reason.replace('\n', " ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_formatted_is_read_again() {
        for packet in [
            Packet::Fds(vec!["virtlogd.socket", "l1"]),
            Packet::Done { fds_max: 7 },
            Packet::Refused("busy"),
        ] {
            assert_eq!(Packet::parse(packet.text().as_bytes()), Ok(packet));
        }
        assert_eq!(Packet::parse(b"NEW=1\nDONE=1\nFDSTORE=7"), Ok(Packet::Done { fds_max: 7 }));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "DONE=1", "FDSTORE=7", "FDNAMES=", "FDNAMES=a::b", "DONE=1\nFDSTORE=-1"] {
            assert_eq!(Packet::parse(text.as_bytes()), Err(Nonsense), "{text}");
        }
        assert_eq!(Packet::parse(b"FDNAMES=\xff"), Err(Nonsense));
    }
}
