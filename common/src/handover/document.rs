//! The state document: libvirt's JSON, field for field, with private keys of ours added.
//!
//! The only place of the project with serde's derives. Live objects are converted to and from these
//! types. libvirt's daemons ignore unknown keys at every level, so ours ([`PRIVATE`]) do no harm.
//!
//! Reading never fails for one bad item: a field that is missing or of another type reads as
//! `None`, and the code that adopts the item decides what to do. Writers fill in all fields.

mod change;
mod client;
mod items;
mod lease;
mod lenient;
mod log;
mod owner;
mod private;
mod server;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use change::Change;
pub use client::{Buffer, Client, PrivateClient, Socket};
pub use items::Items;
pub use lease::{
    Lack, Lock, Lockspace, Pid, PrivateLockspace, PrivateResource, ProvedMount, Resource,
};
pub use lenient::Several;
use lenient::{lenient, object, objects};
pub use log::{Log, LogDirectory, LogHandler, Loss, PrivateLog, Target};
pub use owner::{Ending, Found, Holder, PassedProcess, PrivateSession, Process, Session};
pub use private::PrivateDaemon;
pub use server::{Daemon, Server, Service};

/// The key of our private parts.
pub const PRIVATE: &str = "virt-rs";

/// The whole document; its parts depend on the daemon.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Document<'a> {
    /// Servers with listeners and clients.
    #[serde(deserialize_with = "object")]
    pub daemon: Option<Daemon>,
    /// The only server of virtlockd 1.0.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// virtlogd's logs.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub handler: Option<LogHandler<'a>>,
    /// virtlockd's resources that are named by path.
    #[serde(
        rename = "defaultLockspace",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub default_lockspace: Option<Lockspace<'a>>,
    /// virtlockd's directories with resources.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub lockspaces: Option<Vec<Lockspace<'a>>>,
    /// Pid of the process, in decimal.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub magic: Option<String>,
    /// Our private part.
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateDaemon>,
}

/// Reads a document, or a part of one. Invalid UTF-8 is replaced, so it affects only the values
/// that contain it.
///
/// # Errors
/// Invalid JSON.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    // Checking the whole is faster than checking each string.
    match str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_str(&String::from_utf8_lossy(bytes)),
    }
}

impl Document<'_> {
    /// Returns the clients of the server `name`, in a document that is being made.
    pub fn clients_mut(&mut self, name: &str) -> impl Iterator<Item = &mut Client> {
        let server = match &mut self.daemon {
            Some(Daemon::Named { servers }) => servers.get_mut(name),
            _ => None,
        };
        server.into_iter().flat_map(|server| server.clients.iter_mut().flatten())
    }

    /// Returns whether guests are being ended.
    #[must_use]
    pub fn has_endings(&self) -> bool {
        let private = self.default_lockspace.as_ref().and_then(|space| space.private.as_ref());
        private.is_some_and(|private| private.endings.is_some())
    }

    /// Returns whether there are settings that no start restores: lockspaces, which libvirtd makes
    /// when it starts itself, and those of the admin socket.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        let mut spaces = self.lockspaces.iter().flatten();
        spaces.any(|space| space.directory.is_some())
            || self.private.as_ref().is_some_and(PrivateDaemon::has_settings)
    }

    /// Removes all private parts.
    pub fn strip_private(&mut self) {
        self.private = None;
        if let Some(Daemon::Named { servers }) = &mut self.daemon {
            let clients =
                servers.values_mut().flat_map(|server| server.clients.iter_mut().flatten());
            for client in clients {
                client.private = None;
                let session = client.private_data.as_mut();
                session.into_iter().for_each(|session| session.private = None);
            }
        }
        let logs = self.handler.iter_mut().filter_map(|handler| handler.files.as_mut());
        logs.for_each(|logs| logs.change(|log| log.private = None));
        for space in self.lockspaces.iter_mut().flatten().chain(&mut self.default_lockspace) {
            space.private = None;
            let resources = space.resources.iter_mut();
            resources.for_each(|resources| resources.change(|resource| resource.private = None));
        }
    }
}

#[cfg(test)]
mod tests;
