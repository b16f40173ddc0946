//! Servers with their listeners and clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::client::{Client, Socket};
use super::lenient::{Several, lenient, objects, several};

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
