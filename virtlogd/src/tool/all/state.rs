//! The state of a follower, by which the next one goes on.
//!
//! It is replaced by a new file as a whole, so that there is a complete one at any moment.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use common::query::Bytes;
use serde::{Deserialize, Serialize};

use super::guest::Guest;
use super::missed::Count;
use super::place::Place;

/// Bytes of a state.
const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Version of the form.
const VERSION: u32 = 1;

/// State of a follower.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// When the daemon was last asked for its logs.
    pub(super) listed_unix_s: u64,
    /// The daemon's process, and since when it served.
    pub(super) daemon: Option<(u32, u64)>,
    pub(super) logs: Vec<LogState>,
}

/// State of a log.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogState {
    domain: Bytes,
    uuid: String,
    path: Bytes,
    pub(super) place: Place,
    pub(super) count: Count,
}

impl State {
    /// Makes one of no logs.
    pub(super) fn new(listed_unix_s: u64, daemon: Option<(u32, u64)>) -> Self {
        Self { version: VERSION, listed_unix_s, daemon, logs: Vec::new() }
    }

    /// Reads the state in a file; `None` if there is none.
    ///
    /// # Errors
    /// As `read(2)`; `InvalidData` for what is no state.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(STATE_BYTES_MAX).read_to_end(&mut bytes)?;
        let state: Self = serde_json::from_slice(&bytes)?;
        if state.version != VERSION {
            let text = format!("its version is {}, not {VERSION}", state.version);
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        Ok(Some(state))
    }

    /// Replaces the state in a file.
    ///
    /// # Errors
    /// As `open(2)`, `write(2)`, `fdatasync(2)` and `rename(2)`. The state that was there stays.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() as u64 > STATE_BYTES_MAX {
            return Err(io::Error::other("the state is too large"));
        }
        let new = new_path(path);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(new, path)
    }
}

impl LogState {
    /// Makes the state of a log.
    pub(super) fn new(guest: &Guest, place: Place, count: Count) -> Self {
        let path = Bytes::from(guest.path.as_os_str().as_bytes());
        Self { domain: guest.domain.clone(), uuid: guest.uuid.clone(), path, place, count }
    }

    /// Returns the log's guest and path.
    pub(super) fn guest(&self) -> Guest {
        let path = PathBuf::from(OsStr::from_bytes(&self.path.0));
        Guest { domain: self.domain.clone(), uuid: self.uuid.clone(), path }
    }
}

fn new_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::super::place::Identity;
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert_eq!(State::read(&path).unwrap(), None);
        let guest = Guest {
            domain: Bytes(b"a\xff\n".to_vec()),
            uuid: "u".to_owned(),
            path: PathBuf::from(OsStr::from_bytes(b"/x\xff")),
        };
        let file = Identity::of(&fs::metadata(directory.path()).unwrap());
        let mut state = State::new(7, Some((1, 2)));
        for offset in [0, u64::MAX] {
            state.logs = vec![LogState::new(&guest, Place { file, offset }, Count::default())];
            state.write(&path).unwrap();
            assert_eq!(State::read(&path).unwrap().as_ref(), Some(&state));
        }
        assert_eq!(state.logs[0].guest(), guest);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for text in ["", "{", "{}", r#"{"version":2,"listed_unix_s":0,"daemon":null,"logs":[]}"#] {
            fs::write(&path, text).unwrap();
            State::read(&path).unwrap_err();
        }
    }
}
