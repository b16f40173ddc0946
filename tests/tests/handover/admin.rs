//! An administrator, as far as upgrades matter to him.

use tests::harness::{Daemon, Program};
use tests::wire::{ADMIN_PROGRAM, Connection, Reader, Writer};

/// Procedure numbers (libvirt's values, on the wire).
const GET_CLIENT_LIMITS: i32 = 12;
const SET_CLIENT_LIMITS: i32 = 13;
const GET_LOGGING_OUTPUTS: i32 = 14;
const GET_LOGGING_FILTERS: i32 = 15;
const SET_LOGGING_OUTPUTS: i32 = 16;
const SET_LOGGING_FILTERS: i32 = 17;
const SET_DAEMON_TIMEOUT: i32 = 19;

/// The type of a typed parameter that is an unsigned number (libvirt's value, on the wire).
const UINT: u32 = 2;

pub(super) struct Admin(Connection);

impl Admin {
    pub(super) fn connect(daemon: &Daemon) -> Self {
        Self(daemon.connect_admin())
    }

    pub(super) fn set_client_limit(&mut self, program: Program, clients_max: u32) {
        let name = program.name();
        let parameters = ["nclients_max", "nclients_unauth_max"];
        let head = Writer::new().string(name).u32(2);
        let arguments = parameters.iter().fold(head, |arguments, parameter| {
            arguments.string(parameter).u32(UINT).u32(clients_max)
        });
        self.call(SET_CLIENT_LIMITS, arguments.u32(0));
    }

    pub(super) fn client_limit(&mut self, program: Program) -> u32 {
        let payload = self.call(GET_CLIENT_LIMITS, Writer::new().string(program.name()).u32(0));
        let mut reader = Reader::new(&payload);
        let found = (0..reader.u32()).find_map(|_| {
            let name = reader.string();
            assert_eq!(reader.u32(), UINT, "the type of a parameter");
            let value = reader.u32();
            (name == b"nclients_max").then_some(value)
        });
        found.expect("a server's limit of clients")
    }

    pub(super) fn set_outputs(&mut self, setting: &str) {
        self.set(SET_LOGGING_OUTPUTS, setting);
    }

    pub(super) fn outputs(&mut self) -> String {
        let payload = self.call(GET_LOGGING_OUTPUTS, Writer::new().u32(0));
        String::from_utf8(Reader::new(&payload).string().to_vec()).unwrap()
    }

    pub(super) fn set_filters(&mut self, setting: &str) {
        self.set(SET_LOGGING_FILTERS, setting);
    }

    pub(super) fn filters(&mut self) -> String {
        let payload = self.call(GET_LOGGING_FILTERS, Writer::new().u32(0));
        let filters = Reader::new(&payload).optional_string().unwrap_or_default().to_vec();
        String::from_utf8(filters).unwrap()
    }

    pub(super) fn set_timeout(&mut self, timeout_s: u32) {
        self.call(SET_DAEMON_TIMEOUT, Writer::new().u32(timeout_s).u32(0));
    }

    fn set(&mut self, procedure: i32, setting: &str) {
        self.call(procedure, Writer::new().u32(1).string(setting).u32(0));
    }

    fn call(&mut self, procedure: i32, arguments: Writer) -> Vec<u8> {
        self.0.call(ADMIN_PROGRAM, procedure, &arguments.into_bytes()).unwrap().0
    }
}
