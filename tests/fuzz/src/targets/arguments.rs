//! Arguments of all three programs.

use common::admin::{self, Client, Identity, Limits, Server, Target};
use common::rpc::error::{Code, Domain, TEXT_BYTES_MAX};
use common::rpc::{Call, Error};
use common::xdr::Reader;

use super::input::Input;

/// Decoded arguments mean the same when they are encoded again; the admin program
/// changes nothing when it refuses, and its answers can be decoded.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (program, procedure) = (input.byte(), i32::from(input.byte() % 24));
    match program % 3 {
        0 => recoded(input.rest(), |arguments| virtlogd::fuzzing::recode(procedure, arguments)),
        1 => recoded(input.rest(), |arguments| virtlockd::fuzzing::recode(procedure, arguments)),
        _ => administered(&mut input),
    }
}

fn recoded(arguments: &[u8], recode: impl Fn(&[u8]) -> Result<Vec<u8>, Error>) {
    match recode(arguments) {
        Ok(first) => {
            assert!(first.len() <= arguments.len() + 64, "more than there was");
            assert_eq!(recode(&first).expect("what was encoded"), first);
            for len in 0..first.len().min(128) {
                recode(&first[..len]).expect_err("cut off");
            }
        }
        Err(error) => check_error(&error),
    }
}

fn check_error(error: &Error) {
    let object = error.encode();
    assert!(object.len() <= 3 * TEXT_BYTES_MAX + 128, "an error as long as its cause");
    let mut reader = Reader::new(&object);
    let code = reader.i32().expect("a code");
    assert_eq!(code, error.code() as i32);
}

/// Several calls one after the other, to one daemon.
fn administered(input: &mut Input<'_>) {
    let mut daemon = Administered::default();
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let procedure = i32::from(input.byte() % 22);
        let arguments = arguments(input);
        let before = daemon.clone();
        let call = Call { procedure, arguments, fds: Vec::new() };
        let outcome = admin::dispatch(&call, &mut daemon);
        match outcome.result {
            Ok(reply) => assert!(reply.payload.len() % 4 == 0 && reply.fds.is_empty()),
            Err(error) => {
                check_error(&error);
                assert!(daemon == before, "a refused call has changed something");
            }
        }
        assert_eq!(outcome.close, procedure == 2);
        let limits = daemon.limits;
        assert!(limits.iter().all(|limits| limits.unauthenticated_max <= limits.clients_max));
    }
}

/// Arguments as they are, or values that arguments consist of, so that most can be decoded.
fn arguments(input: &mut Input<'_>) -> Vec<u8> {
    const NAMES: [&[u8]; 8] = [
        b"admin",
        b"virtlogd",
        b"maxWorkers",
        b"minWorkers",
        b"prioWorkers",
        b"nclients_max",
        b"nclients_unauth_max",
        b"1:rpc 3:util",
    ];
    if input.flag() {
        return input.bytes().to_vec();
    }
    let mut writer = common::xdr::Writer::new();
    for _ in 0..input.byte() % 12 {
        match input.byte() % 6 {
            0 => drop(writer.u32(input.u32())),
            1 | 2 => drop(writer.opaque(NAMES[input.below(NAMES.len())])),
            3 => drop(writer.u32(u32::from(input.byte() % 8))),
            4 => drop(writer.opaque(input.bytes())),
            _ => drop(writer.u64(input.u64())),
        }
    }
    writer.into_bytes()
}

/// A daemon with three clients.
#[derive(Clone, PartialEq)]
struct Administered {
    clients: Vec<Client>,
    limits: [Limits; 2],
    priority_workers: [u32; 2],
    settings: [String; 2],
    timeout_s: u32,
}

impl Default for Administered {
    fn default() -> Self {
        let clients = (1..4).map(|id| Client { id, connected_at_s: 7 }).collect();
        let limits = Limits { clients_max: 10, unauthenticated_max: 10 };
        Self {
            clients,
            limits: [limits; 2],
            priority_workers: [0; 2],
            settings: Default::default(),
            timeout_s: 0,
        }
    }
}

impl Target for Administered {
    fn main_server_name(&self) -> &str {
        "virtlogd"
    }

    fn clients(&self, _: Server) -> Vec<Client> {
        self.clients.clone()
    }

    fn identity(&self, _: Server, client_id: u64) -> Option<Identity> {
        self.clients.iter().find(|client| client.id == client_id).map(|_| Identity {
            uid: 0,
            user_name: Some("root".to_owned()),
            gid: 0,
            group_name: None,
            pid: 1,
            selinux_label: None,
        })
    }

    fn close_client(&mut self, _: Server, client_id: u64) {
        assert!(self.clients.iter().any(|client| client.id == client_id), "an unknown client");
        self.clients.retain(|client| client.id != client_id);
    }

    fn limits(&self, server: Server) -> Limits {
        self.limits[server as usize]
    }

    fn set_limits(&mut self, server: Server, limits: Limits) {
        self.limits[server as usize] = limits;
    }

    fn priority_workers(&self, server: Server) -> u32 {
        self.priority_workers[server as usize]
    }

    fn set_priority_workers(&mut self, server: Server, count: u32) {
        self.priority_workers[server as usize] = count;
    }

    fn log_outputs(&self) -> Vec<String> {
        vec![self.settings[0].clone()]
    }

    fn set_log_outputs(&mut self, setting: &str) -> Result<(), Error> {
        set(&mut self.settings[0], setting)
    }

    fn log_filters(&self) -> Vec<String> {
        vec![self.settings[1].clone()]
    }

    fn set_log_filters(&mut self, setting: &str) -> Result<(), Error> {
        set(&mut self.settings[1], setting)
    }

    fn set_idle_timeout_s(&mut self, timeout_s: u32) {
        self.timeout_s = timeout_s;
    }
}

fn set(to: &mut String, setting: &str) -> Result<(), Error> {
    if setting.contains('x') {
        return Err(Error::new(Code::InvalidArg, Domain::None, setting));
    }
    setting.clone_into(to);
    Ok(())
}
