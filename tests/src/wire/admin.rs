//! Calls of virt-admin.

use super::{ADMIN_PROGRAM, Connection, Header, Reader, Writer};
use crate::harness::Daemon;

/// Procedure numbers (libvirt's values, on the wire).
const SERVER_LIST_CLIENTS: i32 = 8;
const GET_CLIENT_LIMITS: i32 = 12;
const SET_CLIENT_LIMITS: i32 = 13;
const GET_LOGGING_OUTPUTS: i32 = 14;
const GET_LOGGING_FILTERS: i32 = 15;
const SET_LOGGING_OUTPUTS: i32 = 16;
const SET_LOGGING_FILTERS: i32 = 17;
const SET_DAEMON_TIMEOUT: i32 = 19;

/// The type of a typed parameter that is an unsigned number (libvirt's value, on the wire).
const UINT: u32 = 2;

/// An administrator, as far as settings matter to him.
#[derive(Debug)]
pub struct Admin(Connection);

impl Admin {
    /// Connects to the daemon.
    pub fn connect(daemon: &Daemon) -> Self {
        Self(daemon.connect_admin())
    }

    /// Sets how many clients a server takes.
    pub fn set_client_limit(&mut self, server: &str, clients_max: u32) {
        let parameters = ["nclients_max", "nclients_unauth_max"];
        let head = Writer::new().string(server).u32(2);
        let arguments = parameters.iter().fold(head, |arguments, parameter| {
            arguments.string(parameter).u32(UINT).u32(clients_max)
        });
        self.call(SET_CLIENT_LIMITS, arguments.u32(0));
    }

    /// How many clients a server takes.
    pub fn client_limit(&mut self, server: &str) -> u32 {
        let payload = self.call(GET_CLIENT_LIMITS, Writer::new().string(server).u32(0));
        let mut reader = Reader::new(&payload);
        let found = (0..reader.u32()).find_map(|_| {
            let name = reader.string();
            assert_eq!(reader.u32(), UINT, "the type of a parameter");
            let value = reader.u32();
            (name == b"nclients_max").then_some(value)
        });
        found.expect("a server's limit of clients")
    }

    /// Sets the daemon's log outputs.
    pub fn set_outputs(&mut self, setting: &str) {
        self.set(SET_LOGGING_OUTPUTS, setting);
    }

    /// Returns the daemon's log outputs.
    pub fn outputs(&mut self) -> String {
        let payload = self.call(GET_LOGGING_OUTPUTS, Writer::new().u32(0));
        String::from_utf8(Reader::new(&payload).string().to_vec()).expect("a setting of text")
    }

    /// Sets the daemon's log filters.
    pub fn set_filters(&mut self, setting: &str) {
        self.set(SET_LOGGING_FILTERS, setting);
    }

    /// Returns the daemon's log filters.
    pub fn filters(&mut self) -> String {
        let payload = self.call(GET_LOGGING_FILTERS, Writer::new().u32(0));
        let filters = Reader::new(&payload).optional_string().unwrap_or_default().to_vec();
        String::from_utf8(filters).unwrap()
    }

    /// Sets how long the daemon stays without clients.
    pub fn set_timeout(&mut self, timeout_s: u32) {
        self.call(SET_DAEMON_TIMEOUT, Writer::new().u32(timeout_s).u32(0));
    }

    fn set(&mut self, procedure: i32, setting: &str) {
        self.call(procedure, Writer::new().u32(1).string(setting).u32(0));
    }

    fn call(&mut self, procedure: i32, arguments: Writer) -> Vec<u8> {
        self.0
            .call(ADMIN_PROGRAM, procedure, &arguments.into_bytes())
            .expect("a call of virt-admin")
            .0
    }
}

/// The message that asks for a server's clients.
pub fn list_clients(server: &str) -> Vec<u8> {
    Header::call(ADMIN_PROGRAM, SERVER_LIST_CLIENTS).message(&arguments(server))
}

/// The numbers of a server's clients.
pub fn client_ids(admin: &mut Connection, server: &str) -> Vec<u64> {
    let answer = admin.call(ADMIN_PROGRAM, SERVER_LIST_CLIENTS, &arguments(server));
    let (payload, _) = answer.expect("a list of clients");
    let mut reader = Reader::new(&payload);
    let count = reader.u32();
    let ids = (0..count)
        .map(|_| {
            assert_eq!(reader.string(), server.as_bytes());
            let id = reader.u64();
            let (_connected_at_s, transport) = (reader.u64(), reader.u32());
            assert_eq!(transport, 0);
            id
        })
        .collect();
    assert_eq!(reader.u32(), count);
    reader.end();
    ids
}

fn arguments(server: &str) -> Vec<u8> {
    Writer::new().string(server).u32(1).u32(0).into_bytes()
}
