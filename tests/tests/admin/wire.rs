//! The admin program on the wire: 109 recorded requests and their answers, byte for byte.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tests::harness::{Daemon, Subject};
use tests::wire::{Answer, Connection};

mod virtlogd {
    use super::*;
    tests::both! { Virtlogd: recorded_cases_replay_byte_for_byte }
}

mod virtlockd {
    use super::*;
    tests::both! { Virtlockd: recorded_cases_replay_byte_for_byte }
}

/// Connection time of every client in the recordings, as on the wire.
const RECORDED_TIME: [u8; 8] = 0x6b02_f31b_u64.to_be_bytes();
/// Process id of every client in the recordings, as on the wire.
const RECORDED_PID: [u8; 4] = 0x643d_u32.to_be_bytes();

fn recorded_cases_replay_byte_for_byte(subject: Subject) {
    let daemon = subject.start();
    let name = subject.program.name();
    let path = format!("{}/golden/wire/{name}-admin.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the recording");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("a list of cases");
    assert_eq!(cases.len(), 109);
    let mut replay = Replay::new(&daemon, subject);
    for case in &cases {
        replay.run(case);
    }
}

/// The connections that the recordings began with.
struct Replay<'a> {
    daemon: &'a Daemon,
    subject: Subject,
    started_s: u64,
    admin: Connection,
    /// Ids 1 to 3 of the main server. Only the second ever calls; the third is closed on the way.
    main: [Connection; 3],
}

impl<'a> Replay<'a> {
    fn new(daemon: &'a Daemon, subject: Subject) -> Self {
        let started_s = now_s();
        let mut main = [(); 3].map(|()| daemon.connect_main());
        // A failing call with readable arguments is enough for C to look at who calls.
        main[1]
            .call(subject.program.number(), 2, &[0; 8])
            .expect_err("empty arguments are refused");
        Self { daemon, subject, started_s, admin: daemon.connect_admin(), main }
    }

    fn run(&mut self, case: &Value) {
        let description = case["desc"].as_str().expect("a description");
        let mut request = unhex(case["request"].as_str().expect("a request"));
        if description.starts_with("client_close of own admin connection") {
            // The connection before, the first one, has been closed by the daemon.
            self.admin = self.daemon.connect_admin();
            replace(&mut request, &3_u64.to_be_bytes(), &2_u64.to_be_bytes());
        }
        self.admin.send(&request).expect("sending a request");
        match case["reply"].as_str() {
            Some(reply) => self.expect(description, unhex(reply)),
            None => assert!(is_closed(&mut self.admin), "{description}"),
        }
        match description {
            "client_close id=3" => assert!(is_closed(&mut self.main[2])),
            "connect_close: reply, then the daemon closes the socket" => {
                assert!(is_closed(&mut self.admin));
            }
            _ => {}
        }
    }

    fn expect(&mut self, description: &str, recorded: Vec<u8>) {
        let bytes = self.admin.answer().message().bytes;
        match description {
            "list_servers need_results=1" => self.expect_servers(&bytes, &recorded),
            // Differs on purpose: C knows nothing of a client before its first call.
            "client_get_info id=1 (client that never made a call)" if self.subject.is_ours() => {
                assert!(holds(&bytes, b"unix_process_id"), "{description}");
            }
            _ => assert_eq!(hex(&bytes), hex(&self.of_today(recorded, &bytes)), "{description}"),
        }
    }

    /// C's order is that of a hash table; ours is fixed, the main server first.
    fn expect_servers(&self, bytes: &[u8], recorded: &[u8]) {
        let item = |name: &str| [&xdr_length(name), name.as_bytes()].concat();
        let (main, admin) = (padded(item(self.subject.program.name())), padded(item("admin")));
        let both = |first: &[u8], second: &[u8]| {
            let (head, tail) = (&recorded[..32], &recorded[recorded.len() - 4..]);
            [head, first, second, tail].concat()
        };
        let main_first = both(&main, &admin);
        assert_eq!(main_first.len(), recorded.len());
        if self.subject.is_ours() || bytes == main_first {
            assert_eq!(hex(bytes), hex(&main_first));
        } else {
            assert_eq!(hex(bytes), hex(&both(&admin, &main)));
        }
    }

    /// The recorded answer with this run's connection times and process id, where the times lie
    /// between the start of the test and now.
    fn of_today(&self, mut recorded: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
        while let Some(at) = find(&recorded, &RECORDED_TIME) {
            let time: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
            assert!((self.started_s..=now_s()).contains(&u64::from_be_bytes(time)), "{time:?}");
            recorded[at..at + 8].copy_from_slice(&time);
        }
        if holds(&recorded, b"unix_process_id") {
            replace(&mut recorded, &RECORDED_PID, &std::process::id().to_be_bytes());
        }
        recorded
    }
}

fn is_closed(connection: &mut Connection) -> bool {
    matches!(connection.answer(), Answer::Closed)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock set after 1970").as_secs()
}

fn xdr_length(name: &str) -> [u8; 4] {
    u32::try_from(name.len()).expect("a short name").to_be_bytes()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let at = find(bytes, old).expect("something to replace");
    bytes[at..at + new.len()].copy_from_slice(new);
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    find(bytes, part).is_some()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).expect("a hex digit")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}
