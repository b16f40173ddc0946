//! Damaged and historic state documents. libvirt's daemon writes one, an edited one is put in its
//! place before the successor looks, with the descriptors and the process as they are.
//!
//! `golden/state/variants` has the edited documents as recorded, what libvirt's daemon makes of
//! them (`EXPECTED.tsv`), and what ours promises (`OURS.tsv`). There a log is `served` when its
//! bytes get into its file, `drained` when its guest can at least write on, `released` when that
//! guest may see its pipe close but never waits; `-` promises nothing beyond a daemon that runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::harness::{Daemon, Route, Whose, eventually, expect_file, guest_writes};
use tests::wire::{ADMIN_PROGRAM, Connection, LOG_PROGRAM, LogClient};

use super::edited_state::EditedState;

tests::mixed! { Virtlogd:
    ours_makes_the_best_of_every_document,
    libvirts_daemon_takes_or_refuses_every_document,
}

const VARIANTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/state/variants");
/// Four times what a pipe holds.
const LOAD_BYTES: usize = 256 << 10;
const LOG: &str = "/var/log/libvirt/qemu/vm0.log";
const SECOND_LOG: &str = "/var/log/libvirt/qemu/vm1.log";

fn ours_makes_the_best_of_every_document(route: Route) {
    each_variant("OURS.tsv", |variant, columns| {
        let mut scene = Scene::start(route);
        scene.hand_over(variant, Whose::Ours);
        scene.daemon.wait_until_upgraded();
        scene.expect(columns);
        scene.expect_second_guest_is_free();
        // What was mended stays so.
        scene.daemon.change_to(Whose::Ours);
        scene.expect(columns);
    });
}

fn libvirts_daemon_takes_or_refuses_every_document(route: Route) {
    let promises: BTreeMap<_, _> = table("OURS.tsv").into_iter().collect();
    each_variant("EXPECTED.tsv", |variant, columns| {
        let mut scene = Scene::start(route);
        scene.hand_over(variant, Whose::Theirs);
        match columns[0].split([' ', ';']).next().unwrap() {
            "accept" => {
                scene.daemon.wait_until_upgraded();
                scene.expect(&promises[variant]);
            }
            "reject" => assert_eq!(scene.daemon.wait().code, Some(3)),
            "C" => assert_eq!(scene.daemon.wait().signal, Some(11)),
            "state" => {
                scene.daemon.wait_until_upgraded();
                expect_answer(&mut scene.daemon.connect_main());
            }
            other => panic!("what is {other}?"),
        }
    });
}

/// Runs a test for each row of a table, and tells of all that failed.
fn each_variant(name: &str, test: impl Fn(&str, &[String])) {
    let table = table(name);
    assert_eq!(table.len(), 54);
    let failed: Vec<_> = table
        .iter()
        .filter(|(variant, columns)| {
            catch_unwind(AssertUnwindSafe(|| test(variant, columns))).is_err()
        })
        .map(|(variant, _)| variant)
        .collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), table.len());
}

fn table(name: &str) -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(Path::new(VARIANTS).join(name)).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned));
    rows.map(|mut cells| (cells.next().unwrap(), cells.collect())).collect()
}

/// libvirt's daemon with what the recorded documents are about: two logs, two clients, and an
/// administrator's client.
struct Scene {
    daemon: Daemon,
    logs: [File; 2],
    clients: [LogClient; 2],
    admin: Connection,
    written: Vec<u8>,
}

impl Scene {
    fn start(route: Route) -> Self {
        let setup = route.start().setup().replaceable();
        fs::create_dir(setup.host().path("log/libvirt/qemu")).unwrap();
        let daemon = setup.start();
        // Nobody else connects: libvirt's daemon may not have noticed for a while that a client has gone.
        let mut clients = [(); 2].map(|()| daemon.log_client());
        let logs = [LOG, SECOND_LOG].map(|path| clients[0].open(path.as_ref()).unwrap().pipe);
        clients.iter_mut().for_each(|client| expect_answer(client.connection()));
        let mut admin = daemon.connect_admin();
        expect_admin_answer(&mut admin);
        Self { daemon, logs, clients, admin, written: Vec::new() }
    }

    /// Replaces the daemon by one that finds the variant.
    fn hand_over(&mut self, variant: &str, to: Whose) {
        let state = EditedState::take(&self.daemon);
        let unchanged = recorded("accept-unchanged.json");
        let mut document = recorded(variant);
        let numbers = descriptor_numbers(&unchanged, &state.document);
        rewrite(&mut document, &numbers, &unchanged["magic"], &state.document["magic"]);
        if let Some(second) = document.pointer_mut("/handler/files/1/pipefd") {
            *second = state.document["handler"]["files"][1]["pipefd"].clone();
        }
        state.give(&self.daemon, &document, to);
    }

    /// Checks a row of `OURS.tsv`.
    fn expect(&mut self, columns: &[String]) {
        let [log, main, client_1, client_2, admin, admin_client] = columns else {
            panic!("a row of six columns");
        };
        self.daemon.expect_alive();
        self.expect_log(log);
        let served = |word: &String| word == "served";
        let [first, second] = &mut self.clients;
        for (client, _) in
            [(first, client_1), (second, client_2)].into_iter().filter(|c| served(c.1))
        {
            expect_answer(client.connection());
        }
        if served(main) {
            expect_answer(&mut self.daemon.connect_main());
        }
        if served(admin) {
            expect_admin_answer(&mut self.daemon.connect_admin());
        }
        if served(admin_client) {
            expect_admin_answer(&mut self.admin);
        }
        self.daemon.expect_alive();
    }

    fn expect_log(&mut self, fate: &str) {
        let load = load(self.written.len());
        match fate {
            "served" => {
                guest_writes(&self.logs[0], load.clone());
                self.written.extend(load);
                expect_file(&self.log_path(), &self.written);
            }
            "drained" => guest_writes(&self.logs[0], load),
            "released" => expect_no_wait(&self.logs[0], load),
            other => panic!("what is {other}?"),
        }
    }

    /// Almost no document names the second log, whose pipe is there all the same.
    fn expect_second_guest_is_free(&self) {
        expect_no_wait(&self.logs[1], load(0));
    }

    fn log_path(&self) -> PathBuf {
        self.daemon.host().outside(LOG.as_ref())
    }
}

/// Whoever reads of a failure wants to know what the daemons have said.
impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemons have said:\n{}", self.daemon.stderr());
        }
    }
}

/// What a guest writes, other every time.
fn load(number: usize) -> Vec<u8> {
    format!("{number:063}\n").repeat(LOAD_BYTES / 64).into()
}

/// Whether the guest can write does not matter, only that it does not wait for ever.
#[track_caller]
fn expect_no_wait(pipe: &File, load: Vec<u8>) {
    let mut pipe = pipe.try_clone().unwrap();
    let guest = std::thread::spawn(move || pipe.write_all(&load).is_ok());
    eventually("the guest need not wait", || guest.is_finished());
}

fn recorded(name: &str) -> Value {
    let text = fs::read_to_string(Path::new(VARIANTS).join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The descriptors of the recorded document and what they are called in the running process.
fn descriptor_numbers(recorded: &Value, live: &Value) -> BTreeMap<u64, u64> {
    let places = [
        "/daemon/servers/admin/services/0/socks/0/fd",
        "/daemon/servers/admin/clients/0/sock/fd",
        "/daemon/servers/virtlogd/services/0/socks/0/fd",
        "/daemon/servers/virtlogd/clients/0/sock/fd",
        "/daemon/servers/virtlogd/clients/1/sock/fd",
        "/handler/files/0/pipefd",
    ];
    let number = |document: &Value, place| document.pointer(place).unwrap().as_u64().unwrap();
    places.iter().map(|place| (number(recorded, place), number(live, place))).collect()
}

/// Puts live numbers in place of recorded ones, in whatever type they have there.
fn rewrite(value: &mut Value, numbers: &BTreeMap<u64, u64>, magic: &Value, live_magic: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                match (key.as_str(), &*field) {
                    ("fd" | "pipefd", Value::Number(n)) => {
                        *field = numbers[&n.as_u64().unwrap()].into();
                    }
                    ("fd" | "pipefd", Value::String(text)) => {
                        *field = numbers[&text.parse().unwrap()].to_string().into();
                    }
                    ("magic", recorded) if recorded == magic => *field = live_magic.clone(),
                    ("magic", Value::Number(_)) => {
                        *field = live_magic.as_str().unwrap().parse::<u64>().unwrap().into();
                    }
                    _ => rewrite(field, numbers, magic, live_magic),
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| rewrite(item, numbers, magic, live_magic));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[track_caller]
fn expect_answer(connection: &mut Connection) {
    let error = connection.call(LOG_PROGRAM, 99, &[]).unwrap_err();
    assert_eq!(error.code, 39);
}

#[track_caller]
fn expect_admin_answer(connection: &mut Connection) {
    connection.call(ADMIN_PROGRAM, 3, &[]).unwrap();
}
