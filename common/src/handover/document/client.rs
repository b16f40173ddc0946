//! Clients.

use serde::{Deserialize, Serialize};

use super::lenient::{lenient, object, scalars, small};
use super::owner::Session;

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

/// Private data of a client: its buffers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateClient {
    /// Key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The call that a crashed process has not answered.
    #[serde(rename = "owed", deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub pending_reply: Option<[u32; 4]>,
    /// Beginning of a message.
    #[serde(deserialize_with = "object")]
    pub input: Option<Buffer>,
    /// Input behind a message that is not answered yet.
    #[serde(deserialize_with = "object")]
    pub ahead: Option<Buffer>,
    /// Rest of an answer.
    #[serde(deserialize_with = "object")]
    pub output: Option<Buffer>,
}

/// Bytes in a memfd, and the fds that go with them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Buffer {
    #[serde(deserialize_with = "lenient")]
    pub bytes: Option<i32>,
    #[serde(deserialize_with = "scalars")]
    pub fds: Option<Vec<i32>>,
}
