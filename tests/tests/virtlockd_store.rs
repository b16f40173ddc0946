//! virtlockd under a supervisor with an fd store, killed and started again, and on the way from our
//! daemon to libvirt's and back.

#[path = "virtlockd/pair.rs"]
mod pair;
#[path = "virtlockd_store/shared.rs"]
mod shared;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::guest::{NOBODY, owner};
use tests::harness::{Daemon, Host, Program, Route, Subject, Whose, eventually};
use tests::load::is_free;
use tests::supervisor::Supervisor;
use tests::wire::{
    ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, ADMIN_PROGRAM, Answer, Header, LOCK_PROGRAM, LockClient,
    Writer,
};

tests::mixed! { Virtlockd: leases_of_two_names_are_stored_again }

tests::ours! { Virtlockd:
    lockspaces_and_settings_outlive_a_crash,
    lockspaces_and_settings_outlive_a_restart,
    clients_that_never_pause_leave_the_supervisor_its_time,
}

/// Fds that the store takes: some more than any test has leases under way.
const STORE: usize = 500;

/// Descriptors are passed to whatever process is started, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// `SET_CLIENT_LIMITS`, and the type of a parameter that is an unsigned number (libvirt's values).
const SET_CLIENT_LIMITS: i32 = 13;
const UINT: u32 = 2;

struct Service {
    host: Arc<Host>,
    supervisor: Supervisor,
    daemon: Daemon,
}

impl Service {
    fn start() -> Self {
        let host = Host::new();
        let supervisor = Supervisor::new(&host.path("supervisor"), STORE);
        let daemon = spawn(&host, &supervisor);
        let service = Self { host, supervisor, daemon };
        service.expect_ready(1);
        service
    }

    fn expect_ready(&self, count: usize) {
        eventually("it is ready", || self.supervisor.ready_count() >= count);
    }

    fn change_to(&self, whose: Whose) {
        let count = self.supervisor.ready_count();
        self.daemon.put(whose);
        self.daemon.signal(Signal::SIGUSR1);
        self.expect_ready(count + 1);
    }

    fn end_and_start(&mut self, signal: Signal) {
        let count = self.supervisor.ready_count();
        self.daemon.signal(signal);
        self.daemon.wait();
        self.supervisor.catch_up();
        self.daemon = spawn(&self.host, &self.supervisor);
        self.expect_ready(count + 1);
    }

    fn stored_leases(&self) -> usize {
        self.supervisor.names().iter().filter(|name| name.starts_with('r')).count()
    }

    fn client(&self) -> LockClient {
        let mut client = self.daemon.lock_client();
        client.register(&owner(NOBODY), 0).unwrap();
        client
    }

    fn image(&self, name: &str) -> String {
        let path = self.host.file(name);
        fs::write(&path, "").unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn spawn(host: &Arc<Host>, supervisor: &Supervisor) -> Daemon {
    let stored = supervisor.stored().into_iter();
    let stored = stored.map(|stored| (stored.name, stored.fd.try_clone().expect("a copy")));
    let subject = Subject { whose: Whose::Ours, program: Program::Virtlockd };
    let setup = subject.setup_on(host).replaceable().supervised_at(supervisor.path());
    setup.env("FDSTORE", STORE.to_string()).pass(stored).spawn()
}

fn leases_of_two_names_are_stored_again(_: Route) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut service = Service::start();
    let (image, alias) = (service.image("image"), service.host.file("alias"));
    fs::hard_link(&image, &alias).unwrap();
    let alias = alias.to_str().unwrap().to_owned();
    let mut client = service.client();
    client.acquire("", &image, ACQUIRE_SHARED).unwrap();
    client.acquire("", &alias, ACQUIRE_SHARED).unwrap();
    service.change_to(Whose::Theirs);
    service.change_to(Whose::Ours);
    eventually("both are stored", || service.stored_leases() == 2);
    // The supervisor is asked whether it has them.
    std::thread::sleep(Duration::from_millis(300));
    service.end_and_start(Signal::SIGKILL);
    assert!(!is_free(&image));
    let mut client = service.client();
    client.release("", &image, 0).unwrap();
    assert!(!is_free(&image));
    client.release("", &alias, 0).unwrap();
    assert!(is_free(&image));
}

fn lockspaces_and_settings_outlive_a_crash(_: Subject) {
    outlive(Signal::SIGKILL);
}

fn lockspaces_and_settings_outlive_a_restart(_: Subject) {
    outlive(Signal::SIGTERM);
}

fn outlive(signal: Signal) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut service = Service::start();
    let space = service.host.file("space").to_str().unwrap().to_owned();
    let no_text = [space.as_bytes(), b"\xff"].concat();
    service.client().create_lockspace(&space).unwrap();
    service.client().create_lockspace(&no_text).unwrap();
    set_limit(&service.daemon, 1);
    for whose in [None, Some(Whose::Ours), None] {
        whose.into_iter().for_each(|whose| service.change_to(whose));
        std::thread::sleep(Duration::from_millis(300));
        service.end_and_start(signal);
        let mut client = service.client();
        for space in [space.as_bytes(), &no_text] {
            client.acquire(space, "lease", ACQUIRE_AUTOCREATE).unwrap();
            client.release(space, "lease", 0).unwrap();
        }
        let mut second = service.daemon.connect_main();
        second.send(&Header::call(LOCK_PROGRAM, 99).message(&[])).unwrap();
        let answer = second.answer_within(Duration::from_millis(300));
        assert!(matches!(answer, Answer::Silence), "the limit is forgotten: {answer:?}");
    }
}

/// Leases that may be stored in a row, and each second after that; what else there is to say.
const LEASES_IN_A_ROW: usize = 512;
const LEASES_PER_S: usize = 400;
const OTHERS_IN_A_ROW: usize = 500;
const OTHERS_PER_S: usize = 300;

fn clients_that_never_pause_leave_the_supervisor_its_time(_: Subject) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut service = Service::start();
    let (begin, before) = (Instant::now(), service.supervisor.message_count());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (mut client, image) =
                (service.client(), service.image(&format!("rented-{number}")));
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    client.acquire("", &image, 0).unwrap();
                    client.release("", &image, 0).unwrap();
                }
            });
        }
        std::thread::sleep(Duration::from_secs(4));
        is_over.store(true, Ordering::Relaxed);
    });
    let took = service.supervisor.message_count() - before;
    let seconds = usize::try_from(begin.elapsed().as_secs() + 1).unwrap();
    let leases = LEASES_IN_A_ROW + LEASES_PER_S * seconds;
    let most = 2 * leases + OTHERS_IN_A_ROW + OTHERS_PER_S * seconds;
    assert!(took <= most, "{took} messages in {seconds} s, not {most} at most");
    // What was granted at last is safe all the same, and the store has not passed for full.
    let image = service.image("kept");
    service.client().acquire("", &image, 0).unwrap();
    let log = service.daemon.stderr();
    assert!(!log.contains("Not everything is in the fd store"), "{log}");
    service.end_and_start(Signal::SIGKILL);
    assert!(!is_free(&image));
    service.client().release("", &image, 0).unwrap();
}

fn set_limit(daemon: &Daemon, clients_max: u32) {
    let arguments = Writer::new().string("virtlockd").u32(2);
    let arguments = arguments.string("nclients_max").u32(UINT).u32(clients_max);
    let arguments = arguments.string("nclients_unauth_max").u32(UINT).u32(1).u32(0);
    let mut admin = daemon.connect_admin();
    admin.call(ADMIN_PROGRAM, SET_CLIENT_LIMITS, &arguments.into_bytes()).unwrap();
}
