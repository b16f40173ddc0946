//! The state document: libvirt's JSON, field for field, with private keys of ours added.
//!
//! The only place of the project with serde's derives. Live objects are converted to and from these
//! types. libvirt's daemons ignore unknown keys at every level, so ours ([`PRIVATE`]) do no harm.
//!
//! Reading never fails for one bad item: a field that is missing or of another type reads as
//! `None`, and the code that adopts the item decides what to do. Writers fill in all fields.

mod change;
mod items;
mod lenient;
mod private;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use change::Change;
pub use items::Items;
pub use lenient::Several;
use lenient::{items, lenient, object, objects, several, smalls};
pub use private::{
    Buffer, Ending, Found, Holder, Lack, Lock, LogDirectory, Loss, PrivateClient, PrivateDaemon,
    PrivateLockspace, PrivateLog, PrivateResource, PrivateSession, Process, Target,
};

use super::text;

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

/// Servers, in one of three historical layouts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, from = "Server")]
pub enum Daemon {
    /// By name, as all versions write it now.
    Named {
        /// `admin` and the daemon's own.
        servers: BTreeMap<String, Server>,
    },
    /// By position; the first is the daemon's own.
    Listed {
        /// The servers, at most two.
        servers: Vec<Server>,
    },
    /// The daemon's only server itself.
    Flat(Box<Server>),
}

/// A server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields; those not used here are constants")]
pub struct Server {
    #[serde(deserialize_with = "lenient")]
    pub min_workers: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    pub max_workers: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    pub priority_workers: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    pub max_clients: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    pub max_anonymous_clients: Option<u32>,
    #[serde(rename = "keepaliveInterval", deserialize_with = "lenient")]
    pub keepalive_interval: Option<u32>,
    #[serde(rename = "keepaliveCount", deserialize_with = "lenient")]
    pub keepalive_count: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    pub next_client_id: Option<u64>,
    #[serde(deserialize_with = "objects")]
    pub services: Option<Vec<Service>>,
    #[serde(deserialize_with = "objects")]
    pub clients: Option<Vec<Client>>,
    /// Set if this is not a server but a list of some. For reading a [`Daemon`] alone.
    #[serde(deserialize_with = "several", skip_serializing)]
    pub servers: Option<Box<Several<Self>>>,
}

/// A listening socket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields; those not used here are constants")]
pub struct Service {
    #[serde(deserialize_with = "lenient")]
    pub auth: Option<i32>,
    #[serde(deserialize_with = "lenient")]
    pub readonly: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub nrequests_client_max: Option<u32>,
    #[serde(deserialize_with = "objects")]
    pub socks: Option<Vec<Socket>>,
}

/// A connection.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields; those not used here are constants")]
pub struct Client {
    #[serde(deserialize_with = "lenient")]
    pub id: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub auth: Option<i32>,
    #[serde(deserialize_with = "lenient")]
    pub auth_pending: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub readonly: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub nrequests_max: Option<u32>,
    /// Seconds since 1970.
    #[serde(deserialize_with = "lenient")]
    pub conn_time: Option<i64>,
    #[serde(deserialize_with = "object")]
    pub sock: Option<Socket>,
    #[serde(rename = "privateData", deserialize_with = "object")]
    pub private_data: Option<Session>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateClient>,
}

/// A socket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields; those not used here are constants")]
pub struct Socket {
    #[serde(deserialize_with = "lenient")]
    pub fd: Option<i32>,
    #[serde(deserialize_with = "lenient")]
    pub errfd: Option<i32>,
    #[serde(deserialize_with = "lenient")]
    pub pid: Option<i32>,
    #[serde(rename = "isClient", deserialize_with = "lenient")]
    pub is_client: Option<bool>,
    /// The socket's file is ours to remove.
    #[serde(rename = "unlinkUNIX", deserialize_with = "lenient")]
    pub unlink_unix: Option<bool>,
}

/// virtlockd's data of a client; an empty object for all others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Session {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub restricted: Option<bool>,
    #[serde(
        rename = "ownerPid",
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_pid: Option<u32>,
    #[serde(
        rename = "ownerId",
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_id: Option<u32>,
    /// Never missing for a client of virtlockd: libvirt's would crash.
    #[serde(
        rename = "ownerName",
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_name: Option<String>,
    #[serde(
        rename = "ownerUUID",
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_uuid: Option<String>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateSession>,
}

/// virtlogd's part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's field")]
pub struct LogHandler<'a> {
    #[serde(deserialize_with = "items")]
    pub files: Option<Items<'a, Log>>,
}

/// An open log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Log {
    /// Read end of the guest's pipe.
    #[serde(deserialize_with = "lenient")]
    pub pipefd: Option<i32>,
    #[serde(deserialize_with = "lenient")]
    pub path: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub driver: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub domname: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub domuuid: Option<String>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateLog>,
}

/// A lockspace of virtlockd's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Lockspace<'a> {
    /// Missing for the default lockspace.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    #[serde(deserialize_with = "items")]
    pub resources: Option<Items<'a, Resource>>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateLockspace>,
}

/// A resource with leases on it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Resource {
    #[serde(deserialize_with = "lenient")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub path: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub fd: Option<i32>,
    #[serde(rename = "lockHeld", deserialize_with = "lenient")]
    pub lock_held: Option<bool>,
    /// 1 shared, 2 made automatically, as on the wire.
    #[serde(deserialize_with = "lenient")]
    pub flags: Option<u32>,
    /// Pids of the owners, each as often as it has the lease.
    #[serde(deserialize_with = "smalls")]
    pub owners: Option<Vec<Pid>>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateResource>,
}

/// A process id; `None` if it is not a number.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(#[serde(deserialize_with = "lenient")] pub Option<u32>);

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

impl Lockspace<'_> {
    /// Makes a lockspace with this directory and no resources; the default one has an empty
    /// directory.
    #[must_use]
    pub fn at(directory: &[u8]) -> Self {
        let hex = text::hex_unless_text(directory);
        let private =
            hex.map(|hex| PrivateLockspace { directory: Some(hex), ..PrivateLockspace::default() });
        let directory = (!directory.is_empty()).then(|| text::text(directory));
        Self { directory, private, ..Self::default() }
    }

    /// Returns the bytes of its directory, empty for the default one.
    #[must_use]
    pub fn path(&self) -> Cow<'_, [u8]> {
        let hex = self.private.as_ref().and_then(|private| private.directory.as_deref());
        text::bytes_of(hex, self.directory.as_deref().unwrap_or_default())
    }
}

impl From<Server> for Daemon {
    fn from(mut server: Server) -> Self {
        match server.servers.take().map(|servers| *servers) {
            Some(Several::Named(servers)) => Self::Named { servers },
            Some(Several::Listed(servers)) => Self::Listed { servers },
            None => Self::Flat(Box::new(server)),
        }
    }
}

impl Daemon {
    /// Returns the daemon's own server and the admin server.
    #[must_use]
    pub fn into_servers(self, name: &str) -> (Option<Server>, Option<Server>) {
        match self {
            Self::Named { mut servers } => (servers.remove(name), servers.remove("admin")),
            Self::Listed { servers } => {
                let mut servers = servers.into_iter();
                (servers.next(), servers.next())
            }
            Self::Flat(server) => (Some(*server), None),
        }
    }
}

#[cfg(test)]
mod tests;
