//! The state document: libvirt's JSON, field for field, with private keys of ours added.
//!
//! The one place of the project with serde's derives. Live objects are converted to and from
//! these. libvirt's daemons ignore keys they do not know at every level, so ours ([`PRIVATE`]) do
//! no harm.
//!
//! Reading never fails for one bad item: a field that is missing or of another type reads as
//! `None`, and who adopts the item decides what it is still good for. Writers fill in all fields.

mod lenient;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use lenient::{lenient, object, objects, scalars};

/// The key under which everything of our own stands.
pub const PRIVATE: &str = "virt-rs";

/// The whole document; which of the parts are there depends on the daemon.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// Servers with listeners and clients.
    #[serde(deserialize_with = "lenient")]
    pub daemon: Option<Daemon>,
    /// Where virtlockd 1.0 had its only server.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// virtlogd's logs.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub handler: Option<LogHandler>,
    /// virtlockd's resources that are named by path.
    #[serde(
        rename = "defaultLockspace",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub default_lockspace: Option<Lockspace>,
    /// virtlockd's directories with resources.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub lockspaces: Option<Vec<Lockspace>>,
    /// The process, in decimal.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub magic: Option<String>,
    /// What only we know.
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateDaemon>,
}

/// Servers, in one of the three layouts that there have been.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Daemon {
    /// By name, as all versions write it now.
    Named {
        /// `admin` and the daemon's own.
        servers: BTreeMap<String, Server>,
    },
    /// By position, of which the first is the daemon's own.
    Listed {
        /// One, or two.
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
}

/// Something that is listened on.
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

/// What virtlockd knows of a client; an empty object for all others.
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
    /// Never missing for a client of virtlockd: libvirt's would die of it.
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
}

/// virtlogd's part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's field")]
pub struct LogHandler {
    #[serde(deserialize_with = "objects")]
    pub files: Option<Vec<Log>>,
}

/// An open log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Log {
    /// The end of the guest's pipe that is read from.
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
pub struct Lockspace {
    /// The default one has none.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    #[serde(deserialize_with = "objects")]
    pub resources: Option<Vec<Resource>>,
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
    /// Pids, one of them as often as it has the lease.
    #[serde(deserialize_with = "scalars")]
    pub owners: Option<Vec<Pid>>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateResource>,
}

/// A process id; `None` for what is no number.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(#[serde(deserialize_with = "lenient")] pub Option<u32>);

/// A change of what is in the fd store; with a key alone, the item has gone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Change {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// With one resource.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lockspace>,
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,
    /// The directory of a lockspace.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
}

/// What only we know of the process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateDaemon {
    /// How many times this process has executed a successor, this time included.
    #[serde(deserialize_with = "lenient")]
    pub generation: Option<u64>,
    /// A state file that could not be removed: device, inode, time of change in ns. Whoever finds
    /// it again knows that it is older than this document.
    #[serde(deserialize_with = "lenient")]
    pub stale_file: Option<(u64, u64, i64)>,
    /// The locked pid file.
    #[serde(deserialize_with = "lenient")]
    pub pid_file: Option<i32>,
    /// The configuration file's bytes as this image read them, in a memfd: for a successor that
    /// finds it broken.
    #[serde(deserialize_with = "lenient")]
    pub configuration: Option<i32>,
    /// The same, in hexadecimal digits, for whoever comes after a crash.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub configuration_hex: Option<String>,
    /// Set through the admin socket: seconds, 0 for never.
    #[serde(deserialize_with = "lenient")]
    pub timeout_s: Option<u32>,
    /// Set through the admin socket.
    #[serde(deserialize_with = "lenient")]
    pub log_filters: Option<String>,
    /// Set through the admin socket.
    #[serde(deserialize_with = "lenient")]
    pub log_outputs: Option<String>,
    /// The names of what is in the fd store, one for each fd.
    #[serde(deserialize_with = "scalars")]
    pub stored_names: Option<Vec<String>>,
    /// Fds that are kept open, as their locks may be somebody's, and about which nothing is known.
    #[serde(deserialize_with = "scalars")]
    pub parked: Option<Vec<i32>>,
}

/// What only we know of a client: what is in its buffers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateClient {
    /// Its key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The call that a process that has crashed has not answered.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub owed: Option<[u32; 4]>,
    /// The beginning of a message.
    #[serde(deserialize_with = "object")]
    pub input: Option<Buffer>,
    /// What was read behind a message that is not answered yet.
    #[serde(deserialize_with = "object")]
    pub ahead: Option<Buffer>,
    /// The rest of an answer.
    #[serde(deserialize_with = "object")]
    pub output: Option<Buffer>,
}

/// Bytes, in a memfd, and the fds that go with them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Buffer {
    #[serde(deserialize_with = "lenient")]
    pub bytes: Option<i32>,
    #[serde(deserialize_with = "scalars")]
    pub fds: Option<Vec<i32>>,
}

/// What only we know of a log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateLog {
    /// It comes from the store, after a crash.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub after_crash: Option<bool>,
    /// Its key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The keys of the pipes in `staged`.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub staged_keys: Option<Vec<u64>>,
    /// The path's bytes in hexadecimal, where they are no UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The open file, so that it need not be opened.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub file: Option<i32>,
    /// Pipes with bytes of this log that come before those in the guest's pipe, in their order.
    /// Both ends of each: the one to read from first.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub staged: Option<Vec<(i32, i32)>>,
    /// The rest of a line about a loss of which a part is in the file already.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub unfinished_line: Option<String>,
    /// Bytes that were lost behind those and that the log was not told of yet.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Why they were lost.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Steps left of a rotation that failed half-way.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub rotation_steps_left: Option<u64>,
}

/// Bytes of a guest that are lost.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Loss {
    pub bytes: u64,
    pub first_unix_us: u64,
    pub last_unix_us: u64,
}

/// What only we know of a resource.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateResource {
    /// Its key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The name's bytes in hexadecimal, where they are no UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The lockspace's directory likewise.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// `ofd`; anything else, or nothing, is a POSIX lock.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// Who has leases.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<Holder>>,
}

/// Who has a lease.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Holder {
    #[serde(deserialize_with = "lenient")]
    pub pid: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    pub id: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub uuid: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub shares: Option<u64>,
    /// Seconds since 1970.
    #[serde(deserialize_with = "lenient")]
    pub since_unix_s: Option<u64>,
}

impl Document {
    /// The clients of the server `name`, in a document that is being made.
    pub fn clients_mut(&mut self, name: &str) -> impl Iterator<Item = &mut Client> {
        let server = match &mut self.daemon {
            Some(Daemon::Named { servers }) => servers.get_mut(name),
            _ => None,
        };
        server.into_iter().flat_map(|server| server.clients.iter_mut().flatten())
    }

    /// Takes out everything of our own.
    pub fn strip_private(&mut self) {
        self.private = None;
        if let Some(Daemon::Named { servers }) = &mut self.daemon {
            let clients =
                servers.values_mut().flat_map(|server| server.clients.iter_mut().flatten());
            clients.for_each(|client| client.private = None);
        }
        let logs = self.handler.iter_mut().flat_map(|handler| handler.files.iter_mut().flatten());
        logs.for_each(|log| log.private = None);
        let spaces = self.lockspaces.iter_mut().flatten().chain(&mut self.default_lockspace);
        let resources = spaces.flat_map(|space| space.resources.iter_mut().flatten());
        resources.for_each(|resource| resource.private = None);
    }
}

impl Daemon {
    /// The daemon's own server, and the admin server.
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
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let log = Log { pipefd: Some(7), path: Some("/log".into()), ..Log::default() };
        let document = Document {
            handler: Some(LogHandler { files: Some(vec![log]) }),
            magic: Some("12".into()),
            private: Some(PrivateDaemon { generation: Some(3), ..PrivateDaemon::default() }),
            ..Document::default()
        };
        let text = serde_json::to_string(&document).unwrap();
        assert!(text.contains(PRIVATE));
        let again = serde_json::to_string(&read(&text)).unwrap();
        assert_eq!(text, again);
    }

    #[test]
    fn one_bad_field_costs_itself() {
        let text = r#"{"magic": 7, "daemon": null, "more": [{}], "handler": {"files": [
            {"pipefd": "3", "path": "/a"}, 5, null, "x", [], {"pipefd": 4, "path": ["/b"]}]}}"#;
        let document = read(text);
        assert!(document.magic.is_none() && document.daemon.is_none());
        let files = document.handler.unwrap().files.unwrap();
        let seen: Vec<_> = files.iter().map(|log| (log.pipefd, log.path.as_deref())).collect();
        assert_eq!(seen, [(None, Some("/a")), (Some(4), None)]);
    }

    #[test]
    fn lists_that_are_none_are_missing() {
        let document = read(r#"{"handler": {"files": {}}, "lockspaces": 7}"#);
        assert!(document.handler.unwrap().files.is_none() && document.lockspaces.is_none());
    }

    #[test]
    fn all_layouts_of_servers_are_known() {
        let server = r#"{"max_clients": 5, "clients": [{"id": 1, "privateData": 1729}]}"#;
        for (text, admin) in [
            (format!(r#"{{"servers": {{"virtlogd": {server}, "admin": {{}}}}}}"#), true),
            (format!(r#"{{"servers": [{server}]}}"#), false),
            (server.to_owned(), false),
        ] {
            let daemon: Daemon = serde_json::from_str(&text).unwrap();
            let (main, admin_server) = daemon.into_servers("virtlogd");
            let main = main.unwrap();
            assert_eq!((main.max_clients, admin_server.is_some()), (Some(5), admin), "{text}");
            assert_eq!(main.clients.unwrap().len(), 1);
        }
    }
}
