//! Replay of 109 requests with recorded answers of libvirt 9.0.0, and tests of what was not
//! recorded.

use serde_json::Value;

use super::{Client, Identity, Limits, Outcome, PROGRAM, Server, Target, dispatch};
use crate::rpc::error::{Code, Domain, Error};
use crate::rpc::program::{self, Incoming};
use crate::rpc::{Call, Connection};

/// A daemon in the state of the recording: three clients on the main socket, one on the admin
/// socket.
struct Recorded {
    name: &'static str,
    clients: [Vec<Client>; 2],
    limits: [Limits; 2],
    priority_workers: [u32; 2],
    outputs: Vec<String>,
    filters: Vec<String>,
    idle_timeout_s: u32,
}

impl Recorded {
    fn new(name: &'static str) -> Self {
        let connected_at_s = 0x6b02_f31b;
        let clients =
            |ids: &[u64]| ids.iter().map(|&id| Client { id, connected_at_s }).collect::<Vec<_>>();
        let limits = |max| Limits { clients_max: max, unauthenticated_max: max };
        Self {
            name,
            clients: [clients(&[1, 2, 3]), clients(&[3])],
            limits: [limits(1024), limits(5000)],
            priority_workers: [0; 2],
            outputs: vec!["3:stderr".to_owned()],
            filters: Vec::new(),
            idle_timeout_s: 0,
        }
    }
}

fn invalid(detail: &str) -> Result<(), Error> {
    Err(Error::new(Code::InvalidArg, Domain::None, detail))
}

fn items(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

impl Target for Recorded {
    fn main_server_name(&self) -> &str {
        self.name
    }

    fn clients(&self, server: Server) -> Vec<Client> {
        self.clients[server as usize].clone()
    }

    fn identity(&self, _server: Server, _client_id: u64) -> Option<Identity> {
        Some(Identity {
            uid: 0,
            user_name: Some("root".to_owned()),
            gid: 0,
            group_name: Some("root".to_owned()),
            pid: 0x643d,
            selinux_label: None,
        })
    }

    fn close_client(&mut self, server: Server, client_id: u64) {
        self.clients[server as usize].retain(|client| client.id != client_id);
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
        self.outputs.clone()
    }

    fn set_log_outputs(&mut self, setting: &str) -> Result<(), Error> {
        self.outputs = match setting {
            "" => items(&["3:stderr"]),
            "4:file:rel.log" => items(&["4:file:/run/rel.log"]),
            "3:stderr 4:stderr" => items(&["4:stderr"]),
            "4:file:/var/log/libvirt/d.log" => items(&[setting]),
            "1:bogus" => {
                return invalid("Invalid log destination 'bogus' for log output '1:bogus'");
            }
            "x" => return invalid("Malformed format for log output 'x'"),
            "9:stderr" => return invalid("Invalid log priority '9' for log output '9:stderr'"),
            "1:file:/nosuchdir/x" => {
                return Err(Error::system(Domain::None, "failed to open /nosuchdir/x", 2));
            }
            other => {
                let destination = other.split(':').nth(1).unwrap();
                return invalid(&format!(
                    "Log output '{other}' does not meet the format requirements for destination \
                     type '{destination}'"
                ));
            }
        };
        Ok(())
    }

    fn log_filters(&self) -> Vec<String> {
        self.filters.clone()
    }

    fn set_log_filters(&mut self, setting: &str) -> Result<(), Error> {
        self.filters = match setting {
            "" => Vec::new(),
            "4:rpc 4:util.json" => items(&["4:*rpc*", "4:*util.json*"]),
            "4:+rpc 4:a*b" => items(&["4:*rpc*", "4:*a*b*"]),
            "9:x" => return invalid("Invalid priority '9' for filter '9:x'"),
            other => return invalid(&format!("Malformed format for filter '{other}'")),
        };
        Ok(())
    }

    fn set_idle_timeout_s(&mut self, timeout_s: u32) {
        self.idle_timeout_s = timeout_s;
    }
}

/// Passes one request through connection and program like the server: returns the answer as hex,
/// and whether the connection ends.
fn exchange(target: &mut Recorded, request: &str) -> (String, bool) {
    let received = Connection::new().received(&from_hex(request), Vec::new());
    let message = received.unwrap().expect("a whole request");
    match program::accept(&[PROGRAM], message) {
        Incoming::Call(call, reply_to) => {
            let Outcome { result, close } = dispatch(&call, target);
            (to_hex(&reply_to.answer(result).unsent_bytes().concat()), close)
        }
        Incoming::Answered(answer) => (to_hex(&answer.unsent_bytes().concat()), false),
        Incoming::Dropped => panic!("dropped: {request}"),
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the expected answer: the recorded one, except for intended differences.
fn owed(case: &Value, cases: &[Value]) -> String {
    let reply = |case: &Value| case["reply"].as_str().unwrap().to_owned();
    match case["desc"].as_str().unwrap() {
        "list_servers need_results=1" => {
            let (admin, main) = ("0000000561646d696e000000", main_name_hex(cases));
            let recorded = reply(case);
            recorded.replace(admin, "").replace(&main, &format!("{main}{admin}"))
        }
        "client_get_info id=1 (client that never made a call)" => {
            let known = cases
                .iter()
                .find(|case| case["desc"] == "client_get_info id=2 (client that made a call)");
            reply(known.unwrap()).replacen("0000002a", "00000029", 1)
        }
        _ => reply(case),
    }
}

fn main_name_hex(cases: &[Value]) -> String {
    let lookup = cases.iter().find(|case| case["desc"] == "lookup_server main").unwrap();
    lookup["reply"].as_str().unwrap()[2 * 28..].to_owned()
}

fn replay(mut target: Recorded, golden: &str) {
    let cases: Vec<Value> = serde_json::from_str(golden).unwrap();
    assert_eq!(cases.len(), 109);
    for case in &cases {
        let (answer, closes) = exchange(&mut target, case["request"].as_str().unwrap());
        if case["reply"].is_null() {
            // The calling connection is closed, so the answer is not delivered.
            assert_eq!(target.clients(Server::Admin), []);
        } else {
            assert_eq!(answer, owed(case, &cases), "{}: {}", target.name, case["desc"]);
            assert_eq!(closes, case["note"] == "after the reply: EOF", "{}", case["desc"]);
        }
    }
}

#[test]
fn virtlogd_is_answered_for_as_recorded() {
    let golden = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/golden/wire/virtlogd-admin.json"
    ));
    replay(Recorded::new("virtlogd"), golden);
}

#[test]
fn virtlockd_is_answered_for_as_recorded() {
    let golden = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/golden/wire/virtlockd-admin.json"
    ));
    replay(Recorded::new("virtlockd"), golden);
}

fn refusal(target: &mut Recorded, procedure: i32, arguments: &[u8]) -> String {
    let call = Call { procedure, arguments: arguments.to_vec(), fds: Vec::new() };
    dispatch(&call, target).result.unwrap_err().message()
}

/// Measured against libvirt 9.0.0: it refuses even to count them.
#[test]
fn more_clients_than_a_list_may_have_are_neither_listed_nor_counted() {
    let mut target = Recorded::new("virtlogd");
    target.clients[0] = vec![Client { id: 1, connected_at_s: 0 }; 16_385];
    for need_results in [0, 1] {
        let list = [&b"\0\0\0\x08virtlogd\0\0\0"[..], &[need_results], &[0; 4]].concat();
        let expected = "internal error: Too many clients '16385' for limit '16384'";
        assert_eq!(refusal(&mut target, 8, &list), expected);
    }
}

#[test]
fn a_log_setting_that_is_not_utf_8_changes_nothing() {
    let mut target = Recorded::new("virtlogd");
    for procedure in [16, 17] {
        let refusal = refusal(&mut target, procedure, b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0\0\0\0");
        assert_eq!(refusal, "Unable to decode message payload");
    }
}

#[test]
fn any_timeout_is_passed_on_as_it_is() {
    let mut target = Recorded::new("virtlogd");
    let arguments = b"\xff\xff\xff\xff\0\0\0\0".to_vec();
    dispatch(&Call { procedure: 19, arguments, fds: Vec::new() }, &mut target).result.unwrap();
    assert_eq!(target.idle_timeout_s, u32::MAX);
}
